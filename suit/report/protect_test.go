// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"testing"

	"sealift/cose"
)

func signer(t testing.TB) cose.Signer {
	t.Helper()
	priv, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func recipient(t testing.TB) (*cose.Recipient, cose.KeyRing) {
	t.Helper()
	priv, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(priv.PublicKey())
	if err != nil {
		t.Fatal(err)
	}
	return &cose.Recipient{Key: key}, cose.KeyRing{Keys: []*ecdh.PrivateKey{priv}}
}

// TestProtect: each way in which a report may travel, and who opens it.
func TestProtect(t *testing.T) {
	s := signer(t)
	to, ring := recipient(t)
	mac := bytes.Repeat([]byte{1}, 32)
	all := Keys{Signers: []*cose.Key{s.Key()}, MAC: [][]byte{mac}, Recipients: ring}
	cases := []struct {
		name      string
		p         Protection
		without   Keys
		want      error
		encrypted bool
	}{
		{"plain", Protection{}, Keys{}, ErrUnprotected, false},
		{"signed", Protection{Signer: s}, Keys{}, cose.ErrNoKey, false},
		{"MAC", Protection{MACKey: mac}, Keys{}, cose.ErrNoKey, false},
		{"signed and encrypted", Protection{Signer: s, Recipient: to, Algorithm: cose.AlgA128GCM}, Keys{Signers: all.Signers}, cose.ErrNoKey, true},
		{"MAC and encrypted", Protection{MACKey: mac, Recipient: to, Algorithm: cose.AlgChaCha20Poly1305}, Keys{MAC: all.MAC}, cose.ErrNoKey, true},
		{"encrypted only", Protection{Recipient: to, Algorithm: cose.AlgA128GCM}, all, ErrUnprotected, true},
	}
	for _, c := range cases {
		for name, r := range samples() {
			data, err := r.Protect(rand.Reader, c.p)
			if err != nil {
				t.Fatal(c.name, err)
			}
			keys := all
			keys.Plain = c.want == ErrUnprotected
			got, err := Open(data, keys)
			if err != nil {
				t.Errorf("%s, %s: %v", c.name, name, err)
				continue
			}
			first, _ := r.Marshal()
			again, _ := got.Marshal()
			if !bytes.Equal(first, again) || got.Encrypted != c.encrypted || got.MAC != (c.p.MACKey != nil) || got.Signer.Equal(s.Key()) != (c.p.Signer != nil) {
				t.Errorf("%s, %s: %+v", c.name, name, got)
			}
			if c.encrypted && bytes.Contains(data, first[:20]) {
				t.Errorf("%s: readable", c.name)
			}
			if _, err := Open(data, c.without); !errors.Is(err, c.want) {
				t.Errorf("%s: %v, want %v", c.name, err, c.want)
			}
		}
	}
	for name, p := range map[string]Protection{
		"two authenticators": {Signer: s, MACKey: mac}, "AES-CTR": {Signer: s, Recipient: to, Algorithm: cose.AlgA128CTR},
		"nobody to read": {Signer: s, Recipient: &cose.Recipient{}, Algorithm: cose.AlgA128GCM},
	} {
		if _, err := samples()["success"].Protect(rand.Reader, p); !errors.Is(err, cose.ErrUnsupported) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestOpenNesting: layers in any order up to three, tagged or not, and not a fourth.
func TestOpenNesting(t *testing.T) {
	s, key := signer(t), bytes.Repeat([]byte{7}, 16)
	to, ring := recipient(t)
	keys := Keys{Signers: []*cose.Key{s.Key()}, MAC: [][]byte{key}, Content: [][]byte{key}, Recipients: ring}
	must := func(data []byte, err error) []byte {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	layers := map[string]func([]byte) []byte{
		"sign":     func(b []byte) []byte { return must(cose.Sign1(rand.Reader, s, b)) },
		"untagged": func(b []byte) []byte { return must(cose.Sign1(rand.Reader, s, b))[1:] },
		"mac":      func(b []byte) []byte { return must(cose.Mac0(key, nil, b, false)) },
		"mac bare": func(b []byte) []byte { return must(cose.Mac0(key, nil, b, false))[1:] },
		"encrypt0": func(b []byte) []byte { return must(cose.Encrypt0(nil, cose.AlgA128GCM, key, nil, b)) },
		"encrypt":  func(b []byte) []byte { return must(cose.Encrypt(nil, cose.AlgA128GCM, *to, cose.ContextSUITReport, b)) },
		"bstr":     func(b []byte) []byte { return cose.MustMarshal(b) },
	}
	plain := must(samples()["failure"].Marshal())
	for a, wrapA := range layers {
		for b, wrapB := range layers {
			if a == "bstr" && b == "bstr" {
				continue // nothing wraps twice
			}
			data := layers["sign"](wrapB(wrapA(plain)))
			got, err := Open(data, keys)
			if err != nil {
				t.Errorf("sign(%s(%s)): %v", b, a, err)
				continue
			}
			if again := must(got.Marshal()); !bytes.Equal(again, plain) {
				t.Errorf("sign(%s(%s)) changed", b, a)
			}
		}
	}
	deep := layers["sign"](layers["mac"](layers["sign"](layers["mac"](plain))))
	if _, err := Open(deep, keys); !errors.Is(err, ErrTooDeep) {
		t.Error(err)
	}
	multi := must(cose.SignMulti(rand.Reader, []cose.Signer{s}, plain))
	for _, data := range [][]byte{nil, {0x40}, {0x80}, {0x18, 1}, {0xd2, 0x80}, {0xd8, 96}, multi, multi[2:], {0x61, 'a'}} {
		if o, err := Open(data, keys); err == nil {
			t.Errorf("%x opens: %+v", data, o)
		}
	}
	forged := layers["sign"](plain)
	forged[len(forged)-1] ^= 1
	if _, err := Open(forged, keys); !errors.Is(err, cose.ErrBadSignature) {
		t.Error(err)
	}
}

// FuzzOpen: no input opens without a key, and none panics.
func FuzzOpen(f *testing.F) {
	s := signer(f)
	for _, r := range samples() {
		data, err := r.Protect(rand.Reader, Protection{Signer: s})
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
		f.Add(data[1:])
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if o, err := Open(data, Keys{MAC: [][]byte{{1}}, Content: [][]byte{make([]byte, 16)}}); err == nil && !o.MAC {
			t.Fatalf("%x opens: %+v", data, o)
		}
	})
}
