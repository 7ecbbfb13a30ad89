// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"crypto/rand"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/teep"
	"sealift/usecase"
)

func TestMessagesThatAreRefused(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	good, err := teep.Sign(rand.Reader, w.tam, &teep.Update{Token: w.token(), ManifestList: [][]byte{w.program(usecase.TA, 1, "echo v1", anyone)}})
	if err != nil {
		t.Fatal(err)
	}
	w.unchanged(func() {
		for i := range good { // every single bit of the message, and every truncation
			bad := bytes.Clone(good)
			bad[i] ^= 1 << (i % 8)
			for _, msg := range [][]byte{bad, good[:i]} {
				if m, err := w.send(msg); err == nil {
					if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrCodePermanent {
						t.Fatalf("byte %d: %+v", i, m)
					}
				}
			}
		}
		for name, msg := range map[string][]byte{
			"empty": nil, "deep": bytes.Repeat([]byte{0x81}, 4000), "indefinite": {0x9f, 0xff}, "big": make([]byte, 5<<20),
		} {
			if _, err := w.send(msg); err == nil {
				t.Fatal(name)
			}
		}
		strange, _ := teep.Sign(rand.Reader, w.stranger, &teep.Update{Token: w.token()})
		if m, err := w.send(strange); err != nil || !strings.Contains(m.(*teep.Error).Msg, "TAM key") {
			t.Fatalf("%+v, %v", m, err)
		}
		if m, err := w.exchange(&teep.Success{Token: w.token()}); err != nil || m.(*teep.Error).Code != teep.ErrCodePermanent {
			t.Fatalf("%+v, %v", m, err)
		}
	})
}

// TestOrderOfTheQuerysChecks: each request has one more fault than the one before it, and the Agent names the first.
func TestOrderOfTheQuerysChecks(t *testing.T) {
	verifier, _ := newSigner(t, cose.AlgESP256)
	w := newWorld(t, func(c *agentconfig.Config) {
		c.RequireTAMAttestation, c.VerifierKeys = true, []*cose.Key{verifier.Key()}
	})
	w.agentKey = nil
	ed := []teep.CipherSuite{teep.SuiteOf(cose.AlgEd25519)}
	q := &teep.QueryRequest{
		Challenge: make([]byte, 64), Versions: []uint32{7}, SupportedFreshness: []uint32{1}, CipherSuites: ed,
		SUITProfiles: teep.DefaultSUITProfiles, SUITReports: [][]byte{{0xd0, 0x80}}, DataItems: teep.ItemAttestation,
	}
	expect := func(want teep.ErrCode) *teep.Error {
		t.Helper()
		data, err := teep.Sign(rand.Reader, w.tam, q)
		if err != nil {
			t.Fatal(err)
		}
		reply, err := w.client.ProcessTeepMessage(t.Context(), "", data)
		if err != nil {
			t.Fatal(err)
		}
		signed, err := teep.Parse(reply)
		if err != nil {
			t.Fatal(err)
		}
		m, err := signed.MessageInsecure()
		if err != nil {
			t.Fatal(err)
		}
		e, ok := m.(*teep.Error)
		if !ok || e.Code != want {
			t.Fatalf("want %v, got %+v", want, m)
		}
		return e
	}
	if e := expect(teep.ErrCodeUnsupportedVersion); len(e.Versions) != 1 || e.Versions[0] != 0 {
		t.Fatalf("%+v", e)
	}
	q.Versions = []uint32{0, 7}
	if e := expect(teep.ErrCodeUnsupportedCipherSuites); len(e.CipherSuites) != 1 {
		t.Fatalf("%+v", e)
	}
	q.CipherSuites = teep.DefaultCipherSuites
	expect(teep.ErrCodeAttestationRequired)
	q.AttestationPayload = []byte("no result")
	expect(teep.ErrCodeAttestationRequired)
}

func TestQueryFreshnessAndReports(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	base := teep.QueryRequest{
		Challenge: make([]byte, 64), CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles, DataItems: teep.ItemAttestation,
	}
	for name, c := range map[string]struct {
		change func(q *teep.QueryRequest)
		want   teep.ErrCode
	}{
		"encrypted report": {func(q *teep.QueryRequest) { q.SUITReports = [][]byte{{0xd8, 0x60, 0x80}} }, teep.ErrCodeUnsupportedSUITReport},
		"timestamp only":   {func(q *teep.QueryRequest) { q.SupportedFreshness = []uint32{teep.FreshnessTimestamp} }, teep.ErrCodeUnsupportedFreshness},
		"no challenge":     {func(q *teep.QueryRequest) { q.Challenge = nil }, teep.ErrCodeUnsupportedFreshness},
		"long challenge":   {func(q *teep.QueryRequest) { q.Challenge = make([]byte, 65) }, teep.ErrCodePermanent},
	} {
		q := base
		c.change(&q)
		m, err := w.exchange(&q)
		if e, ok := m.(*teep.Error); err != nil || !ok || e.Code != c.want {
			t.Errorf("%s: %+v, %v", name, m, err)
		}
	}
	token := w.token()
	m, err := w.exchange(&teep.QueryRequest{
		Token: token, CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles, DataItems: teep.ItemTrustedComponents,
	})
	if r, ok := m.(*teep.QueryResponse); err != nil || !ok || !bytes.Equal(r.Token, token) || r.AttestationPayload != nil {
		t.Fatalf("%+v, %v", m, err)
	}
}
