// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/evidence"
)

// Expect is what the caller knows at run time beyond the policy. It adds conditions; it removes none.
type Expect struct {
	ConfigDigest *[32]byte // SHA-256 of the measured configuration that the caller asked for
	ConfigSource string    // where it comes from, for people
	TAs          []TAExpectation
	OnlyTAs      bool // no other TA than those expected may be loaded
	// Beside are signers, by key identifier, whose other TAs may be loaded all the same: the caller shares the instance among them.
	// A policy that wants no other TA is not overruled.
	Beside []Hex32
	// ConfigChecks are comparisons that the caller made itself, of what stands in the measured configuration. They join
	// the findings; one that is not OK makes the configuration contraindicated.
	ConfigChecks []Finding
	// Launch says what is expected where more was launched than the image that the policy's reference values are of: it returns the launch
	// measurement that follows from such a reference value. LaunchSource says what was added, for people.
	Launch       func(hw evidence.Hardware, reference []byte) []byte
	LaunchSource string
}

// Appraise compares verified Evidence with the policy and the expectations. It never returns nil and reports every
// mismatch.
func Appraise(v *evidence.Verified, p *Policy, now time.Time, expect ...Expect) *Result {
	a := newAppraiser(p, now)
	if !v.Authentic() {
		a.fail(Finding{Code: evidence.CodeMalformed, Claim: "Evidence", Expected: "verified Evidence", Got: "none",
			Source: "the caller"}, "there is no verified Evidence", valueCryptoFailed, a.required...)
		return a.finish()
	}
	a.v = v
	a.expectLaunch(expect)
	a.r.Hardware, a.r.Emulated, a.r.Root, a.r.EvidenceDigest = v.Hardware, v.Emulated, v.Root.String(), v.Digest
	a.verified()
	a.hardware()
	a.root()
	a.validity()
	a.lifecycle()
	a.rules()
	a.tcb()
	a.measurements()
	a.config(expect)
	a.tas(expect)
	return a.finish()
}

// Verify is [evidence.Verify] with the policy's collateral grace: Evidence that does not verify now, and did at most that
// long ago, verifies. [Appraise] then says what has ended since.
func Verify(bundle []byte, in evidence.Input, p *Policy) (*evidence.Verified, error) {
	v, err := evidence.Verify(bundle, in)
	if err == nil || p.CollateralGrace == 0 {
		return v, err
	}
	earlier, grace := in, time.Duration(p.CollateralGrace)*time.Second
	earlier.Now, earlier.Issued = in.Now.Add(-grace), in.Issued.Add(-grace) // the age of the challenge is as it is
	v, then := evidence.Verify(bundle, earlier)
	if then != nil {
		return nil, err
	}
	v.Time = in.Now
	return v, nil
}

// AppraiseBundle verifies a bundle and appraises what it holds. Where the verification fails, the result is
// contraindicated, its findings are the mismatches, and the second value is nil.
func AppraiseBundle(bundle []byte, in evidence.Input, p *Policy, expect ...Expect) (*Result, *evidence.Verified) {
	v, err := Verify(bundle, in, p)
	if err == nil {
		return Appraise(v, p, in.Now, expect...), v
	}
	a := newAppraiser(p, in.Now)
	a.expectLaunch(expect)
	a.r.EvidenceDigest = sha256.Sum256(bundle)
	a.refused(err, in)
	a.alsoDiffers(evidence.ReadInsecure(bundle, evidence.HardwareEvidence{}, in))
	return a.finish(), nil
}

// alsoDiffers adds what the policy would not accept either, if the Evidence did verify: whoever mends the one should not have to
// come back for the other. It can only add findings that fail.
func (a *appraiser) alsoDiffers(v *evidence.VerifiedHardware) {
	if v == nil {
		return
	}
	b := newAppraiser(a.p, a.now)
	b.launch, b.launchSource = a.launch, a.launchSource
	b.v = &evidence.Verified{Hardware: v.Hardware, Emulated: v.Emulated, Measurements: v.Measurements, Fields: v.Fields}
	b.hardware()
	if slices.Contains(a.p.Hardware, v.Hardware) {
		b.lifecycle()
		b.rules()
		b.tcb()
		b.measurements()
	}
	for _, f := range b.r.Failed() {
		if _, judged := b.v.Fields[fieldTCBStatus]; f.Code == CodeField || f.Code == CodeTCBStatus && !judged {
			continue // what comes of the chain and of collateral is missing because those did not verify
		}
		f.Claim += " (not verified)"
		a.r.Findings = append(a.r.Findings, f)
	}
}

// refused records what the verification found.
func (a *appraiser) refused(err error, in evidence.Input) {
	// What does not verify may still rest on an emulated root, or claim to: the mark has to show when one is configured.
	for _, root := range in.Anchors.Roots {
		a.r.Emulated = a.r.Emulated || root.IsEmulated()
	}
	for _, m := range evidence.Mismatches(err) {
		a.fail(Finding{Code: m.Code, Claim: m.Claim, Expected: m.Expected, Got: m.Got, Source: m.Source, Hint: m.Hint},
			"the Evidence did not verify: "+m.Claim, valueCryptoFailed, a.required...)
	}
}

type appraiser struct {
	v   *evidence.Verified
	p   *Policy
	r   *Result
	now time.Time

	required []string // claims without which no status is better than none

	launch       func(hw evidence.Hardware, reference []byte) []byte // see Expect; may be nil
	launchSource string
}

func newAppraiser(p *Policy, now time.Time) *appraiser {
	r := &Result{Accept: p.Accept, Vector: map[string]Claim{}, Policy: p.Name, PolicyHash: p.Hash(), Time: now.UTC()}
	for _, name := range vectorOrder {
		r.Vector[name] = Claim{valueUnasserted, "nothing in the Evidence speaks of it"}
	}
	return &appraiser{p: p, r: r, now: now, required: required}
}

func (a *appraiser) ok(f Finding) {
	f.OK = true
	a.r.Findings = append(a.r.Findings, f)
}

// fail records a mismatch and lowers claims to value.
func (a *appraiser) fail(f Finding, reason string, value int8, claims ...string) {
	f.OK = false
	a.r.Findings = append(a.r.Findings, f)
	for _, m := range a.p.Mapping {
		if m.Code != f.Code {
			continue
		}
		value = m.Value
		if m.Claim != "" {
			claims = []string{m.Claim}
		}
	}
	for _, c := range claims {
		a.set(c, value, reason)
	}
}

// set gives a claim a value unless it has a worse one (AR4SI section 2.3.3: the worst applicable value wins).
func (a *appraiser) set(claim string, value int8, reason string) {
	old := a.r.Vector[claim]
	if old.Value == valueUnasserted || worse(value, old.Value) {
		a.r.Vector[claim] = Claim{value, reason}
	}
}

// worse orders two asserted values: by tier, and within affirming the higher number says less.
func worse(x, y int8) bool {
	if tx, ty := tierOf(x), tierOf(y); tx != ty {
		return tx > ty
	}
	return x > y
}

// finish derives the status: the worst tier asserted, and none where a required claim has no assertion.
func (a *appraiser) finish() *Result {
	worst := TierAffirming
	for _, c := range a.r.Vector {
		worst = max(worst, c.Tier())
	}
	for _, name := range a.required {
		if a.r.Vector[name].Tier() == TierNone && worst != TierContraindicated {
			worst = TierNone
			break
		}
	}
	a.r.Status = worst
	if a.p.Production && a.r.Emulated {
		a.r.Status = TierContraindicated
	}
	if failed := a.r.Failed(); len(failed) > 0 {
		a.r.FirstCause = &failed[0]
	}
	return a.r
}

// verified lists what the verification checked already: it succeeded, so expectation and value are the same.
func (a *appraiser) verified() {
	nonce := hex.EncodeToString(a.v.Claims.Nonce)
	kid := hex.EncodeToString(a.v.Claims.AgentKID)
	a.ok(Finding{Code: evidence.CodeSignature, Claim: "signature of the hardware", Expected: "valid", Got: "valid",
		Source: "the attestation key, under " + a.r.Root})
	a.ok(Finding{Code: evidence.CodeNonce, Claim: "eat_nonce", Expected: nonce, Got: nonce, Source: "the challenge of this verifier"})
	a.ok(Finding{Code: evidence.CodeAgentKey, Claim: "cnf (Agent key)", Expected: kid, Got: kid, Source: "the key of the TEEP message"})
}

func (a *appraiser) hardware() {
	names := make([]string, len(a.p.Hardware))
	for i, h := range a.p.Hardware {
		names[i] = string(h)
	}
	f := Finding{Code: CodeHardware, Claim: "hardware architecture", Expected: strings.Join(names, " or "),
		Got: string(a.v.Hardware), Source: a.policy("hardware")}
	if !slices.Contains(a.p.Hardware, a.v.Hardware) {
		f.Hint = "ask for a device with accepted hardware"
		a.fail(f, "the policy does not accept this hardware", valueContraindicated, HardwareClaim)
		return
	}
	a.ok(f)
}

// root checks that the policy names the root, and treats an emulated one as the design demands: never in production,
// at most warning unless it was named as emulated on purpose.
func (a *appraiser) root() {
	fp := Hex32(a.v.Root.Fingerprint())
	var named *AnchorRef
	expected := make([]string, len(a.p.Anchors))
	for i, ref := range a.p.Anchors {
		expected[i] = strings.TrimSpace(ref.Fingerprint.String() + " " + ref.Name)
		if ref.Fingerprint == fp {
			named = &a.p.Anchors[i]
		}
	}
	f := Finding{Code: CodeRoot, Claim: "root of the hardware", Expected: strings.Join(expected, " or "), Got: a.v.Root.String(),
		Source: a.policy("anchors")}
	switch {
	case a.v.Emulated && a.p.Production:
		f.Code, f.Expected, f.Hint = CodeEmulated, "hardware of a vendor", "a production policy never accepts emulated hardware"
		a.fail(f, "EMULATED hardware, and the policy is for production", valueContraindicated, HardwareClaim, InstanceIdentity)
	case a.v.Emulated && (named == nil || !named.Emulated):
		f.Code, f.Hint = CodeEmulated, "name this fingerprint with \"emulated\": true if it is meant"
		a.fail(f, "EMULATED hardware, which the policy does not name on purpose", valueCapped, HardwareClaim, InstanceIdentity)
	case named == nil:
		f.Hint = "name this root only if you know whose it is"
		a.fail(f, "the policy does not name this root", valueUnknownHardware, HardwareClaim, InstanceIdentity)
	default:
		a.ok(f)
		reason := "genuine: signed under a root that the policy names"
		if a.v.Emulated {
			reason = "EMULATED: signed under an emulated root that the policy names on purpose"
		}
		a.set(HardwareClaim, valueApproved, reason)
		a.set(InstanceIdentity, valueApproved, reason)
	}
}

func (a *appraiser) policy(member string) string {
	return fmt.Sprintf("policy %q, %s", a.p.Name, member)
}
