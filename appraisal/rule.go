// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"fmt"
	"slices"
	"strings"

	"sealift/evidence"
)

// Rule is a condition on one field of the Evidence. The packages below evidence document the fields of their hardware.
// A part of a structured field has a dotted name: "REPORTED_TCB.SNP".
type Rule struct {
	Name     string            `json:"name" cbor:"1,keyasint"`                         // of its own, for people and for [Waiver]
	Hardware evidence.Hardware `json:"hardware,omitempty" cbor:"2,keyasint,omitempty"` // the only one that it is for; empty means any
	Field    string            `json:"field" cbor:"3,keyasint"`
	Op       Op                `json:"op" cbor:"4,keyasint"`
	Value    *Value            `json:"value,omitempty" cbor:"5,keyasint,omitempty"`
	Optional bool              `json:"optional,omitempty" cbor:"6,keyasint,omitempty"` // holds where the Evidence has no such field
	Claim    string            `json:"claim,omitempty" cbor:"7,keyasint,omitempty"`    // of AR4SI; empty means hardware
	Fail     int8              `json:"fail,omitempty" cbor:"8,keyasint,omitempty"`     // the claim's value if it does not hold; 0 means 96
	Source   string            `json:"source,omitempty" cbor:"9,keyasint,omitempty"`   // who says so, for people

	code string // of its finding; empty means CodeRule
	hint string
}

// Op is how a rule compares a field with its value.
type Op string

// Operators.
const (
	OpEquals  Op = "equals"   // the same number, text, bytes (hexadecimal) or flag
	OpOneOf   Op = "one-of"   // one of a list
	OpAtLeast Op = "at-least" // number, time, dotted version; bytes: each is at least the byte in its place, as SVNs are ordered
	OpAtMost  Op = "at-most"  // a number
	OpSet     Op = "set"      // a flag, or all bits of a mask in a number
	OpClear   Op = "clear"    // no flag, or no bit of a mask in a number
	OpWithin  Op = "within"   // a list of which all stand in the rule's list
)

// Waiver takes back one of the [Defaults].
type Waiver struct {
	Rule     string            `json:"rule" cbor:"1,keyasint"`                         // its name
	Hardware evidence.Hardware `json:"hardware,omitempty" cbor:"2,keyasint,omitempty"` // empty: on any
	Source   string            `json:"source" cbor:"3,keyasint"`                       // who takes the responsibility, and why
}

// TCBRule says which of Intel's judgements on a platform are accepted, instead of UpToDate alone.
type TCBRule struct {
	Statuses    []string `json:"statuses" cbor:"1,keyasint"`                         // Intel's names
	Advisories  []string `json:"advisories,omitempty" cbor:"2,keyasint,omitempty"`   // accepted INTEL-SA-... of such a platform
	AnyAdvisory bool     `json:"any_advisory,omitempty" cbor:"3,keyasint,omitempty"` // the status alone decides
	Source      string   `json:"source" cbor:"4,keyasint"`
}

// Mapping gives a failed check another AR4SI value than it has by itself, for example a TCB that is out of date a warning.
type Mapping struct {
	Code  string `json:"code" cbor:"1,keyasint"`                      // of the finding: "appraisal.tcb-status"
	Claim string `json:"claim,omitempty" cbor:"2,keyasint,omitempty"` // other than the check's own
	Value int8   `json:"value" cbor:"3,keyasint"`                     // 32 to 127
}

const (
	maxRules   = 1024
	minFailure = 32 // a failed check is no affirmation
)

// neverMild are the codes of checks without which an appraisal says nothing at all.
var neverMild = []string{CodeHardware, CodeRoot, CodeEmulated, CodeMeasurement, CodeConfig, CodeTADigest, CodeTAMissing, CodeTASigner}

// validateRules checks what version 2 brought.
func (p *Policy) validateRules(bad func(string, ...any)) {
	if p.Version == 1 && (len(p.Rules)+len(p.Waive)+len(p.Mapping) > 0 || p.TCB != nil || p.CollateralGrace != 0) {
		bad("it has rules, waive, tcb, collateral_grace or mapping, which version 1 does not")
	}
	if len(p.Rules) > maxRules {
		bad("%d rules, at most %d", len(p.Rules), maxRules)
	}
	seen := map[string]bool{}
	for i := range p.Rules {
		r := &p.Rules[i]
		if r.Name == "" || seen[r.Name] || slices.Contains(defaultNames(), r.Name) {
			bad("rule %q has no name of its own", r.Name)
		}
		seen[r.Name] = true
		if err := r.validate(); err != nil {
			bad("rule %q: %w", r.Name, err)
		}
	}
	for _, w := range p.Waive {
		if !slices.Contains(defaultNames(), w.Rule) {
			bad("waive: there is no default check %q (%s)", w.Rule, strings.Join(defaultNames(), ", "))
		}
		if w.Source == "" {
			bad("waive %s: source says who takes the responsibility, and is empty", w.Rule)
		}
		if p.Production && w.Rule == RuleNoDebug {
			bad("a production policy cannot waive %s", w.Rule)
		}
	}
	if p.TCB != nil && len(p.TCB.Statuses) == 0 {
		bad("tcb accepts no status")
	}
	for _, m := range p.Mapping {
		if !strings.HasPrefix(m.Code, "appraisal.") || m.Value < minFailure || m.Claim != "" && !slices.Contains(vectorOrder, m.Claim) {
			bad("mapping of %q: want a code of an appraisal, a claim of AR4SI, and a value of %d to 127", m.Code, minFailure)
		}
		if slices.Contains(neverMild, m.Code) && m.Value < valueContraindicated {
			bad("mapping of %q: whoever fails this check is refused: want a value of %d to 127", m.Code, valueContraindicated)
		}
	}
}

func (r *Rule) validate() error {
	switch {
	case r.Field == "":
		return fmt.Errorf("it names no field")
	case r.Hardware != "" && !slices.Contains(evidence.AllHardware(), r.Hardware):
		return fmt.Errorf("hardware %q is not known", r.Hardware)
	case r.Claim != "" && !slices.Contains(vectorOrder, r.Claim):
		return fmt.Errorf("claim %q is none of AR4SI's", r.Claim)
	case r.Fail != 0 && r.Fail < minFailure:
		return fmt.Errorf("fail is %d, want %d to 127", r.Fail, minFailure)
	}
	v := r.Value
	ok := false
	switch r.Op {
	case OpEquals:
		ok = v != nil && v.list == nil
	case OpOneOf, OpWithin:
		ok = v != nil && v.list != nil
	case OpAtLeast:
		ok = v != nil && (v.number != nil || v.text != "")
	case OpAtMost:
		ok = v != nil && v.number != nil
	case OpSet, OpClear:
		ok = v == nil || v.number != nil && v.number.Sign() > 0
	default:
		return fmt.Errorf("operator %q is not known", r.Op)
	}
	if !ok {
		return fmt.Errorf("its value does not fit the operator %s", r.Op)
	}
	return nil
}

// applies reports whether the rule is for that hardware.
func (r *Rule) applies(hw evidence.Hardware) bool { return r.Hardware == "" || r.Hardware == hw }

// String prints the rule for people.
func (r *Rule) String() string {
	hw := ""
	if r.Hardware != "" {
		hw = " on " + string(r.Hardware)
	}
	return fmt.Sprintf("%s: %s %s%s", r.Name, r.Field, r.expected(), hw)
}

// expected says what the rule wants, for people.
func (r *Rule) expected() string {
	switch r.Op {
	case OpSet, OpClear:
		if r.Value == nil {
			return string(r.Op)
		}
		return "bits " + r.Value.String() + " " + string(r.Op)
	case OpAtLeast, OpAtMost:
		return strings.ReplaceAll(string(r.Op), "-", " ") + " " + r.Value.String()
	case OpWithin:
		return "nothing but " + r.Value.String()
	}
	return r.Value.String()
}

// rules evaluates the defaults that are not waived, and the policy's own rules.
func (a *appraiser) rules() {
	for _, r := range defaults {
		if !r.applies(a.v.Hardware) {
			continue
		}
		if w := a.waived(r.Name); w != nil {
			a.ok(Finding{Code: r.code, Claim: r.Field, Expected: "not judged: waived", Got: a.fieldText(r.Field),
				Source: a.policy("waive " + r.Name + originOf(w.Source))})
			continue
		}
		a.rule(&r, "the default for "+string(a.v.Hardware)+", "+r.Name)
	}
	for i := range a.p.Rules {
		if r := &a.p.Rules[i]; r.applies(a.v.Hardware) {
			a.rule(r, a.policy("rule "+r.Name+originOf(r.Source)))
		}
	}
}

func (a *appraiser) waived(rule string) *Waiver {
	for i := range a.p.Waive {
		if w := &a.p.Waive[i]; w.Rule == rule && a.concerns(w.Hardware) {
			return w
		}
	}
	return nil
}

func (a *appraiser) rule(r *Rule, source string) {
	f := Finding{Code: r.code, Claim: r.Field, Expected: r.expected(), Source: source, Hint: r.hint}
	if f.Code == "" {
		f.Code, f.Hint = CodeRule, "the Evidence does not satisfy this rule: read what the device is, or change the rule if it is wrong"
	}
	claim, value := HardwareClaim, valueContraindicated
	if r.Claim != "" {
		claim = r.Claim
	}
	if r.Fail != 0 {
		value = r.Fail
	}
	got, found := lookup(a.v.Fields, r.Field)
	if !found {
		f.Got = "no such field"
		if r.Optional {
			f.Hint = ""
			a.ok(f)
			return
		}
		f.Code, f.Hint = CodeField, "this Evidence has no field of that name; docs/policy.md lists the fields of each hardware"
		if slices.Contains(ofCollateral, r.Field) {
			f.Got, f.Hint = "no judgement", hintCollateral
		}
		a.fail(f, "the Evidence says nothing of "+r.Field, value, claim)
		return
	}
	f.Got = got.String()
	holds, err := r.holds(got)
	if err != nil {
		f.Got += " (" + err.Error() + ")"
	}
	if holds {
		f.Hint = ""
		a.ok(f)
		return
	}
	a.fail(f, r.Field+" is not as expected", value, claim)
}

func (a *appraiser) fieldText(name string) string {
	if got, found := lookup(a.v.Fields, name); found {
		return got.String()
	}
	return "no such field"
}
