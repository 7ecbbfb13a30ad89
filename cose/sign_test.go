// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"crypto/rand"
	"errors"
	"slices"
	"testing"

	gocose "github.com/veraison/go-cose"

	"sealift/cose"
	"sealift/cose/wire"
)

var signatureAlgorithms = []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519}

func TestSign1RoundTrip(t *testing.T) {
	for _, alg := range signatureAlgorithms {
		s := fixedSigner(t, alg, "a")
		data, err := cose.Sign1(rand.Reader, s, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		if !wire.Deterministic(data) {
			t.Errorf("%v: encoding is not deterministic", alg)
		}
		m, err := cose.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		if !m.Tagged() || m.Multi() || m.Detached() || !slices.Equal(m.Algorithms(), []cose.Algorithm{alg}) || !bytes.Equal(m.KIDs()[0], s.Key().KID()) {
			t.Errorf("%v: headers differ", alg)
		}
		v, err := m.Verify(keysOf(fixedSigner(t, alg, "b"), s), cose.VerifyOptions{RequireKID: true})
		if err != nil || string(v.Payload) != "payload" || !v.Key.Equal(s.Key()) || v.Algorithm != alg {
			t.Fatalf("%v: %+v, %v", alg, v, err)
		}
	}
}

func TestSign1DetachedAndHeaders(t *testing.T) {
	s := fixedSigner(t, cose.AlgESP256, "a")
	detached, err := cose.Sign1Detached(rand.Reader, s, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := cose.Parse(detached)
	if err != nil || !m.Detached() || m.PayloadInsecure() != nil {
		t.Fatal(m, err)
	}
	if _, err := m.Verify(keysOf(s), cose.VerifyOptions{Detached: []byte("payload")}); err != nil {
		t.Fatal(err)
	}
	if _, err := m.Verify(keysOf(s), cose.VerifyOptions{Detached: []byte("Payload")}); !errors.Is(err, cose.ErrBadSignature) {
		t.Fatal(err)
	}
	if _, err := m.Verify(keysOf(s), cose.VerifyOptions{}); !errors.Is(err, cose.ErrMalformed) {
		t.Fatal(err)
	}
	for _, content := range []any{"application/eat+cwt", 60, uint16(60), uint64(60)} {
		h := cose.Headers{ContentType: content, X5Chain: [][]byte{{0x30, 1}, {0x30, 2}}}
		data, err := cose.Sign1With(rand.Reader, s, h, nil)
		if err != nil {
			t.Fatal(err)
		}
		m, err := cose.Parse(data)
		if err != nil || len(m.X5Chain()) != 2 || m.ContentType() == nil || m.Detached() {
			t.Fatal(m, err)
		}
		if _, err := m.Verify(keysOf(s), cose.VerifyOptions{Detached: []byte{}}); !errors.Is(err, cose.ErrMalformed) {
			t.Fatalf("two payloads: %v", err)
		}
		if _, err := m.Verify(keysOf(s), cose.VerifyOptions{}); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := cose.Sign1With(rand.Reader, s, cose.Headers{ContentType: -1}, nil); !errors.Is(err, cose.ErrMalformed) {
		t.Fatal(err)
	}
}

func TestSignMulti(t *testing.T) {
	p, e := fixedSigner(t, cose.AlgESP256, "p"), fixedSigner(t, cose.AlgEd25519, "e")
	stranger := fixedSigner(t, cose.AlgEd25519, "stranger")
	data, err := cose.SignMulti(rand.Reader, []cose.Signer{p, e}, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	last := slices.Clone(data)
	last[len(last)-1] ^= 1 // the signature of e
	for _, c := range []struct {
		name string
		data []byte
		keys []*cose.Key
		key  *cose.Key
		want error
	}{
		{"both known", data, keysOf(e, p), p.Key(), nil},
		{"first known", data, keysOf(p, stranger), p.Key(), nil},
		{"second known", data, keysOf(e), e.Key(), nil},
		{"none known", data, keysOf(stranger), nil, cose.ErrNoKey},
		{"no keys", data, nil, nil, cose.ErrNoKey},
		{"invalid signature by a stranger", last, keysOf(p), p.Key(), nil},
		{"invalid signature by a known key", last, keysOf(p, e), nil, cose.ErrBadSignature},
		{"invalid signature alone", last, keysOf(e), nil, cose.ErrBadSignature},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := cose.Parse(c.data)
			if err != nil {
				t.Fatal(err)
			}
			v, err := m.Verify(c.keys, cose.VerifyOptions{RequireKID: true})
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			if err == nil && !v.Key.Equal(c.key) {
				t.Fatal("another key is named")
			}
		})
	}
	for _, n := range []int{0, 17} {
		if _, err := cose.SignMulti(rand.Reader, make([]cose.Signer, n), nil); !errors.Is(err, cose.ErrUnsupported) {
			t.Errorf("%d signers: %v", n, err)
		}
	}
}

// forge builds a COSE_Sign1 from raw parts, signed correctly over what they say.
func forge(t *testing.T, s cose.Signer, protected, unprotected, payload []byte) []byte {
	t.Helper()
	tbs := wire.AppendText(wire.AppendArray(nil, 4), "Signature1")
	for _, b := range [][]byte{protected, nil, payload} {
		tbs = wire.AppendBytes(tbs, b)
	}
	sig, err := s.Sign(rand.Reader, tbs)
	if err != nil {
		t.Fatal(err)
	}
	b := wire.AppendBytes(wire.AppendArray(wire.AppendTag(nil, 18), 4), protected)
	b = wire.AppendBytes(append(b, unprotected...), payload)
	return wire.AppendBytes(b, sig)
}

func TestRefusedMessages(t *testing.T) {
	p, e := fixedSigner(t, cose.AlgESP256, "p"), fixedSigner(t, cose.AlgEd25519, "e")
	kid := func(s cose.Signer) []byte {
		return wire.AppendBytes(wire.AppendUint(wire.AppendMap(nil, 1), 4), s.Key().KID())
	}
	none := []byte{0xa0}
	good := forge(t, p, unhex(t, "a10128"), kid(p), []byte("x"))
	keys := keysOf(p, e)
	for _, c := range []struct {
		name string
		data []byte
		keys []*cose.Key
		opts cose.VerifyOptions
		want error
	}{
		{"good", good, keys, cose.VerifyOptions{RequireKID: true}, nil},
		{"untagged", good[1:], keys, cose.VerifyOptions{RequireKID: true}, nil},
		{"without kid", forge(t, p, unhex(t, "a10128"), none, nil), keys, cose.VerifyOptions{}, nil},
		{"kid protected", forge(t, p, append(unhex(t, "a20128045820"), p.Key().KID()...), none, nil), keys, cose.VerifyOptions{RequireKID: true}, nil},
		{"crit lists what is understood", forge(t, p, unhex(t, "a3012802810303183c"), none, nil), keys, cose.VerifyOptions{}, nil},
		{"kid missing though required", forge(t, p, unhex(t, "a10128"), none, nil), keys, cose.VerifyOptions{RequireKID: true}, cose.ErrNoKey},
		{"kid of nobody", forge(t, p, unhex(t, "a10128"), unhex(t, "a104420102"), nil), keys, cose.VerifyOptions{}, cose.ErrNoKey},
		{"kid of nobody, disregarded", forge(t, p, unhex(t, "a10128"), unhex(t, "a104420102"), nil), keys, cose.VerifyOptions{AnyKID: true}, nil},
		{"kid of another key", forge(t, p, unhex(t, "a10128"), kid(fixedSigner(t, cose.AlgESP256, "q")), nil), keysOf(p, fixedSigner(t, cose.AlgESP256, "q")), cose.VerifyOptions{}, cose.ErrBadSignature},
		{"alg of the other key type", forge(t, p, unhex(t, "a10132"), kid(p), nil), keys, cose.VerifyOptions{}, cose.ErrKeyMismatch},
		{"alg that fits no key", forge(t, p, unhex(t, "a10132"), none, nil), keysOf(p), cose.VerifyOptions{}, cose.ErrNoKey},
		{"signed by another", forge(t, e, unhex(t, "a10132"), none, nil), keysOf(fixedSigner(t, cose.AlgEd25519, "f")), cose.VerifyOptions{}, cose.ErrBadSignature},
		{"legacy not allowed", forge(t, p, unhex(t, "a10126"), kid(p), nil), keys, cose.VerifyOptions{}, cose.ErrUnsupported},
		{"legacy ES256", forge(t, p, unhex(t, "a10126"), kid(p), nil), keys, cose.VerifyOptions{Legacy: true}, nil},
		{"legacy EdDSA", forge(t, e, unhex(t, "a10127"), kid(e), nil), keys, cose.VerifyOptions{Legacy: true}, nil},
		{"legacy EdDSA with a P-256 key", forge(t, p, unhex(t, "a10127"), kid(p), nil), keys, cose.VerifyOptions{Legacy: true}, cose.ErrKeyMismatch},
		{"unknown alg", forge(t, p, unhex(t, "a1013822"), kid(p), nil), keys, cose.VerifyOptions{Legacy: true}, cose.ErrUnsupported},
		{"alg as text", forge(t, p, unhex(t, "a101655045323536"), kid(p), nil), keys, cose.VerifyOptions{}, cose.ErrUnsupported},
		{"alg only unprotected", forge(t, p, nil, unhex(t, "a10128"), nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"alg in both", forge(t, p, unhex(t, "a10128"), unhex(t, "a10128"), nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"kid in both", forge(t, p, unhex(t, "a20128044101"), unhex(t, "a1044101"), nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"no alg at all", forge(t, p, nil, none, nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"unknown crit", forge(t, p, unhex(t, "a3012802813a000111703a0001117001"), none, nil), keys, cose.VerifyOptions{}, cose.ErrCrit},
		{"unknown crit that is not even there", forge(t, p, unhex(t, "a20128028118c8"), none, nil), keys, cose.VerifyOptions{}, cose.ErrCrit},
		{"crit with a text label", forge(t, p, unhex(t, "a3012802816161616101"), none, nil), keys, cose.VerifyOptions{}, cose.ErrCrit},
		{"crit lists what is not protected", forge(t, p, unhex(t, "a20128028104"), unhex(t, "a1044101"), nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"empty crit", forge(t, p, unhex(t, "a201280280"), none, nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"crit not protected", forge(t, p, unhex(t, "a10128"), unhex(t, "a1028104"), nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"protected header is no map", forge(t, p, unhex(t, "8128"), none, nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"duplicate in the protected header", forge(t, p, unhex(t, "a201280128"), none, nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"byte behind the protected header", forge(t, p, unhex(t, "a1012800"), none, nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"duplicate in the unprotected header", forge(t, p, unhex(t, "a10128"), unhex(t, "a2044101044102"), nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"empty x5chain", forge(t, p, unhex(t, "a10128"), unhex(t, "a1182180"), nil), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"trailing byte", append(slices.Clone(good), 0), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"cut short", good[:len(good)-1], keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"other tag", append([]byte{0xd1}, good[1:]...), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"tag of COSE_Sign", append([]byte{0xd8, 98}, good[1:]...), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"two tags", append([]byte{0xd2}, good...), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"three elements", unhex(t, "d28343a10128a040"), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"no signature", unhex(t, "d28443a10128a04040"), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"no signers", unhex(t, "d8628440a04080"), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"signer of two elements", unhex(t, "d8628440a040818243a10128a0"), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"signature of 63 bytes", append(unhex(t, "d28443a10128a040583f"), make([]byte, 63)...), keys, cose.VerifyOptions{}, cose.ErrBadSignature},
		{"signature of zeros", append(unhex(t, "d28443a10128a0405840"), make([]byte, 64)...), keys, cose.VerifyOptions{}, cose.ErrBadSignature},
		{"signature of 1025 bytes", append(unhex(t, "d28443a10128a040590401"), make([]byte, 1025)...), keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"a plain map", none, keys, cose.VerifyOptions{}, cose.ErrMalformed},
		{"nothing", nil, keys, cose.VerifyOptions{}, cose.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			m, err := cose.Parse(c.data)
			if err == nil {
				_, err = m.Verify(c.keys, c.opts)
			}
			if !errors.Is(err, c.want) || (c.want == nil) != (err == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}

// Every bit of a signed message matters, except in the unprotected header, where a change can only make it fail.
func TestEveryBitFlipIsNoticed(t *testing.T) {
	for _, alg := range signatureAlgorithms {
		s := fixedSigner(t, alg, "a")
		data, err := cose.Sign1(nil, s, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		for i := range 8 * len(data) {
			flipped := slices.Clone(data)
			flipped[i/8] ^= 1 << (i % 8)
			m, err := cose.Parse(flipped)
			if err != nil {
				continue
			}
			if v, err := m.Verify(keysOf(s), cose.VerifyOptions{RequireKID: true}); err == nil && !bytes.Equal(v.Payload, []byte("payload")) {
				t.Fatalf("%v: bit %d changes the payload", alg, i)
			} else if err == nil && i/8 != 0 {
				t.Fatalf("%v: bit %d goes unnoticed", alg, i)
			}
		}
	}
}

func TestMac0(t *testing.T) {
	key := bytes.Repeat([]byte("a"), 32)
	for _, detached := range []bool{false, true} {
		data, err := cose.Mac0(key, []byte("kid"), []byte("payload"), detached)
		if err != nil || !wire.Deterministic(data) {
			t.Fatal(err)
		}
		var outside []byte
		if detached {
			outside = []byte("payload")
		}
		got, err := cose.VerifyMac0(data, [][]byte{nil, []byte("other"), key}, outside)
		if err != nil || string(got) != "payload" {
			t.Fatal(got, err)
		}
		if _, err := cose.VerifyMac0(data, [][]byte{[]byte("other")}, outside); !errors.Is(err, cose.ErrBadSignature) {
			t.Fatal(err)
		}
		if _, err := cose.VerifyMac0(data, nil, outside); !errors.Is(err, cose.ErrNoKey) {
			t.Fatal(err)
		}
		if _, err := cose.VerifyMac0(data[1:], [][]byte{key}, outside); !errors.Is(err, cose.ErrMalformed) {
			t.Fatalf("untagged: %v", err)
		}
		if _, err := cose.Parse(data); !errors.Is(err, cose.ErrMalformed) {
			t.Fatalf("a MAC taken for a signature: %v", err)
		}
	}
	sign1, err := cose.Sign1(nil, fixedSigner(t, cose.AlgEd25519, "a"), nil)
	if err != nil {
		t.Fatal(err)
	}
	sign1[0] = 0xd1
	if _, err := cose.VerifyMac0(sign1, [][]byte{key}, nil); !errors.Is(err, cose.ErrUnsupported) {
		t.Fatalf("a signature taken for a MAC: %v", err)
	}
	if _, err := cose.Mac0(nil, nil, nil, false); !errors.Is(err, cose.ErrNoKey) {
		t.Fatal(err)
	}
}

// goVerifier lets the independent library verify the fully specified algorithms.
type goVerifier struct {
	alg  gocose.Algorithm
	base gocose.Verifier
}

func (v goVerifier) Algorithm() gocose.Algorithm      { return v.alg }
func (v goVerifier) Verify(content, sig []byte) error { return v.base.Verify(content, sig) }

func TestAnotherLibraryAgrees(t *testing.T) {
	var ss []cose.Signer
	var vs []gocose.Verifier
	for alg, base := range map[cose.Algorithm]gocose.Algorithm{cose.AlgESP256: gocose.AlgorithmES256, cose.AlgEd25519: gocose.AlgorithmEdDSA} {
		s := fixedSigner(t, alg, "a")
		v, err := gocose.NewVerifier(base, s.Key().Public())
		if err != nil {
			t.Fatal(err)
		}
		ss, vs = append(ss, s), append(vs, goVerifier{gocose.Algorithm(alg), v})
		data, err := cose.Sign1(rand.Reader, s, []byte("payload"))
		if err != nil {
			t.Fatal(err)
		}
		var one gocose.Sign1Message
		if err := one.UnmarshalCBOR(data); err != nil {
			t.Fatal(err)
		}
		if err := one.Verify(nil, vs[len(vs)-1]); err != nil {
			t.Fatal(alg, err)
		}
	}
	data, err := cose.SignMulti(rand.Reader, ss, []byte("payload"))
	if err != nil {
		t.Fatal(err)
	}
	var all gocose.SignMessage
	if err := all.UnmarshalCBOR(data); err != nil {
		t.Fatal(err)
	}
	if err := all.Verify(nil, vs...); err != nil {
		t.Fatal(err)
	}
}
