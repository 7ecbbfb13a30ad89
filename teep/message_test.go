// SPDX-License-Identifier: Apache-2.0

package teep_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/hex"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/cose/wire"
	"sealift/suit"
	"sealift/teep"
)

var update = flag.Bool("update", false, "write the golden files anew")

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.TrimSpace(s), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// fixedSigner makes the same signer for the same name in every run.
func fixedSigner(t testing.TB, alg cose.Algorithm, name string) cose.Signer {
	t.Helper()
	seed := sha256.Sum256([]byte("test key " + name))
	var priv crypto.Signer = ed25519.NewKeyFromSeed(seed[:])
	if alg == cose.AlgESP256 {
		p, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), seed[:])
		if err != nil {
			t.Fatal(err)
		}
		priv = p
	}
	s, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func seq(n int) []byte {
	b := make([]byte, n)
	for i := range b {
		b[i] = byte(i)
	}
	return b
}

// Each call gives messages of their own, so that a test may change them.

func queryRequest() *teep.QueryRequest {
	return &teep.QueryRequest{
		Challenge: seq(32), Versions: []uint32{0}, SupportedFreshness: []uint32{teep.FreshnessNonce},
		CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles,
		DataItems: teep.ItemAttestation | teep.ItemTrustedComponents,
	}
}

func tokenRequest() *teep.QueryRequest {
	return &teep.QueryRequest{
		Token: seq(32), AttestationPayload: []byte{}, AttestationPayloadFormat: "application/eat+cwt", SUITReports: [][]byte{{0xa0}},
		CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles,
		DataItems:  teep.ItemTrustedComponents | teep.ItemSUITReports | teep.ItemExtensions,
		Extensions: []teep.Option{{Label: 99, Value: []byte{0x01}}, {Label: 5, Value: []byte{0x80}}},
	}
}

func queryResponse() *teep.QueryResponse {
	digest := suit.SHA256([]byte("ta"))
	return &teep.QueryResponse{
		Token: seq(8), SelectedVersion: new(uint32(0)), AttestationPayload: []byte("evidence"), AttestationPayloadFormat: "application/cmw+cbor",
		TCList: []teep.SystemProperty{
			{Component: suit.NewComponentID("tee", "stats", "ta"), Digest: &digest, Params: []teep.Parameter{{Label: -257, Value: []byte{0xf5}}, {Label: 14, Value: []byte{0x02}}}},
			{Component: suit.NewComponentID("pd", "stats", "records.csv")},
		},
		ExtList: []uint32{7},
		RequestedTCList: []teep.RequestedTC{
			{Component: suit.NewComponentID("tee", "x"), SequenceNumber: new(uint64(3)), HaveBinary: new(true)},
			{Component: suit.NewComponentID("tee", "y"), HaveBinary: new(false)},
			{Component: teep.ComponentID{}},
		},
		UnneededManifestList: []teep.ComponentID{suit.NewComponentID("manifest", "stats", "pd")},
		SUITReports:          [][]byte{{0xa0}, {0xa0}},
	}
}

func updateMessage() *teep.Update {
	return &teep.Update{
		Token: seq(64), ManifestList: [][]byte{{0xa0}, {0xa1, 0x02, 0x40}}, UnneededManifestList: []teep.ComponentID{suit.NewComponentID("manifest", "a", "ta")},
		AttestationPayload: []byte("result"), ErrCode: new(teep.ErrCodeAttestationRequired), ErrMsg: "attestation failed", ErrLang: "en-GB",
	}
}

func success() *teep.Success {
	return &teep.Success{Token: seq(16), Msg: "installed", SUITReports: [][]byte{{0xa0}}}
}

func errorMessage() *teep.Error {
	return &teep.Error{
		Token: seq(16), Code: teep.ErrCodeUnsupportedCipherSuites, Msg: "no common suite", Lang: "en",
		CipherSuites: teep.DefaultCipherSuites, Versions: []uint32{0}, SUITProfiles: teep.DefaultSUITProfiles,
		Challenge: seq(8), SupportedFreshness: []uint32{0, 1}, SUITReports: [][]byte{{0xa0}},
	}
}

func messages() map[string]teep.Message {
	return map[string]teep.Message{
		"query_request":       queryRequest(),
		"query_request_token": tokenRequest(),
		"query_response":      queryResponse(),
		"query_response_bare": &teep.QueryResponse{},
		"update":              updateMessage(),
		"update_bare":         &teep.Update{},
		"success":             success(),
		"success_bare":        &teep.Success{},
		"error":               errorMessage(),
		"error_bare":          &teep.Error{Code: teep.ErrCodeTemporary},
	}
}

func TestGoldenMessages(t *testing.T) {
	for name, m := range messages() {
		data, err := teep.Encode(m)
		if err != nil {
			t.Fatal(name, err)
		}
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, unhex(t, string(want))) {
			t.Errorf("%s: got %x, want %s", name, data, want)
		}
		if !wire.Deterministic(data) {
			t.Errorf("%s: %x is not deterministic", name, data)
		}
		back, err := teep.Decode(data)
		if err != nil {
			t.Fatal(name, err)
		}
		if again, err := teep.Encode(back); err != nil || !bytes.Equal(again, data) {
			t.Errorf("%s: re-encodes to %x, %v", name, again, err)
		}
		if len(extensions(m)) == 0 && name != "query_response" && !reflect.DeepEqual(back, m) {
			t.Errorf("%s: got %+v, want %+v", name, back, m)
		}
	}
}

func extensions(m teep.Message) []teep.Option {
	if q, ok := m.(*teep.QueryRequest); ok {
		return q.Extensions
	}
	return nil
}

// The golden files hold payloads; this one holds whole signed messages, which are the same in every run without randomness.
func TestGoldenSignedMessages(t *testing.T) {
	p, e := fixedSigner(t, cose.AlgESP256, "tam"), fixedSigner(t, cose.AlgEd25519, "tam")
	first, err := teep.SignAll(nil, []cose.Signer{p, e}, queryRequest())
	if err != nil {
		t.Fatal(err)
	}
	answer, err := teep.Sign(nil, fixedSigner(t, cose.AlgESP256, "agent"), success())
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"signed_query_request": first, "signed_success": answer} {
		path := filepath.Join("testdata", name+".hex")
		if *update {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(data, unhex(t, string(want))) {
			t.Errorf("%s: got %x, want %s", name, data, want)
		}
	}
	for _, s := range []cose.Signer{p, e} {
		v, err := teep.Verify(first, []*cose.Key{s.Key()})
		if err != nil || v.Algorithm != s.Algorithm() || !v.Key.Equal(s.Key()) || v.Message.Type() != teep.TypeQueryRequest {
			t.Fatal(v, err)
		}
	}
	kids, err := teep.PeekKIDs(first)
	if err != nil || len(kids) != 2 || !bytes.Equal(kids[1], e.Key().KID()) {
		t.Fatal(kids, err)
	}
}
