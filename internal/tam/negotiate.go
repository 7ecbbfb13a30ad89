// SPDX-License-Identifier: Apache-2.0

package tam

import (
	"context"
	"fmt"
	"slices"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/store"
	"sealift/teep"
)

// terms are how the next QueryRequest has to be, after what an Agent has said about the one before. The zero value is the first offer.
type terms struct {
	suites    []teep.CipherSuite // nil: both
	versions  []uint32
	freshness []uint32
	raw       bool   // no certificates: the Agent may know the key itself
	byTime    bool   // ask for freshness by time: no challenge
	result    []byte // Attestation Result about the TAM
}

// negotiable are the errors that another QueryRequest may cure (teep-protocol section 4.6).
func negotiable(code teep.ErrCode) bool {
	switch code {
	case teep.ErrCodeUnsupportedExtension, teep.ErrCodeUnsupportedFreshness, teep.ErrCodeUnsupportedVersion,
		teep.ErrCodeUnsupportedCipherSuites, teep.ErrCodeAttestationRequired, teep.ErrCodeUnsupportedSUITReport,
		teep.ErrCodeBadCertificate, teep.ErrCodeCertificateExpired:
		return true
	}
	return false
}

// negotiate finds terms that both sides can live with; ok is false if there are none.
func (e *Engine) negotiate(ctx context.Context, m *teep.Error) (t terms, ok bool) {
	switch m.Code {
	case teep.ErrCodeUnsupportedVersion:
		t.versions = []uint32{teep.ProtocolVersion}
		return t, slices.Contains(m.Versions, teep.ProtocolVersion)
	case teep.ErrCodeUnsupportedCipherSuites:
		s, ok := teep.SelectSuite(m.CipherSuites, teep.DefaultCipherSuites)
		t.suites = []teep.CipherSuite{s}
		return t, ok
	case teep.ErrCodeUnsupportedFreshness:
		if len(m.SupportedFreshness) == 0 || slices.Contains(m.SupportedFreshness, teep.FreshnessNonce) {
			t.freshness = []uint32{teep.FreshnessNonce}
			return t, true
		}
		t.freshness, t.byTime = []uint32{teep.FreshnessTimestamp}, true
		return t, e.Protocol.Window > 0 && slices.Contains(m.SupportedFreshness, teep.FreshnessTimestamp)
	case teep.ErrCodeBadCertificate, teep.ErrCodeCertificateExpired:
		t.raw = true
		return t, len(e.Keys.chainsAt(e.Now())) > 0
	case teep.ErrCodeAttestationRequired:
		if e.Protocol.Attest == nil {
			return t, false
		}
		result, err := e.Protocol.Attest(ctx, m.Challenge)
		if err != nil {
			e.Log.Warn("no Attestation Result about this TAM", "error", err)
			return t, false
		}
		t.result = result
		return t, len(result) > 0
	}
	return t, negotiable(m.Code) // without extensions and without reports, as the first offer is anyhow
}

// renegotiate answers an Error that complains about a QueryRequest with a better one. Where the request had a token, the Agent is known
// and the attempts are counted, so that a quarrel comes to an end; where it had a challenge, making another one costs and changes
// nothing. It returns nil where nothing can be offered.
func (e *Engine) renegotiate(ctx context.Context, d *store.Deployment, key *cose.Key, m *teep.Error) ([]byte, error) {
	t, ok := e.negotiate(ctx, m)
	if !ok {
		return nil, nil
	}
	if m.Token == nil {
		return e.challengeOn(d, key, t)
	}
	expiry, err := e.check(m.Token, kindQuery, d.ID, key.KID())
	if err != nil {
		return nil, nil
	}
	again := false
	_, err = e.Store.Update(ctx, d.ID, func(tx *store.Tx, d *store.Deployment) error {
		if d.Private.Attempts >= maxAttempts {
			return store.ErrUnchanged // the Error is judged instead
		}
		if err := consume(tx, d, m.Token, expiry); err != nil {
			return err
		}
		d.Private.Attempts++
		again = true
		return tx.AddEvent(d.ID, "error", "the Agent answers %v: %s; asking again", m.Code, m.Msg)
	})
	if err != nil || !again {
		return nil, err
	}
	return e.tokenOn(d, key, t)
}

// tokenOn makes a QueryRequest with a token for an admitted Agent.
func (e *Engine) tokenOn(d *store.Deployment, key *cose.Key, t terms) ([]byte, error) {
	q := t.query()
	token := e.mint(kindQuery, d.ID, key.KID(), e.Now().Add(tokenLifetime))
	q.Token, q.SupportedFreshness = token[:], nil // without attestation there is nothing to be fresh
	return e.protect(key, t, q)
}

// challengeOn makes a QueryRequest for Evidence, or for an Attestation Result that is fresh by its time. d is nil where no deployment
// is named yet.
func (e *Engine) challengeOn(d *store.Deployment, key *cose.Key, t terms) ([]byte, error) {
	q := t.query()
	q.DataItems |= teep.ItemAttestation
	if !t.byTime {
		var owner [evidence.NonceSize]byte
		id := ""
		if d != nil {
			id = d.ID
			if len(d.Private.Asked) > 0 {
				copy(owner[:], d.Private.Asked[0].Nonce)
			}
		}
		nonce := e.mint(kindChallenge, id, owner[:], e.Now().Add(tokenLifetime))
		q.Challenge = evidence.MixChallenge(nonce, owner)
	}
	return e.protect(key, t, q)
}

func (t terms) query() *teep.QueryRequest {
	q := &teep.QueryRequest{
		CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles, DataItems: teep.ItemTrustedComponents,
		Versions: t.versions, SupportedFreshness: t.freshness, AttestationPayload: t.result,
	}
	if t.suites != nil {
		q.CipherSuites = t.suites
	}
	if t.result != nil {
		q.AttestationPayloadFormat = teep.AttestationResultFormat
	}
	return q
}

// protect signs a QueryRequest: with the suite that was agreed upon, with that of the Agent's key, or, when nothing is known of the Agent
// (nil), with one signature for each suite (teep-protocol section 8.1).
func (e *Engine) protect(agent *cose.Key, t terms, q *teep.QueryRequest) ([]byte, error) {
	chains := e.Keys.chainsAt(e.Now())
	if t.raw {
		chains = nil
	}
	if agent == nil && t.suites == nil {
		return teep.SignAllCertified(e.Rand, e.Keys.Signers, chains, q)
	}
	alg := suiteOf(agent)
	if t.suites != nil {
		alg = t.suites[0][0].Alg
	}
	s := e.signers[alg]
	if s == nil {
		return nil, fmt.Errorf("tam: no key for %v", alg)
	}
	return teep.SignCertified(e.Rand, s, chains[alg], q)
}

// suiteOf is the algorithm that an Agent has chosen by having this key; ESP256 while it has none.
func suiteOf(agent *cose.Key) cose.Algorithm {
	if agent == nil {
		return cose.AlgESP256
	}
	if _, isP256 := agent.ECDSA(); !isP256 {
		return cose.AlgEd25519
	}
	return cose.AlgESP256
}
