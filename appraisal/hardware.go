// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"time"

	"sealift/evidence"
)

// AppraiseHardware compares authentic Evidence of hardware by itself, or a bundle that was kept, with the policy. Its result
// is about hardware and what was launched, not about who answers: HardwareOnly is set, Limits says what cannot be concluded,
// and [Issue] refuses it. The configuration is judged where the policy names its digest, TAs where there are claims.
func AppraiseHardware(v *evidence.VerifiedHardware, p *Policy, now time.Time) *Result {
	a := newAppraiser(p, now)
	a.hardwareOnly()
	if !v.Authentic() {
		a.fail(Finding{Code: evidence.CodeMalformed, Claim: "Evidence", Expected: "verified Evidence", Got: "none",
			Source: "the caller"}, "there is no verified Evidence", valueCryptoFailed, a.required...)
		return a.finish()
	}
	a.v = &evidence.Verified{Hardware: v.Hardware, Emulated: v.Emulated, Root: v.Root, Measurements: v.Measurements, Fields: v.Fields,
		Until: v.Until, UntilWhat: v.UntilWhat, Claims: v.Claims, Config: v.Configuration}
	a.r.Hardware, a.r.Emulated, a.r.Root, a.r.EvidenceDigest = v.Hardware, v.Emulated, v.Root.String(), v.Digest
	a.ok(Finding{Code: evidence.CodeSignature, Claim: "signature of the hardware", Expected: "valid", Got: "valid",
		Source: "the attestation key, under " + a.r.Root})
	a.limits(v)
	a.hardware()
	a.root()
	a.validity()
	a.lifecycle()
	a.rules()
	a.tcb()
	a.measurements()
	a.hardwareConfig(v)
	if v.Claims != nil {
		a.tas(nil)
	}
	return a.finish()
}

// hardwareOnly limits what the result can assert.
func (a *appraiser) hardwareOnly() {
	a.required = []string{InstanceIdentity, Executables, HardwareClaim}
	a.r.HardwareOnly = true
}

// limits says what cannot be concluded.
func (a *appraiser) limits(v *evidence.VerifiedHardware) {
	if v.Compared {
		data := v.ReportData
		if v.Claims != nil {
			data = v.Claims.Nonce
		}
		text := hex.EncodeToString(data)
		a.ok(Finding{Code: evidence.CodeNonce, Claim: "nonce", Expected: text, Got: text, Source: "the caller"})
	} else {
		a.r.Limits = append(a.r.Limits, "whether it is fresh: no nonce was given to compare with, so it may be a replay")
	}
	if v.Claims != nil {
		a.r.Limits = append(a.r.Limits, fmt.Sprintf("who answers: the Agent's key is the one with the thumbprint %x; that the message with this "+
			"Evidence was signed by it is not known", v.Claims.AgentKID))
		return
	}
	a.r.Limits = append(a.r.Limits,
		"who answers: no key of an Agent is bound to this Evidence, so it does not say that whoever sent it is the device",
		"which TAs are loaded: that stands in an Agent's claims record, and there is none")
}

// Recorded is Evidence that was kept: a bundle, or what hardware signed, and what to compare it with.
type Recorded struct {
	Bundle   []byte
	Hardware evidence.HardwareEvidence // where Bundle is empty
	Nonce    []byte                    // of a bundle: the challenge; else the report data; nil: not compared
}

func (r *Recorded) verify(in evidence.Input) (*evidence.VerifiedHardware, error) {
	if len(r.Bundle) > 0 {
		return evidence.VerifyRecorded(r.Bundle, r.Nonce, in)
	}
	return evidence.VerifyHardware(r.Hardware, r.Nonce, in)
}

// Verify verifies it, with the policy's collateral grace as [Verify] has it. The policy may be nil.
func (r *Recorded) Verify(in evidence.Input, p *Policy) (*evidence.VerifiedHardware, error) {
	v, err := r.verify(in)
	if err == nil || p == nil || p.CollateralGrace == 0 {
		return v, err
	}
	earlier := in
	earlier.Now = in.Now.Add(-time.Duration(p.CollateralGrace) * time.Second)
	v, then := r.verify(earlier)
	if then != nil {
		return nil, err
	}
	v.Time = in.Now
	return v, nil
}

// AppraiseRecorded verifies Evidence that was kept and appraises it, as [AppraiseBundle] does with fresh Evidence.
func AppraiseRecorded(r *Recorded, in evidence.Input, p *Policy) (*Result, *evidence.VerifiedHardware) {
	v, err := r.Verify(in, p)
	if err == nil {
		return AppraiseHardware(v, p, in.Now), v
	}
	a := newAppraiser(p, in.Now)
	a.hardwareOnly()
	a.r.EvidenceDigest = sha256.Sum256(append(r.Bundle, r.Hardware.Data...))
	a.refused(err, in)
	a.alsoDiffers(evidence.ReadInsecure(r.Bundle, r.Hardware, in))
	return a.finish(), nil
}

func (a *appraiser) hardwareConfig(v *evidence.VerifiedHardware) {
	if a.p.Config == nil {
		return // unasserted
	}
	got := hex.EncodeToString(v.Config)
	want := make([]string, len(a.p.Config.Digests))
	ok := false
	for i, d := range a.p.Config.Digests {
		want[i] = d.String()
		ok = ok || want[i] == got
	}
	f := Finding{Code: CodeConfig, Claim: v.ConfigField, Expected: orText(want), Got: got, Source: a.policy("config" + originOf(a.p.Config.Source))}
	if got == "" {
		f.Got = "no digest of a configuration"
	}
	if ok {
		a.ok(f)
		a.set(Configuration, valueApproved, "the measured configuration is the expected one")
		return
	}
	f.Hint = "the instance was launched with another configuration"
	a.fail(f, "the measured configuration is not the expected one", valueContraindicated, Configuration)
}
