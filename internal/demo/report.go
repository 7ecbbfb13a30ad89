// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"sealift/appraisal"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/usecase"
)

// Report is the outcome of a demo: what `sealift demo --json` prints.
type Report struct {
	Mode         string             `json:"mode"`
	Hardware     string             `json:"hardware"`
	Instance     string             `json:"instance"`
	Delivery     string             `json:"delivery"`
	Emulated     bool               `json:"emulated"`
	Fault        string             `json:"fault,omitempty"`
	Plan         []usecase.Step     `json:"plan"`
	Trace        []mocapi.TraceStep `json:"trace"`
	Appraisals   []Appraisal        `json:"appraisals"`
	Question     string             `json:"question"`
	Answer       string             `json:"answer"`
	OperatorSaw  *Sight             `json:"operator_saw,omitempty"`
	Refusal      *Refusal           `json:"refusal,omitempty"`
	Error        string             `json:"error,omitempty"`
	Exit         int                `json:"exit"`
	Milliseconds int64              `json:"milliseconds"`
	Dir          string             `json:"dir,omitempty"` // with Keep
}

// Appraisal says who judged Evidence, and how.
type Appraisal struct {
	Who      string                     `json:"who"`    // "owner" or "operator"
	Result   string                     `json:"result"` // AR4SI tier
	Accepted bool                       `json:"accepted"`
	Policy   string                     `json:"policy,omitempty"`
	Emulated bool                       `json:"emulated"`
	Time     time.Time                  `json:"time"`
	Claims   map[string]appraisal.Claim `json:"claims"`
	Findings []appraisal.Finding        `json:"findings,omitempty"` // those that differed
}

func ownersAppraisal(r *appraisal.Result) Appraisal {
	return Appraisal{Who: "owner", Result: r.Status.String(), Accepted: r.OK(), Policy: r.Policy, Emulated: r.Emulated, Time: r.Time,
		Claims: r.Vector, Findings: r.Failed()}
}

// operatorsAppraisal reads an Attestation Result of the operator's Verifier: advice, which the owner does not rely on.
func operatorsAppraisal(r *appraisal.AttestationResult) Appraisal {
	a := Appraisal{Who: "operator", Result: r.Status.String(), Accepted: r.OK(), Emulated: r.Emulated, Time: r.IssuedAt,
		Claims: map[string]appraisal.Claim{}}
	for name, value := range r.Vector {
		a.Claims[name] = appraisal.Claim{Value: value, Reason: "as its Attestation Result says"}
	}
	return a
}

// Refusal is where a run with a planted fault ended.
type Refusal struct {
	Code        string       `json:"code"`
	Message     string       `json:"message"`
	Differences []Difference `json:"differences"`
}

// Difference is one claim that was not as expected.
type Difference struct {
	Claim    string `json:"claim"`
	Expected string `json:"expected"`
	Got      string `json:"got"`
	Source   string `json:"source"` // where the expectation came from
}

// refusalOf describes err: the findings of an appraisal where it comes from one, else what the fault's details say.
func refusalOf(err error) *Refusal {
	f := fault.From(err)
	out := &Refusal{Code: f.Code, Message: f.Message, Differences: []Difference{}}
	var findings []appraisal.Finding
	if refused, ok := errors.AsType[*owner.Refused](err); ok {
		findings = refused.Result.Failed()
	} else if raw, err := json.Marshal(f.Details); err == nil {
		findings = findingsIn(raw)
	}
	for _, x := range findings {
		out.Differences = append(out.Differences, Difference{x.Claim, x.Expected, x.Got, x.Source})
	}
	return out
}

// findingsIn reads differences from a fault's details: one, a list, or a list in the member findings.
func findingsIn(raw json.RawMessage) []appraisal.Finding {
	var list []appraisal.Finding
	if json.Unmarshal(raw, &list) == nil {
		return list
	}
	var object struct {
		appraisal.Finding
		Findings []appraisal.Finding `json:"findings"`
	}
	if json.Unmarshal(raw, &object) != nil {
		return nil
	}
	if object.Claim != "" {
		list = append(list, object.Finding)
	}
	for _, f := range object.Findings {
		if !f.OK {
			list = append(list, f)
		}
	}
	return list
}

// String is one difference for people.
func (d Difference) String() string {
	return fmt.Sprintf("differs: %s\n  expected  %s\n  got       %s\n  expectation from: %s", d.Claim, d.Expected, d.Got, d.Source)
}
