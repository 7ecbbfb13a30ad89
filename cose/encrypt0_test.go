// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"crypto/ecdh"
	"errors"
	"testing"

	"sealift/cose"
)

func TestEncrypt0(t *testing.T) {
	key16, key32 := bytes.Repeat([]byte{1}, 16), bytes.Repeat([]byte{2}, 32)
	for alg, key := range map[cose.Algorithm][]byte{cose.AlgA128GCM: key16, cose.AlgA256GCM: key32, cose.AlgChaCha20Poly1305: key32} {
		data, err := cose.Encrypt0(nil, alg, key, []byte("kid"), []byte("secret"))
		if err != nil {
			t.Fatal(err)
		}
		for _, form := range [][]byte{data, data[1:]} { // tagged and not
			plain, err := cose.Decrypt0(form, [][]byte{nil, make([]byte, len(key)), key})
			if err != nil || string(plain) != "secret" {
				t.Errorf("%v: %q %v", alg, plain, err)
			}
		}
		if _, err := cose.Decrypt0(data, [][]byte{make([]byte, len(key))}); !errors.Is(err, cose.ErrDecrypt) {
			t.Error(err)
		}
		if _, err := cose.Decrypt0(data, nil); !errors.Is(err, cose.ErrNoKey) {
			t.Error(err)
		}
		for i := range data {
			flipped := bytes.Clone(data)
			flipped[i] ^= 1
			if plain, err := cose.Decrypt0(flipped, [][]byte{key}); err == nil && string(plain) != "secret" {
				t.Errorf("%v: byte %d changed and read as %q", alg, i, plain)
			}
		}
	}
	if _, err := cose.Encrypt0(nil, cose.AlgA128CTR, key16, nil, nil); !errors.Is(err, cose.ErrUnsupported) {
		t.Error(err)
	}
	ctr := cose.MustMarshal([]any{[]byte{}, map[int]any{1: -65534, 5: make([]byte, 16)}, []byte("x")})
	if _, err := cose.Decrypt0(ctr, [][]byte{key16}); !errors.Is(err, cose.ErrUnsupported) {
		t.Error(err)
	}
	if _, err := cose.Decrypt0([]byte{0x80}, nil); !errors.Is(err, cose.ErrMalformed) {
		t.Error(err)
	}
}

// TestX25519Key: for key agreement only.
func TestX25519Key(t *testing.T) {
	priv := fixedX25519(t, "x")
	k := mustKey(t, priv.PublicKey())
	back, err := cose.ParseKey(k.Marshal())
	if err != nil || !back.Equal(k) || back.SignatureAlgorithm() != 0 {
		t.Fatal(back, err)
	}
	pub, err := back.ECDH()
	if err != nil || !pub.Equal(priv.PublicKey()) {
		t.Error(pub, err)
	}
	if _, ok := k.ECDSA(); ok {
		t.Error("an X25519 key signs")
	}
	s := fixedSigner(t, cose.AlgEd25519, "x")
	data, err := cose.Sign1(nil, s, []byte("m"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := cose.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := m.Verify([]*cose.Key{k}, cose.VerifyOptions{AnyKID: true}); !errors.Is(err, cose.ErrNoKey) {
		t.Error(err)
	}
	// A point of low order gives a shared secret that everybody knows.
	low, err := ecdh.X25519().NewPublicKey(make([]byte, 32))
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := cose.NewEncrypter(nil, cose.AlgA128GCM, cose.Recipient{Key: mustKey(t, low)}, ""); err == nil {
		t.Error("encrypts to a point of low order")
	}
}

// TestHSSLMS: the one signature of suit-mti that is not verified here is refused by name.
func TestHSSLMS(t *testing.T) {
	data := cose.MustMarshal([]any{cose.MustMarshal(map[int]int{1: -46}), map[int]int{}, []byte("m"), make([]byte, 100)})
	m, err := cose.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	_, err = m.Verify(keysOf(fixedSigner(t, cose.AlgESP256, "a")), cose.VerifyOptions{})
	if !errors.Is(err, cose.ErrUnsupported) || !bytes.Contains([]byte(err.Error()), []byte("HSS-LMS")) {
		t.Error(err)
	}
}
