// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/cose"
)

var update = flag.Bool("update", false, "write the golden files anew")

// golden compares got with testdata/name.hex, or writes it.
func golden(t *testing.T, name string, got []byte) {
	t.Helper()
	path := filepath.Join("testdata", name+".hex")
	if *update {
		if err := os.WriteFile(path, []byte(hex.EncodeToString(got)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, unhex(t, strings.TrimSpace(string(want)))) {
		t.Errorf("%s: got %x, want %s", name, got, want)
	}
}

// Signatures without randomness are the same in every run, so whole messages can be compared.
func TestGoldenMessages(t *testing.T) {
	p, e := fixedSigner(t, cose.AlgESP256, "golden"), fixedSigner(t, cose.AlgEd25519, "golden")
	payload := []byte("This is the content.")
	for name, make := range map[string]func() ([]byte, error){
		"key_p256":       func() ([]byte, error) { return p.Key().Marshal(), nil },
		"key_ed25519":    func() ([]byte, error) { return e.Key().Marshal(), nil },
		"sign1_esp256":   func() ([]byte, error) { return cose.Sign1(nil, p, payload) },
		"sign1_ed25519":  func() ([]byte, error) { return cose.Sign1(nil, e, payload) },
		"sign1_detached": func() ([]byte, error) { return cose.Sign1Detached(nil, p, payload) },
		"sign1_headers": func() ([]byte, error) {
			return cose.Sign1With(nil, p, cose.Headers{ContentType: "text/plain", X5Chain: [][]byte{{0x30, 0x00}}}, payload)
		},
		"sign": func() ([]byte, error) { return cose.SignMulti(nil, []cose.Signer{p, e}, payload) },
		"mac0": func() ([]byte, error) { return cose.Mac0(bytes.Repeat([]byte("a"), 32), []byte("kid"), payload, false) },
		"encrypt_a128kw_a128gcm": func() ([]byte, error) {
			return cose.Encrypt(zeros{}, cose.AlgA128GCM, cose.Recipient{KEK: bytes.Repeat([]byte("a"), 16), KID: []byte("kid-1")}, "", payload)
		},
		"encrypt_a128kw_a128ctr": func() ([]byte, error) {
			return cose.Encrypt(zeros{}, cose.AlgA128CTR, cose.Recipient{KEK: bytes.Repeat([]byte("a"), 16)}, "", payload)
		},
	} {
		got, err := make()
		if err != nil {
			t.Fatal(name, err)
		}
		golden(t, name, got)
	}
}

// A message that was encrypted once, with a random ephemeral key, must open for ever.
func TestGoldenECDH(t *testing.T) {
	path := filepath.Join("testdata", "encrypt_ecdh_a128gcm.hex")
	rc := receivers(t)[0]
	if *update {
		data, err := cose.Encrypt(nil, cose.AlgA128GCM, rc.to, cose.ContextEAT, []byte("This is the content."))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	plain, err := cose.Decrypt(unhex(t, strings.TrimSpace(string(text))), rc.ring, cose.ContextEAT)
	if err != nil || string(plain) != "This is the content." {
		t.Fatal(plain, err)
	}
}
