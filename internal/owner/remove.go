// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"fmt"
	"slices"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// Remove deletes a deployment: the Agent drops the TA and PD, the device destroys the TEE instance with its secrets, and when it has reported
// that, this owner's folder forgets the deployment. It waits until then.
func (o *Owner) Remove(ctx context.Context, ref string) error {
	d, err := o.find(ref)
	if fault.Is(err, fault.NotFound) && o.listed(ctx, ref) {
		d, err = &deployment{ID: ref, Context: o.Context}, nil
	}
	if err != nil {
		return err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return err
	}
	now, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.DeleteDeployment(ctx, d.ID) })
	for err == nil && now.State != mocapi.StateRemoved {
		since, last := now.Version, now
		if now, err = persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, since, longPoll) }); err != nil && ctx.Err() != nil {
			e := fault.New(fault.Unavailable, "the device has not reported the deployment %s gone (it is %s)", d.ID, last.State)
			if !last.DeviceSilentSince.IsZero() {
				return e.WithHint("%s; the removal goes on when it is back, and remove --forget drops the local record alone", silence(last))
			}
			return e.WithHint("the removal goes on; run remove again to wait for it, or --forget to drop the local record alone")
		}
	}
	if err != nil && !fault.Is(err, fault.NotFound) {
		return err
	}
	if err := o.Home.RemoveDeployment(d.ID); err != nil {
		return err
	}
	o.tell("remove", "moc", fmt.Sprintf("the device reported deployment %s gone", d.ID))
	return nil
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
