// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"fmt"
	"slices"

	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
)

// stopDeployment has the device end the instance and keep what it has sealed. Its place is free as soon as the device says that it has.
func (s *Server) stopDeployment(c *call) (any, error) {
	return s.change(c, func(tx *store.Tx, d *store.Deployment) error {
		if !d.Private.Stopped.IsZero() {
			return store.ErrUnchanged
		}
		course.Stop(d, s.cfg.Now())
		return tx.AddEvent(d.ID, "state", "%s %s asked for a stop", c.id.Role, c.id.Name)
	})
}

// startDeployment has the device run what was stopped, or what it has given up: it launches the instance, and starts the TA. What runs
// is left alone.
func (s *Server) startDeployment(c *call) (any, error) {
	return s.change(c, func(tx *store.Tx, d *store.Deployment) error {
		if d.Private.Stopped.IsZero() && !d.Private.Failed {
			return store.ErrUnchanged
		}
		if d.State == mocapi.StateStopped {
			if err := s.place(tx, d); err != nil {
				return err
			}
		}
		course.Restart(d)
		return tx.AddEvent(d.ID, "state", "%s %s asked for another start", c.id.Role, c.id.Name)
	})
}

// place refuses the start of a stopped deployment whose device has no place left: it can run nowhere else, because what it has sealed opens
// nowhere else.
func (s *Server) place(tx *store.Tx, d *store.Deployment) error {
	dev, err := tx.Device(d.Device)
	if err != nil {
		return err
	}
	beside, err := tx.InTEE(d.TEE)
	if err != nil || slices.ContainsFunc(beside, func(o *store.Deployment) bool { return o.ID != d.ID && o.State != mocapi.StateStopped }) {
		return err // the instance has its place
	}
	used, err := tx.Used(d.Device)
	if err != nil || used < dev.Last.Capacity {
		return err
	}
	x := mocapi.Exclusion{Device: d.Device, Constraint: "capacity", Reason: fmt.Sprintf("%d of %d instances are taken", used, dev.Last.Capacity)}
	return fault.New(fault.NoDevice, "device %s, which holds what %s has sealed, has no place for it: %s", d.Device, d.ID, x.Reason).
		WithDetails([]mocapi.Exclusion{x}).WithHint("stop or remove another deployment there, then start this one again")
}

// change applies fn to a deployment of the caller's that is not being removed, and answers with what it is then.
func (s *Server) change(c *call, fn func(*store.Tx, *store.Deployment) error) (any, error) {
	if _, err := s.deployment(c); err != nil {
		return nil, err
	}
	d, err := s.store.Update(c.Context(), c.PathValue("id"), func(tx *store.Tx, d *store.Deployment) error {
		if err := notRemoved(d); err != nil {
			return err
		}
		if err := fn(tx, d); err != nil {
			return err
		}
		return course.Refresh(tx, d)
	})
	if err != nil {
		return nil, err
	}
	return s.view(c, d), nil
}

// mayRun refuses what a deployment cannot do that is being removed or is stopped.
func mayRun(d *store.Deployment) error {
	if err := notRemoved(d); err != nil || d.Private.Stopped.IsZero() {
		return err
	}
	return fault.New(fault.DeploymentStopped, "the deployment %s is %s", d.ID, d.State).WithHint("sealift start %s runs it again", d.ID)
}
