// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"fmt"
	"io"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/teep"
)

// challengeSize is what the Agent asks TAMs to repeat: what an eat_nonce may have at most (RFC 9711 section 4.1), and what Evidence of our
// own form has (package evidence).
const challengeSize = 64

// maxPassport bounds an Attestation Result that is kept.
const maxPassport = 64 << 10

// attestation is what the Agent remembers of the attestation in both directions. None of it outlives a restart: a new Agent asks
// again and is asked again.
type attestation struct {
	challenge []byte // what a TAM has to answer with its Attestation Result, once
	passport  []byte // the latest Attestation Result about this Agent, as a TAM has handed it over
	// unasked is set while a QueryResponse may be sent without being asked for: the last QueryRequest had neither token nor
	// challenge, and nothing has failed since it was answered (teep-protocol section 7.2).
	unasked bool
}

// requireTAM is the Error that asks a TAM for an Attestation Result over a new challenge. One that is fresh by its time will do, too.
func (a *Agent) requireTAM(token []byte, format string, args ...any) *teep.Error {
	e := failed(token, teep.ErrCodeAttestationRequired, format, args...)
	e.SupportedFreshness = []uint32{teep.FreshnessNonce, teep.FreshnessTimestamp}
	e.Challenge = make([]byte, challengeSize)
	if _, err := io.ReadFull(a.opts.Rand, e.Challenge); err != nil {
		e.Challenge, e.SupportedFreshness = nil, []uint32{teep.FreshnessTimestamp}
	}
	a.mu.Lock()
	a.attest.challenge = e.Challenge
	a.mu.Unlock()
	return e
}

// refuseTAM evaluates the attestation of the TAM, if the configuration requires it (teep-protocol section 7.2.1). What comes without
// being required is not looked at.
func (a *Agent) refuseTAM(tam *cose.Key, q *teep.QueryRequest) *teep.Error {
	if !a.config.RequireTAMAttestation {
		return nil
	}
	if len(q.AttestationPayload) == 0 {
		return a.requireTAM(q.Token, "this Agent requires an Attestation Result about the TAM")
	}
	if !teep.IsAttestationResult(q.AttestationPayloadFormat) {
		return a.requireTAM(q.Token, "Evidence cannot be appraised here, an Attestation Result of the TEEP profile is required")
	}
	result, err := appraisal.ParseResult(q.AttestationPayload, a.config.VerifierKeys, a.opts.Now())
	switch {
	case err != nil:
	case !result.For(tam):
		err = fmt.Errorf("it is about another key than the one that signed the message")
	case result.Status != appraisal.TierAffirming:
		err = fmt.Errorf("its status is %v", result.Status)
	default:
		err = a.freshTAM(result)
	}
	if err != nil {
		return a.requireTAM(q.Token, "Attestation Result about the TAM: %v", err)
	}
	return nil
}

// freshTAM takes a result over the challenge that was given, once, or one that is young enough.
func (a *Agent) freshTAM(r *appraisal.AttestationResult) error {
	a.mu.Lock()
	asked := a.attest.challenge
	byNonce := asked != nil && bytes.Equal(asked, r.Nonce)
	if byNonce {
		a.attest.challenge = nil
	}
	a.mu.Unlock()
	if byNonce {
		return nil
	}
	if age := a.opts.Now().Sub(r.IssuedAt); age > a.config.ResultWindow() {
		return fmt.Errorf("it is neither over the Agent's challenge nor young enough (%v)", age)
	}
	return nil
}

// keepPassport keeps the Attestation Result of an Update. Where Verifiers are trusted it must be theirs and about this Agent; else the
// Agent cannot judge it, and need not: it is the TAM that will be shown it.
func (a *Agent) keepPassport(m *teep.Update) {
	if len(m.AttestationPayload) == 0 || len(m.AttestationPayload) > maxPassport || !teep.IsAttestationResult(m.AttestationPayloadFormat) {
		return
	}
	if len(a.config.VerifierKeys) > 0 {
		r, err := appraisal.ParseResult(m.AttestationPayload, a.config.VerifierKeys, a.opts.Now())
		if err != nil || !r.For(a.identity.signer.Key()) {
			a.log.Warn("an Attestation Result was not kept", "error", err)
			return
		}
	}
	a.mu.Lock()
	a.attest.passport = bytes.Clone(m.AttestationPayload)
	a.mu.Unlock()
}

// passportFor gives the Attestation Result for a QueryRequest that wants one fresh by its time: attestation without challenge.
func (a *Agent) passportFor(q *teep.QueryRequest) []byte {
	if !q.DataItems.Has(teep.ItemAttestation) || q.Challenge != nil || !q.SupportsFreshness(teep.FreshnessTimestamp) {
		return nil
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.attest.passport
}

// setUnasked notes whether QueryResponses may be sent without being asked for.
func (a *Agent) setUnasked(ok bool) {
	a.mu.Lock()
	a.attest.unasked = ok
	a.mu.Unlock()
}

// unasked is a signed QueryResponse with the passport, nil where none may be sent.
func (a *Agent) unasked() []byte {
	a.mu.Lock()
	passport, ok := a.attest.passport, a.attest.unasked
	a.mu.Unlock()
	if !ok || passport == nil {
		return nil
	}
	r := &teep.QueryResponse{AttestationPayload: passport, AttestationPayloadFormat: teep.AttestationResultFormat}
	a.fill(r, teep.ItemTrustedComponents)
	msg, err := teep.Sign(a.opts.Rand, a.identity.signer, r)
	if err != nil {
		a.log.Warn("no QueryResponse", "error", err)
		return nil
	}
	return msg
}
