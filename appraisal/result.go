// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"sealift/evidence"
)

// Names of the eight trustworthiness claims of AR4SI section 2.3.4.
const (
	InstanceIdentity = "instance-identity"
	Configuration    = "configuration"
	Executables      = "executables"
	FileSystem       = "file-system"
	HardwareClaim    = "hardware"
	RuntimeOpaque    = "runtime-opaque"
	StorageOpaque    = "storage-opaque"
	SourcedData      = "sourced-data"
)

// vectorOrder is the order of the claims' numbers in EAR's CBOR form, 0 to 7.
var vectorOrder = []string{InstanceIdentity, Configuration, Executables, FileSystem, HardwareClaim, RuntimeOpaque, StorageOpaque, SourcedData}

// VectorClaims returns the names of the eight claims, in the order of their numbers in EAR's CBOR form.
func VectorClaims() []string { return slices.Clone(vectorOrder) }

// required are the claims without which no status is better than none: 0 is no pass.
var required = []string{InstanceIdentity, Configuration, Executables, HardwareClaim}

// Values of claims that this verifier gives, AR4SI section 2.3.4.
const (
	valueUnasserted      int8 = 0
	valueApproved        int8 = 2
	valueBootApproved    int8 = 3 // executables: approved at start, later ones not judged
	valueCapped          int8 = 32
	valueUnrecognized    int8 = 33 // executables
	valueConfigUnknown   int8 = 36
	valueContraindicated int8 = 96
	valueUnknownHardware int8 = 97 // also instance-identity
	valueCryptoFailed    int8 = 99
)

// Claim is one trustworthiness claim: its AR4SI value and why it has it.
type Claim struct {
	Value  int8   `json:"value"`
	Reason string `json:"reason"`
}

// Tier returns the tier of the claim's value.
func (c Claim) Tier() Tier { return tierOf(c.Value) }

// Codes of the findings of an appraisal. Findings of the verification keep the codes of package evidence.
const (
	CodeHardware           = "appraisal.hardware"
	CodeRoot               = "appraisal.root"
	CodeEmulated           = "appraisal.emulated"
	CodeLifecycle          = "appraisal.lifecycle"
	CodeMeasurement        = "appraisal.measurement"
	CodeUnknownMeasurement = "appraisal.unknown-measurement"
	CodeReferenceTime      = "appraisal.reference-time"
	CodeRule               = "appraisal.rule"
	CodeField              = "appraisal.field"
	CodeDebug              = "appraisal.debug"
	CodeMigratable         = "appraisal.migratable"
	CodeVMPL               = "appraisal.vmpl"
	CodeTCBStatus          = "appraisal.tcb-status"
	CodeAdvisory           = "appraisal.advisory"
	CodeCollateral         = "appraisal.collateral"
	CodeConfig             = "appraisal.config"
	CodeTAMissing          = "appraisal.ta.missing"
	CodeTADigest           = "appraisal.ta.digest"
	CodeTASequence         = "appraisal.ta.sequence"
	CodeTASigner           = "appraisal.ta.signer"
	CodeTAUnexpected       = "appraisal.ta.unexpected"
)

// Finding is one comparison that was made.
type Finding struct {
	Code     string `json:"code"`
	Claim    string `json:"claim"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
	Source   string `json:"source"` // where the expectation came from
	OK       bool   `json:"ok"`
	Hint     string `json:"hint,omitempty"` // what to do, where it is not OK
}

// Result is the outcome of an appraisal.
type Result struct {
	Status         Tier              `json:"status"`
	Accept         Tier              `json:"accept"` // the worst status that the policy accepts
	Vector         map[string]Claim  `json:"vector"` // all eight claims
	Findings       []Finding         `json:"findings"`
	FirstCause     *Finding          `json:"first_cause,omitempty"` // of a refusal: of what differs, what to look at first
	Hardware       evidence.Hardware `json:"hardware,omitempty"`
	Emulated       bool              `json:"emulated"`
	Root           string            `json:"root,omitempty"` // the anchor, for people
	Policy         string            `json:"policy"`         // its name
	PolicyHash     Hex32             `json:"policy_hash"`
	EvidenceDigest Hex32             `json:"evidence_digest"` // SHA-256 of the bundle
	Time           time.Time         `json:"time"`
	HardwareOnly   bool              `json:"hardware_only,omitempty"` // Evidence of hardware by itself: see [AppraiseHardware]
	Limits         []string          `json:"limits,omitempty"`        // what cannot be concluded from it
}

// OK reports whether the policy is satisfied: the status is affirming, or it is warning and the policy says that this
// suffices.
func (r *Result) OK() bool {
	return r.Status == TierAffirming || r.Status == TierWarning && r.Accept == TierWarning
}

// causes orders the codes by what explains what: what cannot be read cannot be verified, what has another signature has any
// content. Codes that are not here are of the appraisal and come last.
var causes = [][]string{
	{evidence.CodeMalformed, evidence.CodeType},
	{evidence.CodeRoot, evidence.CodeCertificate, evidence.CodeRevoked},
	{evidence.CodeSignature},
	{evidence.CodeChallenge, evidence.CodeFreshness, evidence.CodeNonce},
	{evidence.CodeAgentKey, evidence.CodeHardware, evidence.CodeBinding, evidence.CodeConfig, evidence.CodeInstance},
}

// causeRank is the place of a code among the causes.
func causeRank(code string) int {
	i := slices.IndexFunc(causes, func(codes []string) bool { return slices.Contains(codes, code) })
	switch {
	case i >= 0:
		return i
	case strings.HasPrefix(code, "evidence."):
		return 1 // of the hardware's chain or collateral
	}
	return len(causes)
}

// Failed returns the findings that are not satisfied, causes first: what could not be read, then certificates, the
// signature, freshness, the binding, and last what the policy does not accept.
func (r *Result) Failed() []Finding {
	var out []Finding
	for _, f := range r.Findings {
		if !f.OK {
			out = append(out, f)
		}
	}
	slices.SortStableFunc(out, func(x, y Finding) int { return causeRank(x.Code) - causeRank(y.Code) })
	return out
}

// Explain writes the result for people: first what differed and what to do, then the claims, then what was checked.
func (r *Result) Explain(w io.Writer) error {
	p := &printer{w: w}
	verdict := "REFUSED"
	if r.OK() {
		verdict = "ACCEPTED"
	}
	p.line("%s: %s, by policy %q", verdict, r.Status, r.Policy)
	if r.Hardware != "" {
		p.line("hardware: %s, root %s", r.Hardware, r.Root)
	}
	if r.Emulated {
		p.line("%s: this rests on hardware that a program plays; it protects nothing from the machine's operator", evidence.EmulatedMark)
	}
	for _, l := range r.Limits {
		p.line("not concluded: %s", l)
	}
	if err := ExplainFindings(w, r.Findings); p.err == nil {
		p.err = err
	}
	p.line("\nclaims:")
	for _, name := range vectorOrder {
		c := r.Vector[name]
		p.line("  %-18s %3d %-15s %s", name, c.Value, c.Tier(), c.Reason)
	}
	if slices.ContainsFunc(r.Findings, func(f Finding) bool { return f.OK }) {
		p.line("\nchecked and as expected:")
	}
	for _, f := range r.Findings {
		if f.OK {
			p.line("  %s: %s (%s)", f.Claim, f.Got, f.Source)
		}
	}
	return p.err
}

// ExplainFindings writes those findings that are not satisfied, first causes first, and what to do. Every refusal that a person
// sees is written by it.
func ExplainFindings(w io.Writer, findings []Finding) error {
	p := &printer{w: w}
	failed := (&Result{Findings: findings}).Failed()
	if len(failed) > 1 {
		p.line("first cause: %s [%s]; %d claims differ", failed[0].Claim, failed[0].Code, len(failed))
	}
	for _, f := range failed {
		p.line("\ndiffers: %s [%s]", f.Claim, f.Code)
		p.line("  expected: %s", f.Expected)
		p.line("  got:      %s", f.Got)
		p.line("  source of the expectation: %s", f.Source)
		if f.Hint != "" {
			p.line("  what to do: %s", f.Hint)
		}
	}
	if len(failed) > 0 {
		p.line("\nsealift explain %s says more", failed[0].Code)
	}
	return p.err
}

// printer keeps the first error of a sequence of writes.
type printer struct {
	w   io.Writer
	err error
}

func (p *printer) line(format string, args ...any) {
	if p.err == nil {
		_, p.err = fmt.Fprintf(p.w, format+"\n", args...)
	}
}
