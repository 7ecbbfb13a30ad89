// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
)

// agent is what is needed to make a bundle: an Agent's keys, claims and configuration.
type agent struct {
	key    *cose.Key
	claims evidence.Claims
	config []byte
	nonce  []byte
}

func newAgent(t *testing.T, d *Device) *agent {
	t.Helper()
	keys := make([]*cose.Key, 2)
	for i := range keys {
		priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		if keys[i], err = cose.NewKey(priv.Public()); err != nil {
			t.Fatal(err)
		}
	}
	id := d.Key().InstanceID()
	a := &agent{key: keys[0], config: []byte("configuration"), nonce: evidence.MixChallenge([32]byte{1}, [32]byte{2})}
	a.claims = evidence.Claims{Nonce: a.nonce, UEID: id[:], OEMID: []byte{1, 2, 3}, HWModel: []byte("model"), HWVersion: "1",
		AgentEncKey: keys[1]}
	return a
}

func (a *agent) input(anchors ...evidence.Anchor) evidence.Input {
	return evidence.Input{Challenge: a.nonce, AgentKey: a.key, Anchors: evidence.Anchors{Roots: anchors},
		Now: time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC), Verifiers: []evidence.HardwareVerifier{Hardware{}}}
}

// bundle makes Evidence with the device; change, if any, is done to what the PTA made.
func (a *agent) bundle(t *testing.T, d *Device, hw string, change func(*Report)) []byte {
	t.Helper()
	sign := func(b [64]byte) (evidence.HardwareEvidence, error) {
		data, err := d.Mint(rand.Reader, b, sha256.Sum256(a.config), digests)
		if err == nil && change != nil {
			var r *Report
			if r, err = Parse(data); err == nil {
				change(r)
				data = r.Marshal()
			}
		}
		return evidence.HardwareEvidence{Data: data, MediaType: MediaType}, err
	}
	data, err := evidence.Collect(a.claims, hw, a.key, a.config, sign)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func codes(err error) (all []string) {
	for _, m := range evidence.Mismatches(err) {
		all = append(all, m.Code)
	}
	return all
}

func TestThroughVerify(t *testing.T) {
	for hw, d := range map[string]*Device{"emu:trustzone": emulated(), "trustzone": genuine()} {
		a := newAgent(t, d)
		v, err := evidence.Verify(a.bundle(t, d, hw, nil), a.input(stranger().Key().Anchor(), d.Key().Anchor()))
		if err != nil {
			t.Fatalf("%s: %v", hw, err)
		}
		m, ok := v.Measurement("TA-MEMORY")
		if want := digests[TAMemory]; !ok || string(m.Value) != string(want[:]) || v.Hardware != evidence.TrustZone || len(v.Measurements) != 3 {
			t.Errorf("%s: verified as %+v", hw, v)
		}
		if v.Emulated != (d == emulated()) {
			t.Errorf("%s: emulated is %v", hw, v.Emulated)
		}
	}
}

// TestMarkOfTheKey files an emulator's key as a real one: what it signs is emulated all the same.
func TestMarkOfTheKey(t *testing.T) {
	a := newAgent(t, emulated())
	anchor := emulated().Key().Anchor()
	anchor.Emulated = false
	v, err := evidence.Verify(a.bundle(t, emulated(), "emu:trustzone", nil), a.input(anchor))
	if err != nil || !v.Emulated || !v.Root.IsEmulated() {
		t.Errorf("got %+v, %v", v, err)
	}
	if _, err := evidence.Verify(a.bundle(t, emulated(), "trustzone", nil), a.input(anchor)); !slices.Contains(codes(err), evidence.CodeHardware) {
		t.Errorf("an emulated device under the real one's name: %v", err)
	}
}

func TestThroughVerifyRefused(t *testing.T) {
	d := emulated()
	a, own := newAgent(t, d), d.Key().Anchor()
	wrongKey := stranger().Key().Anchor()
	for name, c := range map[string]struct {
		anchors []evidence.Anchor
		change  func(*Report)
		want    []string
	}{
		"no anchor":      {nil, nil, []string{evidence.CodeRoot}},
		"another anchor": {[]evidence.Anchor{wrongKey}, nil, []string{evidence.CodeRoot}},
		"for other hardware": {[]evidence.Anchor{{Public: d.Key().Public, Hardware: evidence.CCA, Emulated: true}}, nil,
			[]string{evidence.CodeRoot}},
		"another's key": {[]evidence.Anchor{own, wrongKey}, func(r *Report) { r.Key = stranger().Key().Fingerprint() },
			[]string{evidence.CodeInstance, evidence.CodeSignature, evidence.CodeSignature, evidence.CodeSignature}},
		"binding": {[]evidence.Anchor{own}, func(r *Report) { r.Binding[0] ^= 1 },
			[]string{evidence.CodeBinding, evidence.CodeSignature, evidence.CodeSignature, evidence.CodeSignature}},
		"configuration": {[]evidence.Anchor{own}, func(r *Report) { r.Config[0] ^= 1 },
			[]string{evidence.CodeConfig, evidence.CodeConfig, evidence.CodeSignature, evidence.CodeSignature, evidence.CodeSignature}},
		"digest":          {[]evidence.Anchor{own}, func(r *Report) { r.Outputs[1].Digest[0] ^= 1 }, []string{evidence.CodeSignature}},
		"no TA-MEMORY":    {[]evidence.Anchor{own}, func(r *Report) { r.Outputs = r.Outputs[:1] }, []string{evidence.CodeBinding}},
		"nothing at all":  {[]evidence.Anchor{own}, func(r *Report) { r.Outputs = nil }, []string{evidence.CodeMalformed}},
		"unbound, no key": {nil, func(r *Report) { r.Outputs = r.Outputs[2:] }, []string{evidence.CodeBinding, evidence.CodeRoot}},
	} {
		_, err := evidence.Verify(a.bundle(t, d, "emu:trustzone", c.change), a.input(c.anchors...))
		got := codes(err)
		slices.Sort(got)
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v: %v", name, got, c.want, err)
		}
	}
}

// TestCertificates wants none: nothing could vouch for them, and nothing says what they mean.
func TestCertificates(t *testing.T) {
	d := emulated()
	a := newAgent(t, d)
	b, err := evidence.ParseBundle(a.bundle(t, d, "emu:trustzone", nil))
	if err != nil {
		t.Fatal(err)
	}
	b.Collateral = [][]byte{{0x30}}
	if _, err := evidence.Verify(b.Marshal(), a.input(d.Key().Anchor())); !slices.Equal(codes(err), []string{evidence.CodeMalformed}) {
		t.Errorf("got %v", err)
	}
}
