// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"crypto/sha256"
	"encoding/hex"
	"time"

	"sealift/evidence"
)

// AppraiseHardware compares authentic Evidence of hardware by itself with the policy. Its result is about hardware and what
// was launched, never about an Agent: HardwareOnly is set, Limits says what cannot be concluded, [Issue] refuses it, and
// what the policy expects of TAs is not judged. The configuration is judged where the policy names its digest.
func AppraiseHardware(v *evidence.VerifiedHardware, p *Policy, now time.Time) *Result {
	a := newAppraiser(p, now)
	a.hardwareOnly()
	if !v.Authentic() {
		a.fail(Finding{Code: evidence.CodeMalformed, Claim: "Evidence", Expected: "verified Evidence", Got: "none",
			Source: "the caller"}, "there is no verified Evidence", valueCryptoFailed, a.required...)
		return a.finish()
	}
	a.v = &evidence.Verified{Hardware: v.Hardware, Emulated: v.Emulated, Root: v.Root, Measurements: v.Measurements, Fields: v.Fields,
		Until: v.Until, UntilWhat: v.UntilWhat}
	a.r.Hardware, a.r.Emulated, a.r.Root, a.r.EvidenceDigest = v.Hardware, v.Emulated, v.Root.String(), v.Digest
	a.ok(Finding{Code: evidence.CodeSignature, Claim: "signature of the hardware", Expected: "valid", Got: "valid",
		Source: "the attestation key, under " + a.r.Root})
	if v.Compared {
		data := hex.EncodeToString(v.ReportData)
		a.ok(Finding{Code: evidence.CodeNonce, Claim: "report data", Expected: data, Got: data, Source: "the caller"})
	} else {
		a.r.Limits = append(a.r.Limits, "whether it is fresh: no nonce was given to compare with, so it may be a replay")
	}
	a.hardware()
	a.root()
	a.validity()
	a.lifecycle()
	a.rules()
	a.tcb()
	a.measurements()
	a.hardwareConfig(v)
	return a.finish()
}

// VerifyHardware is [evidence.VerifyHardware] with the policy's collateral grace, as [Verify] has it.
func VerifyHardware(e evidence.HardwareEvidence, reportData []byte, in evidence.Input, p *Policy) (*evidence.VerifiedHardware, error) {
	v, err := evidence.VerifyHardware(e, reportData, in)
	if err == nil || p.CollateralGrace == 0 {
		return v, err
	}
	earlier := in
	earlier.Now = in.Now.Add(-time.Duration(p.CollateralGrace) * time.Second)
	v, then := evidence.VerifyHardware(e, reportData, earlier)
	if then != nil {
		return nil, err
	}
	v.Time = in.Now
	return v, nil
}

// AppraiseHardwareEvidence verifies Evidence of hardware by itself and appraises it, as [AppraiseBundle] does with bundles.
func AppraiseHardwareEvidence(e evidence.HardwareEvidence, reportData []byte, in evidence.Input, p *Policy) (*Result, *evidence.VerifiedHardware) {
	v, err := VerifyHardware(e, reportData, in, p)
	if err == nil {
		return AppraiseHardware(v, p, in.Now), v
	}
	a := newAppraiser(p, in.Now)
	a.hardwareOnly()
	a.r.EvidenceDigest = sha256.Sum256(e.Data)
	a.refused(err, in)
	return a.finish(), nil
}

// hardwareOnly limits what the result can assert.
func (a *appraiser) hardwareOnly() {
	a.required = []string{InstanceIdentity, Executables, HardwareClaim}
	a.r.HardwareOnly = true
	a.r.Limits = []string{"who answers: no key of an Agent is bound to this Evidence, so it does not say that whoever sent it is the device",
		"which TAs are loaded: that stands in an Agent's claims record, and there is none"}
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
