// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
	"sealift/usecase"
)

// VerifyOptions say by which policy Evidence is appraised.
type VerifyOptions struct {
	Policy  string        // name of a policy in the owner's folder; empty: home.DefaultPolicy
	Timeout time.Duration // for the Evidence to arrive; 0: DefaultEvidenceTime
}

// DefaultEvidenceTime is how long a device may take to answer a challenge.
const DefaultEvidenceTime = 60 * time.Second

// resultValidity is how long the owner's Attestation Result may be shown.
const resultValidity = time.Hour

// Refused is the error of an appraisal that the owner's policy does not accept. It is a fault with the code
// appraisal-refused, and the exit code 4.
type Refused struct {
	Deployment string
	Result     *appraisal.Result
	Advice     []byte // Attestation Result of the operator's Verifier, unverified; may be empty
}

// Error names every claim that differed.
func (r *Refused) Error() string {
	var parts []string
	for _, f := range r.Result.Failed() {
		parts = append(parts, fmt.Sprintf("%s: expected %s (from %s), got %s", f.Claim, f.Expected, f.Source, f.Got))
	}
	if len(parts) == 0 {
		parts = append(parts, "the result is "+r.Result.Status.String()+", which is not enough")
	}
	return fmt.Sprintf("the Evidence of %s is refused%s: %s", r.Deployment, mark(r.Result.Emulated), strings.Join(parts, "; "))
}

// Unwrap gives the error its code.
func (r *Refused) Unwrap() error {
	return &fault.Error{Code: fault.AppraisalRefused, Exit: fault.ExitAttestation, Message: r.Error(), Hint: "nothing was released"}
}

// fresh is Evidence that came for a challenge of the owner and that nobody has appraised. Nothing in it is to be believed.
type fresh struct {
	request string // its id at the M/OC
	bundle  []byte
	input   evidence.Input
	advice  string // what the operator's Verifier says, for people
	result  []byte // its Attestation Result, unverified
}

// Verify asks the Agent for Evidence over a nonce of its own, verifies it, and appraises it with the owner's policy and with what the owner
// knows: that the measured configuration names this owner and this application alone and the TAM keys that were pinned, and
// that the loaded TA is the packed one. It tells the M/OC the outcome as a signed Attestation Result. The error of
// unacceptable Evidence is a *[Refused].
func (o *Owner) Verify(ctx context.Context, ref string, opt VerifyOptions) (*Appraised, error) {
	d, err := o.find(ref)
	if err != nil {
		return nil, err
	}
	policy, err := o.policy(opt.Policy, d.Context)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	if err := o.pinTAM(ctx, s); err != nil {
		return nil, err
	}
	dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	if err != nil {
		return nil, err
	}
	if dep.State == mocapi.StateFailed {
		return nil, problemOf(dep)
	}
	if err := o.settle(d, dep); err != nil {
		return nil, err
	}
	if opt.Timeout == 0 {
		opt.Timeout = DefaultEvidenceTime
	}
	f, err := o.challenge(ctx, s, d.ID, opt.Timeout)
	if err != nil {
		return nil, err
	}
	if err := o.anchor(&f.input); err != nil {
		return nil, err
	}
	return o.appraise(ctx, s, d, dep, f, policy, opt.Policy)
}

// policy reads a policy of the owner's folder, for a deployment of the named context.
func (o *Owner) policy(name, contextName string) (*appraisal.Policy, error) {
	if name == "" {
		name = home.DefaultPolicy
	}
	data, err := o.Home.Policy(name)
	if errors.Is(err, home.ErrNotFound) {
		return nil, fault.Wrap(fault.BadRequest, err).WithHint("sealift policy init makes one: by it you say which hardware and which Agent you accept")
	}
	if err != nil {
		return nil, err
	}
	f, err := o.ReadPolicy(data, contextName)
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, fmt.Errorf("the policy %s: %w", name, err))
	}
	return f.Policy, nil
}

// challenge sends a nonce and waits for the Evidence over it.
func (o *Owner) challenge(ctx context.Context, s *session, id string, timeout time.Duration) (*fresh, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	var nonce [evidence.NonceSize]byte
	var issued time.Time
	request, err := persist(ctx, o, func() (string, error) {
		if _, err := io.ReadFull(o.Rand, nonce[:]); err != nil { // a new one each time: where the answer was lost, the former may be in use
			return "", fmt.Errorf("making a nonce: %w", err)
		}
		issued = o.Now()
		return s.api.RequestEvidence(ctx, id, nonce[:])
	})
	if err != nil {
		return nil, err
	}
	o.tell("verify", "owner", "sent a nonce of 32 bytes to the Agent")
	for {
		e, err := persist(ctx, o, func() (*mocapi.Evidence, error) { return s.api.Evidence(ctx, id, request, longPoll) })
		if ctx.Err() != nil {
			return nil, fault.New(fault.Unavailable, "the Agent did not answer the challenge within %s", timeout).WithHint("sealift status %s shows what the device says", id)
		}
		if err != nil {
			return nil, err
		}
		if !e.Ready {
			continue
		}
		// The TAM's part of the challenge is the TAM's word; a wrong one makes the comparison with the Evidence fail.
		var tam [evidence.NonceSize]byte
		copy(tam[:], e.TAMNonce)
		return &fresh{request: request, bundle: e.Bundle, advice: e.AdviceStatus, result: e.Advice, input: evidence.Input{
			Challenge: evidence.MixChallenge(tam, nonce), AgentKey: e.AgentKey, Now: o.Now(),
			ChallengeSource: "the nonce that this owner made, after the TAM's", Issued: issued, MaxAge: timeout + time.Minute}}, nil
	}
}

// appraise judges fresh Evidence, tells the M/OC, and keeps what it found.
func (o *Owner) appraise(ctx context.Context, s *session, d *deployment, dep *mocapi.Deployment, f *fresh, policy *appraisal.Policy, policyName string) (*Appraised, error) {
	key, err := o.Home.KeyByPublic(d.Package.Owner)
	if err != nil {
		return nil, err
	}
	if f.advice != "" {
		o.tell("verify", "verifier", fmt.Sprintf("the operator's Verifier says %s; that is advice", f.advice))
	}
	result, verified, config := o.judge(ctx, s, d, dep, f, policy)
	if !result.OK() {
		o.tell("attest", "owner", fmt.Sprintf("refused the Evidence by policy %q%s", policy.Name, mark(result.Emulated)))
		if verified != nil {
			o.post(ctx, s, d, f, key, result, verified) // the M/OC may know; whether it does changes nothing here
		}
		if err := o.change(d.ID, func(d *deployment) error { d.Appraised = nil; return nil }); err != nil {
			return nil, err
		}
		return nil, &Refused{Deployment: d.ID, Result: result, Advice: f.result}
	}
	o.tell("verify", "owner", fmt.Sprintf("accepted the Evidence by policy %q: %s, Agent %.16s, %s%s", policy.Name, result.Status,
		hex.EncodeToString(f.input.AgentKey.KID()), countTAs(len(verified.Claims.TAs)), mark(result.Emulated)))
	posted, err := o.post(ctx, s, d, f, key, result, verified)
	if err != nil {
		return nil, err
	}
	state := newState(result, verified, config, posted.ID, policyName, f.input.AgentKey)
	if err := o.change(d.ID, func(d *deployment) error { d.Appraised = &state; return nil }); err != nil {
		return nil, err
	}
	return &Appraised{Deployment: d.ID, Result: result, Advice: f.result, state: state, positive: true}, nil
}

func countTAs(n int) string {
	if n == 1 {
		return "1 TA"
	}
	return fmt.Sprintf("%d TAs", n)
}

// judge verifies and appraises. The configuration is nil where the Evidence is not authentic.
func (o *Owner) judge(ctx context.Context, s *session, d *deployment, dep *mocapi.Deployment, f *fresh, policy *appraisal.Policy) (*appraisal.Result, *evidence.Verified, *agentconfig.Config) {
	verified, err := appraisal.Verify(f.bundle, f.input, policy)
	if err != nil {
		var expect appraisal.Expect
		expectLaunch(&expect, d.Package.Name, bootedWith(&d.Package, usecase.Instance(dep.Instance)))
		result, _ := appraisal.AppraiseBundle(f.bundle, f.input, policy, expect)
		return result, nil, nil
	}
	expect, config := expectConfig(verified.Config, configWanted{
		deployment: d.instance(), sharing: d.Sharing, app: d.Package.Name, owner: d.Package.Owner, tam: s.context.TAMKeys, cells: CellsOf(&d.Package),
		mode: d.Package.Mode, pkg: &d.Package})
	expect.TAs, expect.OnlyTAs = expectTAs(d, dep, verified), true
	if d.Sharing {
		expect.Beside = []appraisal.Hex32{d.Package.Owner.Thumbprint()}
	}
	result := appraisal.Appraise(verified, policy, f.input.Now, expect)
	o.Panel.JudgeVerified(ctx, f.bundle, verified, f.input.Challenge, f.input.AgentKey, result)
	return result, verified, config
}

// expectTAs says which TAs must be loaded: the packed one. Where the plan has the appraisal before the TA, none may be there yet; it is
// another one that may not. A release does not follow from an appraisal without the TA, unless the TA comes with it.
func expectTAs(d *deployment, dep *mocapi.Deployment, v *evidence.Verified) []appraisal.TAExpectation {
	sequence := d.Package.Sequence
	mode, none := d.Package.Mode, !loads(v, d.Package.Name)
	switch {
	case mode.Sealed(usecase.TA):
		if len(d.Released) == 0 || none && dep.State != mocapi.StateRunning {
			return nil
		}
		sequence = d.Released[0].Sequence
	case mode.Bundled() && none && len(d.Released) == 0:
		return nil
	}
	ta, ok := d.Package.Component("ta")
	if !ok {
		return nil
	}
	list := []appraisal.TAExpectation{{Component: ta.ID, Digests: []appraisal.Digest{{Digest: ta.Digest}}, MinSequence: sequence,
		Signers: []appraisal.Hex32{d.Package.Owner.Thumbprint()},
		Source:  fmt.Sprintf("the package %s, sequence %d, that this owner signed", d.Package.Name, sequence)}}
	return expectUpdate(list, d, v)
}

// expectUpdate allows for the version that an update brings: in the place of the present one, or as the candidate that waits for its PD.
func expectUpdate(list []appraisal.TAExpectation, d *deployment, v *evidence.Verified) []appraisal.TAExpectation {
	if d.Update == nil {
		return list
	}
	ta, ok := d.Update.Package.Component(usecase.TA)
	if !ok {
		return list
	}
	list[0].Digests = append(list[0].Digests, appraisal.Digest{Digest: ta.Digest})
	next := list[0]
	next.Component = agentconfig.CandidateID(ta.ID)
	if _, waits := v.TA(next.Component.String()); waits {
		next.Digests, next.MinSequence = []appraisal.Digest{{Digest: ta.Digest}}, d.Update.Package.Sequence
		next.Source = fmt.Sprintf("the package %s, sequence %d, of the update", d.Package.Name, next.MinSequence)
		list = append(list, next)
	}
	return list
}

// post signs the outcome as an Attestation Result in the TEEP profile and hands it to the M/OC.
func (o *Owner) post(ctx context.Context, s *session, d *deployment, f *fresh, key *home.SigningKey, r *appraisal.Result, v *evidence.Verified) (*mocapi.Appraisal, error) {
	signed, err := appraisal.Issue(o.Rand, key.Signer, r, v, o.Now(), resultValidity)
	if err != nil {
		return nil, fmt.Errorf("signing the Attestation Result: %w", err)
	}
	return persist(ctx, o, func() (*mocapi.Appraisal, error) {
		return s.api.PostAppraisal(ctx, d.ID, mocapi.AppraisalRequest{Evidence: f.request, Result: signed})
	})
}

// pinTAM pins the keys of the M/OC's TAM at the first use of a context that has none.
func (o *Owner) pinTAM(ctx context.Context, s *session) error {
	if len(s.context.TAMKeys) > 0 {
		return nil
	}
	anchors, err := persist(ctx, o, func() (mocapi.TrustAnchors, error) { return s.api.TrustAnchors(ctx) })
	if err != nil {
		return err
	}
	if len(anchors.TAMKeys) == 0 {
		return fault.New(fault.Internal, "the M/OC does not name the keys of its TAM")
	}
	s.context.TAMKeys = anchors.TAMKeys
	o.tell("verify", "owner", fmt.Sprintf("pinned %d TAM keys of context %s at first use", len(anchors.TAMKeys), s.name))
	return o.Home.PinTAM(s.name, anchors.TAMKeys)
}
