// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/evidence"
)

// Names of the checks that apply unless a policy waives them.
const (
	RuleNoDebug      = "no-debug"       // nobody outside can read the TEE's memory through a debugger
	RuleNotMigrating = "not-migratable" // no migration agent can take the TEE's memory elsewhere
	RuleVMPL         = "vmpl-0"         // the report was asked for at the highest privilege level
	RuleLifecycle    = "secured"        // the device is in service and closed; [Policy.Lifecycle] widens it
	RuleTCB          = "tcb-up-to-date" // the vendor calls the platform up to date; [Policy.TCB] widens it
)

// Hints of the default checks.
const (
	hintDebug   = "the operator can read everything in this TEE: ask for one that was launched without debugging"
	hintMigrate = "a migration agent can take this TEE's memory elsewhere: ask for one that was launched without it"
	hintVMPL    = "software at a lower privilege level of the guest asked for this report; the measured Agent runs at VMPL 0"
)

// hintCollateral is for what only Intel's collateral tells.
const hintCollateral = "Intel's collateral for this platform is not at hand, so nothing is known of its TCB: sealift collateral fetch gets it, and " +
	"sealift collateral add keeps a file"

// ofCollateral are the fields that only Intel's collateral gives.
var ofCollateral = []string{fieldTCBStatus, fieldAdvisories, "tcb-date", "tcb-status-platform", "tcb-status-module", "tcb-status-qe",
	"tcb-evaluation-data-number", "qe-evaluation-data-number"}

// Defaults returns the checks on fields that apply to each hardware. The life cycle and Intel's TCB status are checked too, by
// rules of their own.
func Defaults() []Rule { return slices.Clone(defaults) }

var defaults = []Rule{
	{Name: RuleNoDebug, Hardware: evidence.SEVSNP, Field: "POLICY", Op: OpClear, Value: TextValue("0x80000"), code: CodeDebug, hint: hintDebug},
	{Name: RuleNotMigrating, Hardware: evidence.SEVSNP, Field: "POLICY", Op: OpClear, Value: TextValue("0x40000"), code: CodeMigratable,
		hint: hintMigrate},
	{Name: RuleNoDebug, Hardware: evidence.SGX, Field: "ATTRIBUTES", Op: OpClear, Value: TextValue("0x2"), code: CodeDebug, hint: hintDebug},
	{Name: RuleNoDebug, Hardware: evidence.TDX, Field: "TDATTRIBUTES", Op: OpClear, Value: TextValue("0xff"), code: CodeDebug, hint: hintDebug},
	{Name: RuleNotMigrating, Hardware: evidence.TDX, Field: "TDATTRIBUTES", Op: OpClear, Value: TextValue("0x20000000"),
		code: CodeMigratable, hint: hintMigrate},
	{Name: RuleNoDebug, Hardware: evidence.CSV, Field: "POLICY", Op: OpSet, Value: TextValue("0x1"), code: CodeDebug, hint: hintDebug},
	{Name: RuleNotMigrating, Hardware: evidence.CSV, Field: "POLICY", Op: OpSet, Value: TextValue("0x8"), code: CodeMigratable,
		hint: hintMigrate},
	{Name: RuleVMPL, Hardware: evidence.SEVSNP, Field: "VMPL", Op: OpEquals, Value: NumberValue(0), code: CodeVMPL, hint: hintVMPL},
}

// defaultNames lists the names of checks that can be waived.
func defaultNames() []string {
	return []string{RuleNoDebug, RuleNotMigrating, RuleVMPL, RuleLifecycle, RuleTCB}
}

// Names of fields with Intel's judgement.
const (
	fieldTCBStatus  = "tcb-status"
	fieldAdvisories = "advisories"
)

// tcb checks Intel's judgement of the platform. Evidence of SGX and TDX must have one.
func (a *appraiser) tcb() {
	if a.v.Hardware != evidence.SGX && a.v.Hardware != evidence.TDX {
		return
	}
	rule, source := a.p.TCB, a.policy("tcb")
	switch w := a.waived(RuleTCB); {
	case w != nil:
		a.ok(Finding{Code: CodeTCBStatus, Claim: "TCB status", Expected: "not judged: waived", Got: a.fieldText(fieldTCBStatus),
			Source: a.policy("waive " + RuleTCB + originOf(w.Source))})
		return
	case rule == nil:
		rule, source = &TCBRule{Statuses: []string{"UpToDate"}}, "the default for "+string(a.v.Hardware)+", "+RuleTCB
	default:
		source += originOf(rule.Source)
	}
	f := Finding{Code: CodeTCBStatus, Claim: "TCB status", Expected: strings.Join(rule.Statuses, " or "), Got: a.fieldText(fieldTCBStatus),
		Source: source}
	if _, judged := a.v.Fields[fieldTCBStatus]; !judged {
		f.Got, f.Hint = "no judgement", hintCollateral
		a.fail(f, "there is no judgement of Intel on the platform", valueContraindicated, HardwareClaim)
		return
	}
	if !slices.Contains(rule.Statuses, f.Got) {
		f.Hint = "Intel says so of this platform: have its firmware updated, or accept this status and its advisories in the policy's tcb"
		a.fail(f, "Intel's judgement of the platform is "+f.Got, valueContraindicated, HardwareClaim)
	} else {
		a.ok(f)
	}
	if f.Got == "UpToDate" || rule.AnyAdvisory {
		return
	}
	got, _ := lookup(a.v.Fields, fieldAdvisories)
	if got == nil {
		got = &field{isList: true}
	}
	var open []string
	for _, id := range got.list {
		if !slices.Contains(rule.Advisories, id) {
			open = append(open, id)
		}
	}
	f = Finding{Code: CodeAdvisory, Claim: "security advisories", Expected: "nothing but " + ListValue(rule.Advisories...).String(),
		Got: got.String(), Source: source}
	if len(open) == 0 {
		a.ok(f)
		return
	}
	f.Hint = "read " + strings.Join(open, ", ") + " and decide whether your use is concerned; then accept them in the policy's tcb"
	a.fail(f, "the platform is open to advisories that the policy does not accept", valueContraindicated, HardwareClaim)
}

// lifecycleFields are the names under which hardware tells its life cycle; PSA and CCA number the states alike.
var lifecycleFields = []string{"lifecycle", "platform-lifecycle"}

// lifecycle checks the security life cycle (RFC 9783 section 4.3.1) of hardware that has one.
func (a *appraiser) lifecycle() {
	for _, name := range lifecycleFields {
		if state, found := lookup(a.v.Fields, name); found && state.number != nil {
			a.lifecycleState(state)
			return
		}
	}
	if a.v.Hardware == evidence.CCA {
		a.fail(Finding{Code: CodeLifecycle, Claim: "security lifecycle", Expected: "a state", Got: "nothing", Source: "the default for cca, " +
			RuleLifecycle}, "the Evidence does not tell the life cycle", valueContraindicated, HardwareClaim)
	}
}

func (a *appraiser) lifecycleState(state *field) {
	accepted := a.p.Lifecycle
	source := a.policy("lifecycle")
	if len(accepted) == 0 {
		accepted, source = []string{"secured"}, "the default for "+string(a.v.Hardware)+", "+RuleLifecycle
	}
	f := Finding{Code: CodeLifecycle, Claim: "security lifecycle", Expected: strings.Join(accepted, " or "), Got: state.String(), Source: source}
	if w := a.waived(RuleLifecycle); w != nil {
		f.Expected, f.Source = "not judged: waived", a.policy("waive "+RuleLifecycle+originOf(w.Source))
		a.ok(f)
		return
	}
	for _, name := range accepted {
		if uint64(lifecycleNames[name]) == state.number.Uint64()&^0xff { // the low byte is the maker's
			a.ok(f)
			return
		}
	}
	f.Hint = "the device is open for debugging or not in service; ask for another"
	a.fail(f, "the device is not in an accepted lifecycle state", valueContraindicated, HardwareClaim)
}

// validity says until when the Evidence verifies. What has ended already got here by the policy's grace.
func (a *appraiser) validity() {
	if a.v.Until.IsZero() {
		return
	}
	grace := time.Duration(a.p.CollateralGrace) * time.Second
	f := Finding{Code: CodeCollateral, Claim: "validity of " + a.v.UntilWhat, Expected: "at " + Time{a.now}.String() + " or later",
		Got: Time{a.v.Until}.String(), Source: "the verifier's clock"}
	if a.now.After(a.v.Until) {
		f.Expected = fmt.Sprintf("at most %s before %s", grace, Time{a.now})
		f.Source = a.policy("collateral_grace")
	}
	if !a.now.After(a.v.Until.Add(grace)) {
		a.ok(f)
		return
	}
	f.Hint = "get present collateral from the vendor, or allow for it in the policy's collateral_grace"
	a.fail(f, a.v.UntilWhat+" is out of date", valueContraindicated, HardwareClaim)
}
