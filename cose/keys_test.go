// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"strings"
	"testing"

	"sealift/cose"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func mustKey(t testing.TB, pub crypto.PublicKey) *cose.Key {
	t.Helper()
	k, err := cose.NewKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// fixedSigner makes the same signer for the same name in every run, so that signatures can stand in files.
func fixedSigner(t testing.TB, alg cose.Algorithm, name string) cose.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte("test key " + name))
	var priv crypto.Signer = ed25519.NewKeyFromSeed(seed[:])
	if alg == cose.AlgESP256 {
		p, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
		if err != nil {
			t.Fatal(err)
		}
		priv = p
	}
	s, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func fixedECDH(t testing.TB, name string) *ecdh.PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte("test key " + name))
	priv, err := ecdh.P256().NewPrivateKey(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

func fixedX25519(t testing.TB, name string) *ecdh.PrivateKey {
	t.Helper()
	seed := sha256.Sum256([]byte("test key " + name))
	priv, err := ecdh.X25519().NewPrivateKey(seed[:])
	if err != nil {
		t.Fatal(err)
	}
	return priv
}

func keysOf(ss ...cose.Signer) []*cose.Key {
	keys := make([]*cose.Key, len(ss))
	for i, s := range ss {
		keys[i] = s.Key()
	}
	return keys
}
