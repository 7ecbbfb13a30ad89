// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"slices"
	"testing"

	"sealift/cose"
	"sealift/cose/wire"
)

var contentAlgorithms = []cose.Algorithm{cose.AlgA128GCM, cose.AlgA256GCM, cose.AlgA128CTR, cose.AlgA256CTR, cose.AlgChaCha20Poly1305}

// receiver is one way to be addressed.
type receiver struct {
	name string
	to   cose.Recipient
	ring cose.KeyRing
}

func receivers(t testing.TB) []receiver {
	priv := fixedECDH(t, "receiver")
	kek := bytes.Repeat([]byte("k"), 16)
	return []receiver{
		{"ECDH", cose.Recipient{Key: mustKey(t, priv.PublicKey())}, cose.KeyRing{Keys: []*ecdh.PrivateKey{fixedECDH(t, "other"), priv}}},
		{"ECDH under another kid", cose.Recipient{Key: mustKey(t, priv.PublicKey()), KID: []byte("x")}, cose.KeyRing{Keys: []*ecdh.PrivateKey{fixedECDH(t, "other"), priv}}},
		{"KEK", cose.Recipient{KEK: kek}, cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: make([]byte, 16)}, {KEK: kek}}}},
		{"X25519", cose.Recipient{Key: mustKey(t, fixedX25519(t, "receiver").PublicKey())}, cose.KeyRing{Keys: []*ecdh.PrivateKey{fixedX25519(t, "other"), priv, fixedX25519(t, "receiver")}}},
		{"KEK of 24 bytes", cose.Recipient{KEK: make([]byte, 24)}, cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: kek}, {KEK: make([]byte, 24)}}}},
		{"KEK of 32 bytes", cose.Recipient{KEK: make([]byte, 32)}, cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: kek}, {KEK: make([]byte, 32)}}}},
		{"KEK with kid", cose.Recipient{KEK: kek, KID: []byte("k")}, cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: make([]byte, 16)}, {KID: []byte("k"), KEK: kek}}}},
	}
}

func TestDetachedRoundTrip(t *testing.T) {
	for _, alg := range contentAlgorithms {
		for _, rc := range receivers(t) {
			for _, size := range []int{0, 1, 15, 16, 17, 1 << 20} {
				t.Run(fmt.Sprintf("%v/%s/%d", alg, rc.name, size), func(t *testing.T) {
					plain := bytes.Repeat([]byte{7}, size)
					info, enc, err := cose.NewEncrypter(rand.Reader, alg, rc.to, cose.ContextSUITPayload)
					if err != nil || !wire.Deterministic(info) {
						t.Fatal(err)
					}
					var sealed, opened bytes.Buffer
					if n, err := enc.Seal(&sealed, bytes.NewReader(plain)); err != nil || n != int64(sealed.Len()) {
						t.Fatal(n, err)
					}
					if _, err := enc.Seal(io.Discard, bytes.NewReader(plain)); !errors.Is(err, cose.ErrReused) {
						t.Fatalf("second payload: %v", err)
					}
					if size > 8 && bytes.Contains(sealed.Bytes(), plain[:8]) {
						t.Fatal("plaintext in the ciphertext")
					}
					c, err := cose.OpenInfo(info, rc.ring, cose.ContextSUITPayload)
					if err != nil {
						t.Fatal(err)
					}
					if _, err := c.Open(&opened, &sealed); err != nil || !bytes.Equal(opened.Bytes(), plain) {
						t.Fatal(err)
					}
				})
			}
		}
	}
}

func TestAttachedRoundTrip(t *testing.T) {
	for _, alg := range contentAlgorithms {
		for _, rc := range receivers(t) {
			data, err := cose.Encrypt(nil, alg, rc.to, cose.ContextEAT, []byte("secret"))
			if err != nil {
				t.Fatal(err)
			}
			plain, err := cose.Decrypt(data, rc.ring, cose.ContextEAT)
			if err != nil || string(plain) != "secret" {
				t.Fatal(plain, err)
			}
			if _, err := cose.OpenInfo(data, rc.ring, cose.ContextEAT); !errors.Is(err, cose.ErrMalformed) {
				t.Errorf("attached taken for detached: %v", err)
			}
			if rc.to.Key == nil {
				continue // a KEK is not derived from the context
			}
			for _, other := range []string{"", cose.ContextSUITPayload, cose.ContextSUITReport} {
				if _, err := cose.Decrypt(data, rc.ring, other); !errors.Is(err, cose.ErrDecrypt) {
					t.Errorf("context %q: %v", other, err)
				}
			}
		}
	}
}

func TestWrongReceiver(t *testing.T) {
	rc := receivers(t)[0]
	info, _, err := cose.NewEncrypter(rand.Reader, cose.AlgA128CTR, rc.to, cose.ContextSUITPayload)
	if err != nil {
		t.Fatal(err)
	}
	for name, c := range map[string]struct {
		ring cose.KeyRing
		want error
	}{
		"no keys":        {cose.KeyRing{}, cose.ErrNoKey},
		"another key":    {cose.KeyRing{Keys: []*ecdh.PrivateKey{fixedECDH(t, "other"), nil}}, cose.ErrDecrypt},
		"only a KEK":     {cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: make([]byte, 16)}}}, cose.ErrNoKey},
		"KEK of 3 bytes": {cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: []byte("abc")}}}, cose.ErrNoKey},
	} {
		if name == "another key" {
			c.ring.Keys = c.ring.Keys[:1]
		}
		if _, err := cose.OpenInfo(info, c.ring, cose.ContextSUITPayload); !errors.Is(err, c.want) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for name, to := range map[string]cose.Recipient{
		"nobody":    {},
		"both":      {Key: rc.to.Key, KEK: make([]byte, 16)},
		"Ed25519":   {Key: fixedSigner(t, cose.AlgEd25519, "a").Key()},
		"KEK of 17": {KEK: make([]byte, 17)},
		"KEK of 33": {KEK: make([]byte, 33)},
	} {
		if _, _, err := cose.NewEncrypter(rand.Reader, cose.AlgA128CTR, to, ""); !errors.Is(err, cose.ErrUnsupported) {
			t.Errorf("%s: got %v", name, err)
		}
	}
	for _, alg := range []cose.Algorithm{cose.AlgA128KW, cose.AlgESP256, 0} {
		if _, _, err := cose.NewEncrypter(rand.Reader, alg, rc.to, ""); !errors.Is(err, cose.ErrUnsupported) {
			t.Errorf("%v: got %v", alg, err)
		}
	}
	if _, _, err := cose.NewEncrypter(bytes.NewReader(nil), cose.AlgA128CTR, rc.to, ""); !errors.Is(err, io.EOF) {
		t.Errorf("without randomness: %v", err)
	}
}

func TestAlteredCiphertext(t *testing.T) {
	rc := receivers(t)[0]
	data, err := cose.Encrypt(nil, cose.AlgA128GCM, rc.to, cose.ContextEAT, []byte("secret"))
	if err != nil {
		t.Fatal(err)
	}
	for i := range 8 * len(data) {
		flipped := slices.Clone(data)
		flipped[i/8] ^= 1 << (i % 8)
		plain, err := cose.Decrypt(flipped, rc.ring, cose.ContextEAT)
		if err == nil && string(plain) != "secret" {
			t.Fatalf("bit %d of %d changes the plaintext to %q", i, 8*len(data), plain)
		}
	}
	info, enc, err := cose.NewEncrypter(nil, cose.AlgA128GCM, rc.to, cose.ContextSUITPayload)
	if err != nil {
		t.Fatal(err)
	}
	var sealed, out bytes.Buffer
	if _, err := enc.Seal(&sealed, bytes.NewReader([]byte("secret"))); err != nil {
		t.Fatal(err)
	}
	c, err := cose.OpenInfo(info, rc.ring, cose.ContextSUITPayload)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(&out, bytes.NewReader(sealed.Bytes()[:sealed.Len()-1])); !errors.Is(err, cose.ErrDecrypt) || out.Len() != 0 {
		t.Fatalf("cut short: %v, %d bytes released", err, out.Len())
	}
}

// zeros is an endless source.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func TestGCMIsBounded(t *testing.T) {
	rc := receivers(t)[2]
	info, enc, err := cose.NewEncrypter(nil, cose.AlgA128GCM, rc.to, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := enc.Seal(io.Discard, zeros{}); !errors.Is(err, cose.ErrTooLarge) {
		t.Fatal(err)
	}
	c, err := cose.OpenInfo(info, rc.ring, "")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Open(io.Discard, zeros{}); !errors.Is(err, cose.ErrTooLarge) {
		t.Fatal(err)
	}
	if n, err := enc.Seal(io.Discard, io.LimitReader(zeros{}, cose.MaxGCMPayload)); err != nil || n != cose.MaxGCMPayload+16 {
		t.Fatal(n, err)
	}
}

// failing fails after a few bytes, as a broken pipe does.
type failing struct{ left int }

var errBroken = errors.New("broken")

func (f *failing) Write(b []byte) (int, error) {
	if len(b) > f.left {
		return f.left, errBroken
	}
	f.left -= len(b)
	return len(b), nil
}

func (f *failing) Read(b []byte) (int, error) {
	if f.left == 0 {
		return 0, errBroken
	}
	n := min(f.left, len(b))
	f.left -= n
	return n, nil
}

func TestStreamErrorsAreReported(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgA128CTR, cose.AlgA128GCM} {
		for _, rc := range receivers(t)[:1] {
			_, enc, err := cose.NewEncrypter(nil, alg, rc.to, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := enc.Seal(io.Discard, &failing{100}); !errors.Is(err, errBroken) {
				t.Errorf("%v: reading: %v", alg, err)
			}
			_, enc, err = cose.NewEncrypter(nil, alg, rc.to, "")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := enc.Seal(&failing{10}, io.LimitReader(zeros{}, 100)); !errors.Is(err, errBroken) {
				t.Errorf("%v: writing: %v", alg, err)
			}
		}
	}
}

func TestRefusedEncryptionInfo(t *testing.T) {
	kek := bytes.Repeat([]byte("a"), 16)
	ring := cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: kek}}}
	// The key wrap of RFC 3394 is deterministic: this is the wrapped key of a message made with kek.
	data, err := cose.Encrypt(bytes.NewReader(make([]byte, 64)), cose.AlgA128GCM, cose.Recipient{KEK: kek}, "", nil)
	if err != nil {
		t.Fatal(err)
	}
	const gcm, iv12, iv16 = "43a10101", "a1054c000000000000000000000000", "a10550 00000000000000000000000000000000"
	wrapped := fmt.Sprintf("5818%x", data[len(data)-24:])
	kw := "8340a10122" + wrapped
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"good", "d86084" + gcm + iv12 + "f681" + kw, nil},
		{"IV of 16 bytes", "d86084" + gcm + iv16 + "f681" + kw, nil},
		{"CTR", "d86084 40 a2 0139fffd 0550 00000000000000000000000000000000 f681" + kw, nil},
		{"CTR, header an empty map", "d86084 41a0 a2 0139fffd 0550 00000000000000000000000000000000 f681" + kw, nil},
		{"recipient's header an empty map", "d86084" + gcm + iv12 + "f681" + "8341a0a10122" + wrapped, nil},
		{"second recipient fits", "d86084" + gcm + iv12 + "f682 8340a10128 4100" + kw, nil},
		{"CTR with alg protected", "d86084 45a10139fffd a1 0550 00000000000000000000000000000000 f681" + kw, cose.ErrMalformed},
		{"CTR with a short IV", "d86084 40 a2 0139fffd 054c 000000000000000000000000 f681" + kw, cose.ErrMalformed},
		{"GCM with alg unprotected", "d86084 40 a2 0101 054c 000000000000000000000000 f681" + kw, cose.ErrMalformed},
		{"GCM without IV", "d86084" + gcm + "a0 f681" + kw, cose.ErrMalformed},
		{"IV of 8 bytes", "d86084" + gcm + "a10548 0000000000000000 f681" + kw, cose.ErrMalformed},
		{"no alg", "d86084 40" + iv12 + "f681" + kw, cose.ErrMalformed},
		{"ChaCha20 with a key of 16", "d86084 44a1011818" + iv12 + "f681" + kw, cose.ErrMalformed},
		{"XChaCha20", "d86084 44a1011819" + iv12 + "f681" + kw, cose.ErrUnsupported},
		{"A256GCM with a key of 16", "d86084 43a10103" + iv12 + "f681" + kw, cose.ErrMalformed},
		{"attached", "d86084" + gcm + iv12 + "4100 81" + kw, cose.ErrMalformed},
		{"untagged", "84" + gcm + iv12 + "f681" + kw, cose.ErrMalformed},
		{"tag of COSE_Encrypt0", "d084" + gcm + iv12 + "f681" + kw, cose.ErrMalformed},
		{"COSE_Encrypt0", "d86083" + gcm + iv12 + "f6", cose.ErrMalformed},
		{"no recipients", "d86084" + gcm + iv12 + "f680", cose.ErrMalformed},
		{"17 recipients", "d86084" + gcm + iv12 + "f691" + string(bytes.Repeat([]byte(kw), 17)), cose.ErrMalformed},
		{"recipient of recipients", "d86084" + gcm + iv12 + "f681" + "8440a10122" + wrapped + "81" + kw, cose.ErrUnsupported},
		{"recipient without alg", "d86084" + gcm + iv12 + "f681" + "8340a0" + wrapped, cose.ErrMalformed},
		{"direct recipient", "d86084" + gcm + iv12 + "f681" + "8340a1012540", cose.ErrUnsupported},
		{"A128KW protected", "d86084" + gcm + iv12 + "f681" + "8343a10122a0" + wrapped, cose.ErrUnsupported},
		{"A128KW with a protected kid", "d86084" + gcm + iv12 + "f681" + "8344a1044101a10122" + wrapped, cose.ErrMalformed},
		{"ECDH without ephemeral key", "d86084" + gcm + iv12 + "f681" + "8344a101381ca0" + wrapped, cose.ErrMalformed},
		{"wrapped key altered", "d86084" + gcm + iv12 + "f681" + kw[:len(kw)-2] + "ee", cose.ErrDecrypt},
		{"wrapped key short", "d86084" + gcm + iv12 + "f681" + "8340a10122 4100", cose.ErrMalformed},
		{"wrapped key too long", "d86084" + gcm + iv12 + "f681" + "8340a10122 5848" + fmt.Sprintf("%0144d", 0), cose.ErrMalformed},
		{"unknown crit", "d86084 47a2010102811870" + iv12 + "f681" + kw, cose.ErrCrit},
		{"trailing byte", "d86084" + gcm + iv12 + "f681" + kw + "00", cose.ErrMalformed},
		{"nothing", "", cose.ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := cose.OpenInfo(unhex(t, c.in), ring, ""); !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
		})
	}
}
