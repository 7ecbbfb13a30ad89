// SPDX-License-Identifier: Apache-2.0

package usecase

import (
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"
)

// StepName names a kind of step. Plan and trace use the same names.
type StepName string

// The vocabulary of plans and traces.
const (
	Admit          StepName = "admit"             // the TAM attests the Agent before it believes its key
	Attest         StepName = "attest"            // the owner challenges, gets Evidence, appraises, decides
	UAToREE        StepName = "ua-to-ree"         // the UA goes to the REE
	TAToInstance   StepName = "ta-to-instance"    // the TA becomes a running confidential instance
	PDToTA         StepName = "pd-to-ta"          // PD goes to the attested TA
	BundleToTEE    StepName = "bundle-to-tee"     // (UA, TA, PD) goes into the TEE (case 1)
	TAPDToInstance StepName = "ta+pd-to-instance" // (TA, PD) becomes a running instance (case 4)
	UAPDToTA       StepName = "ua+pd-to-ta"       // (UA, PD) is opened inside the TEE (case 5)
)

// The two ways in which PD, and what shares its package, comes to the TEE (USECASE section 5, row 9).
const (
	DeliverySealed  = "sealed"  // store and forward: encrypted to an attested key, carried in a SUIT manifest
	DeliveryChannel = "channel" // live: TLS 1.3 that ends inside the TEE, its key bound to the Evidence
)

// Deliveries returns both.
func Deliveries() []string { return []string{DeliverySealed, DeliveryChannel} }

// ParseDelivery returns the delivery that s names, sealed for the empty string; ErrUnknown otherwise.
func ParseDelivery(s string) (string, error) {
	if s == "" {
		return DeliverySealed, nil
	}
	return parseName("delivery", s, Deliveries())
}

// TriggerUARequest marks a step that the device starts by itself when the UA asks for its TA (RequestTA): on SGX the
// enclave lives in the UA's process, so the UA must be there first and load the TA.
const TriggerUARequest = "ua-request"

// Step is one step of a load sequence.
type Step struct {
	Step         StepName  `json:"step"`
	Actor        Role      `json:"actor"`                   // who makes the step happen
	What         string    `json:"what"`                    // one sentence for people
	From         string    `json:"from"`                    // where the payload comes from
	To           string    `json:"to"`                      // where it goes
	Carries      []Payload `json:"carries"`                 // what moves
	EncryptedTo  Role      `json:"encrypted_to,omitempty"`  // whose attested key the PD-bearing package is encrypted to
	NeedsRelease bool      `json:"needs_release,omitempty"` // waits for the owner's release after its positive appraisal
	Trigger      string    `json:"trigger,omitempty"`       // TriggerUARequest, or empty: the plan's order
	DraftCase    int       `json:"draft_case"`              // case of draft-yang-teep-usecase-for-cc-in-network
	SeenBy       Exposure  `json:"seen_by"`                 // what every role sees because of this step
}

// LoadPlan is a deployment's load sequence with all that can be said of it beforehand. Its JSON form is stable.
type LoadPlan struct {
	Mode      Mode        `json:"mode"`
	Instance  Instance    `json:"instance"`
	Hardware  Hardware    `json:"hardware"`
	DraftCase int         `json:"draft_case"`
	Delivery  string      `json:"delivery"`
	Packages  [][]Payload `json:"packages"`
	Steps     []Step      `json:"steps"`
	SeenBy    Exposure    `json:"seen_by"`        // union over the steps
	Note      string      `json:"note,omitempty"` // what else is to be known
	Runnable  bool        `json:"runnable"`
	Reason    string      `json:"reason,omitempty"` // why this version does not run it
}

// Plan returns the plan of a deployment with delivery sealed; [LoadPlan.Through] makes that of the other one of it. Every one of the 84 deployments has one, also those that this version does not
// run (see [Runnable]). The error is an ErrUnknown, or an [*InvalidCellError].
func Plan(m Mode, i Instance, hw Hardware) (*LoadPlan, error) {
	if _, err := ParseMode(string(m)); err != nil {
		return nil, err
	}
	if err := Valid(i, hw); err != nil {
		return nil, err
	}
	seq := sequences[m]
	p := &LoadPlan{
		Mode: m, Instance: i, Hardware: hw, DraftCase: seq.draftCase, Delivery: DeliverySealed,
		Packages: m.Packages(), SeenBy: Exposure{},
	}
	for _, make := range seq.steps {
		s := make(m, Cell{i, hw})
		s.DraftCase = seq.draftCase
		p.Steps = append(p.Steps, s)
		p.SeenBy.merge(s.SeenBy)
	}
	if err := Runnable(m, i, hw); err != nil {
		p.Reason = err.Error()
	} else {
		p.Runnable = true
	}
	return p, nil
}

// Names returns the step names in order: what a trace is compared with.
func (p *LoadPlan) Names() []StepName {
	out := make([]StepName, len(p.Steps))
	for i, s := range p.Steps {
		out[i] = s.Step
	}
	return out
}

// Index returns the position of the named step, or -1.
func (p *LoadPlan) Index(name StepName) int {
	for i, s := range p.Steps {
		if s.Step == name {
			return i
		}
	}
	return -1
}

// HasTrigger reports whether any step waits for the trigger.
func (p *LoadPlan) HasTrigger(trigger string) bool {
	return slices.ContainsFunc(p.Steps, func(s Step) bool { return s.Trigger == trigger })
}

// WriteText writes the plan for people: the steps, then a table of who sees what.
func (p *LoadPlan) WriteText(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintf(tw, "mode %s on %s (draft case %d)", p.Mode, Cell{p.Instance, p.Hardware}, p.DraftCase)
	if p.Delivery == DeliveryChannel {
		fmt.Fprintf(tw, ", delivery %s", p.Delivery)
	}
	fmt.Fprintln(tw)
	for i, s := range p.Steps {
		fmt.Fprintf(tw, "%d\t%s\t%s\n", i+1, s.Step, s.What)
	}
	fmt.Fprintf(tw, "\nwho sees\tua\tta\tpd\n")
	for _, r := range Roles() {
		cells := []string{string(r)}
		for _, c := range []Payload{UA, TA, PD} {
			cell := "-"
			if p.Mode.Has(c) {
				cell = p.SeenBy.Of(r, c).String()
			}
			cells = append(cells, cell)
		}
		fmt.Fprintln(tw, strings.Join(cells, "\t"))
	}
	if p.Note != "" {
		fmt.Fprintf(tw, "\n%s\n", p.Note)
	}
	if !p.Runnable {
		fmt.Fprintf(tw, "\n%s\n", p.Reason)
	}
	return tw.Flush()
}
