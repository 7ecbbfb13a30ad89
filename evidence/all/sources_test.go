// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"slices"
	"testing"

	"sealift/evidence"
	"sealift/evidence/cca"
	"sealift/evidence/csv"
	"sealift/evidence/emuroot"
	"sealift/evidence/tsm"
	"sealift/internal/sharedtest"
)

// kept is a store of endorsements.
type kept map[string][][]byte

func (k kept) Find(kind, key string) [][]byte { return k[kind+" "+key] }

// hardware signs something.
func (w *world) hardware(t *testing.T) evidence.HardwareEvidence {
	t.Helper()
	e, err := w.sign([64]byte{7})
	must(t, err)
	return e
}

// Certificates of HSK and CEK come with the Evidence, or from the verifier's store under the chip's serial number.
func TestCSVChainFromStore(t *testing.T) {
	w, other := newWorld(t, evidence.CSV), newWorld(t, evidence.CSV)
	e := w.hardware(t)
	m, err := csv.Parse(e.Data)
	must(t, err)
	chain := slices.Concat(e.Collateral...)
	e.Collateral = nil
	key := csv.KindChain + " " + m.ReportInsecure().SerialInsecure
	for name, c := range map[string]struct {
		store kept
		want  []string
	}{
		"nothing":         {nil, []string{evidence.CodeCertificate}},
		"the chip's":      {kept{key: {chain}}, nil},
		"another chip's":  {kept{key: {slices.Concat(other.hardware(t).Collateral...)}}, []string{evidence.CodeCertificate}},
		"something short": {kept{key: {chain[:100]}}, []string{evidence.CodeCertificate}},
	} {
		in := w.input()
		in.Endorsements = c.store
		if _, err := evidence.VerifyHardware(e, nil, in); !slices.Equal(codes(err), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// A CPAK without a certificate is enrolled as a key; Arm's development key counts as emulated even then.
func TestEnrolledCPAK(t *testing.T) {
	w := newWorld(t, evidence.CCA)
	e := w.hardware(t)
	leaf, err := x509.ParseCertificate(e.Collateral[0])
	must(t, err)
	e.Collateral = nil
	own := evidence.Anchor{Public: leaf.PublicKey, Name: "device one"}
	v, err := evidence.VerifyHardware(e, nil, w.input(own))
	if err != nil || v.Emulated || v.Root.Name != "device one" {
		t.Errorf("enrolled: %v", err)
	}
	if _, err := evidence.VerifyHardware(e, nil, w.input()); !slices.Equal(codes(err), []string{evidence.CodeRoot}) {
		t.Errorf("not enrolled: %v", err)
	}
	stranger := newWorld(t, evidence.CCA).hardware(t)
	stranger.Collateral = nil
	if _, err := evidence.VerifyHardware(stranger, nil, w.input(own)); !slices.Equal(codes(err), []string{evidence.CodeSignature}) {
		t.Errorf("another platform's: %v", err)
	}
	dev, err := evidence.ParseAnchorPEM(sharedtest.Read(t, "evidence", "cca/tfrmm_cpak.pub.pem"))
	must(t, err)
	token := evidence.HardwareEvidence{Data: sharedtest.Read(t, "evidence", "cca/tfrmm_cca_token.cbor"), MediaType: cca.MediaType}
	v, err = evidence.VerifyHardware(token, nil, w.input(dev))
	if key, ok := dev.Public.(*ecdsa.PublicKey); err != nil || !v.Emulated || !ok || key == nil {
		t.Errorf("Arm's development key: %v", err)
	}
}

// The kernel's wrapper serves three architectures; its provider tells which, and one that nobody knows is refused.
func TestKernelWrapper(t *testing.T) {
	w := newWorld(t, evidence.CCA)
	e := w.hardware(t)
	wrap := func(provider string) evidence.HardwareEvidence {
		return evidence.HardwareEvidence{MediaType: tsm.MediaType, Collateral: e.Collateral,
			Data: tsm.Report{Provider: provider, OutBlob: e.Data}.Marshal()}
	}
	if v, err := evidence.VerifyHardware(wrap(tsm.ProviderCCA), nil, w.input()); err != nil || v.Hardware != evidence.CCA {
		t.Errorf("in the wrapper: %v", err)
	}
	for provider, want := range map[string]string{tsm.ProviderSNP: evidence.CodeMalformed, tsm.ProviderTDX: evidence.CodeMalformed, "fake": evidence.CodeMalformed} {
		if _, err := evidence.VerifyHardware(wrap(provider), nil, w.input()); !slices.Equal(codes(err), []string{want}) {
			t.Errorf("as if from %s: %v", provider, err)
		}
	}
}

// FuzzVerifyHardware hands arbitrary bytes to the verifier of each media type.
func FuzzVerifyHardware(f *testing.F) {
	for _, hw := range evidence.AllHardware() {
		e, err := newWorld(f, hw).sign([64]byte{7})
		must(f, err)
		var first []byte
		if len(e.Collateral) > 0 {
			first = e.Collateral[0]
		}
		f.Add(e.Data, e.MediaType, first)
	}
	w := newWorld(f, evidence.TDX)
	f.Fuzz(func(t *testing.T, data []byte, mediaType string, collateral []byte) {
		e := evidence.HardwareEvidence{Data: data, MediaType: mediaType, Collateral: [][]byte{collateral}}
		if v, err := evidence.VerifyHardware(e, nil, w.input()); (v == nil) == (err == nil) || err != nil && len(codes(err)) == 0 {
			t.Errorf("%v, %v", v, err)
		}
	})
}

// A CEK of another vendor is not made good by an HSK of this one.
func TestCSVChainOfAnotherHSK(t *testing.T) {
	w := newWorld(t, evidence.CSV)
	stranger, err := emuroot.New(rand.Reader, evidence.CSV, now)
	must(t, err)
	w.device, err = stranger.NewDevice(rand.Reader, "stranger")
	must(t, err)
	e := w.hardware(t)
	e.Collateral[0] = newWorld(t, evidence.CSV).hardware(t).Collateral[0]
	_, err = evidence.VerifyHardware(e, nil, w.input())
	if !slices.Equal(codes(err), []string{evidence.CodeCertificate}) {
		t.Errorf("%v", err)
	}
}
