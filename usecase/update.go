// SPDX-License-Identifier: Apache-2.0

package usecase

import (
	"fmt"
	"slices"
	"strings"
)

// UpdatePlan returns the plan of an update of a deployment that runs: the steps of its load sequence that a change of these payloads makes
// necessary, in that order, by the same names. There is no step admit, since the Agent stays. A payload brings the whole package
// that it travels in; a TA brings PD, which was released to the present TA and to no other; and PD brings the step attest: nothing
// is released to what was not appraised (P1). A UA alone needs neither. The error is that of [Plan], or an ErrUnknown for a payload
// that the mode does not have.
func UpdatePlan(m Mode, i Instance, hw Hardware, changed []Payload) (*LoadPlan, error) {
	p, err := Plan(m, i, hw)
	if err != nil {
		return nil, err
	}
	moves, err := moved(m, changed)
	if err != nil {
		return nil, err
	}
	all := p.Steps
	p.Steps, p.SeenBy, p.Packages = nil, Exposure{}, slices.DeleteFunc(m.Packages(), func(in []Payload) bool { return !moves[in[0]] })
	for _, s := range all {
		needed := s.Step == Attest && moves[PD]
		if s.Step != Admit && s.Step != Attest {
			needed = slices.ContainsFunc(s.Carries, func(c Payload) bool { return moves[c] })
		}
		if !needed {
			continue
		}
		// The UA has asked for its TA when both came; the newer TA is started without that.
		if s.Trigger != "" {
			s.Trigger, s.What = "", strings.TrimSuffix(s.What, onRequest)
		}
		p.Steps = append(p.Steps, s)
		p.SeenBy.merge(s.SeenBy)
	}
	return p, nil
}

// moved says which payloads an update moves.
func moved(m Mode, changed []Payload) (map[Payload]bool, error) {
	moves := map[Payload]bool{}
	for _, c := range changed {
		if !m.Has(c) {
			return nil, fmt.Errorf("%w: mode %s has no %s", ErrUnknown, m, c)
		}
		moves[c] = true
	}
	for range 2 { // what a package drags along may be a TA
		for _, in := range m.Packages() {
			if slices.ContainsFunc(in, func(c Payload) bool { return moves[c] }) {
				for _, c := range in {
					moves[c] = true
				}
			}
		}
		if moves[TA] {
			moves[PD] = true
		}
	}
	return moves, nil
}
