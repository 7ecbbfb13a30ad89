// SPDX-License-Identifier: Apache-2.0

package verifier

import (
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
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

// Panel is what a Relying Party asks beside its own Verifier. The own one, in process, is one of the n. The others can overrule
// what it thinks of hardware and measurements, and nothing else: not that Evidence is authentic, fresh and of this Agent, not
// what the Relying Party alone knows (configuration and TAs), and not that a production policy takes no emulated hardware.
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
	final := finality(r)
	switch {
	case !f.OK:
		f.Hint = "see what each Verifier says"
		r.Status = appraisal.TierContraindicated
	case !r.OK() && final == "":
		r.Status = r.Accept
	case !r.OK():
		f.OK, f.Got = false, f.Got+"; not the own one, whose word is final: "+final
		f.Hint = "no other Verifier can judge this: mend what the own one names"
	}
	r.Findings = append(r.Findings, f)
}

// opinions are the codes of findings on which other Verifiers may differ: they see the same Evidence, and have policies of their
// own.
var opinions = []string{appraisal.CodeHardware, appraisal.CodeRoot, appraisal.CodeLifecycle, appraisal.CodeMeasurement,
	appraisal.CodeUnknownMeasurement, appraisal.CodeReferenceTime, appraisal.CodeRule, appraisal.CodeField, appraisal.CodeDebug,
	appraisal.CodeMigratable, appraisal.CodeVMPL, appraisal.CodeTCBStatus, appraisal.CodeAdvisory, appraisal.CodeCollateral,
	CodeRefused, CodeUnreachable}

// finality names what the own Verifier refuses and no other can overrule; empty if there is nothing.
func finality(r *appraisal.Result) string {
	var names []string
	for _, f := range r.Failed() {
		if !slices.Contains(opinions, f.Code) && !slices.Contains(names, f.Claim) {
			names = append(names, f.Claim)
		}
	}
	return strings.Join(names, ", ")
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
