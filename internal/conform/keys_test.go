// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"testing"

	"sealift/cose"
	"sealift/internal/conform"
)

// TestKeyFiles: all the forms in which peers keep keys give the same key.
func TestKeyFiles(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		key, err := cose.GenerateKey(alg, rand.Reader)
		must(t, err)
		signer, err := cose.NewSigner(key)
		must(t, err)
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		must(t, err)
		spki, err := x509.MarshalPKIXPublicKey(key.Public())
		must(t, err)
		private := map[int64]any{}
		must(t, cose.Unmarshal(signer.Key().Marshal(), &private))
		switch k := key.(type) {
		case ed25519.PrivateKey:
			private[-4] = k.Seed()
		case *ecdsa.PrivateKey:
			d, err := k.Bytes()
			must(t, err)
			private[-4] = d
		}
		text, err := signer.Key().MarshalText()
		must(t, err)
		block := func(label string, der []byte) []byte { return pem.EncodeToMemory(&pem.Block{Type: label, Bytes: der}) }
		secret := map[string][]byte{
			"PKCS #8": block("PRIVATE KEY", pkcs8), "COSE_Key": cose.MustMarshal(private),
			"mislabelled": append(block("EC PARAMETERS", []byte{5, 0}), block("EC PRIVATE KEY", pkcs8)...),
		}
		for name, data := range secret {
			if s, err := conform.ParseSigner(data); err != nil || !s.Key().Equal(signer.Key()) {
				t.Errorf("%v, %s: %v", alg, name, err)
			}
			if k, err := conform.ParsePublic(data); err != nil || !k.Equal(signer.Key()) {
				t.Errorf("%v, the public half of %s: %v", alg, name, err)
			}
		}
		for name, data := range map[string][]byte{"PUBLIC KEY": block("PUBLIC KEY", spki), "COSE_Key": signer.Key().Marshal(),
			"text": append(text, '\n')} {
			if k, err := conform.ParsePublic(data); err != nil || !k.Equal(signer.Key()) {
				t.Errorf("%v, %s: %v", alg, name, err)
			}
			if _, err := conform.ParseSigner(data); !errors.Is(err, conform.ErrKey) {
				t.Errorf("%v, %s as a private key: %v", alg, name, err)
			}
		}
	}
	for _, data := range [][]byte{nil, {0xa0}, bytes.Repeat([]byte{0xff}, 40), []byte("-----BEGIN X-----"), []byte("hello")} {
		if _, err := conform.ParsePublic(data); !errors.Is(err, conform.ErrKey) {
			t.Errorf("%q as a public key: %v", data, err)
		}
		if _, err := conform.ParseSigner(data); !errors.Is(err, conform.ErrKey) {
			t.Errorf("%q as a private key: %v", data, err)
		}
	}
}
