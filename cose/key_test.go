// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/rsa"
	"encoding/hex"
	"encoding/json"
	"errors"
	"testing"

	"sealift/cose"
)

// The example of RFC 9679 section 6, with members that do not count for the thumbprint.
const (
	rfc9679Key = "a5 0102 0258246d65726961646f632e6272616e64796275636b406275636b6c616e642e6578616d706c65 2001" +
		"21582065eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d" +
		"2258201e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"
	rfc9679Thumbprint = "496bd8afadf307e5b08c64b0421bf9dc01528a344a43bda88fadd1669da253ec"
)

func TestThumbprintOfRFC9679(t *testing.T) {
	k, err := cose.ParseKey(unhex(t, rfc9679Key))
	if err != nil {
		t.Fatal(err)
	}
	thumb := k.Thumbprint()
	if hex.EncodeToString(thumb[:]) != rfc9679Thumbprint || !bytes.Equal(k.KID(), thumb[:]) {
		t.Fatalf("%x", thumb)
	}
	other, err := cose.ThumbprintOf(k.Public())
	if err != nil || other != thumb {
		t.Fatal(other, err)
	}
}

func TestKeyForms(t *testing.T) {
	edKey := fixedSigner(t, cose.AlgEd25519, "a").Key()
	ecKey := fixedSigner(t, cose.AlgESP256, "a").Key()
	dhKey := mustKey(t, fixedECDH(t, "a").PublicKey())
	if !ecKey.Equal(dhKey) || ecKey.Equal(edKey) || ecKey.Equal(nil) {
		t.Fatal("keys compare wrongly")
	}
	for _, k := range []*cose.Key{edKey, ecKey} {
		again, err := cose.ParseKey(k.Marshal())
		if err != nil || !again.Equal(k) || !bytes.Equal(again.Marshal(), k.Marshal()) {
			t.Fatal(err)
		}
		text, err := json.Marshal(map[string]*cose.Key{"key": k})
		if err != nil {
			t.Fatal(err)
		}
		var back map[string]*cose.Key
		if err := json.Unmarshal(text, &back); err != nil || !back["key"].Equal(k) {
			t.Fatal(string(text), err)
		}
		type holder struct {
			K    *cose.Key `cbor:"1,keyasint"`
			None *cose.Key `cbor:"2,keyasint"`
		}
		data := cose.MustMarshal(holder{K: k})
		var h holder
		if err := cose.Unmarshal(data, &h); err != nil || !h.K.Equal(k) || h.None != nil {
			t.Fatal(h, err)
		}
	}
	if _, ok := ecKey.ECDSA(); !ok {
		t.Error("a P-256 key is no ECDSA key")
	}
	if pub, err := ecKey.ECDH(); err != nil || !pub.Equal(fixedECDH(t, "a").PublicKey()) {
		t.Error("a P-256 key does not agree")
	}
	if _, err := edKey.ECDH(); !errors.Is(err, cose.ErrUnsupported) {
		t.Error(err)
	}
	if _, ok := edKey.ECDSA(); ok || edKey.SignatureAlgorithm() != cose.AlgEd25519 || ecKey.SignatureAlgorithm() != cose.AlgESP256 {
		t.Error("algorithms of keys differ")
	}
}

func TestKeysThatAreRefused(t *testing.T) {
	const x, y = "5820 65eda5a12577c2bae829437fe338701a10aaa375e1bb5b5de108de439c08551d", "5820 1e52ed75701163f7f9e40ddf9f341b3dc9ba860af7e0ca7ca7e9eecd0084d19c"
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"plain", "a4 0102 2001 21" + x + "22" + y, nil},
		{"members in another order", "a4 22" + y + "21" + x + "2001 0102", nil},
		{"with ESP256", "a5 0102 0328 2001 21" + x + "22" + y, nil},
		{"with ES256", "a5 0102 0326 2001 21" + x + "22" + y, nil},
		{"with ECDH-ES+A128KW", "a5 0102 03381c 2001 21" + x + "22" + y, nil},
		{"compressed", "a4 0102 2001 21" + x + "22f4", nil},
		{"unknown members", "a6 0102 2001 21" + x + "22" + y + "1863 01 6161 02", nil},
		{"private member", "a5 0102 2001 21" + x + "22" + y + "23 4101", cose.ErrMalformed},
		{"Ed25519 alg on P-256", "a5 0102 0332 2001 21" + x + "22" + y, cose.ErrKeyMismatch},
		{"MAC alg on P-256", "a5 0102 0305 2001 21" + x + "22" + y, cose.ErrKeyMismatch},
		{"not on the curve", "a4 0102 2001 21" + x + "22" + x, cose.ErrMalformed},
		{"x not on the curve, compressed", "a4 0102 2001 215820" + "ff" + "ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff" + "22f5", cose.ErrMalformed},
		{"short x", "a4 0102 2001 214101 22" + y, cose.ErrMalformed},
		{"no y", "a3 0102 2001 21" + x, cose.ErrMalformed},
		{"y as a number", "a4 0102 2001 21" + x + "2200", cose.ErrMalformed},
		{"P-384", "a4 0102 2002 21" + x + "22" + y, cose.ErrUnsupported},
		{"symmetric", "a2 0104 204101", cose.ErrMalformed},
		{"no type", "a3 2001 21" + x + "22" + y, cose.ErrUnsupported},
		{"OKP with y", "a4 0101 2006 21" + x + "22" + y, cose.ErrMalformed},
		{"OKP short", "a3 0101 2006 214101", cose.ErrMalformed},
		{"X448", "a3 0101 2005 21" + x, cose.ErrUnsupported},
		{"duplicate member", "a5 0102 0102 2001 21" + x + "22" + y, cose.ErrMalformed},
		{"trailing byte", "a4 0102 2001 21" + x + "22" + y + "00", cose.ErrMalformed},
		{"no map", "80", cose.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			k, err := cose.ParseKey(unhex(t, c.in))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v, %v; want %v", k, err, c.want)
			}
		})
	}
	if _, err := cose.ParseKey(make([]byte, 1025)); !errors.Is(err, cose.ErrMalformed) {
		t.Error(err)
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ecdh384, err := ecdh.P384().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for _, pub := range []any{nil, p384.Public(), ecdh384.PublicKey(), &rsa.PublicKey{}, (*ecdsa.PublicKey)(nil)} {
		if _, err := cose.NewKey(pub); !errors.Is(err, cose.ErrUnsupported) {
			t.Errorf("%T: %v", pub, err)
		}
	}
	if _, err := cose.NewKey(ed25519.PublicKey{1}); !errors.Is(err, cose.ErrMalformed) {
		t.Error(err)
	}
	var k cose.Key
	if err := k.UnmarshalText([]byte("!")); !errors.Is(err, cose.ErrMalformed) {
		t.Error(err)
	}
	if _, err := k.MarshalText(); !errors.Is(err, cose.ErrNoKey) {
		t.Error(err)
	}
}

// A key that names an algorithm signs with no other one.
func TestKeyAlgorithmBinds(t *testing.T) {
	s := fixedSigner(t, cose.AlgESP256, "a")
	data, err := cose.Sign1(nil, s, nil)
	if err != nil {
		t.Fatal(err)
	}
	m, err := cose.Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	for alg, want := range map[string]error{"0328": nil, "0326": nil, "03381c": cose.ErrKeyMismatch} {
		raw := append([]byte{0xa5}, s.Key().Marshal()[1:]...)
		k, err := cose.ParseKey(append(raw, unhex(t, alg)...))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := m.Verify([]*cose.Key{k}, cose.VerifyOptions{}); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: got %v, want %v", alg, err, want)
		}
	}
}

func TestPEM(t *testing.T) {
	for _, alg := range signatureAlgorithms {
		priv, err := cose.GenerateKey(alg, rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		text, err := cose.MarshalPrivatePEM(priv)
		if err != nil || !bytes.HasPrefix(text, []byte("-----BEGIN PRIVATE KEY-----\n")) {
			t.Fatal(string(text), err)
		}
		back, err := cose.ParsePrivatePEM(text)
		if err != nil || !mustKey(t, back.Public()).Equal(mustKey(t, priv.Public())) {
			t.Fatal(err)
		}
	}
	if _, err := cose.GenerateKey(cose.AlgHMAC256, rand.Reader); !errors.Is(err, cose.ErrUnsupported) {
		t.Error(err)
	}
	for text, want := range map[string]error{
		"":        cose.ErrMalformed,
		"not PEM": cose.ErrMalformed,
		"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n": cose.ErrUnsupported,
		"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n": cose.ErrMalformed,
	} {
		if _, err := cose.ParsePrivatePEM([]byte(text)); !errors.Is(err, want) {
			t.Errorf("%q: got %v", text, err)
		}
	}
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	text, err := cose.MarshalPrivatePEM(p384)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cose.ParsePrivatePEM(text); !errors.Is(err, cose.ErrUnsupported) {
		t.Error(err)
	}
}

func TestStrictCBOR(t *testing.T) {
	type known struct {
		A int `cbor:"1,keyasint"`
	}
	for in, want := range map[string]error{
		"a1 0105":                nil,
		"a2 0105 0206":           nil, // a member that v has no place for
		"a2 0105 02a2 0101 0101": cose.ErrMalformed,
		"a2 0105 0106":           cose.ErrMalformed,
		"bf 0105 ff":             cose.ErrMalformed,
		"a1 0105 00":             cose.ErrMalformed,
		"a1 016161":              cose.ErrMalformed,
		"":                       cose.ErrMalformed,
	} {
		var v known
		if err := cose.Unmarshal(unhex(t, in), &v); !errors.Is(err, want) || (err == nil) != (want == nil) {
			t.Errorf("%s: got %v", in, err)
		}
	}
	var v any
	if err := cose.Unmarshal(unhex(t, "0a"), &v); err != nil || v != int64(10) {
		t.Errorf("%T, %v", v, err)
	}
	if _, err := cose.Marshal(func() {}); err == nil {
		t.Error("a function was encoded")
	}
	if got := cose.MustMarshal(map[int]int{-1: 1, 1: 2}); !bytes.Equal(got, unhex(t, "a201022001")) {
		t.Errorf("%x", got)
	}
}
