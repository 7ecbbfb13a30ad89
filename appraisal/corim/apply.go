// SPDX-License-Identifier: Apache-2.0

package corim

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"

	"sealift/appraisal"
	"sealift/evidence"
)

// Errors of applying a manifest to a policy.
var (
	ErrNothing = errors.New("corim: it holds no reference value for this policy")
	ErrClasses = errors.New("corim: it is about several classes of devices")
)

// Selection says for what reference values are taken.
type Selection struct {
	Hardware         evidence.Hardware
	ImplementationID []byte // only those of this class; nil where the manifest is about one class
	Source           string // where the manifest came from, for people
}

// Hardware guesses the architecture from the profiles; empty if they do not tell.
func (m *Manifest) Hardware() evidence.Hardware {
	for _, p := range m.Profiles {
		p = strings.ToLower(p)
		switch {
		case strings.Contains(p, "cca"):
			return evidence.CCA
		case strings.Contains(p, "psa"):
			return evidence.TrustZone
		}
	}
	return ""
}

// Apply adds the reference values to a policy, valid for as long as the manifest is. A class of devices, and a platform's
// configuration, become rules. What the policy has already stays. It returns how many entries were added.
func (m *Manifest) Apply(p *appraisal.Policy, s Selection) (added int, err error) {
	class, err := m.class(s.ImplementationID)
	if err != nil {
		return 0, err
	}
	for i := range m.References {
		r := &m.References[i]
		if class != nil && r.ImplementationID != nil && !bytes.Equal(class, r.ImplementationID) {
			continue
		}
		switch {
		case r.Raw != nil && s.Hardware == evidence.CCA:
			added += addRule(p, s, "platform-config", r.Raw)
		case r.Raw != nil:
			m.ignore("%s: a raw value", r)
		case r.Name == "":
			m.ignore("a digest without a name")
		default:
			p.ReferenceValues = append(p.ReferenceValues, m.referenceValue(r, s))
			added++
		}
	}
	if added == 0 {
		return 0, ErrNothing
	}
	if class != nil {
		added += addRule(p, s, "implementation-id", class)
	}
	return added, p.Validate()
}

// class returns the one class that is taken.
func (m *Manifest) class(want []byte) ([]byte, error) {
	seen := map[string]bool{}
	for i := range m.References {
		if id := m.References[i].ImplementationID; id != nil {
			seen[string(id)] = true
		}
	}
	switch {
	case want != nil && !seen[string(want)]:
		return nil, fmt.Errorf("%w: none for implementation ID %x", ErrNothing, want)
	case want != nil || len(seen) == 0:
		return want, nil
	case len(seen) > 1:
		var names []string
		for id := range seen {
			names = append(names, hex.EncodeToString([]byte(id)))
		}
		return nil, fmt.Errorf("%w: choose one of the implementation IDs %s", ErrClasses, strings.Join(names, ", "))
	}
	for id := range seen {
		return []byte(id), nil
	}
	return nil, nil
}

func (m *Manifest) referenceValue(r *Reference, s Selection) appraisal.ReferenceValue {
	source := s.Source + ", " + r.String()
	if len(r.SignerID) > 0 {
		source += fmt.Sprintf(", signer %.16x", r.SignerID)
	}
	v := appraisal.ReferenceValue{Name: r.Name, Hardware: s.Hardware, Source: source}
	for _, d := range r.Digests {
		v.Digests = append(v.Digests, appraisal.Digest{Digest: d})
	}
	if !m.NotBefore.IsZero() {
		v.NotBefore = &appraisal.Time{Time: m.NotBefore}
	}
	if !m.NotAfter.IsZero() {
		v.NotAfter = &appraisal.Time{Time: m.NotAfter}
	}
	return v
}

// addRule demands that a field has these bytes, unless the policy has a rule of that name.
func addRule(p *appraisal.Policy, s Selection, field string, value []byte) int {
	name := "imported " + field
	for _, r := range p.Rules {
		if r.Name == name {
			return 0
		}
	}
	p.Rules = append(p.Rules, appraisal.Rule{Name: name, Hardware: s.Hardware, Field: field, Op: appraisal.OpEquals,
		Value: appraisal.TextValue(hex.EncodeToString(value)), Source: s.Source})
	return 1
}
