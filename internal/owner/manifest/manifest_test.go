// SPDX-License-Identifier: Apache-2.0

package manifest_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/suit/processor"
	"sealift/usecase"
)

var update = flag.Bool("update", false, "rewrite the golden files")

var cell = usecase.Cell{Instance: usecase.Process, Hardware: usecase.TrustZone}

// bench is an owner with a key, and a device.
type bench struct {
	t      *testing.T
	signer cose.Signer
	device *memory
}

func newBench(t *testing.T) *bench {
	t.Helper()
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	signer, err := cose.NewSigner(priv)
	must(t, err)
	enc, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	return &bench{t: t, signer: signer, device: newMemory(cell, enc.(*ecdsa.PrivateKey))}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (b *bench) sign(m *suit.Builder) []byte {
	b.t.Helper()
	envelope, err := m.Build(rand.Reader, b.signer)
	must(b.t, err)
	return envelope
}

func (b *bench) processor() *processor.Processor {
	return processor.New(b.device, processor.Options{Keys: []*cose.Key{b.signer.Key()}, RequireIdentityConditions: true, StrictAlgorithms: true})
}

// install runs update and invocation, as an Agent does, and stores the manifest.
func (b *bench) install(envelope []byte) error {
	out, err := b.processor().Update(b.t.Context(), envelope)
	if err != nil {
		return err
	}
	for _, ran := range out.Manifests {
		if ran.Root {
			b.device.manifests[ran.Name.String()] = envelope
		}
	}
	_, err = b.processor().Invocation(b.t.Context(), envelope)
	return err
}

// program makes the manifest of a program and puts the program where it is fetched from.
func (b *bench) program(kind usecase.Payload, sequence uint64, content string) []byte {
	b.t.Helper()
	d := suit.SHA256([]byte(content))
	b.device.remote[manifest.URI(d)] = []byte(content)
	return b.sign(manifest.Program{App: "stats", Kind: kind, Sequence: sequence, Cells: []usecase.Cell{cell}, Digest: d,
		Size: int64(len(content)), Launch: launch.Spec{Args: []string{string(kind)}}}.Build())
}

func (b *bench) item(kind usecase.Payload, name, content string, alg cose.Algorithm) manifest.Item {
	b.t.Helper()
	to, err := cose.NewKey(b.device.key.Public())
	must(b.t, err)
	info, cipher, err := cose.NewEncrypter(rand.Reader, alg, cose.Recipient{Key: to, KID: to.KID()}, cose.ContextSUITPayload)
	must(b.t, err)
	var out bytes.Buffer
	_, err = cipher.Seal(&out, strings.NewReader(content))
	must(b.t, err)
	d := suit.SHA256(out.Bytes())
	b.device.remote[manifest.URI(d)] = out.Bytes()
	it := manifest.Item{Kind: kind, Name: name, Ciphertext: d, Size: int64(out.Len()), Encryption: info}
	if kind != usecase.PD {
		it.Launch = &launch.Spec{Args: []string{name}}
	}
	return it
}

func (b *bench) sealed(s manifest.Sealed) []byte {
	b.t.Helper()
	s.App, s.Cells = "stats", []usecase.Cell{cell}
	builder, err := s.Build()
	must(b.t, err)
	return b.sign(builder)
}

func digestOf(t *testing.T, envelope []byte) suit.Digest {
	t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	must(t, err)
	m, err := e.ManifestInsecure()
	must(t, err)
	return m.Digest
}

func (b *bench) has(name, content string) {
	b.t.Helper()
	if got := string(b.device.components[name]); got != content {
		b.t.Errorf("%s holds %q, want %q", name, got, content)
	}
}

func TestProgram(t *testing.T) {
	b := newBench(t)
	must(t, b.install(b.program(usecase.TA, 3, "the TA")))
	b.has("tee/stats/ta", "the TA")
	spec, err := launch.Parse(b.device.args["tee/stats/ta"])
	if err != nil || !slices.Equal(spec.Args, []string{"ta"}) || !slices.Equal(b.device.invoked, []string{"tee/stats/ta"}) {
		t.Errorf("invoked %v with %+v, %v", b.device.invoked, spec, err)
	}
	if err := b.install(b.program(usecase.TA, 2, "an older TA")); err == nil {
		t.Error("an older sequence number was installed")
	}
	b.has("tee/stats/ta", "the TA")
}

func TestProgramOfAnotherCell(t *testing.T) {
	b := newBench(t)
	b.device.cell = usecase.Cell{Instance: usecase.VM, Hardware: usecase.TDX}
	if err := b.install(b.program(usecase.TA, 1, "the TA")); err == nil {
		t.Error("a manifest for trustzone/process ran on tdx/vm")
	}
}

func TestProgramForSeveralCells(t *testing.T) {
	b := newBench(t)
	d := suit.SHA256([]byte("x"))
	b.device.remote[manifest.URI(d)] = []byte("x")
	p := manifest.Program{App: "stats", Kind: usecase.UA, Sequence: 1, Digest: d, Size: 1,
		Cells: []usecase.Cell{{Instance: usecase.Process, Hardware: usecase.SGX}, cell}}
	must(t, b.install(b.sign(p.Build())))
	b.has("ree/stats/ua", "x")
	b.device.cell.Hardware = usecase.CSV
	if err := b.install(b.sign(p.Build())); err == nil {
		t.Error("it ran on hardware that it does not name")
	}
}

func TestChangedPayload(t *testing.T) {
	b := newBench(t)
	envelope := b.program(usecase.TA, 1, "the TA")
	for uri := range b.device.remote {
		b.device.remote[uri] = []byte("the tA")
	}
	if err := b.install(envelope); err == nil {
		t.Error("a payload that differs by one bit was installed")
	}
}

func TestData(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA128CTR} {
		t.Run(fmt.Sprint(alg), func(t *testing.T) {
			b := newBench(t)
			ta := b.program(usecase.TA, 1, "the TA")
			must(t, b.install(ta))
			fetched := b.device.fetched
			data := b.sealed(manifest.Sealed{Role: manifest.RolePD, Sequence: 2, Items: []manifest.Item{
				b.item(usecase.PD, "a.csv", "secret a", alg), b.item(usecase.PD, "b.csv", "secret b", alg)},
				DependsOn: &manifest.Dependency{ID: manifest.ID("stats", manifest.RoleTA), Digest: digestOf(t, ta)}})
			must(t, b.install(data))
			b.has("pd/stats/a.csv", "secret a")
			b.has("pd/stats/b.csv", "secret b")
			if _, left := b.device.components["enc/stats/a.csv"]; left {
				t.Error("the ciphertext is still there")
			}
			if got := b.device.fetched - fetched; got != 2 {
				t.Errorf("%d payloads were fetched, want the two of PD and not the TA again", got)
			}
			if !slices.Equal(b.device.invoked, []string{"tee/stats/ta", "tee/stats/ta"}) {
				t.Errorf("invoked %v: the TA starts again with its data", b.device.invoked)
			}
		})
	}
}

// TestDataForAnotherTA: PD names its TA's manifest by digest, and no other TA gets it.
func TestDataForAnotherTA(t *testing.T) {
	b := newBench(t)
	ta := b.program(usecase.TA, 1, "the TA")
	data := b.sealed(manifest.Sealed{Role: manifest.RolePD, Sequence: 2, Items: []manifest.Item{b.item(usecase.PD, "a.csv", "secret", cose.AlgA128GCM)},
		DependsOn: &manifest.Dependency{ID: manifest.ID("stats", manifest.RoleTA), Digest: digestOf(t, ta)}})
	if err := b.install(data); err == nil {
		t.Error("PD was installed without its TA")
	}
	must(t, b.install(b.program(usecase.TA, 1, "another TA")))
	fetched := b.device.fetched
	err := b.install(data)
	if !errors.Is(err, processor.ErrDependency) {
		t.Errorf("PD for another TA: %v", err)
	}
	if b.device.fetched != fetched || b.device.components["pd/stats/a.csv"] != nil {
		t.Error("something of the PD was fetched")
	}
}

func TestBundle(t *testing.T) {
	b := newBench(t)
	envelope := b.sealed(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{
		b.item(usecase.TA, "ta", "the TA", cose.AlgA128CTR),
		b.item(usecase.PD, "a.csv", "secret", cose.AlgA128GCM),
		b.item(usecase.UA, "ua", "the UA", cose.AlgA128CTR)}})
	must(t, b.install(envelope))
	b.has("tee/stats/ta", "the TA")
	b.has("pd/stats/a.csv", "secret")
	b.has("ree/stats/ua", "the UA")
	if !slices.Equal(b.device.invoked, []string{"tee/stats/ta", "ree/stats/ua"}) {
		t.Errorf("invoked %v", b.device.invoked)
	}
	if bytes.Contains(envelope, suit.SHA256([]byte("the TA")).Bytes) || bytes.Contains(envelope, suit.SHA256([]byte("secret")).Bytes) {
		t.Error("the manifest holds the digest of a plaintext")
	}
	_, err := b.processor().Uninstall(t.Context(), envelope)
	must(t, err)
	for name := range b.device.components {
		t.Errorf("%s is left after the uninstallation", name)
	}
}

func TestBuildRefuses(t *testing.T) {
	for name, s := range map[string]manifest.Sealed{
		"nothing":    {App: "stats", Role: manifest.RolePD, Cells: []usecase.Cell{cell}},
		"same names": {App: "stats", Role: manifest.RolePD, Cells: []usecase.Cell{cell}, Items: []manifest.Item{{Name: "a"}, {Name: "a"}}},
	} {
		if _, err := s.Build(); err == nil {
			t.Errorf("%s: built", name)
		}
	}
}

// TestGolden pins the manifests' bytes: what an Agent of today installs, an Agent of tomorrow has to install as well.
func TestGolden(t *testing.T) {
	d := suit.SHA256([]byte("content"))
	ta := manifest.Program{App: "stats", Kind: usecase.TA, Sequence: 1, Cells: []usecase.Cell{cell}, Digest: d, Size: 7,
		Launch: launch.Spec{Args: []string{"--data", "${PD}/a.csv"}}}
	data := manifest.Sealed{App: "stats", Role: manifest.RolePD, Sequence: 2, Cells: []usecase.Cell{cell},
		Items:     []manifest.Item{{Kind: usecase.PD, Name: "a.csv", Ciphertext: d, Size: 7, Encryption: []byte("encryption-info")}},
		DependsOn: &manifest.Dependency{ID: manifest.ID("stats", manifest.RoleTA), Digest: d}}
	bundle := manifest.Sealed{App: "stats", Role: manifest.RoleBundle, Sequence: 3, Cells: []usecase.Cell{cell}, Items: []manifest.Item{
		{Kind: usecase.TA, Name: "ta", Ciphertext: d, Size: 7, Encryption: []byte("encryption-info"), Launch: &launch.Spec{}},
		{Kind: usecase.PD, Name: "a.csv", Ciphertext: d, Size: 7, Encryption: []byte("encryption-info")}}}
	builders := map[string]*suit.Builder{"ta": ta.Build()}
	for name, s := range map[string]manifest.Sealed{"pd": data, "bundle": bundle} {
		b, err := s.Build()
		must(t, err)
		builders[name] = b
	}
	for name, b := range builders {
		envelope, err := b.BuildMAC(bytes.Repeat([]byte{1}, 32), []byte("golden")) // a MAC is deterministic, a signature is not
		must(t, err)
		path := filepath.Join("testdata", name+".suit")
		if *update {
			must(t, os.MkdirAll("testdata", 0o755))
			must(t, os.WriteFile(path, envelope, 0o644))
		}
		want, err := os.ReadFile(path)
		must(t, err)
		if !bytes.Equal(envelope, want) {
			t.Errorf("%s: the bytes have changed; if that is meant, run with -update", name)
		}
	}
}
