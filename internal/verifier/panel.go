// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"strings"
	"sync"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/evidence"
)

// Codes of the findings of a Panel.
const (
	CodeRefused     = "verifier.refused"     // a further Verifier refuses the Evidence
	CodeUnreachable = "verifier.unreachable" // a further Verifier could not be asked
	CodeThreshold   = "verifier.threshold"   // too few Verifiers accept
)

// Panel is what a Relying Party asks beside its own Verifier. The own one, in process, is one of the n; its verification of
// authenticity is never overruled, its policy can be.
type Panel struct {
	Clients []*Client
	Need    int // how many of the n Verifiers have to accept, the own one included; 0 means all
}

// Judge asks the further Verifiers about a bundle that verified with this binding, adds what they say to the result's
// findings, and sets its status by how many accept. Without Clients it changes nothing.
func (p *Panel) Judge(ctx context.Context, b *evidence.Bundle, binding [64]byte, r *appraisal.Result) {
	if p == nil || len(p.Clients) == 0 {
		return
	}
	outcomes, errs := make([]*ear.Outcome, len(p.Clients)), make([]error, len(p.Clients))
	var asking sync.WaitGroup
	for i, c := range p.Clients {
		e := evidence.HardwareEvidence{Data: b.Marshal(), MediaType: evidence.MediaType}
		if c.Raw {
			e = evidence.HardwareEvidence{Data: b.Hardware, MediaType: b.HardwareType}
		}
		asking.Go(func() { outcomes[i], errs[i] = c.Ask(ctx, e, binding[:], r.Hardware.BindingName(r.Emulated)) })
	}
	asking.Wait()
	accept, names := 0, []string{}
	if r.OK() {
		accept, names = 1, []string{"the own one"}
	}
	for i, c := range p.Clients {
		f := finding(c, outcomes[i], errs[i])
		r.Findings = append(r.Findings, f)
		if f.OK {
			accept++
			names = append(names, c.String())
		}
	}
	need, n := p.Need, len(p.Clients)+1
	if need == 0 {
		need = n
	}
	f := appraisal.Finding{Code: CodeThreshold, Claim: "Verifiers that accept", Expected: fmt.Sprintf("%d of %d", need, n),
		Got: fmt.Sprintf("%d: %s", accept, strings.Join(names, ", ")), Source: "the Relying Party's Verifiers", OK: accept >= need}
	switch {
	case !f.OK:
		f.Hint = "see what each Verifier says"
		r.Status = appraisal.TierContraindicated
	case !r.OK():
		r.Status = r.Accept
	}
	r.Findings = append(r.Findings, f)
}

// JudgeVerified is Judge for a bundle that verified over challenge as that of the Agent with this key.
func (p *Panel) JudgeVerified(ctx context.Context, bundle []byte, v *evidence.Verified, challenge []byte, agentKey *cose.Key, r *appraisal.Result) {
	if p == nil || len(p.Clients) == 0 {
		return
	}
	b, err := evidence.ParseBundle(bundle)
	if err != nil { // it verified, so it parses
		r.Status = appraisal.TierContraindicated
		return
	}
	p.Judge(ctx, b, evidence.Binding(v.Hardware.BindingName(v.Emulated), challenge, agentKey.Thumbprint(), sha256.Sum256(b.Claims)), r)
}

// finding says what one Verifier says.
func finding(c *Client, o *ear.Outcome, err error) appraisal.Finding {
	f := appraisal.Finding{Code: CodeRefused, Claim: "Verifier " + c.String(), Expected: string(ear.Allow), Source: "its EAR"}
	if err != nil {
		f.Code, f.Got, f.Source = CodeUnreachable, err.Error(), "the connection"
		f.Hint = "a Verifier that cannot be asked counts as one that refuses"
		return f
	}
	f.Got, f.OK = string(o.Verdict), o.Verdict == ear.Allow
	var why []string
	for _, x := range o.Failed() {
		why = append(why, fmt.Sprintf("%s: expected %s, got %s", x.Claim, x.Expected, x.Got))
	}
	if len(why) > 0 {
		f.Got += " (" + strings.Join(why, "; ") + ")"
		f.Hint = "ask that Verifier's operator which anchors and reference values it has"
	}
	return f
}
