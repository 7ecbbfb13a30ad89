// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// Remove deletes a deployment: the Agent drops the TA and PD, the device destroys the TEE instance with its secrets, and when it has reported
// that, this owner's folder forgets the deployment. It waits until then.
func (o *Owner) Remove(ctx context.Context, ref string) error {
	_, err := o.RemoveProven(ctx, ref, false)
	return err
}

// RemoveProven is Remove, and says whether the Agent has proven its part; the folder keeps that. With lost the device is given up, which the M/OC
// allows only while it does not hear from it: nothing is waited for, and nothing proven.
func (o *Owner) RemoveProven(ctx context.Context, ref string, lost bool) (*Removal, error) {
	d, err := o.find(ref)
	if fault.Is(err, fault.NotFound) && o.listed(ctx, ref) {
		d, err = &deployment{ID: ref, Context: o.Context}, nil
	}
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	ask := s.api.DeleteDeployment
	if lost {
		ask = s.api.AbandonDeployment
	}
	now, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return ask(ctx, d.ID) })
	for err == nil && now.State != mocapi.StateRemoved {
		since, last := now.Version, now
		if now, err = persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, since, longPoll) }); err != nil && ctx.Err() != nil {
			e := fault.New(fault.Unavailable, "the device has not reported the deployment %s gone (it is %s)", d.ID, last.State)
			if fresh, err := s.again(d.ID); err == nil {
				last = fresh
			}
			if !last.DeviceSilentSince.IsZero() {
				return nil, e.WithHint("%s; the removal goes on when it is back, and remove --lost gives it up", silence(last))
			}
			return nil, e.WithHint("the removal goes on; run remove again to wait for it, or --forget to drop the local record alone")
		}
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return nil, err
	}
	r := o.proveRemoval(d, now)
	if err := o.Home.AddRemoval(d.ID, r); err != nil {
		return nil, err
	}
	if err := o.Home.RemoveDeployment(d.ID); err != nil {
		return nil, err
	}
	if lost {
		o.tell("remove", "moc", fmt.Sprintf("the M/OC has removed deployment %s; its device was given up", d.ID))
	} else {
		o.tell("remove", "moc", fmt.Sprintf("the device reported deployment %s gone", d.ID))
	}
	if r.Proven {
		o.tell("remove", "agent", fmt.Sprintf("the Agent %.16s signed that it has destroyed %s%s", r.AgentKey, strings.Join(r.Destroyed, ", "), mark(r.Emulated)))
	} else {
		o.tell("remove", "owner", "there is no proof of the removal: "+r.Why)
	}
	return r, nil
}

// listed reports whether the M/OC of the context in use has a deployment of that id of this owner's, though the folder has not.
func (o *Owner) listed(ctx context.Context, id string) bool {
	return slices.ContainsFunc(o.unknown(ctx, nil), func(s *Status) bool { return s.ID == id })
}

// Forget drops the local record of a deployment and leaves the M/OC alone.
func (o *Owner) Forget(ref string) error {
	d, err := o.find(ref)
	if err != nil {
		return err
	}
	return o.Home.RemoveDeployment(d.ID)
}
