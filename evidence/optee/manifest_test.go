// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"math/big"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/evidence/psa"
	"sealift/internal/sharedtest"
)

// The samples for OP-TEE are of its other attestation service, which makes PSA tokens: a claims set without a signature,
// the demonstration's private key, and endorsements for it in CoRIM's JSON form. No output of the PTA that this package
// reads is published. So the samples are checked as far as they go: file by file here, and together in TestDemonstration.
func TestManifest(t *testing.T) {
	checked := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		file := row["file"]
		if !strings.HasPrefix(file, "optee/") {
			continue
		}
		data := sharedtest.Read(t, "evidence", file)
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row["sha256"] {
			t.Errorf("%s: SHA-256 differs from the manifest", file)
		}
		if !json.Valid(data) {
			t.Errorf("%s is no JSON", file)
		}
		if _, err := Verify(data, emulated().Key()); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s taken for Evidence: %v", file, err)
		}
		checked++
	}
	t.Logf("%d rows for OP-TEE checked, none skipped", checked)
	if checked != 5 {
		t.Errorf("%d rows checked, want 5", checked)
	}
}

type comid struct {
	Triples struct {
		Keys []struct {
			Environment struct {
				Class struct {
					ID struct{ Value []byte }
				}
				Instance struct{ Value []byte }
			}
			Keys []struct{ Value string } `json:"verification-keys"`
		} `json:"attester-verification-keys"`
		Values []struct {
			Measurements []struct {
				Key struct {
					Value struct {
						Label    string
						SignerID []byte `json:"signer-id"`
					}
				}
				Value struct{ Digests []string }
			}
		} `json:"reference-values"`
	}
}

func readJSON(t *testing.T, file string, into any) {
	t.Helper()
	if err := json.Unmarshal(sharedtest.Read(t, "evidence", "optee/"+file), into); err != nil {
		t.Fatal(err)
	}
}

// TestDemonstration signs the sample's claims with the sample's key and verifies that under the key in the sample's
// endorsement: claims, key and endorsement belong together. The reference value in the sample is of another build.
func TestDemonstration(t *testing.T) {
	var claims struct {
		Profile    string `json:"eat-profile"`
		Client     int32  `json:"psa-client-id"`
		Lifecycle  uint16 `json:"psa-security-lifecycle"`
		Impl       []byte `json:"psa-implementation-id"`
		Instance   []byte `json:"psa-instance-id"`
		Nonce      []byte `json:"psa-nonce"`
		Components []struct {
			Type   string `json:"measurement-type"`
			Value  []byte `json:"measurement-value"`
			Signer []byte `json:"signer-id"`
		} `json:"psa-software-components"`
	}
	var keys, values comid
	readJSON(t, "opteera_evidence.json", &claims)
	readJSON(t, "opteera_comid-psa-ta.json", &keys)
	readJSON(t, "opteera_comid-psa-refval.json", &values)
	token := psa.Token{Profile: claims.Profile, Nonce: claims.Nonce, InstanceID: claims.Instance, ImplementationID: claims.Impl,
		ClientID: claims.Client, Lifecycle: psa.Lifecycle(claims.Lifecycle)}
	for _, c := range claims.Components {
		token.Components = append(token.Components, psa.Component{Type: c.Type, Value: c.Value, SignerID: c.Signer})
	}
	signed, err := psa.Mint(rand.Reader, demonstrationKey(t), token)
	if err != nil {
		t.Fatal(err)
	}
	endorsed := keys.Triples.Keys[0]
	block, _ := pem.Decode([]byte(endorsed.Keys[0].Value))
	pub, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	msg, err := psa.Parse(signed)
	if err != nil {
		t.Fatal(err)
	}
	v, err := msg.Verify(key)
	if err != nil {
		t.Fatal(err)
	}
	if string(v.Token.InstanceID) != string(endorsed.Environment.Instance.Value) ||
		string(v.Token.ImplementationID) != string(endorsed.Environment.Class.ID.Value) || !v.Token.Lifecycle.Secured() {
		t.Errorf("the endorsement is for another device than %+v", v.Token)
	}
	reference, measured := values.Triples.Values[0].Measurements[0], v.Token.Components[0]
	digest := "sha-256;" + base64.StdEncoding.EncodeToString(measured.Value)
	if reference.Key.Value.Label != measured.Type || string(reference.Key.Value.SignerID) != string(measured.SignerID) ||
		reference.Value.Digests[0] == digest {
		t.Errorf("reference value %+v, measured %+v", reference, measured)
	}
}

// demonstrationKey reads the published private key.
func demonstrationKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	var jwk struct{ X, Y, D string }
	readJSON(t, "opteera_ec256.json", &jwk)
	number := func(s string) *big.Int {
		b, err := base64.RawURLEncoding.DecodeString(s)
		if err != nil {
			t.Fatal(err)
		}
		return new(big.Int).SetBytes(b)
	}
	key, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), number(jwk.D).FillBytes(make([]byte, 32)))
	if err != nil {
		t.Fatal(err)
	}
	if key.X.Cmp(number(jwk.X)) != 0 || key.Y.Cmp(number(jwk.Y)) != 0 {
		t.Fatal("private and public half of the key differ")
	}
	return key
}
