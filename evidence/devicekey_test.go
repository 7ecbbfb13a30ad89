// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"errors"
	"math/big"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/psa"
)

// TestEnrolledLargerKey verifies tokens of devices whose attestation keys are on P-384 and P-521, by their enrolled keys.
// Keys of other kinds among the anchors do no harm.
func TestEnrolledLargerKey(t *testing.T) {
	other := evidence.Anchor{Public: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}}
	for _, curve := range []elliptic.Curve{elliptic.P384(), elliptic.P521()} {
		w := newWorld(t)
		w.hw = "trustzone"
		var keys []*ecdsa.PrivateKey
		for range 2 {
			key, err := ecdsa.GenerateKey(curve, rand.Reader)
			must(t, err)
			keys = append(keys, key)
		}
		w.change = func(e *evidence.HardwareEvidence) {
			msg, err := psa.Parse(e.Data)
			must(t, err)
			e.Data, err = psa.Mint(rand.Reader, keys[0], *msg.TokenInsecure())
			must(t, err)
			e.Collateral = nil
		}
		anchor := func(key crypto.PublicKey) evidence.Anchor {
			return evidence.Anchor{Public: key, Hardware: evidence.TrustZone}
		}
		in := w.input()
		in.Anchors.Roots = []evidence.Anchor{other, anchor(keys[1].Public()), anchor(keys[0].Public())}
		v, err := evidence.Verify(w.bundle(t), in)
		if err != nil || v.Emulated || v.Root.Fingerprint() != in.Anchors.Roots[2].Fingerprint() {
			t.Errorf("%s: %+v, %v", curve.Params().Name, v, err)
		}
		in.Anchors.Roots = in.Anchors.Roots[:2]
		_, err = evidence.Verify(w.bundle(t), in)
		wantCodes(t, err, evidence.CodeSignature)
		in.Anchors.Roots = in.Anchors.Roots[:1]
		_, err = evidence.Verify(w.bundle(t), in)
		wantCodes(t, err, evidence.CodeRoot)
	}
}

// TestCertificatesInToken verifies tokens that bring the certificates of their keys in the header x5chain (RFC 9783,
// "Scalability Considerations"): under a root, under the enrolled key, under nothing, and with what does not belong there.
func TestCertificatesInToken(t *testing.T) {
	root := issue(t, "root", 1, nil)
	ca := issue(t, "maker", 2, root)
	leaf, other := issue(t, "device", 33, ca), issue(t, "another", 34, ca)
	enrolled, err := cose.NewKey(leaf.cert.PublicKey)
	must(t, err)
	byRoot, byKey := evidence.Anchor{Cert: root.cert}, evidence.Anchor{Key: enrolled}
	for name, c := range map[string]struct {
		chain   [][]byte
		anchors []evidence.Anchor
		want    []string
	}{
		"under the root":          {[][]byte{leaf.cert.Raw, ca.cert.Raw}, []evidence.Anchor{byRoot}, nil},
		"with the root":           {[][]byte{leaf.cert.Raw, ca.cert.Raw, root.cert.Raw}, []evidence.Anchor{byRoot}, nil},
		"under the key":           {[][]byte{leaf.cert.Raw, ca.cert.Raw}, []evidence.Anchor{byKey}, nil},
		"under the key, rubbish":  {[][]byte{{0x30}}, []evidence.Anchor{byKey}, nil},
		"no issuer":               {[][]byte{leaf.cert.Raw}, []evidence.Anchor{byRoot}, []string{evidence.CodeRoot}},
		"no anchor":               {[][]byte{leaf.cert.Raw, ca.cert.Raw, root.cert.Raw}, nil, []string{evidence.CodeRoot}},
		"another's":               {[][]byte{other.cert.Raw, ca.cert.Raw}, []evidence.Anchor{byRoot}, []string{evidence.CodeSignature}},
		"a CA's":                  {[][]byte{ca.cert.Raw, root.cert.Raw}, []evidence.Anchor{byRoot}, []string{evidence.CodeCertificate, evidence.CodeSignature}},
		"rubbish, under the root": {[][]byte{{0x30}}, []evidence.Anchor{byRoot}, []string{evidence.CodeMalformed}},
	} {
		w := newWorld(t)
		w.hw = "trustzone"
		w.change = func(e *evidence.HardwareEvidence) {
			msg, err := cose.Parse(e.Data)
			must(t, err)
			s, err := cose.NewSigner(leaf.key)
			must(t, err)
			e.Data, err = cose.Sign1With(rand.Reader, s, cose.Headers{X5Chain: c.chain}, msg.PayloadInsecure())
			must(t, err)
			e.Collateral = nil
		}
		in := w.input()
		in.Anchors.Roots = c.anchors
		v, err := evidence.Verify(w.bundle(t), in)
		if got := codes(err); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v: %v", name, got, c.want, err)
		}
		if v != nil && (v.Emulated || v.Root.Fingerprint() != c.anchors[0].Fingerprint()) {
			t.Errorf("%s: under %v", name, v.Root)
		}
	}
}

// TestEnrolledInstance guards that the key of one device does not vouch for the instance ID of another (RFC 9783 section 4.2.1).
func TestEnrolledInstance(t *testing.T) {
	for name, c := range map[string]struct {
		own, others []byte // instance IDs of the key's enrolment and of another key's
		want        []string
	}{
		"enrolled without one": {nil, nil, nil},
		"enrolled for it":      {id(33), nil, nil},
		"for another":          {id(1), nil, []string{evidence.CodeInstance}},
		"another device's":     {nil, id(33), []string{evidence.CodeRoot}},
		"both":                 {id(33), id(33), []string{evidence.CodeRoot}},
	} {
		w := newWorld(t)
		w.hw = "trustzone"
		keys := []*ecdsa.PrivateKey{}
		for range 2 {
			key, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
			must(t, err)
			keys = append(keys, key)
		}
		var instance []byte
		w.change = func(e *evidence.HardwareEvidence) {
			msg, err := psa.Parse(e.Data)
			must(t, err)
			instance = msg.TokenInsecure().InstanceID
			e.Data, err = psa.Mint(rand.Reader, keys[0], *msg.TokenInsecure())
			must(t, err)
			e.Collateral = nil
		}
		data := w.bundle(t)
		in := w.input()
		in.Anchors.Roots = nil
		for i, enrolled := range [][]byte{c.own, c.others} {
			a := evidence.Anchor{Public: keys[i].Public(), Hardware: evidence.TrustZone}
			switch {
			case len(enrolled) == 33:
				a.Instance = instance
			case len(enrolled) > 0:
				a.Instance = bytes.Repeat([]byte{1}, 33)
			}
			pem, err := a.PEM()
			must(t, err)
			read, err := evidence.ParseAnchorPEM(pem)
			must(t, err)
			if !bytes.Equal(read.Instance, a.Instance) {
				t.Errorf("%s: instance %x became %x", name, a.Instance, read.Instance)
			}
			in.Anchors.Roots = append(in.Anchors.Roots, read)
		}
		_, err := evidence.Verify(data, in)
		if got := codes(err); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v: %v", name, got, c.want, err)
		}
	}
	for _, line := range []string{"Instance: zz\n", "Instance: 01\n"} {
		pem, err := evidence.Anchor{Public: &rsa.PublicKey{N: new(big.Int).Lsh(big.NewInt(1), 2047), E: 65537}}.PEM()
		must(t, err)
		if _, err := evidence.ParseAnchorPEM(append([]byte(line), pem...)); !errors.Is(err, evidence.ErrAnchor) {
			t.Errorf("%q: %v", line, err)
		}
	}
}

func id(n int) []byte { return make([]byte, n) }

// TestUntilOfCertificates guards that Evidence is not good for longer than the certificates that vouch for it.
func TestUntilOfCertificates(t *testing.T) {
	w := newWorld(t)
	v, err := evidence.Verify(w.bundle(t), w.input())
	must(t, err)
	if v.Until.IsZero() || v.UntilWhat == "" || v.Until.Before(now) {
		t.Errorf("until %v, %q", v.Until, v.UntilWhat)
	}
}
