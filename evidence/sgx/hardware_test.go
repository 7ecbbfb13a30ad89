// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/intel"
)

// agent is what is needed to make a bundle: an Agent's key, claims and configuration, on a device.
type agent struct {
	device *Device
	key    *cose.Key
	claims evidence.Claims
	config []byte
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
	id := d.InstanceID()
	return &agent{device: d, key: keys[0], config: []byte("configuration"), claims: evidence.Claims{
		Nonce: evidence.MixChallenge([32]byte{1}, [32]byte{2}), UEID: id[:], OEMID: []byte{1, 2, 3}, HWModel: []byte("model"),
		HWVersion: "1", AgentEncKey: keys[1]}}
}

// kept is a store of endorsements.
type kept map[string][]byte

func (k kept) Find(kind, key string) [][]byte {
	if c := k[kind+" "+key]; c != nil {
		return [][]byte{c}
	}
	return nil
}

func (a *agent) input(anchors ...evidence.Anchor) evidence.Input {
	return evidence.Input{Challenge: a.claims.Nonce, AgentKey: a.key, Anchors: evidence.Anchors{Roots: anchors}, Now: now,
		Verifiers: []evidence.HardwareVerifier{NewHardware()}}
}

// bundle makes Evidence; change, if any, is done to the report before it is signed, damage to the quote afterwards.
func (a *agent) bundle(t *testing.T, hw string, collateral [][]byte, change func(*Report), damage func([]byte)) []byte {
	t.Helper()
	sign := func(b [64]byte) (evidence.HardwareEvidence, error) {
		r := a.device.Report(mrEnclave, mrSigner, sha256.Sum256(a.config), b)
		if change != nil {
			change(r)
		}
		data, err := a.device.Mint(rand.Reader, r)
		if err == nil && damage != nil {
			damage(data)
		}
		return evidence.HardwareEvidence{Data: data, MediaType: MediaType, Collateral: collateral}, err
	}
	data, err := evidence.Collect(a.claims, hw, a.key, a.config, sign)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func codes(err error) (out []string) {
	for _, m := range evidence.Mismatches(err) {
		out = append(out, m.Code)
	}
	slices.Sort(out)
	return out
}

func TestThroughVerify(t *testing.T) {
	d := newDevice(t, pki(), nil)
	a, c := newAgent(t, d), collateral(t, pki(), d, nil)
	anchor := pki().Anchor(evidence.SGX)
	store := kept{intel.EndorsementKind(intel.SGX) + " " + d.platform.PCK.EndorsementKey(): c}
	for name, x := range map[string]struct {
		with   [][]byte
		store  evidence.Endorsements
		status any
	}{"no collateral": {nil, nil, nil}, "with the Evidence": {[][]byte{c}, nil, "UpToDate"}, "kept": {nil, store, "UpToDate"}} {
		in := a.input(intel.VendorAnchor(evidence.SGX), anchor)
		in.Endorsements = x.store
		v, err := evidence.Verify(a.bundle(t, "emu:sgx", x.with, nil, nil), in)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		m, ok := v.Measurement("MRENCLAVE")
		s, okSigner := v.Measurement("MRSIGNER")
		if !ok || !okSigner || string(m.Value) != string(mrEnclave[:]) || string(s.Value) != string(mrSigner[:]) || len(v.Measurements) != 2 ||
			v.Hardware != evidence.SGX || !v.Emulated || v.Fields["tcb-status"] != x.status || v.Until.IsZero() {
			t.Errorf("%s: verified as %+v", name, v)
		}
		if v.Fields["ATTRIBUTES"] != AttrInit|AttrMode64|AttrKSS || v.Fields["ISVSVN"] != uint16(1) || v.Fields["FMSPC"] != "00606a000000" {
			t.Errorf("%s: fields %v", name, v.Fields)
		}
	}
}

func TestThroughVerifyRefused(t *testing.T) {
	d := newDevice(t, pki(), nil)
	a, own := newAgent(t, d), pki().Anchor(evidence.SGX)
	revoked := collateral(t, pki(), d, func(s *intel.CollateralSpec) { s.RevokedPCKs = []*x509.Certificate{d.platform.PCK.Cert} })
	forTDX := own
	forTDX.Hardware = evidence.TDX
	for name, c := range map[string]struct {
		anchor     evidence.Anchor
		hw         string
		collateral [][]byte
		change     func(*Report)
		damage     func([]byte)
		want       []string
	}{
		"Intel's root":          {intel.VendorAnchor(evidence.SGX), "emu:sgx", nil, nil, nil, []string{evidence.CodeRoot}},
		"a self-made root":      {strangers().Anchor(evidence.SGX), "emu:sgx", nil, nil, nil, []string{evidence.CodeRoot}},
		"a root for TDX":        {forTDX, "emu:sgx", nil, nil, nil, []string{evidence.CodeRoot}},
		"under the real name":   {own, "sgx", nil, nil, nil, []string{evidence.CodeHardware}},
		"of other hardware":     {own, "emu:tdx", nil, nil, nil, []string{evidence.CodeBinding}},
		"REPORTDATA":            {own, "emu:sgx", nil, func(r *Report) { r.ReportData[0] ^= 1 }, nil, []string{evidence.CodeBinding}},
		"CONFIGID":              {own, "emu:sgx", nil, func(r *Report) { r.ConfigID[0] ^= 1 }, nil, []string{evidence.CodeConfig, evidence.CodeConfig}},
		"CONFIGID, behind":      {own, "emu:sgx", nil, func(r *Report) { r.ConfigID[63] = 1 }, nil, []string{evidence.CodeConfig, evidence.CodeConfig}},
		"no KSS, no CONFIGID":   {own, "emu:sgx", nil, func(r *Report) { r.Attributes, r.ConfigID = AttrInit, [64]byte{} }, nil, []string{evidence.CodeConfig}},
		"no KSS, with CONFIGID": {own, "emu:sgx", nil, func(r *Report) { r.Attributes &^= AttrKSS }, nil, []string{evidence.CodeConfig, evidence.CodeMalformed}},
		"revoked":               {own, "emu:sgx", [][]byte{revoked}, nil, nil, []string{evidence.CodeRevoked}},
		"signature":             {own, "emu:sgx", nil, nil, func(q []byte) { q[signedSize+4] ^= 1 }, []string{evidence.CodeSignature}},
		"MRENCLAVE, afterwards": {own, "emu:sgx", nil, nil, func(q []byte) { q[112] ^= 1 }, []string{evidence.CodeSignature}},
		"version":               {own, "emu:sgx", nil, nil, func(q []byte) { q[0] = 4 }, []string{evidence.CodeMalformed}},
	} {
		v, err := evidence.Verify(a.bundle(t, c.hw, c.collateral, c.change, c.damage), a.input(c.anchor))
		if got := codes(err); !slices.Equal(got, c.want) || v != nil {
			t.Errorf("%s: got %v, want %v: %v", name, got, c.want, err)
		}
	}
	other := newAgent(t, newDevice(t, pki(), func(s *intel.PlatformSpec) { s.PPID[0]++ }))
	other.claims.UEID = a.claims.UEID
	if _, err := evidence.Verify(other.bundle(t, "emu:sgx", nil, nil, nil), other.input(own)); !slices.Equal(codes(err), []string{evidence.CodeInstance}) {
		t.Errorf("another device: %v", err)
	}
}

// TestRealThroughHardware verifies the real quotes through the adapter.
func TestRealThroughHardware(t *testing.T) {
	h := NewHardware()
	anchors := []evidence.Anchor{intel.VendorAnchor(evidence.SGX)}
	for range 2 {
		for _, c := range []struct {
			quote  string
			store  kept
			in     evidence.HardwareInput
			status string
			debug  bool
		}{
			{"phala_sgx_quote.bin", kept{intel.EndorsementKind(intel.SGX) + " 00a067110000.processor": sample(t, "phala_sgx.collateral.json")},
				evidence.HardwareInput{Now: inJune}, "ConfigurationAndSWHardeningNeeded", false},
			{"occlum_trustee.quote.bin", kept{intel.EndorsementKind(intel.SGX) + " 00606a000000.platform": august(t)}, evidence.HardwareInput{Now: inAugust}, "OutOfDate", true},
		} {
			c.in.Anchors, c.in.Endorsements = anchors, c.store
			s, mismatches := h.VerifyHardware(evidence.HardwareEvidence{Data: sample(t, c.quote), MediaType: MediaType}, c.in)
			if len(mismatches) > 0 || !s.Rooted || s.Root.IsEmulated() || s.Fields["tcb-status"] != c.status {
				t.Errorf("%s: %+v, %v", c.quote, s, mismatches)
				continue
			}
			if s.Fields["ATTRIBUTES"].(Attributes).Debug() != c.debug || len(s.Config) != 0 {
				t.Errorf("%s: ATTRIBUTES %v, configuration %x", c.quote, s.Fields["ATTRIBUTES"], s.Config)
			}
		}
	}
}
