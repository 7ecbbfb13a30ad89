// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

func refusedBytes(t testing.TB, p *memPlatform, envelope []byte, o Options) *Error {
	t.Helper()
	out, err := New(p, o).Update(context.Background(), envelope)
	checkReport(t, out, err)
	var e *Error
	if !errors.As(err, &e) {
		t.Fatalf("not refused with an *Error but: %v", err)
	}
	if out.Report.Failure.Reason != e.Reason {
		t.Errorf("report says %v, error %v", out.Report.Failure.Reason, e.Reason)
	}
	return e
}

func manifestDigest(t testing.TB, envelope []byte) suit.Digest {
	t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.ManifestInsecure()
	if err != nil {
		t.Fatal(err)
	}
	return m.Digest
}

// encrypted returns a ciphertext for a new recipient key, which the platform gets.
func encrypted(t testing.TB, p *memPlatform, alg cose.Algorithm, plaintext []byte) (info, ciphertext []byte) {
	t.Helper()
	priv, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	p.keys.ecdh = []*ecdh.PrivateKey{priv}
	key, err := cose.NewKey(priv.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	info, cipher, err := cose.NewEncrypter(rand.Reader, alg, cose.Recipient{Key: key, KID: key.KID()}, cose.ContextSUITPayload)
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := cipher.Seal(&out, bytes.NewReader(plaintext)); err != nil {
		t.Fatal(err)
	}
	return info, out.Bytes()
}

// TestLife takes a TA and its PD through installation, start, update and removal.
func TestLife(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgA128GCM, cose.AlgA128CTR} {
		p := ownDevice()
		ctx := context.Background()
		proc := New(p, ownOptions())
		ta := sign(t, taBuilder(1, []byte("binary")))
		out, err := proc.Update(ctx, ta)
		if err != nil {
			t.Fatal(err)
		}
		p.commit(out)
		if string(p.components["tee/app/ta"]) != "binary" || !out.Touched[0].Digest.Equal(suit.SHA256([]byte("binary"))) {
			t.Fatalf("installed %+v", out.Touched)
		}
		if out, err = proc.Invocation(ctx, ta); err != nil || len(out.Invoked) != 1 || string(p.args[0]) != "\xa0" {
			t.Fatalf("invoked %v with %x: %v", out.Invoked, p.args, err)
		}
		info, ciphertext := encrypted(t, p, alg, []byte("records"))
		pd := sign(t, pdBuilder(info, ciphertext, manifestDigest(t, ta)))
		if out, err = proc.Update(ctx, pd); err != nil {
			t.Fatal(err)
		}
		checkPDOutcome(t, p, out)
		p.commit(out)
		for _, envelope := range [][]byte{pd, ta} {
			if _, err := proc.Uninstall(ctx, envelope); err != nil {
				t.Fatal(err)
			}
		}
		if len(p.components) != 0 {
			t.Errorf("left over: %v", p.components)
		}
	}
}

func checkPDOutcome(t *testing.T, p *memPlatform, out *Outcome) {
	t.Helper()
	if got := string(p.components["pd/app/f"]); got != "records" {
		t.Fatalf("PD is %q", got)
	}
	if p.components["enc/app/f"] != nil {
		t.Error("the ciphertext stayed")
	}
	var names []string
	for _, touched := range out.Touched {
		names = append(names, touched.Component.String())
		if touched.Component.String() == "pd/app/f" && !touched.Digest.IsZero() {
			t.Error("a digest of plaintext PD was computed")
		}
	}
	if strings.Join(names, " ") != "tee/app/ta pd/app/f" {
		t.Errorf("touched %v", names)
	}
	root := out.Manifests[1]
	if !out.Manifests[0].Stored || root.Dependencies[0].String() != "manifest/app/ta" || len(root.Components) != 1 {
		t.Errorf("manifests %+v", out.Manifests)
	}
	for _, item := range out.Report.Items {
		prop, ok := item.(*report.SystemProperty)
		if ok && prop.Component.String() == "pd/app/f" && prop.Params[suit.ParamDigest] != nil {
			t.Error("the report holds a digest of plaintext PD")
		}
	}
}

// TestOrder: the report tells in which order components were installed, also across a bundle.
func TestOrder(t *testing.T) {
	b := &suit.Builder{Sequence: 1, Payloads: map[string][]byte{}}
	for _, name := range []string{"z", "a", "m"} {
		i := b.AddComponent(suit.NewComponentID(name))
		b.Payloads["#"+name] = []byte(name)
		b.Install = append(b.Install, suit.SetComponentIndex(i), suit.Override(suit.Params{suit.ParamURI: "#" + name}), suit.Fetch())
	}
	out := update(t, ownDevice(), b, nil)
	var got []string
	for _, id := range out.Report.Installed() {
		got = append(got, id.String())
	}
	if !slices.Equal(got, []string{"z", "a", "m"}) {
		t.Errorf("order %v", got)
	}
}

// TestUpToDate: an installed component with the wanted digest is not fetched again.
func TestUpToDate(t *testing.T) {
	p := ownDevice()
	update(t, p, taBuilder(1, []byte("binary")), nil)
	out := update(t, p, taBuilder(2, []byte("binary")), nil)
	if len(p.creates) != 1 || !out.Touched[0].Unchanged {
		t.Errorf("created %v, touched %+v", p.creates, out.Touched)
	}
}

func TestRollback(t *testing.T) {
	p := ownDevice()
	update(t, p, taBuilder(5, []byte("five")), nil)
	update(t, p, taBuilder(5, []byte("five")), nil) // again is allowed
	before := p.copyComponents()
	if e := refused(t, p, taBuilder(4, []byte("four")), ownOptions()); !errors.Is(e, ErrRollback) {
		t.Error(e)
	}
	if string(p.components["tee/app/ta"]) != string(before["tee/app/ta"]) {
		t.Error("changed")
	}
	update(t, p, taBuilder(6, []byte("six")), nil)
}

// TestRefusals: each planted fault ends the run with its reason.
func TestRefusals(t *testing.T) {
	setup := func(change func(b *suit.Builder)) *suit.Builder {
		b := taBuilder(1, []byte("binary"))
		change(b)
		return b
	}
	install := func(cmds ...suit.Command) func(b *suit.Builder) {
		return func(b *suit.Builder) { b.Install = append(cmds, b.Install...) }
	}
	param := func(p suit.Param, v any) func(b *suit.Builder) {
		return func(b *suit.Builder) { b.Shared[0].Params[p] = v }
	}
	cases := []struct {
		name   string
		b      *suit.Builder
		reason report.Reason
		is     error
	}{
		{"payload differs by one bit", setup(func(b *suit.Builder) { b.Payloads["#ta"] = []byte("cinary") }), report.ReasonConditionFailed, ErrCondition},
		{"payload too long", setup(func(b *suit.Builder) { b.Payloads["#ta"] = []byte("binary!") }), report.ReasonOperationFailed, ErrLimit},
		{"payload too short", setup(func(b *suit.Builder) { b.Payloads["#ta"] = []byte("binar") }), report.ReasonConditionFailed, ErrCondition},
		{"payload missing", setup(func(b *suit.Builder) { b.Payloads = nil }), report.ReasonOperationFailed, nil},
		{"wrong vendor", setup(param(suit.ParamVendorID, make([]byte, 16))), report.ReasonConditionFailed, ErrCondition},
		{"wrong class", setup(param(suit.ParamClassID, make([]byte, 16))), report.ReasonConditionFailed, ErrCondition},
		{"class of a PEN vendor", setup(param(suit.ParamVendorID, suit.PEN{1, 2})), report.ReasonConditionFailed, ErrCondition},
		{"digest not set", setup(func(b *suit.Builder) { delete(b.Shared[0].Params, suit.ParamDigest) }), report.ReasonConditionFailed, ErrCondition},
		{"unknown digest algorithm", setup(param(suit.ParamDigest, suit.Digest{Alg: -99, Bytes: []byte{1}})), report.ReasonOperationFailed, suit.ErrUnsupported},
		{"unknown command", setup(install(suit.Command{Code: 99, Raw: []byte{0xf6}})), report.ReasonCommandUnsupported, ErrNotSupported},
		{"custom command", setup(install(suit.Command{Code: -300, Raw: []byte{0xf6}})), report.ReasonCommandUnsupported, ErrNotSupported},
		{"update management", setup(install(suit.Command{Code: suit.CodeUseBefore})), report.ReasonCommandUnsupported, ErrNotSupported},
		{"unknown command in another procedure", setup(func(b *suit.Builder) { b.Invoke = append(b.Invoke, suit.Command{Code: 99, Raw: []byte{0}}) }), report.ReasonCommandUnsupported, ErrNotSupported},
		{"unknown parameter", setup(install(suit.Override(suit.Params{77: 1}))), report.ReasonParameterUnsupported, ErrNotSupported},
		{"invoke while installing", setup(install(suit.Invoke())), report.ReasonCommandUnsupported, ErrNotSupported},
		{"scheme", setup(func(b *suit.Builder) { b.Install[0].Params[suit.ParamURI] = "file:///etc/passwd" }), report.ReasonOperationFailed, ErrNotSupported},
		{"no uri", setup(func(b *suit.Builder) { b.Install = b.Install[1:] }), report.ReasonOperationFailed, ErrRule},
		{"abort", setup(install(suit.Abort())), report.ReasonConditionFailed, ErrCondition},
		{"write without content", setup(install(suit.Write())), report.ReasonOperationFailed, ErrRule},
		{"copy without source", setup(install(suit.Copy())), report.ReasonOperationFailed, ErrRule},
		{"copy from itself", setup(install(suit.Override(suit.Params{suit.ParamSource: 0}), suit.Copy())), report.ReasonOperationFailed, ErrRule},
		{"process-dependency of a component", setup(install(suit.ProcessDependency())), report.ReasonOperationFailed, ErrDependency},
		{"dependency-integrity of a component", setup(install(suit.DependencyIntegrity())), report.ReasonOperationFailed, ErrDependency},
		{"is-dependency", setup(install(suit.IsDependency())), report.ReasonConditionFailed, ErrCondition},
		{"garbage as encryption-info", setup(install(suit.Override(suit.Params{suit.ParamContent: []byte("x"), suit.ParamEncryptionInfo: []byte{0x80}}), suit.Write())), report.ReasonOperationFailed, cose.ErrMalformed},
		{"nothing to install", setup(func(b *suit.Builder) { b.Install = nil }), report.ReasonOperationFailed, ErrNothingToInstall},
		{"validate fails", setup(func(b *suit.Builder) { b.Validate = suit.Sequence{suit.Abort()} }), report.ReasonConditionFailed, ErrCondition},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			e := refused(t, ownDevice(), c.b, ownOptions())
			if e.Reason != c.reason || c.is != nil && !errors.Is(e, c.is) {
				t.Errorf("refused with %v (%v), want %v (%v)", e.Reason, e, c.reason, c.is)
			}
		})
	}
}

// TestNotEvenStarted: what the pre-scan finds in the last section keeps the first command from running.
func TestNotEvenStarted(t *testing.T) {
	p := ownDevice()
	b := taBuilder(1, []byte("binary"))
	b.Uninstall = append(b.Uninstall, suit.Command{Code: 99, Raw: []byte{0}})
	refused(t, p, b, ownOptions())
	if len(p.creates) != 0 || len(p.accessed) != 0 {
		t.Errorf("touched %v", p.accessed)
	}
}

func TestAuthorization(t *testing.T) {
	p := ownDevice()
	p.deny = func(signer *cose.Key, c suit.ComponentID) error {
		if !signer.Equal(ownKey().Key()) {
			return errors.New("who is that")
		}
		switch {
		case c.HasPrefix(suit.NewComponentID("tee", "app")), c.HasPrefix(suit.NewComponentID("manifest", "app")):
			return nil
		case c.HasPrefix(suit.NewComponentID("tee")), c.HasPrefix(suit.NewComponentID("manifest")):
			return errors.New("not yours")
		}
		return ErrUnsupportedComponent
	}
	update(t, p, taBuilder(1, []byte("binary")), nil)
	cases := []struct {
		change func(b *suit.Builder)
		reason report.Reason
	}{
		{func(b *suit.Builder) { b.Components[0] = suit.NewComponentID("tee", "other", "ta") }, report.ReasonComponentUnauthorised},
		{func(b *suit.Builder) { b.ComponentID = suit.NewComponentID("manifest", "other") }, report.ReasonComponentUnauthorised},
		{func(b *suit.Builder) { b.Components[0] = suit.NewComponentID("disk") }, report.ReasonComponentUnsupported},
	}
	for _, c := range cases {
		b := taBuilder(2, []byte("binary"))
		c.change(b)
		if e := refused(t, p, b, ownOptions()); e.Reason != c.reason {
			t.Errorf("reason %v, want %v", e.Reason, c.reason)
		}
	}
}

func TestIdentityConditionsRequired(t *testing.T) {
	o := ownOptions()
	o.RequireIdentityConditions = true
	b := taBuilder(1, []byte("binary"))
	if _, err := New(ownDevice(), o).Update(context.Background(), sign(t, b)); err != nil {
		t.Fatal(err)
	}
	b.Shared = b.Shared[:1]
	refused(t, ownDevice(), b, o)
}

// TestMissingIndex: with two components each section begins with set-component-index. The Builder refuses to make such a
// manifest, so it is forged.
func TestMissingIndex(t *testing.T) {
	b := taBuilder(1, []byte("binary"))
	b.Components = append(b.Components, suit.NewComponentID("tee", "app", "other"))
	if _, err := b.Build(rand.Reader, ownKey()); !errors.Is(err, suit.ErrRule) {
		t.Errorf("Build: %v", err)
	}
	e := refusedBytes(t, ownDevice(), forge(t, map[int64]any{
		20: []byte("\x84\x14\xa1\x15\x63#ta\x15\x02"), // override uri, fetch
	}, [][][]byte{{[]byte("a")}, {[]byte("b")}}), ownOptions())
	if !errors.Is(e, ErrRule) || !errors.Is(e, suit.ErrRule) {
		t.Error(e)
	}
}

// forge signs a manifest that no Builder would make.
func forge(t testing.TB, members map[int64]any, components [][][]byte) []byte {
	t.Helper()
	members[1], members[2] = 1, 1
	members[3] = cose.MustMarshal(map[int64]any{2: components})
	manifest := cose.MustMarshal(cose.MustMarshal(members))
	digest := cose.MustMarshal(suit.SHA256(manifest))
	block, err := cose.Sign1Detached(rand.Reader, ownKey(), digest)
	if err != nil {
		t.Fatal(err)
	}
	return cose.MustMarshal(map[any]any{
		2: cose.MustMarshal([][]byte{digest, block}), 3: cose.RawMessage(manifest), "#ta": []byte("binary"),
	})
}

// TestPEN: a vendor identifier made from an enterprise number is compared with its tag.
func TestPEN(t *testing.T) {
	pen := suit.PEN{0x19, 0x01}
	b := taBuilder(1, []byte("binary"))
	b.Shared[0].Params[suit.ParamVendorID] = pen
	p := ownDevice()
	p.vendors = [][]byte{pen, pen.Encode()}
	update(t, p, b, nil)
	p.vendors = [][]byte{pen}
	refused(t, p, b, ownOptions())
}

// TestDevice: one device is addressed by its own identifier.
func TestDevice(t *testing.T) {
	p := newMemPlatform()
	p.devices = [][]byte{make([]byte, 16), bytes.Repeat([]byte{1}, 16)}
	build := func(id byte) *suit.Builder {
		return oneComponent(suit.Override(suit.Params{suit.ParamDeviceID: bytes.Repeat([]byte{id}, 16), suit.ParamContent: []byte("x")}),
			suit.DeviceIdentifier(), suit.Write())
	}
	update(t, p, build(1), nil)
	refused(t, p, build(2), ownOptions())
}

// TestUninstallWithoutSection unlinks nothing and says what the manifest had.
func TestUninstallWithoutSection(t *testing.T) {
	p := newMemPlatform()
	b := oneComponent(content("x"), suit.Write())
	update(t, p, b, nil)
	out, err := New(p, ownOptions()).Uninstall(context.Background(), sign(t, b))
	if err != nil || len(out.Unlinked) != 0 || len(out.Manifests) != 1 || out.Manifests[0].Components[0].String() != "c" {
		t.Errorf("%+v, %v", out, err)
	}
}

// TestCapabilities: what a platform lacks is not promised, and a report can carry the rest.
func TestCapabilities(t *testing.T) {
	full := New(newMemPlatform(), Options{}).Capabilities()
	plain := New(plainPlatform{newMemPlatform()}, Options{}).Capabilities()
	if !slices.Contains(full.Commands, int64(suit.CodeSwap)) || slices.Contains(plain.Commands, int64(suit.CodeSwap)) {
		t.Errorf("%v against %v", full.Commands, plain.Commands)
	}
	r := &report.Report{Digest: suit.SHA256(nil), Capabilities: full}
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if back, err := report.Parse(data); err != nil || !slices.Equal(back.Capabilities.Commands, full.Commands) {
		t.Error(err)
	}
}
