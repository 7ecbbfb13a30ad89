// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sealift/cose"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

func newSigner(t testing.TB, alg cose.Algorithm) cose.Signer {
	t.Helper()
	priv, err := cose.GenerateKey(alg, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// everything is a Builder that uses each member and command once.
func everything() *Builder {
	vendor := VendorID(SealiftVendorDomain)
	class := ClassID(vendor, "trustzone/process")
	b := &Builder{
		Sequence: 7, ReferenceURI: "https://author.example/m", ComponentID: NewComponentID("manifest", "app", "ta"),
		Payloads: map[string][]byte{"#ta": []byte("binary")}, Text: cose.MustMarshal(map[string]any{"en": map[int]string{1: "text"}}),
	}
	ta := b.AddComponent(NewComponentID("tee", "app", "ta"))
	pd := b.AddComponent(NewComponentID("pd", "app", "table.csv"))
	dep := b.AddDependency(NewComponentID("manifest", "app", "other"))
	b.Shared = Sequence{
		SetComponentIndex(ta),
		Override(Params{ParamVendorID: vendor[:], ParamClassID: class[:], ParamDigest: SHA256([]byte("binary")), ParamSize: 6}),
		VendorIdentifier(), ClassIdentifier(),
		TryEachOrNothing(Sequence{DeviceIdentifier()}, Sequence{ComponentSlot()}),
	}
	b.DependencyResolution = Sequence{
		SetComponentIndex(dep), Override(Params{ParamDigest: SHA256(nil), ParamURI: "https://x/y"}), Fetch(), DependencyIntegrity(),
	}
	b.PayloadFetch = Sequence{SetComponentIndex(ta), SetParameters(Params{ParamURI: "#ta"}), Fetch().WithPolicy(RecordOnSuccess), ImageMatch()}
	b.CandidateVerification = Sequence{SetComponentIndex(ta, pd), RunSequence(Override(Params{ParamSoftFailure: true}), CheckContent())}
	b.Install = Sequence{
		SetComponentIndex(dep), IsDependency(), ProcessDependency(),
		SetComponentIndex(pd), Override(Params{ParamContent: []byte{}, ParamEncryptionInfo: []byte{1}, ParamSource: 0}), Write(), Copy(), Swap(),
	}
	b.Validate = Sequence{SetAllComponents(), TryEach(Sequence{IsDependency()}, Sequence{ImageMatch(), Abort()})}
	b.Load = Sequence{SetComponentIndex(ta), ImageMatch()}
	b.Invoke = Sequence{SetComponentIndex(ta), Override(Params{ParamInvokeArgs: []byte{0xa0}}), Invoke()}
	b.Uninstall = Sequence{SetComponentIndex(pd), Unlink()}
	b.Sever = []Member{MemberPayloadFetch, MemberInstall, MemberText}
	return b
}

func open(t testing.TB, data []byte, signer cose.Signer) *Verified {
	t.Helper()
	m, err := verify(data, []*cose.Key{signer.Key()}, VerifyOptions{StrictAlgorithms: true})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TestBuilder: what is built is what is read.
func TestBuilder(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		signer := newSigner(t, alg)
		b := everything()
		data, err := b.Build(rand.Reader, signer)
		if err != nil {
			t.Fatal(err)
		}
		m := open(t, data, signer)
		if !m.Signer.Equal(signer.Key()) || m.Sequence != 7 || m.ReferenceURI != b.ReferenceURI || !m.ComponentID.Equal(b.ComponentID) {
			t.Errorf("%+v", m)
		}
		if !reflect.DeepEqual(m.Components, b.Components) || !reflect.DeepEqual(m.Dependencies, b.Dependencies) {
			t.Errorf("components %v %v", m.Components, m.Dependencies)
		}
		want := map[Member]Sequence{
			MemberCommon: b.Shared, MemberValidate: b.Validate, MemberLoad: b.Load, MemberInvoke: b.Invoke, MemberInstall: b.Install,
			MemberPayloadFetch: b.PayloadFetch, MemberDependencyResolution: b.DependencyResolution,
			MemberCandidateVerification: b.CandidateVerification, MemberUninstall: b.Uninstall,
		}
		for _, label := range Sections {
			got, _ := m.Section(label)
			if !reflect.DeepEqual(withoutOffsets(got), withoutOffsets(want[label])) {
				t.Errorf("%v:\n%+v\n%+v", label, got, want[label])
			}
		}
		if payload, ok := m.Envelope.Payload("#ta"); !ok || string(payload) != "binary" || len(m.Severed) != 3 || len(m.Missing) != 0 {
			t.Error("members of the envelope")
		}
	}
}

func withoutOffsets(s Sequence) Sequence {
	out := make(Sequence, len(s))
	for i, c := range s {
		c.Offset = 0
		if c.Sequence != nil {
			c.Sequence = withoutOffsets(c.Sequence)
		}
		var alts []Sequence
		for _, alt := range c.Alternatives {
			alts = append(alts, withoutOffsets(alt))
		}
		c.Alternatives = alts
		out[i] = c
	}
	return out
}

// TestGolden: the manifest's bytes never change without someone seeing it. The authentication is a MAC, as ECDSA is
// randomised.
func TestGolden(t *testing.T) {
	data, err := everything().BuildMAC(bytes.Repeat([]byte{1}, 32), []byte("kid"))
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join("testdata", "everything.suit.hex")
	if *updateGolden {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got := hex.EncodeToString(data); got != strings.TrimSpace(string(want)) {
		t.Errorf("encoded as\n%s\nwant\n%s", got, want)
	}
	if _, err := verify(data, nil, VerifyOptions{MACKeys: [][]byte{{2}, bytes.Repeat([]byte{1}, 32)}}); err != nil {
		t.Error(err)
	}
	if _, err := verify(data, nil, VerifyOptions{MACKeys: [][]byte{bytes.Repeat([]byte{2}, 32)}}); !errors.Is(err, ErrUnauthorised) {
		t.Error(err)
	}
}

// TestSevered: a severed member may be dropped, but not exchanged, and none may be added.
func TestSevered(t *testing.T) {
	signer := newSigner(t, cose.AlgESP256)
	data, err := everything().Build(rand.Reader, signer)
	if err != nil {
		t.Fatal(err)
	}
	e, err := ParseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := e.Encode(EncodeOptions{DropSevered: true, DropPayloads: true})
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, dropped, signer)
	if m.Install != nil || len(m.Missing) != 3 || m.Text != nil || m.Envelope.Tagged() || len(m.Envelope.Payloads()) != 0 {
		t.Errorf("missing %v", m.Missing)
	}
	var shell map[any]cose.RawMessage
	if err := cose.Unmarshal(WithoutTag(data), &shell); err != nil {
		t.Fatal(err)
	}
	for label, want := range map[int64]error{20: ErrDigest, 16: ErrDigest, 18: ErrMalformed} {
		keep := shell[label]
		shell[label] = cose.MustMarshal(cose.MustMarshal([]int{14, 15}))
		if _, err := verify(cose.MustMarshal(shell), []*cose.Key{signer.Key()}, VerifyOptions{}); !errors.Is(err, want) {
			t.Errorf("%d: %v, want %v", label, err, want)
		}
		if delete(shell, label); keep != nil {
			shell[label] = keep
		}
	}
}

// TestAuthBlocks: several signers, strangers among them, and blocks that are wrong.
func TestAuthBlocks(t *testing.T) {
	a, b, stranger := newSigner(t, cose.AlgESP256), newSigner(t, cose.AlgEd25519), newSigner(t, cose.AlgESP256)
	data, err := everything().Build(rand.Reader, stranger, a, b)
	if err != nil {
		t.Fatal(err)
	}
	m, err := verify(data, []*cose.Key{b.Key(), a.Key()}, VerifyOptions{})
	if err != nil || len(m.Signers) != 2 || !m.Signer.Equal(a.Key()) {
		t.Fatalf("%v", err)
	}
	if _, err := verify(data, []*cose.Key{newSigner(t, cose.AlgESP256).Key()}, VerifyOptions{}); !errors.Is(err, ErrUnauthorised) {
		t.Error(err)
	}
	// A block in a's name that a did not make condemns the envelope, even beside a good one of b.
	e, err := ParseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	forged, err := cose.Sign1Detached(rand.Reader, a, []byte("something else"))
	if err != nil {
		t.Fatal(err)
	}
	multi, err := cose.SignMulti(rand.Reader, []cose.Signer{a, b}, e.digest)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name   string
		blocks []cose.RawMessage
		want   error
	}{
		{"forged beside good", []cose.RawMessage{e.blocks[2], forged}, ErrBadSignature},
		{"payload attached", []cose.RawMessage{multi}, ErrMalformed},
		{"untagged", []cose.RawMessage{e.blocks[1][1:]}, ErrMalformed},
		{"no COSE", []cose.RawMessage{{0xd2, 0x80}}, ErrMalformed},
		{"COSE_Mac", []cose.RawMessage{{0xd8, 97, 0x80}}, ErrUnauthorised},
		{"COSE_Mac beside good", []cose.RawMessage{{0xd8, 97, 0x80}, e.blocks[1]}, nil},
		{"a MAC without a key for it", []cose.RawMessage{{0xd1, 0x80}}, ErrUnauthorised},
	} {
		with := *e
		with.blocks = c.blocks
		if _, err := with.Verify([]*cose.Key{a.Key(), b.Key()}, VerifyOptions{}); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}

func TestComponentID(t *testing.T) {
	ids := []ComponentID{
		{}, NewComponentID("tee", "stats", "ta"), {[]byte{}}, {[]byte{}, []byte{}}, {[]byte("a/b"), []byte("%")}, {[]byte{0, 255}},
		NewComponentID("ree", "..", "."), NewComponentID("äöü"),
	}
	seen := map[string]bool{}
	for _, id := range ids {
		s := id.String()
		back, err := ParseComponentID(s)
		if err != nil || !back.Equal(id) || seen[s] {
			t.Errorf("%q: %v, %v", s, back, err)
		}
		seen[s] = true
	}
	if got := ids[1].String(); got != "tee/stats/ta" {
		t.Error(got)
	}
	for _, s := range []string{"/", "a//b", "%4", "%4x", "%%", "a b", "a/", "ü"} {
		if id, err := ParseComponentID(s); err == nil {
			t.Errorf("%q gives %v", s, id)
		}
	}
}

// TestIdentifiers checks against the vendor of suit-manifest's examples, and against another implementation of UUIDv5.
func TestIdentifiers(t *testing.T) {
	vendor := VendorID("arm.com")
	if got := vendor.String(); got != "fa6b4a53-d5ad-5fdf-be9d-e663e4d41ffe" {
		t.Error(got)
	}
	if got := ClassID(vendor, "trustzone/process").String(); got != "91691db8-5c12-567e-a83a-e8bae5235b3f" {
		t.Error(got)
	}
}

func TestDigests(t *testing.T) {
	// SHAKE outputs of the empty string: 32 bytes of SHAKE128, 64 of SHAKE256 (RFC 9054 section 2.4).
	for alg, prefix := range map[cose.Algorithm]string{
		AlgSHA256: "e3b0c442", AlgSHA384: "38b060a7", AlgSHA512: "cf83e135", AlgSHAKE128: "7f9c2ba4", AlgSHAKE256: "46b9dd2b",
	} {
		d, err := Digest{Alg: alg}.Of(nil)
		if err != nil || hex.EncodeToString(d.Bytes[:4]) != prefix {
			t.Errorf("%v: %v", d, err)
		}
		data, err := d.MarshalCBOR()
		var back Digest
		if err != nil || back.UnmarshalCBOR(data) != nil || !back.Equal(d) {
			t.Errorf("%v: %v", d, err)
		}
	}
	if (Digest{}).Equal(Digest{}) {
		t.Error("no digest equals no digest")
	}
	if _, err := NewHash(-1); !errors.Is(err, ErrUnsupported) {
		t.Error(err)
	}
}
