// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"crypto/rand"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/teep"
	"sealift/usecase"
)

// TestQueryResponse: what was asked for is there and what was not is not, the token is that of the request, and the Evidence bears the
// challenge and says that it is Evidence.
func TestQueryResponse(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", anyone)), 1)
	challenge, token := bytes.Repeat([]byte{5}, 64), bytes.Repeat([]byte{6}, 32)
	for items := teep.DataItem(0); items < 16; items++ {
		q := &teep.QueryRequest{DataItems: items, CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles}
		if items.Has(teep.ItemAttestation) {
			q.Challenge = challenge
		} else {
			q.Token = token
		}
		m, err := w.exchange(q)
		if err != nil {
			t.Fatal(err)
		}
		r, ok := m.(*teep.QueryResponse)
		if !ok {
			t.Fatalf("%v: %+v", items, m)
		}
		if err := q.CheckResponse(r); err != nil {
			t.Errorf("%v: %v", items, err)
		}
		if !bytes.Equal(r.Token, q.Token) || (r.Token == nil) != (q.Token == nil) {
			t.Errorf("%v: token %x", items, r.Token)
		}
		if (r.TCList != nil) != items.Has(teep.ItemTrustedComponents) || (r.ExtList != nil) != items.Has(teep.ItemExtensions) {
			t.Errorf("%v: tc-list %v, ext-list %v", items, r.TCList, r.ExtList)
		}
		if (r.AttestationPayload != nil) != items.Has(teep.ItemAttestation) {
			t.Errorf("%v: attestation-payload of %d bytes", items, len(r.AttestationPayload))
		}
		if r.AttestationPayload == nil {
			continue
		}
		if r.AttestationPayloadFormat == "" || teep.IsAttestationResult(r.AttestationPayloadFormat) {
			t.Errorf("Evidence is called %q", r.AttestationPayloadFormat)
		}
		v, err := evidence.Verify(r.AttestationPayload, evidence.Input{
			Challenge: challenge, AgentKey: w.agentKey, Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}, Now: time.Now(),
		})
		if err != nil || !bytes.Equal(v.Claims.Nonce, challenge) {
			t.Errorf("%v: %v", items, err)
		}
	}
}

// TestNoEvidenceForStrangers: whoever is no TAM of the configuration gets an Error with nothing in it.
func TestNoEvidenceForStrangers(t *testing.T) {
	w := newWorld(t, nil)
	for name, signer := range map[string]cose.Signer{"a stranger": w.stranger, "an owner": w.owner} {
		m, _ := w.ask(signer, nil, &teep.QueryRequest{Challenge: make([]byte, 64), DataItems: teep.ItemAttestation})
		if e := w.refuses(m, teep.ErrCodePermanent); e.SUITReports != nil || e.Extensions != nil || e.Token != nil {
			t.Errorf("%s: %+v", name, e)
		}
	}
}

// TestKeyRollover: while a configuration lists the old and the new key of a TAM both are obeyed; once the old one is left out it is not.
func TestKeyRollover(t *testing.T) {
	next, _ := newSigner(t, cose.AlgESP256)
	both := newWorld(t, func(c *agentconfig.Config) { c.TAMKeys = append(c.TAMKeys, next.Key()) })
	only := newWorld(t, func(c *agentconfig.Config) { c.TAMKeys = []*cose.Key{next.Key()} })
	for _, c := range []struct {
		w      *world
		signer cose.Signer
		ok     bool
	}{{both, both.tam, true}, {both, next, true}, {only, only.tam, false}, {only, next, true}} {
		m, _ := c.w.ask(c.signer, nil, &teep.QueryRequest{Challenge: make([]byte, 64), DataItems: teep.ItemAttestation})
		if _, ok := m.(*teep.QueryResponse); ok != c.ok {
			t.Errorf("%+v", m)
		}
	}
}

// TestCOSESignOfTheTAM: of a first QueryRequest with a signature for each suite the Agent needs the one whose key it knows, and refuses a
// message in which a known key's signature is wrong.
func TestCOSESignOfTheTAM(t *testing.T) {
	w := newWorld(t, nil)
	data, err := teep.SignAll(rand.Reader, []cose.Signer{w.stranger, w.tam}, &teep.QueryRequest{Challenge: make([]byte, 64),
		DataItems: teep.ItemAttestation, CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles})
	if err != nil {
		t.Fatal(err)
	}
	if m, err := w.send(data); err != nil || m.Type() != teep.TypeQueryResponse {
		t.Fatalf("%+v, %v", m, err)
	}
	data[len(data)-1] ^= 1 // in the TAM's signature
	if m, err := w.send(data); err != nil || m.Type() != teep.TypeError {
		t.Fatalf("%+v, %v", m, err)
	}
}
