// SPDX-License-Identifier: Apache-2.0

package usecase

import (
	"fmt"
	"slices"
)

// Through returns the plan with the steps that bring PD done by another delivery: the same steps in the same order, with what they say and
// show changed. p stays as it is. The error is an ErrUnknown; the empty string is DeliverySealed.
func (p *LoadPlan) Through(delivery string) (*LoadPlan, error) {
	delivery, err := ParseDelivery(delivery)
	if err != nil || delivery == p.Delivery {
		return p, err
	}
	if p.Delivery != DeliverySealed {
		return nil, fmt.Errorf("%w: a plan of delivery %s cannot be made one of %s", ErrUnknown, p.Delivery, delivery)
	}
	out := *p
	out.Delivery, out.Steps, out.SeenBy, out.Note = delivery, slices.Clone(p.Steps), Exposure{}, keptLive
	for i := range out.Steps {
		if out.Steps[i].NeedsRelease {
			out.Steps[i] = live(out.Steps[i], p.Instance)
		}
		out.SeenBy.merge(out.Steps[i].SeenBy)
	}
	return &out, nil
}

// keptLive is what is to be known of a plan with delivery channel.
const keptLive = "what the owner delivers is kept in the TEE's memory only: when the TEE has restarted, the owner delivers again"

// live makes a step that brings PD one in which the owner delivers it itself. The operator's store is passed by: of what crosses, the Broker
// sees TLS records, and M/OC and TAM what the Agent lists afterwards.
func live(s Step, i Instance) Step {
	const at = ", through TLS that ends inside the TEE at the attested "
	s.What = map[StepName]string{
		PDToTA:         "the owner delivers the PD" + at + "TA's key, bound to the TA's digest",
		TAPDToInstance: "the owner delivers TA and PD" + at + "Agent's key; the Agent starts the TA as a confidential " + string(i),
		BundleToTEE:    "the owner delivers UA, TA and PD as one package" + at + "Agent's key",
		UAPDToTA:       "the owner delivers UA and PD" + at + "Agent's key, bound to the TA's digest; the TA gets the PD",
	}[s.Step]
	if s.Trigger == TriggerUARequest {
		s.What += onRequest
	}
	seen := Exposure{}
	seen.merge(s.SeenBy)
	for _, p := range s.Carries {
		for _, r := range []Role{RoleMOC, RoleTAM} {
			seen[r][p] &^= SeesCiphertext | SeesSize
		}
	}
	s.SeenBy = seen
	return s
}
