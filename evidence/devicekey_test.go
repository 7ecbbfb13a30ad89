// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"math/big"
	"testing"

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
