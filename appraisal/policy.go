// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"sealift/evidence"
	"sealift/suit"
)

// PolicyVersion is the version of the policy format that this package reads and writes.
const PolicyVersion = 1

const maxPolicy = 1 << 20

// ErrPolicy reports a policy that cannot be used; it says why.
var ErrPolicy = errors.New("appraisal: policy")

// Policy is an appraisal policy for Evidence. Its JSON form is strict: unknown members are refused.
type Policy struct {
	Version         int                 `json:"version"`
	Name            string              `json:"name"`
	Production      bool                `json:"production"`          // never accepts an emulated root
	Accept          Tier                `json:"accept"`              // affirming, or warning if that suffices
	Hardware        []evidence.Hardware `json:"hardware"`            // accepted hardware architectures
	Anchors         []AnchorRef         `json:"anchors"`             // accepted roots
	ReferenceValues []ReferenceValue    `json:"reference_values"`    // one per measurement that may occur
	Config          *ConfigRule         `json:"config,omitempty"`    // accepted measured configurations
	Lifecycle       []string            `json:"lifecycle,omitempty"` // accepted PSA states; empty means secured only
	TAs             []TAExpectation     `json:"tas,omitempty"`       // TAs that must be loaded
	OnlyTAs         bool                `json:"only_tas,omitempty"`  // no other TA may be loaded
}

// AnchorRef names an accepted root by its fingerprint. An emulated root must be marked as such, on purpose.
type AnchorRef struct {
	Fingerprint Hex32  `json:"fingerprint"`
	Emulated    bool   `json:"emulated"`
	Name        string `json:"name,omitempty"`
}

// ReferenceValue lists the accepted digests of a measurement.
type ReferenceValue struct {
	Name    string   `json:"name"` // for example AGENT
	Digests []Digest `json:"digests"`
	Source  string   `json:"source"` // who says so, for people
}

// ConfigRule lists the accepted digests of the measured configuration.
type ConfigRule struct {
	Digests []Hex32 `json:"digests"`
	Source  string  `json:"source"`
}

// TAExpectation says what a loaded TA must be.
type TAExpectation struct {
	Component   suit.ComponentID `json:"component"`
	Digests     []Digest         `json:"digests"`                // accepted binaries; at least one
	MinSequence uint64           `json:"min_sequence,omitempty"` // lowest accepted sequence number
	Signers     []Hex32          `json:"signers,omitempty"`      // accepted signers of its manifest; empty means any
	Source      string           `json:"source"`
}

// ParsePolicy reads a policy and checks it.
func ParsePolicy(data []byte) (*Policy, error) {
	if len(data) > maxPolicy {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrPolicy, len(data), maxPolicy)
	}
	if err := checkNames(data); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	var p Policy
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: something follows the policy", ErrPolicy)
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
	if p.Version != PolicyVersion {
		bad("version is %d, want %d", p.Version, PolicyVersion)
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
	return errors.Join(errs...)
}

func (p *Policy) validateReferences(bad func(string, ...any)) {
	seen := map[string]bool{}
	for _, r := range p.ReferenceValues {
		if r.Name == "" || seen[r.Name] || r.Name == evidence.MeasurementConfig {
			bad("reference value %q has no name of its own (the configuration has its own member)", r.Name)
		}
		seen[r.Name] = true
		checkDigests(r.Digests, "reference value "+r.Name, bad)
	}
	if !seen[evidence.MeasurementAgent] {
		bad("there is no reference value for %s", evidence.MeasurementAgent)
	}
	if p.Config != nil && len(p.Config.Digests) == 0 {
		bad("config has no digest")
	}
	for _, l := range p.Lifecycle {
		if _, ok := lifecycleNames[l]; !ok {
			bad("lifecycle %q is not known (secured, non-psa-rot-debug, ...)", l)
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
		h, err := suit.NewHash(d.Alg)
		if err != nil || h.Size() != len(d.Bytes) {
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

// Hash identifies the policy: SHA-256 over its compact JSON form, so that white space does not matter.
func (p *Policy) Hash() [32]byte {
	out, err := json.Marshal(p)
	if err != nil {
		return [32]byte{} // only a tier that Validate refuses gets here
	}
	return sha256.Sum256(out)
}

// NewPolicyInput is what [NewPolicy] makes a policy from.
type NewPolicyInput struct {
	Name        string
	Hardware    []evidence.Hardware
	Roots       []evidence.Anchor // an emulated one is named as such
	AgentDigest [32]byte          // SHA-256 of the Agent's binary
	AgentSource string            // who says so, for example the file that was hashed
	Production  bool
}

// NewPolicy makes a policy that accepts one Agent binary on the given hardware under the given roots.
func NewPolicy(in NewPolicyInput) (*Policy, error) {
	p := &Policy{Version: PolicyVersion, Name: in.Name, Production: in.Production, Accept: TierAffirming, Hardware: in.Hardware,
		Anchors: []AnchorRef{}, ReferenceValues: []ReferenceValue{{Name: evidence.MeasurementAgent,
			Digests: []Digest{SHA256Digest(in.AgentDigest)}, Source: in.AgentSource}}}
	for _, r := range in.Roots {
		name := r.Name
		if r.IsEmulated() && !strings.Contains(name, evidence.EmulatedMark) {
			name = strings.TrimSpace(evidence.EmulatedMark + " " + name)
		}
		p.Anchors = append(p.Anchors, AnchorRef{Fingerprint: r.Fingerprint(), Emulated: r.IsEmulated(), Name: name})
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	return p, nil
}
