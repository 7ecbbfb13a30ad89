// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"sealift/internal/owner/inspect"
	"sealift/internal/sharedtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func show(t testing.TB, data []byte, keys *inspect.Keys) string {
	t.Helper()
	f, err := inspect.Read(data, keys)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := f.Write(&b, inspect.Style{}); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func ownManifest(t testing.TB) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("..", "manifest", "testdata", "pd.suit"))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if *update {
		if err := os.MkdirAll("testdata", 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs from what is printed (run with -update to accept):\n%s", path, got)
	}
}

func TestOwnManifest(t *testing.T) {
	golden(t, "pd.edn", show(t, ownManifest(t), nil))
	f, err := inspect.Read(ownManifest(t), nil)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.MarshalIndent(f, "", " ")
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "pd.json", string(text)+"\n")
}

func TestPlainCBOR(t *testing.T) {
	got := show(t, []byte{0xa1, 0x01, 0x82, 0xf9, 0x3c, 0x00, 0x61, '\n'}, nil)
	if want := "# CBOR\n# not verified: nothing in it is signed\n{1: [1.0, \"\\u000a\"]}\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	for _, junk := range []string{"", "hello, this is text", "\xff\xff", "\x9f\x01", "\x5b\xff\xff\xff\xff\xff\xff\xff\xff"} {
		if _, err := inspect.Read([]byte(junk), nil); err == nil {
			t.Errorf("%q was taken for something", junk)
		}
	}
}

// TestComments: nothing in a file can end a comment and pass for notation.
func TestComments(t *testing.T) {
	data, err := cbor.Marshal(map[int]any{265: "x / y", 8: map[int]any{3: []byte("a/b")}, 10: []byte("'; / 1")})
	if err != nil {
		t.Fatal(err)
	}
	if got := show(t, data, nil); strings.Count(got, "/")%2 != 0 || !strings.Contains(got, "h'273b") {
		t.Error(got)
	}
}

// TestDeep: neither nesting nor promised lengths exhaust anything.
func TestDeep(t *testing.T) {
	for name, data := range map[string][]byte{
		"arrays":  bytes.Repeat([]byte{0x81}, 1<<20),
		"tags":    bytes.Repeat([]byte{0xc1}, 1<<20),
		"items":   append([]byte{0x9a, 0, 0x0f, 0xff, 0xff}, make([]byte, 1<<20)...),
		"promise": {0x9b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
	} {
		if _, err := inspect.Read(data, nil); err == nil {
			t.Errorf("%s: no bound was hit", name)
		}
	}
}

func keyFile(t testing.TB, keys *inspect.Keys, set, path string) {
	t.Helper()
	if err := keys.AddFile(filepath.Base(path), sharedtest.Read(t, set, path)); err != nil {
		t.Fatal(err)
	}
}

// TestVerifies: each form of key verifies what it should, and what was altered is refused.
func TestVerifies(t *testing.T) {
	vectors := []struct{ set, key, file, want string }{
		{"vectors", "keys/suit_example_p256_pub.pem", "teep-protocol/suit_uri.suit.cbor", "verified: authentication block 1, key suit_example_p256_pub.pem"},
		{"vectors", "keys/suit_example_p256_priv.pem", "suit-manifest/example1_1.suit.cbor", "verified: authentication block 1"},
		{"vectors", "keys/libteep_tam_prime256v1.pem", "suit-manifest/example1_1.suit.cbor", "not verified: authentication block 1"},
		{"vectors", "keys/suit_example_p256_pub.pem", "suit-manifest/example0_0.suit.cbor", "REFUSED: authentication: there is no authentication block"},
		{"vectors", "keys/hmac256_aaaa.cosekey.cbor", "suit-firmware-encryption/suit-manifest-aes-kw.suit.cbor", "verified: authentication block 1: by one of the symmetric keys"},
		{"vectors", "keys/attestam_tam_priv.cbor", "generated/teep/qr_multisign_attest.cbor", "verified: COSE_Sign of TEEP message QueryRequest, key attestam_tam_priv.cbor"},
		{"vectors", "keys/libteep_tam_prime256v1_pub.pem", "generated/teep/neg_trailing.cbor", "warning: 1 bytes follow"},
		{"vectors", "keys/suit_example_p256_pub.pem", "generated/suit/neg_manifest_flip.suit.cbor", "REFUSED: manifest"},
		{"vectors", "keys/suit_example_p256_pub.pem", "generated/suit/neg_payload_mismatch.suit.cbor", "REFUSED: integrated payload"},
		{"vectors", "keys/suit_example_p256_pub.pem", "generated/suit/severed_install_present.suit.cbor", "verified: severed member install"},
		{"vectors", "keys/suit_example_p256_pub.pem", "generated/suit/neg_severed_install_missing.suit.cbor", "not verified: severed member install: not in the envelope"},
		{"evidence", "psa/tfm_public.pem", "psa/tfm_psa-2_0_0_sign1.bin", "verified: COSE_Sign1 of EAT claims, key tfm_public.pem"},
		{"evidence", "ear/veraison.ear-verification-key.jwk", "ear/veraison_cca_affirming.ear.jwt", "verified: JWT, key veraison.ear-verification-key.jwk"},
	}
	for _, v := range vectors {
		keys := &inspect.Keys{}
		keyFile(t, keys, v.set, v.key)
		if got := show(t, sharedtest.Read(t, v.set, v.file), keys); !strings.Contains(got, v.want) {
			t.Errorf("%s with %s: %q is not in\n%.1500s", v.file, v.key, v.want, got)
		}
	}
}

// TestDecrypts: a recipient's private key is tried on what is encrypted.
func TestDecrypts(t *testing.T) {
	keys := &inspect.Keys{}
	keyFile(t, keys, "vectors", "keys/device_ecdh_p256_priv.cosekey.cbor")
	got := show(t, sharedtest.Read(t, "vectors", "libcsuit/encryption_info_esdh.encinfo.cbor"), keys)
	if !strings.Contains(got, "a key at hand opens it (SUIT Payload Encryption)") {
		t.Error(got)
	}
}

// TestSecrets: a private key is recognised and not shown.
func TestSecrets(t *testing.T) {
	got := show(t, sharedtest.Read(t, "vectors", "keys/attestam_tam_priv.cbor"), nil)
	if !strings.Contains(got, "PRIVATE") || !strings.Contains(got, "not shown") {
		t.Error(got)
	}
	got = show(t, sharedtest.Read(t, "vectors", "keys/kek_a128kw_aaaa.cosekey.cbor"), nil)
	if strings.Contains(got, "aaaa") || strings.Contains(got, "61616161") {
		t.Error(got)
	}
}

func FuzzRead(f *testing.F) {
	f.Add(ownManifest(f))
	f.Add([]byte("eyJhbGciOiJFUzI1NiJ9.eyJpYXQiOjF9.AAAA"))
	f.Add([]byte(`{"ear_status":"none","submods":{"a":{"ear_status":1}}}`))
	f.Add([]byte("\xd8\x6b\xa2\x02\x40\x03\x40"))
	if r, err := json.Marshal(removal(f)); err == nil {
		f.Add(r)
	}
	f.Add([]byte("\x9f\x01\x5f\x41a\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		file, err := inspect.Read(data, nil)
		if err != nil {
			return
		}
		var b strings.Builder
		if err := file.Write(&b, inspect.Style{Full: true}); err != nil || file.Kind == "" {
			t.Errorf("kind %q, %v", file.Kind, err)
		}
		if _, err := json.Marshal(file); err != nil {
			t.Error(err)
		}
		if strings.ContainsFunc(b.String(), func(r rune) bool { return r < ' ' && r != '\n' }) {
			t.Error("a control character is in the output")
		}
	})
}
