// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/appraisal/strictjson"
	"sealift/evidence"
	"sealift/suit"
)

// PolicyVersion is the version of the policy format that this package writes. It reads version 1 as well, which had
// reference values for any hardware, and no validity.
const PolicyVersion = 2

const maxPolicy = 1 << 20

// ErrPolicy reports a policy that cannot be used; it says why.
var ErrPolicy = errors.New("appraisal: policy")

// Policy is an appraisal policy for Evidence. Its JSON form is strict: unknown members are refused. Its CBOR form
// ([Policy.MarshalCBOR]) is the one that is signed.
//
// Beside what a policy says, checks apply that nobody should have to think of: no debugging, VMPL 0, no migration, a secured
// life cycle, a TCB that its vendor calls up to date (see [Defaults]). Waive takes them back one by one.
type Policy struct {
	Version         int                 `json:"version" cbor:"1,keyasint"`
	Name            string              `json:"name" cbor:"2,keyasint"`
	Production      bool                `json:"production" cbor:"3,keyasint"`                            // never accepts an emulated root
	Accept          Tier                `json:"accept" cbor:"4,keyasint"`                                // affirming, or warning if that suffices
	Hardware        []evidence.Hardware `json:"hardware" cbor:"5,keyasint"`                              // accepted hardware architectures
	Anchors         []AnchorRef         `json:"anchors" cbor:"6,keyasint"`                               // accepted roots
	ReferenceValues []ReferenceValue    `json:"reference_values" cbor:"7,keyasint"`                      // for each measurement that may occur
	Config          *ConfigRule         `json:"config,omitempty" cbor:"8,keyasint,omitempty"`            // accepted measured configurations
	Lifecycle       []string            `json:"lifecycle,omitempty" cbor:"9,keyasint,omitempty"`         // accepted states; empty means secured only
	TAs             []TAExpectation     `json:"tas,omitempty" cbor:"10,keyasint,omitempty"`              // TAs that must be loaded
	OnlyTAs         bool                `json:"only_tas,omitempty" cbor:"11,keyasint,omitempty"`         // no other TA may be loaded
	Rules           []Rule              `json:"rules,omitempty" cbor:"12,keyasint,omitempty"`            // on fields of the Evidence
	Waive           []Waiver            `json:"waive,omitempty" cbor:"13,keyasint,omitempty"`            // default checks that do not apply
	TCB             *TCBRule            `json:"tcb,omitempty" cbor:"14,keyasint,omitempty"`              // Intel's statuses; nil: UpToDate only
	CollateralGrace uint32              `json:"collateral_grace,omitempty" cbor:"15,keyasint,omitempty"` // seconds after the end of validity
	Mapping         []Mapping           `json:"mapping,omitempty" cbor:"16,keyasint,omitempty"`          // other AR4SI values for failed checks
}

// AnchorRef names an accepted root by its fingerprint. An emulated root must be marked as such, on purpose.
type AnchorRef struct {
	Fingerprint Hex32  `json:"fingerprint" cbor:"1,keyasint"`
	Emulated    bool   `json:"emulated" cbor:"2,keyasint"`
	Name        string `json:"name,omitempty" cbor:"3,keyasint,omitempty"`
}

// ReferenceValue lists the accepted digests of a measurement. Several entries may have the same name: one that is valid
// and lists the digest suffices, so that an update can be announced before it comes.
type ReferenceValue struct {
	Name      string            `json:"name" cbor:"1,keyasint"`                         // as the Evidence calls it: AGENT, MRTD
	Hardware  evidence.Hardware `json:"hardware,omitempty" cbor:"2,keyasint,omitempty"` // the only one that it is for; empty means any
	Digests   []Digest          `json:"digests,omitempty" cbor:"3,keyasint,omitempty"`
	Any       bool              `json:"any,omitempty" cbor:"4,keyasint,omitempty"`        // not judged, on purpose: no digests
	NotBefore *Time             `json:"not_before,omitempty" cbor:"5,keyasint,omitempty"` // it does not count before
	NotAfter  *Time             `json:"not_after,omitempty" cbor:"6,keyasint,omitempty"`  // nor after
	Source    string            `json:"source" cbor:"7,keyasint"`                         // who says so, for people
}

// valid reports whether the entry counts at that time.
func (r *ReferenceValue) valid(now time.Time) bool {
	return (r.NotBefore == nil || !now.Before(r.NotBefore.Time)) && (r.NotAfter == nil || !now.After(r.NotAfter.Time))
}

// validity prints the bounds of the entry, or nothing.
func (r *ReferenceValue) validity() string {
	out := ""
	if r.NotBefore != nil {
		out += " from " + r.NotBefore.String()
	}
	if r.NotAfter != nil {
		out += " until " + r.NotAfter.String()
	}
	return out
}

// ConfigRule lists the accepted digests of the measured configuration.
type ConfigRule struct {
	Digests []Hex32 `json:"digests" cbor:"1,keyasint"`
	Source  string  `json:"source" cbor:"2,keyasint"`
}

// TAExpectation says what a loaded TA must be.
type TAExpectation struct {
	Component   suit.ComponentID `json:"component" cbor:"1,keyasint"`
	Digests     []Digest         `json:"digests" cbor:"2,keyasint"`                          // accepted binaries; at least one
	MinSequence uint64           `json:"min_sequence,omitempty" cbor:"3,keyasint,omitempty"` // lowest accepted sequence number
	Signers     []Hex32          `json:"signers,omitempty" cbor:"4,keyasint,omitempty"`      // accepted signers of its manifest; empty means any
	Source      string           `json:"source" cbor:"5,keyasint"`
}

// ParsePolicy reads a policy and checks it.
func ParsePolicy(data []byte) (*Policy, error) {
	if len(data) > maxPolicy {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrPolicy, len(data), maxPolicy)
	}
	if err := strictjson.Check(data, lowerCase); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var p Policy
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return &p, nil
}

// Validate checks the policy for what is missing or contradicts itself, and reports all of it.
func (p *Policy) Validate() error {
	var errs []error
	bad := func(format string, args ...any) {
		errs = append(errs, fmt.Errorf("%w: "+format, append([]any{ErrPolicy}, args...)...))
	}
	if p.Version < 1 || p.Version > PolicyVersion {
		bad("version is %d, want 1 to %d", p.Version, PolicyVersion)
	}
	if p.Accept != TierAffirming && p.Accept != TierWarning {
		bad("accept is %q, want affirming or warning", p.Accept)
	}
	if p.Production && p.Accept != TierAffirming {
		bad("a production policy accepts affirming only")
	}
	if len(p.Hardware) == 0 || len(p.Anchors) == 0 {
		bad("it accepts no hardware or no root")
	}
	for _, h := range p.Hardware {
		if !slices.Contains(evidence.AllHardware(), h) {
			bad("hardware %q is not known", h)
		}
	}
	seenRoot := map[Hex32]bool{}
	for _, a := range p.Anchors {
		if a.Emulated && p.Production {
			bad("a production policy cannot name an emulated root (%s)", a.Fingerprint)
		}
		if a.Fingerprint == (Hex32{}) || seenRoot[a.Fingerprint] {
			bad("root %s is empty or named twice", a.Fingerprint)
		}
		seenRoot[a.Fingerprint] = true
	}
	p.validateReferences(bad)
	p.validateRest(bad)
	p.validateRules(bad)
	return errors.Join(errs...)
}

// launchNames are the measurements that stand for the launched Agent, by hardware. A policy needs a reference value for one
// of them.
var launchNames = map[evidence.Hardware][]string{
	evidence.TrustZone: {evidence.MeasurementAgent, "TA-MEMORY"}, // a PSA token; OP-TEE's own format
	evidence.SGX:       {"MRENCLAVE", "MRSIGNER"},
	evidence.SEVSNP:    {"MEASUREMENT"},
	evidence.CCA:       {"RIM"},
	evidence.TDX:       {"MRTD"},
	evidence.CSV:       {"MEASURE"},
}

func (p *Policy) validateReferences(bad func(string, ...any)) {
	seen := map[string]bool{}
	for _, r := range p.ReferenceValues {
		if r.Name == "" || r.Name == evidence.MeasurementConfig {
			bad("reference value %q has no name of its own (the configuration has its own member)", r.Name)
		}
		if r.Hardware != "" && !slices.Contains(evidence.AllHardware(), r.Hardware) {
			bad("reference value %s: hardware %q is not known", r.Name, r.Hardware)
		}
		if p.Version == 1 && (seen[r.Name] || r.Hardware != "" || r.Any || r.NotBefore != nil || r.NotAfter != nil) {
			bad("reference value %s has what version 1 does not: hardware, any, validity, or a second entry", r.Name)
		}
		if r.NotBefore != nil && r.NotAfter != nil && r.NotAfter.Before(r.NotBefore.Time) {
			bad("reference value %s ends before it begins", r.Name)
		}
		seen[r.Name] = true
		switch {
		case !r.Any:
			checkDigests(r.Digests, "reference value "+r.Name, bad)
		case len(r.Digests) > 0:
			bad("reference value %s accepts any digest, and names some", r.Name)
		}
	}
	for _, h := range p.Hardware {
		if names := launchNames[h]; len(names) > 0 && !p.launches(h, names) {
			bad("there is no reference value for what is launched on %s (%s)", h, strings.Join(names, " or "))
		}
	}
	p.validateSigner(bad)
}

// validateSigner demands that a policy which accepts SGX enclaves by their signer says which of the signer's enclaves, and from
// which version on: the same key has signed others, and old ones.
func (p *Policy) validateSigner(bad func(string, ...any)) {
	if !slices.Contains(p.Hardware, evidence.SGX) || p.Version == 1 || !p.launches(evidence.SGX, []string{"MRSIGNER"}) ||
		p.launches(evidence.SGX, []string{"MRENCLAVE"}) {
		return
	}
	for _, need := range []struct {
		field string
		ops   []Op
	}{{"ISVPRODID", []Op{OpEquals, OpOneOf}}, {"ISVSVN", []Op{OpAtLeast, OpEquals, OpOneOf}}} {
		if !slices.ContainsFunc(p.Rules, func(r Rule) bool {
			return r.Field == need.field && (r.Hardware == "" || r.Hardware == evidence.SGX) && slices.Contains(need.ops, r.Op) &&
				!r.Optional && (r.Fail == 0 || r.Fail >= valueContraindicated)
		}) {
			bad("MRSIGNER without MRENCLAVE needs a rule for %s %v: a signer has many enclaves, and old ones", need.field, need.ops)
		}
	}
}

// launches reports whether the launched Agent has digests to be compared with.
func (p *Policy) launches(h evidence.Hardware, names []string) bool {
	if p.Version == 1 {
		names = []string{evidence.MeasurementAgent}
	}
	return slices.ContainsFunc(p.ReferenceValues, func(r ReferenceValue) bool {
		named := slices.Contains(names, r.Name) || p.Version > 1 && h == evidence.TrustZone // whose firmware names its components
		return (r.Hardware == "" || r.Hardware == h) && !r.Any && named
	})
}

func (p *Policy) validateRest(bad func(string, ...any)) {
	if p.Config != nil && len(p.Config.Digests) == 0 {
		bad("config has no digest")
	}
	for _, l := range p.Lifecycle {
		if _, ok := lifecycleNames[l]; !ok {
			bad("lifecycle %q is not known (secured, non-psa-rot-debug)", l)
		}
	}
	seenTA := map[string]bool{}
	for _, t := range p.TAs {
		name := t.Component.String()
		if name == "" || seenTA[name] {
			bad("TA %q is empty or named twice", name)
		}
		seenTA[name] = true
		checkDigests(t.Digests, "TA "+name, bad)
	}
}

func checkDigests(ds []Digest, what string, bad func(string, ...any)) {
	if len(ds) == 0 {
		bad("%s has no digest", what)
	}
	for _, d := range ds {
		if !d.valid() {
			bad("%s: digest %s has an unknown algorithm or a wrong length", what, d)
		}
	}
}

// Marshal returns the policy as indented JSON.
func (p *Policy) Marshal() ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	out, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return append(out, '\n'), nil
}
