// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"strings"

	"sealift/evidence"
)

// PolicyFrom returns a policy that accepts what known-good Evidence has: its root, measurements, configuration and TAs, and at
// least its security versions. It waives no default check: where the Evidence fails one, so does it under this policy. A TCB
// status that is not UpToDate is not accepted either, since that is a decision. source says where the Evidence is from.
func PolicyFrom(v *evidence.VerifiedHardware, name, source string) (*Policy, error) {
	if !v.Authentic() {
		return nil, fmt.Errorf("%w: it would be made from Evidence that is not verified", ErrPolicy)
	}
	p := &Policy{Version: PolicyVersion, Name: name, Accept: TierAffirming, Hardware: []evidence.Hardware{v.Hardware},
		Anchors: []AnchorRef{NewAnchorRef(v.Root)}, ReferenceValues: []ReferenceValue{}}
	if p.Anchors[0].Emulated = v.Emulated; v.Emulated {
		p.Anchors[0].Name = v.Root.Name
		if !strings.Contains(v.Root.Name, evidence.EmulatedMark) {
			p.Anchors[0].Name = strings.TrimSpace(evidence.EmulatedMark + " " + v.Root.Name)
		}
	}
	for _, m := range v.Measurements {
		if len(bytes.Trim(m.Value, "\x00")) == 0 && !slices.Contains(launchNames[v.Hardware], m.Name) {
			continue // a register of zeros
		}
		if err := p.accept(Launch{v.Hardware, m.Name, m.Value, source}); err != nil {
			return nil, fmt.Errorf("%s: %w", m.Name, err)
		}
	}
	if len(v.Config) == 32 && len(bytes.Trim(v.Config, "\x00")) > 0 {
		p.Config = &ConfigRule{Digests: []Hex32{Hex32(v.Config)}, Source: source}
	}
	if v.Claims != nil {
		for _, t := range v.Claims.TAs {
			p.TAs = append(p.TAs, TAExpectation{Component: t.Component, Digests: []Digest{{t.Digest}}, MinSequence: t.Sequence,
				Signers: []Hex32{Hex32(t.Signer)}, Source: source})
		}
	}
	p.versionsFrom(v, source)
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// versions are the fields of each hardware by which a device can fall behind, or be another product.
var versions = map[evidence.Hardware][]Rule{
	evidence.TrustZone: {{Field: "implementation-id", Op: OpEquals}},
	evidence.CCA:       {{Field: "implementation-id", Op: OpEquals}},
	evidence.SGX: {{Field: "ISVPRODID", Op: OpEquals}, {Field: "ISVSVN", Op: OpAtLeast}, {Field: "CONFIGSVN", Op: OpAtLeast},
		{Field: "tcb-date", Op: OpAtLeast}},
	evidence.TDX: {{Field: "TEE_TCB_SVN", Op: OpAtLeast}, {Field: "tcb-date", Op: OpAtLeast}},
	evidence.SEVSNP: {{Field: "GUEST_SVN", Op: OpAtLeast}, {Field: "REPORTED_TCB.BootLoader", Op: OpAtLeast},
		{Field: "REPORTED_TCB.TEE", Op: OpAtLeast}, {Field: "REPORTED_TCB.SNP", Op: OpAtLeast}, {Field: "REPORTED_TCB.Microcode", Op: OpAtLeast}},
}

// versionsFrom demands at least the versions of the Evidence.
func (p *Policy) versionsFrom(v *evidence.VerifiedHardware, source string) {
	rules := slices.Clone(versions[v.Hardware])
	for _, name := range slices.Sorted(maps.Keys(v.Fields)) {
		if strings.HasPrefix(name, "components.") { // of CCA and PSA firmware
			rules = append(rules, Rule{Field: name + ".Version", Op: OpAtLeast})
		}
	}
	for _, r := range rules {
		got, found := lookup(v.Fields, r.Field)
		if !found {
			continue
		}
		r.Name, r.Hardware, r.Source = "known "+r.Field, v.Hardware, source
		switch {
		case got.number != nil && got.number.IsInt64():
			r.Value = &Value{number: got.number}
		case got.bytes != nil:
			r.Value = TextValue(hex.EncodeToString(got.bytes))
		default:
			r.Value = TextValue(got.text)
		}
		if r.Op == OpAtLeast && r.Value.number != nil && r.Value.number.Sign() == 0 {
			continue // always true
		}
		if holds, err := r.holds(got); holds && err == nil { // a version that is no list of numbers is left out
			p.Rules = append(p.Rules, r)
		}
	}
}

// Change is what another policy makes of the same Evidence.
type Change struct {
	Before, After *Result
	// Causes are, where the verdict gets worse, the findings that fail by the new policy and not by the old one; where it
	// gets better, those that failed by the old one and do not any more.
	Causes []Finding
}

// Verdict says what changes: "newly fails", "newly passes", "still passes" or "still fails".
func (c *Change) Verdict() string {
	switch before, after := c.Before.OK(), c.After.OK(); {
	case before && !after:
		return "newly fails"
	case !before && after:
		return "newly passes"
	case after:
		return "still passes"
	}
	return "still fails"
}

// Compare sets the results of two policies for the same Evidence against each other.
func Compare(before, after *Result) *Change {
	c := &Change{Before: before, After: after}
	worse, better := after.Failed(), before.Failed()
	if after.OK() {
		worse, better = better, worse
	}
	for _, f := range worse {
		if !slices.ContainsFunc(better, func(o Finding) bool { return o.Code == f.Code && o.Claim == f.Claim && o.Got == f.Got }) {
			c.Causes = append(c.Causes, f)
		}
	}
	return c
}
