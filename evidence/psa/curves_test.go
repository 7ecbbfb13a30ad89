// SPDX-License-Identifier: Apache-2.0

package psa_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/evidence/psa"
)

// TestCurves guards the three algorithms that a receiver has to accept (RFC 9783 section 5.2), each with its curve only.
func TestCurves(t *testing.T) {
	curves := []elliptic.Curve{elliptic.P256(), elliptic.P384(), elliptic.P521()}
	var keys []crypto.PublicKey
	var tokens [][]byte
	for _, c := range curves {
		iak, err := ecdsa.GenerateKey(c, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		data, err := psa.Mint(rand.Reader, iak, token(psa.ProfileTFM))
		if err != nil {
			t.Fatal(err)
		}
		keys, tokens = append(keys, &iak.PublicKey), append(tokens, data)
	}
	ed, _, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for i, data := range tokens {
		msg, err := psa.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		v, err := msg.VerifyPublic(append([]crypto.PublicKey{ed}, keys...)...)
		if err != nil || !v.Public.Equal(keys[i]) || (v.Key != nil) != (i == 0) || v.Algorithm != []cose.Algorithm{-7, -35, -36}[i] {
			t.Errorf("%s: %+v, %v", curves[i].Params().Name, v, err)
		}
		if _, err := msg.VerifyPublic(append(slices.Delete(slices.Clone(keys), i, i+1), ed)...); !errors.Is(err, psa.ErrSignature) {
			t.Errorf("%s, without its key: %v", curves[i].Params().Name, err)
		}
		for n := 0; n < len(data); n += 1 + 10*i { // the larger curves are slow
			data[n] ^= 1
			if msg, err := psa.Parse(data); err == nil {
				if _, err = msg.VerifyPublic(keys[i]); !errors.Is(err, psa.ErrSignature) {
					t.Fatalf("%s, byte %d changed: %v", curves[i].Params().Name, n, err)
				}
			}
			data[n] ^= 1
		}
	}
	p224, err := ecdsa.GenerateKey(elliptic.P224(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := psa.Mint(rand.Reader, p224, token(psa.ProfileTFM)); !errors.Is(err, psa.ErrAlgorithm) {
		t.Errorf("P-224: %v", err)
	}
}

// TestTagInTwoBytes guards that tags count in the longer form as well: an encoder need not use the shortest (RFC 9783 section
// 5.1.1), and a MAC is named as one.
func TestTagInTwoBytes(t *testing.T) {
	iak, pub := newIAK(t)
	data, err := psa.Mint(rand.Reader, iak, token(psa.ProfileTFM))
	if err != nil {
		t.Fatal(err)
	}
	long := append([]byte{0xd8, 18}, data[1:]...)
	msg, err := psa.Parse(long)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := msg.Verify(pub); err != nil {
		t.Error(err)
	}
	long[1] = 17
	if _, err := psa.Parse(long); !errors.Is(err, psa.ErrMac0) {
		t.Errorf("COSE_Mac0: %v", err)
	}
	if _, err := psa.Parse(bytes.Clone(long[2:])); !errors.Is(err, psa.ErrMalformed) {
		t.Errorf("no tag: %v", err)
	}
}
