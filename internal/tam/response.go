// SPDX-License-Identifier: Apache-2.0

package tam

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/image"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/teep"
	"sealift/usecase"
)

// answered is the proof that a QueryResponse belongs to a QueryRequest of ours.
type answered struct {
	token  []byte // the token, or the TAM's part of the challenge
	expiry time.Time
	opinion
}

// opinion is what the operator's Verifier makes of Evidence. Its zero value means that there was none.
type opinion struct {
	bundle    []byte
	challenge []byte
	owner     [evidence.NonceSize]byte
	result    *appraisal.Result
	authentic bool // the hardware vouches for it; result says whether it is acceptable
	manifests []evidence.ManifestRef
	advice    []byte // Attestation Result
}

// queryResponse handles a QueryResponse (teep-protocol section 7.1): it is fresh, it has what was asked for, the Evidence in it
// is appraised, and then the plan says what to send.
func (e *Engine) queryResponse(ctx context.Context, id string, key *cose.Key, m *teep.QueryResponse) (teep.Message, error) {
	d, err := e.Store.Deployment(ctx, id)
	if err != nil {
		return nil, err
	}
	a, err := e.answeredBy(d, key, m)
	if err != nil {
		return nil, err
	}
	have := ofApp(d, installed(m.TCList))
	var reply teep.Message
	_, err = e.Store.Update(ctx, id, func(tx *store.Tx, d *store.Deployment) error {
		if err := e.spend(tx, d, a); err != nil {
			return err
		}
		if d.AgentKey != nil && !sameAgent(d, key) && !a.authentic {
			return fmt.Errorf("%w: another key than the Agent's, and no hardware vouches for it", errDropped)
		}
		if a.result != nil {
			if a.bundle != nil {
				if err := e.keepEvidence(tx, d, key, &a.opinion); err != nil {
					return err
				}
			}
			if err := e.admit(tx, d, key, a.result, a.authentic); err != nil {
				return err
			}
		}
		if a.authentic && !a.result.OK() {
			reply = refusal(a.result)
		}
		if !sameAgent(d, key) {
			return course.Refresh(tx, d) // not admitted: what it says it has is of no interest
		}
		course.SetInstalled(d, have)
		if err := e.noteRequests(tx, d, m.RequestedTCList); err != nil {
			return err
		}
		next, err := e.proceed(tx, d)
		if next != nil {
			reply = next
		}
		if err != nil || !d.Private.Deleted.IsZero() || d.Private.Failed {
			return err
		}
		if reply, err = e.attune(d, a, m, reply); err != nil {
			return err
		}
		if step, missing := course.Unlisted(d); missing {
			course.Fail(d, fault.New(fault.ComponentMissing, "the Agent lists the manifest of step %s and not its components", step.Step), time.Time{})
			return course.Refresh(tx, d)
		}
		return nil
	})
	return reply, err
}

// noteRequests notes that the UA has asked for its TA, where the plan waits for that.
func (e *Engine) noteRequests(tx *store.Tx, d *store.Deployment, requested []teep.RequestedTC) error {
	for _, r := range requested {
		if course.Requested(d, r.Component.String(), e.Now()) {
			return tx.AddEvent(d.ID, "request", "the UA has asked for %s", r.Component)
		}
	}
	return nil
}

// spend uses up the token or challenge; an answer that is fresh by its time has neither.
func (e *Engine) spend(tx *store.Tx, d *store.Deployment, a *answered) error {
	if a.token != nil {
		return consume(tx, d, a.token, a.expiry)
	}
	if d.State == mocapi.StateRemoved {
		return fmt.Errorf("%w: the deployment is removed", errDropped)
	}
	return nil
}

// answeredBy checks that m answers a request that this TAM made for this deployment and Agent.
func (e *Engine) answeredBy(d *store.Deployment, key *cose.Key, m *teep.QueryResponse) (*answered, error) {
	q := &teep.QueryRequest{DataItems: teep.ItemTrustedComponents, Token: m.Token}
	a := &answered{token: m.Token}
	var err error
	if m.AttestationPayload == nil {
		if a.expiry, err = e.check(m.Token, kindQuery, d.ID, key.KID()); err != nil {
			return nil, err
		}
	} else {
		// Whether it is an Attestation Result or Evidence, the media type alone decides (section 4.3).
		read := e.appraise
		if teep.IsAttestationResult(m.AttestationPayloadFormat) {
			read = e.passport
			a.token = nil
		}
		if err := read(d, key, m.AttestationPayload, a); err != nil {
			return nil, err
		}
		q.DataItems |= teep.ItemAttestation
		q.Token, q.Challenge = nil, a.challenge
	}
	if err := q.CheckResponse(m); err != nil {
		return nil, fmt.Errorf("%w: %w", errIncomplete, err)
	}
	return a, nil
}

// appraise verifies and appraises Evidence over a challenge of ours. Evidence that is not authentic has an opinion too.
func (e *Engine) appraise(d *store.Deployment, key *cose.Key, payload []byte, a *answered) error {
	payload, err := e.Keys.open(payload, cose.ContextEAT)
	if err != nil {
		return fmt.Errorf("%w: %w", errDropped, err)
	}
	bundle, err := evidence.ParseBundle(payload)
	if err != nil {
		return fmt.Errorf("%w: %w", errDropped, err)
	}
	claims, err := evidence.ParseClaims(bundle.Claims)
	if err != nil {
		return fmt.Errorf("%w: %w", errDropped, err)
	}
	nonce, owner, err := evidence.SplitChallenge(claims.Nonce)
	if err != nil {
		return fmt.Errorf("%w: %w", errDropped, err)
	}
	if a.expiry, err = e.checkChallenge(nonce, d.ID, owner); err != nil {
		return err
	}
	a.token = nonce[:]
	a.bundle, a.challenge, a.owner = payload, claims.Nonce, owner
	digest := sha256.Sum256(d.Config)
	expect := appraisal.Expect{ConfigDigest: &digest, ConfigSource: "the configuration that the M/OC made for this deployment"}
	expectLaunch(&expect, d)
	result, v := appraisal.AppraiseBundle(payload, evidence.Input{
		Challenge: claims.Nonce, AgentKey: key, Anchors: e.Anchors, Now: e.Now(), ChallengeSource: "the challenge that this TAM made",
		Verifiers: e.Hardware.Verifiers, Endorsements: e.Hardware.Endorsements, CRLs: e.Hardware.CRLs,
	}, e.Policy, expect)
	a.result = result
	if v == nil {
		// Nobody vouches for this key, so it must not use up the challenge that the Agent still has to answer. What it uses
		// up is its own answer: sent again, it changes nothing.
		a.token = append(nonce[:], key.KID()...)
		return nil
	}
	if e.Hardware.Panel != nil {
		ctx, cancel := context.WithTimeout(context.Background(), panelWait)
		defer cancel()
		e.Hardware.Panel.JudgeVerified(ctx, payload, v, claims.Nonce, key, result)
	}
	a.authentic = true
	a.manifests = v.Claims.Manifests
	a.advice, err = appraisal.Issue(e.Rand, e.Keys.Verifier, result, v, e.Now(), resultLifetime)
	return err
}

// expectLaunch lets the operator's Verifier expect a guest that was booted with the payload that its configuration names.
func expectLaunch(e *appraisal.Expect, d *store.Deployment) {
	if d.Instance != string(usecase.VM) {
		return
	}
	c, err := agentconfig.Parse(d.Config)
	if err == nil && len(c.Layer) == sha256.Size {
		e.Launch = image.LayerLaunch([sha256.Size]byte(c.Layer))
		e.LaunchSource = fmt.Sprintf("the guest payload sha256:%x that the M/OC has it booted with", c.Layer)
	}
}

// namedKey is the key that an Agent says it has, see agentconfig.AgentKeyOption.
func namedKey(options []teep.Option) (*cose.Key, error) {
	for _, o := range options {
		if o.Label == agentconfig.AgentKeyOption {
			return cose.ParseKey(o.Value)
		}
	}
	return nil, errors.New("tam: a new Agent that does not name its key")
}

// admit decides whether the key is that of the deployment's Agent.
func (e *Engine) admit(tx *store.Tx, d *store.Deployment, key *cose.Key, r *appraisal.Result, authentic bool) error {
	if !d.Private.Deleted.IsZero() {
		return nil
	}
	switch {
	case !r.OK():
		var claims []string
		for _, f := range r.Failed() {
			claims = append(claims, f.Claim)
		}
		problem := fault.New(fault.OperatorAppraisal, "step admit: the operator's Verifier refuses the Evidence of the Agent: %s",
			strings.Join(claims, ", ")).WithDetails(r.Failed())
		if !authentic { // anybody can send this: it is told, and stops nobody
			d.Problem = problem
			return nil
		}
		course.Fail(d, problem, time.Time{})
		return tx.AddEvent(d.ID, "refused", "Evidence refused: %s", strings.Join(claims, ", "))
	case d.AgentKey == nil:
		d.AgentKey = key
		course.Recovered(d)
		if err := course.Done(d, usecase.Admit, e.Now(), "Agent "+hex.EncodeToString(key.KID())); err != nil {
			return err
		}
		return tx.AddEvent(d.ID, "admitted", "Agent %s, %v", hex.EncodeToString(key.KID()), r.Status)
	case !sameAgent(d, key):
		course.Fail(d, fault.New(fault.AgentChanged, "another Agent answers for this deployment: %x instead of %x", key.KID(), d.AgentKey.KID()).
			WithHint("its storage was lost or replaced; remove the deployment and deploy again"), time.Time{})
		return tx.AddEvent(d.ID, "refused", "another Agent: %s", hex.EncodeToString(key.KID()))
	case d.Problem != nil && (d.Problem.Code == fault.OperatorAppraisal || d.Problem.Code == fault.AgentChanged):
		course.Recovered(d) // the admitted Agent has shown again what it is
	}
	return nil
}

// keepEvidence answers the owner's request, and keeps what the TAM asked for itself.
func (e *Engine) keepEvidence(tx *store.Tx, d *store.Deployment, key *cose.Key, o *opinion) error {
	p := &store.Evidence{Deployment: d.ID, Created: e.Now()}
	if o.owner == [evidence.NonceSize]byte{} {
		p.ID = "tam-" + hex.EncodeToString(o.challenge[:8])
	} else {
		i := slices.IndexFunc(d.Private.Asked, func(a store.Asked) bool { return slices.Equal(a.Nonce, o.owner[:]) })
		if i < 0 {
			return nil // the owner no longer waits
		}
		p.ID, p.Nonce, p.Created = d.Private.Asked[i].ID, o.owner[:], d.Private.Asked[i].Time
		d.Private.Asked = slices.Delete(slices.Clone(d.Private.Asked), i, i+1)
		if len(d.Private.Asked) > 0 {
			d.Private.Wake++ // a session answers one request
		}
	}
	p.Ready, p.Bundle, p.Challenge, p.TAMNonce = true, o.bundle, o.challenge, o.challenge[:evidence.NonceSize]
	p.AgentKey, p.Time, p.Advice, p.AdviceStatus = key, e.Now().UTC(), o.advice, o.result.Status.String()
	for _, m := range o.manifests {
		p.Manifests = append(p.Manifests, digestText(m.Digest))
	}
	if err := e.Adversary.tamper(e, d, p); err != nil {
		return err
	}
	return tx.PutEvidence(p)
}

// installed turns a tc-list into what the API shows.
func installed(list []teep.SystemProperty) []mocapi.InstalledComponent {
	out := []mocapi.InstalledComponent{}
	for _, p := range list {
		c := mocapi.InstalledComponent{Component: p.Component.String()}
		if p.Digest != nil {
			c.Digest = digestText(*p.Digest)
		}
		out = append(out, c)
	}
	return out
}

// ofApp leaves out what other deployments have in the same instance.
func ofApp(d *store.Deployment, list []mocapi.InstalledComponent) []mocapi.InstalledComponent {
	if d.Sharing == "" {
		return list
	}
	return slices.DeleteFunc(list, func(c mocapi.InstalledComponent) bool {
		_, rest, _ := strings.Cut(c.Component, "/")
		app, _, _ := strings.Cut(rest, "/")
		return app != d.App
	})
}

func digestText(d teep.Digest) string {
	if d.Alg == cose.AlgSHA256 {
		return "sha256:" + hex.EncodeToString(d.Bytes)
	}
	return fmt.Sprintf("%d:%s", d.Alg, hex.EncodeToString(d.Bytes))
}
