// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"path"
	"strings"
	"testing"

	"sealift/internal/sharedtest"
)

// TestManifest checks every row for CCA. The keys are enrolled ones and have no time; the tokens carry no certificates.
func TestManifest(t *testing.T) {
	checked, skipped := 0, 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		file := row["file"]
		if !strings.HasPrefix(file, "cca/") {
			continue
		}
		data := sharedtest.Read(t, "evidence", file)
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row["sha256"] {
			t.Errorf("%s: SHA-256 differs from the manifest", file)
			continue
		}
		if path.Base(file) == "trustee_kbs-request.json" {
			skipped++ // a request of another product's protocol: it holds no Evidence
			continue
		}
		if err := checkRow(t, path.Base(file), data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		checked++
	}
	t.Logf("%d rows for CCA checked, %d skipped", checked, skipped)
	if checked != 25 || skipped != 1 {
		t.Errorf("%d rows checked and %d skipped, want 25 and 1", checked, skipped)
	}
}

func checkRow(t *testing.T, name string, data []byte) error {
	switch name {
	case "tfrmm_cca_token.cbor", "rust_cca-token-01.cbor":
		return checkToken(t, data, WrapperCCA, 4, "00000000")
	case "rust_cca-token-draft-ffm-00.cbor":
		return checkToken(t, data, WrapperCCA, 13, "311314ab")
	case "tfm_cca_token.cbor":
		return checkToken(t, data, WrapperCMW, 4, "00000000")
	case "tfm_cca_example_token_legacy.cbor":
		return checkToken(t, data, WrapperCMW, 13, "311314ab")
	case "rust_cca-token-02.cbor":
		return checkStranger(t, data)
	case "tfm_cca_platform_token.cbor", "tfm_cca_example_platform_token.cbor":
		return checkPlatformToken(t, data)
	case "rust_rv.json":
		return checkReferences(t, data)
	case "rust_impl-id.bin":
		return checkEnrolled(t, "implementation-id", data)
	case "rust_inst-id.bin":
		return checkEnrolled(t, "instance-id", data)
	}
	return checkKeyFile(name, data)
}

func developmentKey(t *testing.T) *Anchor {
	block, _ := pem.Decode(sharedtest.Read(t, "evidence", "cca/tfrmm_cpak.pub.pem"))
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	return &Anchor{Name: "development CPAK", Key: pub.(*ecdsa.PublicKey)}
}

func developmentToken(t *testing.T) *Platform {
	m, err := Parse(sharedtest.Read(t, "evidence", "cca/rust_cca-token-01.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	return &m.token.Platform
}

// checkToken wants a token verified in full, as an emulated one, and refused with another key or a changed challenge.
func checkToken(t *testing.T, data []byte, w Wrapper, components int, rim string) error {
	v, err := Verify(data, nil, now, developmentKey(t))
	if err != nil {
		return err
	}
	p, r := v.Token.Platform, v.Token.Realm
	if !v.Emulated || v.Token.Wrapper != w || p.Lifecycle != 0x3003 || len(p.Components) != components ||
		!strings.HasPrefix(hex.EncodeToString(r.Initial), rim) {
		return fmt.Errorf("verified as %+v", v.Token)
	}
	if _, err := Verify(data, nil, now, &Anchor{Key: &newKey(t).PublicKey}); !errors.Is(err, ErrPlatformSignature) {
		return fmt.Errorf("with another key: %v", err)
	}
	if _, err := Verify(data, nil, now, newPlatform(t).pki.Anchor()); !errors.Is(err, ErrRoot) {
		return fmt.Errorf("under an emulated root: %v", err)
	}
	i := bytes.Index(data, r.Challenge)
	flipped := bytes.Clone(data)
	flipped[i] ^= 1
	if _, err := Verify(flipped, nil, now, developmentKey(t)); !errors.Is(err, ErrRealmSignature) {
		return fmt.Errorf("with a flipped bit: %v", err)
	}
	return nil
}

// checkStranger wants the token that another key signed read and not verified.
func checkStranger(t *testing.T, data []byte) error {
	m, err := Parse(data)
	if err != nil {
		return err
	}
	if _, err := m.Verify(nil, now, developmentKey(t)); !errors.Is(err, ErrPlatformSignature) {
		return fmt.Errorf("with the development key: %v", err)
	}
	return nil
}

func checkPlatformToken(t *testing.T, data []byte) error {
	s, err := parseSign1("platform", data)
	if err != nil {
		return err
	}
	if _, err := decodePlatform(s.payload); err != nil {
		return err
	}
	if !s.verify(developmentKey(t).Key) {
		return ErrPlatformSignature
	}
	if _, err := Parse(data); !errors.Is(err, ErrMalformed) {
		return fmt.Errorf("taken for a whole token: %v", err)
	}
	return nil
}

// checkReferences wants reference values that describe the verified token.
func checkReferences(t *testing.T, data []byte) error {
	var rv struct {
		Platform []struct {
			ImplementationID string `json:"implementation-id"`
			Components       []struct {
				Value string `json:"measurement-value"`
			} `json:"sw-components"`
		} `json:"platform"`
	}
	if err := json.Unmarshal(data, &rv); err != nil {
		return err
	}
	p := developmentToken(t)
	for _, ref := range rv.Platform {
		if !strings.EqualFold(ref.ImplementationID, hex.EncodeToString(p.ImplementationID)) {
			continue
		}
		if len(ref.Components) == len(p.Components) && strings.EqualFold(ref.Components[0].Value, hex.EncodeToString(p.Components[0].Value)) {
			return nil
		}
	}
	return errors.New("no reference value for the verified token")
}

// checkEnrolled compares an identifier with the enrolment that it belongs to.
func checkEnrolled(t *testing.T, member string, data []byte) error {
	var list []map[string]any
	if err := json.Unmarshal(sharedtest.Read(t, "evidence", "cca/rust_ta.json"), &list); err != nil {
		return err
	}
	if want := hex.EncodeToString(data); len(list) != 1 || !strings.EqualFold(fmt.Sprint(list[0][member]), want) {
		return fmt.Errorf("the enrolment has %v, want %s", list, want)
	}
	return nil
}

// keyFiles says for each key file whether it is the development CPAK.
var keyFiles = map[string]bool{"tfrmm_cpak.pub.pem": true, "tfrmm_cpak.pem": true, "rust_cpak.json": true, "rust_pkey.json": false,
	"rust_ta.json": false, "rust_ta-tfa.json": true, "rust_ta-02-ok.json": false, "rust_ta-02-bad.json": false,
	"trustee_cpak-pub.json": true, "trustee_cpak-priv.json": true, "trustee_rak-priv.json": false, "tfm_cca_platform.pem": true,
	"tfm_cca_realm.pem": false, "tfm_cca_realm2.pem": false}

func checkKeyFile(name string, data []byte) error {
	development, ok := keyFiles[name]
	if !ok {
		return errors.New("no check for this file")
	}
	key, err := readKey(data)
	if name == "rust_ta-02-bad.json" {
		if err == nil {
			return errors.New("a point that is not on the curve is accepted")
		}
		return nil
	}
	if err != nil {
		return err
	}
	if a := (&Anchor{Key: key}); isDevelopment(key) != development || a.IsEmulated() != development {
		return fmt.Errorf("taken for the development CPAK: %v, want %v", a.IsEmulated(), development)
	}
	return nil
}

// readKey reads the public part of PEM, of a JWK, or of a list of trust anchors with a JWK.
func readKey(data []byte) (*ecdsa.PublicKey, error) {
	if block, _ := pem.Decode(data); block != nil {
		if key, err := x509.ParseECPrivateKey(block.Bytes); err == nil {
			return &key.PublicKey, nil
		}
		if key, err := x509.ParsePKCS8PrivateKey(block.Bytes); err == nil {
			return &key.(*ecdsa.PrivateKey).PublicKey, nil
		}
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return nil, err
		}
		return pub.(*ecdsa.PublicKey), nil
	}
	type jwk struct{ Crv, X, Y string }
	var k jwk
	var list []struct{ PKey jwk }
	if json.Unmarshal(data, &list) == nil && len(list) == 1 {
		k = list[0].PKey
	} else if err := json.Unmarshal(data, &k); err != nil {
		return nil, err
	}
	x, errX := base64.RawURLEncoding.DecodeString(k.X)
	y, errY := base64.RawURLEncoding.DecodeString(k.Y)
	curve := elliptic.P384()
	if k.Crv == "P-256" {
		curve = elliptic.P256()
	}
	if err := errors.Join(errX, errY); err != nil {
		return nil, err
	}
	return ecdsa.ParseUncompressedPublicKey(curve, append(append([]byte{4}, x...), y...))
}
