// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"fmt"
	"slices"
	"strings"

	"sealift/evidence"
)

// Launch is the launch measurement of an Agent's image on one hardware architecture.
type Launch struct {
	Hardware evidence.Hardware
	Name     string // as the hardware calls it: "MRTD"
	Digest   []byte
	Source   string // who says so, for example the file that was hashed
}

// NewPolicyInput is what [NewPolicy] makes a policy from.
type NewPolicyInput struct {
	Name        string
	Hardware    []evidence.Hardware
	Roots       []evidence.Anchor // an emulated one is named as such
	AgentDigest [32]byte          // SHA-256 of the Agent's binary: AGENT on TrustZone; zero where Launch has it
	AgentSource string            // who says so, for example the file that was hashed
	Launch      []Launch          // launch measurements: at least one for every other architecture
	Production  bool
}

// NewPolicy makes a policy that accepts Agent images on the given hardware under the given roots.
func NewPolicy(in NewPolicyInput) (*Policy, error) {
	p := &Policy{Version: PolicyVersion, Name: in.Name, Production: in.Production, Accept: TierAffirming, Hardware: in.Hardware,
		Anchors: []AnchorRef{}, ReferenceValues: []ReferenceValue{}}
	if in.AgentDigest != [32]byte{} && slices.Contains(in.Hardware, evidence.TrustZone) {
		p.accept(Launch{evidence.TrustZone, evidence.MeasurementAgent, in.AgentDigest[:], in.AgentSource})
	}
	for _, l := range in.Launch {
		if err := p.accept(l); err != nil {
			return nil, err
		}
	}
	for _, r := range in.Roots {
		p.Anchors = append(p.Anchors, NewAnchorRef(r))
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}

// NewAnchorRef names a root in a policy; an emulated one is named as such.
func NewAnchorRef(r evidence.Anchor) AnchorRef {
	name := r.Name
	if r.IsEmulated() && !strings.Contains(name, evidence.EmulatedMark) {
		name = strings.TrimSpace(evidence.EmulatedMark + " " + name)
	}
	return AnchorRef{Fingerprint: r.Fingerprint(), Emulated: r.IsEmulated(), Name: name}
}

// accept adds a launch measurement to the reference value of its name, or begins one.
func (p *Policy) accept(l Launch) error {
	d, err := measuredDigest(l.Hardware, l.Name, l.Digest)
	if err != nil {
		return fmt.Errorf("%s of %s: %w", l.Name, l.Hardware, err)
	}
	for i := range p.ReferenceValues {
		r := &p.ReferenceValues[i]
		if r.Name != l.Name || r.Hardware != l.Hardware {
			continue
		}
		if !slices.ContainsFunc(r.Digests, d.same) {
			r.Digests, r.Source = append(r.Digests, d), r.Source+"; "+l.Source
		}
		return nil
	}
	p.ReferenceValues = append(p.ReferenceValues, ReferenceValue{Name: l.Name, Hardware: l.Hardware, Digests: []Digest{d}, Source: l.Source})
	return nil
}
