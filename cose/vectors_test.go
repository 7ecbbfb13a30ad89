// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/sharedtest"
)

// jwk is a key as the cose-wg examples write it.
type jwk struct {
	Kty, Crv, X, Y, D, K string
	XHex                 string `json:"x_hex"`
	KHex                 string `json:"k_hex"`
}

func (k jwk) bytes(t *testing.T, b64, hexa string) []byte {
	t.Helper()
	if hexa != "" {
		return unhex(t, hexa)
	}
	b, err := base64.RawURLEncoding.DecodeString(b64)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func (k jwk) public(t *testing.T) *cose.Key {
	t.Helper()
	if k.Kty == "OKP" {
		return mustKey(t, ed25519.PublicKey(k.bytes(t, k.X, k.XHex)))
	}
	point := slices.Concat([]byte{4}, k.bytes(t, k.X, ""), k.bytes(t, k.Y, ""))
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		t.Fatal(err)
	}
	return mustKey(t, pub)
}

type wgSigner struct {
	Key      jwk
	External string
}

type wgCase struct {
	Title string
	Fail  bool
	Input struct {
		Plaintext string
		Sign0     *wgSigner
		Sign      *struct {
			External string
			Signers  []wgSigner
		}
		Mac0 *struct {
			Recipients []struct{ Key jwk }
		}
		Enveloped *struct {
			Recipients []struct{ Key jwk }
		}
	}
	Output struct{ Cbor string }
}

func TestCoseWGExamples(t *testing.T) {
	n := 0
	for _, row := range sharedtest.Manifest(t, "vectors") {
		path := row["path"]
		if !strings.HasPrefix(path, "cose-wg/") || !strings.HasSuffix(path, ".json") {
			continue
		}
		n++
		t.Run(strings.TrimSuffix(filepath.Base(path), ".json"), func(t *testing.T) {
			var c wgCase
			if err := json.Unmarshal(sharedtest.Read(t, "vectors", path), &c); err != nil {
				t.Fatal(err)
			}
			payload, err := c.run(t)
			if c.Fail {
				if err == nil {
					t.Fatal("a vector that must fail was accepted")
				}
				return
			}
			if err != nil || string(payload) != c.Input.Plaintext {
				t.Fatalf("payload %q, error %v", payload, err)
			}
		})
	}
	if n == 0 {
		t.Fatal("no vectors found")
	}
}

func (c wgCase) run(t *testing.T) ([]byte, error) {
	data := unhex(t, c.Output.Cbor)
	switch in := c.Input; {
	case in.Mac0 != nil:
		key := in.Mac0.Recipients[0].Key
		return cose.VerifyMac0(data, [][]byte{key.bytes(t, key.K, key.KHex)}, nil)
	case in.Enveloped != nil:
		return cose.Decrypt(data, wgRing(t, in.Enveloped.Recipients[0].Key), "")
	case in.Sign0 != nil:
		return wgVerify(t, data, *in.Sign0, in.Sign0.External)
	default:
		return wgVerify(t, data, in.Sign.Signers[0], in.Sign.Signers[0].External)
	}
}

func wgVerify(t *testing.T, data []byte, s wgSigner, external string) ([]byte, error) {
	m, err := cose.Parse(data)
	if err != nil {
		return nil, err
	}
	v, err := m.Verify([]*cose.Key{s.Key.public(t)}, cose.VerifyOptions{Legacy: true, AnyKID: true, ExternalAAD: unhex(t, external)})
	if err != nil {
		return nil, err
	}
	return v.Payload, nil
}

func wgRing(t *testing.T, k jwk) cose.KeyRing {
	if k.Kty == "oct" {
		return cose.KeyRing{KEKs: []cose.NamedKEK{{KEK: k.bytes(t, k.K, k.KHex)}}}
	}
	priv, err := ecdh.P256().NewPrivateKey(k.bytes(t, k.D, ""))
	if err != nil {
		t.Fatal(err)
	}
	return cose.KeyRing{Keys: []*ecdh.PrivateKey{priv}}
}

func TestThumbprintsOfExampleKeys(t *testing.T) {
	want := map[string]string{}
	for _, line := range strings.Split(string(sharedtest.Read(t, "vectors", "keys/thumbprints.tsv")), "\n") {
		if name, thumb, ok := strings.Cut(line, "\t"); ok {
			want[name] = strings.ToLower(thumb)
		}
	}
	for file, name := range map[string]string{
		"suit_example_p256_priv.pem":            "suit-example-p256 (trust_anchor)",
		"suit_example_p256_pub.pem":             "suit-example-p256 (trust_anchor)",
		"attestam_developer_priv.pem":           "AttesTAM developer_priv.pem",
		"libteep_tam_prime256v1.pem":            "tam_prime256v1",
		"libteep_tam_ed25519.pem":               "tam_ed25519",
		"libteep_tam_ed25519_pub.pem":           "tam_ed25519",
		"libteep_teep_agent_prime256v1.pem":     "teep_agent_prime256v1",
		"libteep_verifier_prime256v1.pem":       "verifier_prime256v1",
		"libteep_tam_prime256v1_pub.pem":        "tam_prime256v1",
		"libteep_teep_agent_prime256v1_pub.pem": "teep_agent_prime256v1",
	} {
		key := vectorKey(t, file)
		if got := hex.EncodeToString(key.KID()); got != want[name] {
			t.Errorf("%s: thumbprint %s, want %s", file, got, want[name])
		}
	}
}

// vectorKey reads the public key in a PEM file, private or public.
func vectorKey(t *testing.T, file string) *cose.Key {
	t.Helper()
	data := sharedtest.Read(t, "vectors", "keys/"+file)
	block, _ := pem.Decode(data)
	if block != nil && block.Type == "PUBLIC KEY" {
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			t.Fatal(err)
		}
		return mustKey(t, pub)
	}
	priv, err := cose.ParsePrivatePEM(data)
	if err != nil {
		t.Fatal(err)
	}
	return mustKey(t, priv.Public())
}

func TestPrivateCOSEKeysAreRefused(t *testing.T) {
	for _, file := range []string{"attestam_tam_priv.cbor", "tam_over_http_tam_priv.cbor", "device_ecdh_p256_priv.cosekey.cbor"} {
		if _, err := cose.ParseKey(sharedtest.Read(t, "vectors", "keys/"+file)); !errors.Is(err, cose.ErrMalformed) {
			t.Errorf("%s: got %v", file, err)
		}
	}
}

// vectorRing holds the receivers of suit-firmware-encryption's examples.
func vectorRing(t *testing.T) cose.KeyRing {
	t.Helper()
	var device, kek map[int]any
	for file, v := range map[string]*map[int]any{"device_ecdh_p256_priv.cosekey.cbor": &device, "kek_a128kw_aaaa.cosekey.cbor": &kek} {
		if err := cose.Unmarshal(sharedtest.Read(t, "vectors", "keys/"+file), v); err != nil {
			t.Fatal(err)
		}
	}
	priv, err := ecdh.P256().NewPrivateKey(device[-4].([]byte))
	if err != nil {
		t.Fatal(err)
	}
	return cose.KeyRing{
		Keys: []*ecdh.PrivateKey{priv},
		KEKs: []cose.NamedKEK{{KID: kek[2].([]byte), KEK: kek[-1].([]byte)}},
	}
}

func TestDetachedCiphertexts(t *testing.T) {
	for name, plain := range map[string]string{
		"image_aeskw_gcm": "raw_image.bin", "image_esdh_gcm": "raw_image.bin",
		"config_aeskw_gcm": "config.json", "config_esdh_ctr": "config.json",
	} {
		t.Run(name, func(t *testing.T) {
			dir := "suit-manifest-generator/" + name
			c, err := cose.OpenInfo(sharedtest.Read(t, "vectors", dir+".encinfo.cbor"), vectorRing(t), cose.ContextSUITPayload)
			if err != nil {
				t.Fatal(err)
			}
			var got bytes.Buffer
			n, err := c.Open(&got, bytes.NewReader(sharedtest.Read(t, "vectors", dir+".enc")))
			if err != nil || n != int64(got.Len()) {
				t.Fatal(n, err)
			}
			if want := sharedtest.Read(t, "vectors", "payloads/"+plain); !bytes.Equal(got.Bytes(), want) {
				t.Fatalf("got %q", got.Bytes())
			}
			if _, err := c.Seal(&got, &got); !errors.Is(err, cose.ErrReused) {
				t.Fatalf("a cipher that was opened encrypts: %v", err)
			}
		})
	}
}

func TestAttachedCiphertexts(t *testing.T) {
	ring := vectorRing(t)
	eat, err := cose.Decrypt(sharedtest.Read(t, "vectors", "generated/enc/eat_a128gcm.cbor"), ring, cose.ContextEAT)
	if err != nil {
		t.Fatal(err)
	}
	m, err := cose.Parse(eat)
	if err != nil {
		t.Fatal(err)
	}
	verifier := vectorKey(t, "libteep_verifier_prime256v1.pem")
	if _, err := m.Verify([]*cose.Key{verifier}, cose.VerifyOptions{RequireKID: true}); err != nil {
		t.Fatal(err)
	}
	report, err := cose.Decrypt(sharedtest.Read(t, "vectors", "generated/enc/report_a128ctr.cbor"), ring, cose.ContextSUITReport)
	var inner []byte
	if err != nil || cose.Unmarshal(report, &inner) != nil {
		t.Fatalf("%x, %v", report, err)
	}
	_, err = cose.Decrypt(sharedtest.Read(t, "vectors", "generated/enc/neg_eat_wrong_kdf_string.cbor"), ring, cose.ContextEAT)
	if !errors.Is(err, cose.ErrDecrypt) {
		t.Fatalf("another context's message: %v", err)
	}
}
