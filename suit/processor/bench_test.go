// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"fmt"
	"io"
	"io/fs"
	"testing"

	"sealift/cose"
	"sealift/internal/sharedtest"
	"sealift/suit"
)

var errAbsent = fmt.Errorf("absent: %w", fs.ErrNotExist)

// benchRuns are the manifests whose cost is reported: the TEEP draft's with P-256 (U fetches by URI, I has the payload
// integrated), and the same content under Ed25519 and HMAC.
func benchRuns(b testing.TB) map[string]func() error {
	b.Helper()
	runs := map[string]func() error{}
	add := func(name string, envelope []byte, device *memPlatform, o Options) {
		p := &benchPlatform{memPlatform: device, payload: []byte(helloTA)}
		proc := New(p, o)
		runs[name] = func() error {
			p.written = false
			_, err := proc.Update(context.Background(), envelope)
			return err
		}
	}
	for _, name := range []string{"expU", "expI"} {
		add(name, sharedtest.Read(b, "vectors", "libcsuit/"+name+".suit.cbor"), exampleDevice(b), exampleKeys(b))
	}
	for _, p := range []profile{{name: "Ed25519", auth: cose.AlgEd25519}, {name: "MAC0", auth: cose.AlgHMAC256}} {
		envelope, o := p.authenticate(b, taBuilder(1, []byte(helloTA)))
		add(p.name, envelope, ownDevice(), o)
	}
	return runs
}

// BenchmarkUpdate decodes, verifies and runs, payload hashing included.
func BenchmarkUpdate(b *testing.B) {
	runs := benchRuns(b)
	for _, name := range []string{"expU", "expI", "Ed25519", "MAC0"} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if err := runs[name](); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

// TestAllocations holds the bound on allocations per manifest, verification included.
func TestAllocations(t *testing.T) {
	const bound = 60
	for name, run := range benchRuns(t) {
		n := testing.AllocsPerRun(100, func() {
			if err := run(); err != nil {
				t.Fatal(err)
			}
		})
		t.Logf("%s: %.0f allocations", name, n)
		if n >= bound {
			t.Errorf("%s: %.0f allocations, should be less than %d", name, n, bound)
		}
	}
}

// BenchmarkFloor is the one signature verification that an update cannot do without.
func BenchmarkFloor(b *testing.B) {
	priv, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	digest := sha256.Sum256(nil)
	sig, err := ecdsa.SignASN1(rand.Reader, priv, digest[:])
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		if !ecdsa.VerifyASN1(&priv.PublicKey, digest[:], sig) {
			b.Fatal("does not verify")
		}
	}
}

// BenchmarkEncryptedPayload streams a payload through fetch, digest, decryption and two components that keep nothing.
func BenchmarkEncryptedPayload(b *testing.B) {
	const size = 64 << 20
	p := ownDevice()
	info, ciphertext := encryptedZeros(b, p, size)
	proc := New(&discardPlatform{memPlatform: p, ciphertext: ciphertext}, ownOptions())
	envelope := sign(b, encryptedBuilder(info, suit.SHA256(ciphertext), "http://x/enc"))
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := proc.Update(context.Background(), envelope); err != nil {
			b.Fatal(err)
		}
	}
}

func encryptedZeros(b *testing.B, p *memPlatform, size int) (info, ciphertext []byte) {
	priv, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		b.Fatal(err)
	}
	p.keys.ecdh = []*ecdh.PrivateKey{priv}
	key, err := cose.NewKey(priv.PublicKey())
	if err != nil {
		b.Fatal(err)
	}
	info, cipher, err := cose.NewEncrypter(rand.Reader, cose.AlgA128CTR, cose.Recipient{Key: key, KID: key.KID()}, cose.ContextSUITPayload)
	if err != nil {
		b.Fatal(err)
	}
	var out bytes.Buffer
	out.Grow(size + aes.BlockSize)
	if _, err := cipher.Seal(&out, bytes.NewReader(make([]byte, size))); err != nil {
		b.Fatal(err)
	}
	return info, out.Bytes()
}

// discardPlatform keeps no content: every component reads as the ciphertext.
type discardPlatform struct {
	*memPlatform
	ciphertext []byte
}

type discardWriter struct{ io.Writer }

func (discardWriter) Close() error { return nil }
func (discardWriter) Abort() error { return nil }

func (p *discardPlatform) Create(context.Context, suit.ComponentID) (Writer, error) {
	return discardWriter{io.Discard}, nil
}

func (p *discardPlatform) Fetch(context.Context, string, int64) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p.ciphertext)), nil
}

func (p *discardPlatform) Open(context.Context, suit.ComponentID) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p.ciphertext)), nil
}

func (p *discardPlatform) Size(context.Context, suit.ComponentID) (int64, error) {
	return int64(len(p.ciphertext)), nil
}

func (p *discardPlatform) Digest(context.Context, suit.ComponentID, cose.Algorithm) (suit.Digest, error) {
	return suit.Digest{}, nil // never up to date, so that every round transfers
}
