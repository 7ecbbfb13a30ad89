// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"crypto/rand"
	"errors"
	"testing"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// installedTA returns a device with the TA, and the digest of the TA's manifest.
func installedTA(t *testing.T) (*memPlatform, []byte, suit.Digest) {
	t.Helper()
	p := ownDevice()
	envelope := sign(t, taBuilder(1, []byte("binary")))
	out, err := New(p, ownOptions()).Update(context.Background(), envelope)
	if err != nil {
		t.Fatal(err)
	}
	p.commit(out)
	return p, envelope, manifestDigest(t, envelope)
}

func TestDependencyRefusals(t *testing.T) {
	cases := []struct {
		name   string
		change func(t *testing.T, p *memPlatform, b *suit.Builder)
		reason report.Reason
		is     error
	}{
		{"other digest", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			other := sign(t, taBuilder(1, []byte("swapped")))
			p.manifests["manifest/app/ta"] = other
			p.components["tee/app/ta"] = []byte("swapped")
		}, report.ReasonConditionFailed, ErrDependency},
		{"not installed", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			delete(p.manifests, "manifest/app/ta")
		}, report.ReasonOperationFailed, ErrDependency},
		{"untrusted signer", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
			if err != nil {
				t.Fatal(err)
			}
			signer, err := cose.NewSigner(priv)
			if err != nil {
				t.Fatal(err)
			}
			if p.manifests["manifest/app/ta"], err = taBuilder(1, []byte("binary")).Build(rand.Reader, signer); err != nil {
				t.Fatal(err)
			}
		}, report.ReasonUnauthorised, suit.ErrUnauthorised},
		{"digest not set", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			b.Install[1] = suit.Override(suit.Params{suit.ParamSize: 1})
		}, report.ReasonOperationFailed, ErrDependency},
		{"no integrity before processing", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			b.Install = append(b.Install[:2:2], b.Install[3:]...)
		}, report.ReasonOperationFailed, ErrDependency},
		{"never looked at", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			b.Install = b.Install[4:]
			b.Validate = nil
		}, report.ReasonOperationFailed, ErrDependency},
		{"not processed in a section that both have", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			b.Validate = b.Validate[:3]
		}, report.ReasonOperationFailed, ErrDependency},
		{"component of the dependency was tampered with", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			p.components["tee/app/ta"] = []byte("Binary")
			p.manifests["manifest/app/ta"] = withoutPayloads(t, p.manifests["manifest/app/ta"])
		}, report.ReasonOperationFailed, nil},
		{"integrity failure is not soft", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			p.manifests["manifest/app/ta"] = sign(t, taBuilder(2, []byte("binary")))
			soft := suit.TryEachOrNothing(suit.Sequence{suit.DependencyIntegrity()}, suit.Sequence{suit.Abort()})
			b.Install = append(suit.Sequence{b.Install[0], b.Install[1], soft}, b.Install[3:]...)
		}, report.ReasonConditionFailed, ErrDependency},
		{"writing into a dependency", func(t *testing.T, p *memPlatform, b *suit.Builder) {
			b.Install = append(suit.Sequence{b.Install[0], suit.Override(suit.Params{suit.ParamContent: []byte("x")}), suit.Write()}, b.Install...)
		}, report.ReasonOperationFailed, ErrNotSupported},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, _, digest := installedTA(t)
			info, ciphertext := encrypted(t, p, cose.AlgA128GCM, []byte("records"))
			b := pdBuilder(info, ciphertext, digest)
			c.change(t, p, b)
			e := refused(t, p, b, ownOptions())
			if e.Reason != c.reason || c.is != nil && !errors.Is(e, c.is) {
				t.Errorf("refused with %v (%v), want %v (%v)", e.Reason, e, c.reason, c.is)
			}
			if p.components["pd/app/f"] != nil && c.name != "not processed in a section that both have" && c.name != "never looked at" {
				t.Error("the PD was written before the dependency was found to be wrong")
			}
		})
	}
}

func withoutPayloads(t *testing.T, envelope []byte) []byte {
	t.Helper()
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		t.Fatal(err)
	}
	out, err := e.Encode(suit.EncodeOptions{DropPayloads: true})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestStoredWithoutPayload: an Agent that keeps the TA's envelope without its payload can still process it.
func TestStoredWithoutPayload(t *testing.T) {
	p, envelope, digest := installedTA(t)
	p.manifests["manifest/app/ta"] = withoutPayloads(t, envelope)
	info, ciphertext := encrypted(t, p, cose.AlgA128CTR, []byte("records"))
	update(t, p, pdBuilder(info, ciphertext, digest), nil)
	if string(p.components["pd/app/f"]) != "records" {
		t.Error("no PD")
	}
}

// TestLenientDependencies: without dependency-integrity the same check is made by process-dependency.
func TestLenientDependencies(t *testing.T) {
	lenient := ownOptions()
	lenient.LenientDependencies = true
	build := func(digest suit.Digest, p *memPlatform) *suit.Builder {
		info, ciphertext := encrypted(t, p, cose.AlgA128GCM, []byte("records"))
		b := pdBuilder(info, ciphertext, digest)
		b.Install = append(b.Install[:2:2], b.Install[3:]...)
		b.Validate = nil
		return b
	}
	p, _, digest := installedTA(t)
	if _, err := New(p, lenient).Update(context.Background(), sign(t, build(digest, p))); err != nil {
		t.Error(err)
	}
	p, _, _ = installedTA(t)
	e := refused(t, p, build(suit.SHA256(nil), p), lenient)
	if !errors.Is(e, ErrDependency) {
		t.Error(e)
	}
}

// TestDependencyCycle: a manifest that depends on itself, and a chain deeper than allowed, end.
func TestDependencyCycle(t *testing.T) {
	chain := func(name, next string) *suit.Builder {
		b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID(name)}
		b.AddComponent(suit.NewComponentID("c" + name))
		dep := b.AddDependency(suit.NewComponentID(next))
		b.Install = suit.Sequence{
			suit.SetComponentIndex(dep), suit.Override(suit.Params{suit.ParamURI: "http://x/" + next, suit.ParamDigest: suit.SHA256(nil)}),
			suit.Fetch(), suit.ProcessDependency(),
		}
		return b
	}
	p := ownDevice()
	lenient := ownOptions()
	lenient.LenientDependencies = true
	lenient.Limits.Depth = 3
	// The digests form a chain from the end, so build it backwards.
	names := []string{"m0", "m1", "m2", "m3", "m4", "m5"}
	var digest suit.Digest
	for i := len(names) - 2; i >= 0; i-- {
		b := chain(names[i], names[i+1])
		if i == len(names)-2 {
			b = &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID(names[i])}
			b.AddComponent(suit.NewComponentID("end"))
			b.Install = suit.Sequence{suit.Override(suit.Params{suit.ParamContent: []byte("x")}), suit.Write()}
		} else {
			b.Install[1].Params[suit.ParamDigest] = digest
		}
		envelope := sign(t, b)
		digest = manifestDigest(t, envelope)
		p.web["http://x/"+names[i]] = envelope
	}
	if e := refusedBytes(t, p, p.web["http://x/m0"], lenient); !errors.Is(e, ErrLimit) {
		t.Error(e)
	}
	lenient.Limits.Depth = 6
	out, err := New(p, lenient).Update(context.Background(), p.web["http://x/m0"])
	if err != nil || len(out.Manifests) != 5 || !out.Manifests[4].Root {
		t.Errorf("%d manifests, %v", len(out.Manifests), err)
	}
	b := chain("self", "self")
	if e := refused(t, p, b, lenient); !errors.Is(e, suit.ErrMalformed) && !errors.Is(e, ErrDependency) && e.Err == nil {
		t.Error(e)
	}
}

// TestUninstallReferences: a dependency that another manifest still needs stays; with the last one it goes.
func TestUninstallReferences(t *testing.T) {
	p, _, digest := installedTA(t)
	p.references["manifest/app/ta"] = 1 // the TAM's own wish to have the TA
	info, ciphertext := encrypted(t, p, cose.AlgA128GCM, []byte("records"))
	b := pdBuilder(info, ciphertext, digest)
	dep := b.Dependencies[0].Index
	b.Uninstall = append(b.Uninstall, suit.SetComponentIndex(dep), suit.Unlink())
	pd := sign(t, b)
	ctx := context.Background()
	proc := New(p, ownOptions())
	out, err := proc.Update(ctx, pd)
	if err != nil {
		t.Fatal(err)
	}
	p.commit(out)
	if _, err := proc.Uninstall(ctx, pd); err != nil {
		t.Fatal(err)
	}
	if p.components["pd/app/f"] != nil || p.components["tee/app/ta"] == nil || p.manifests["manifest/app/ta"] == nil {
		t.Errorf("after the first: %v", p.components)
	}
	if _, err = proc.Update(ctx, pd); err != nil {
		t.Fatal(err)
	}
	p.references["manifest/app/ta"] = 1 // only the PD's
	if out, err = proc.Uninstall(ctx, pd); err != nil {
		t.Fatal(err)
	}
	if len(p.components) != 0 || p.manifests["manifest/app/ta"] != nil || len(out.Unlinked) != 3 {
		t.Errorf("after the last: %v, unlinked %v", p.components, out.Unlinked)
	}
}
