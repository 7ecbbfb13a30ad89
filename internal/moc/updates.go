// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

// createUpdate takes newer packages for a deployment whose first installation is done. It goes on in its present version until the Agent
// has the newer one with all that belongs to it.
func (s *Server) createUpdate(c *call) (any, error) {
	r, err := decode[mocapi.UpdateRequest](c)
	if err != nil {
		return nil, err
	}
	d, err := s.deployment(c)
	if err != nil {
		return nil, err
	}
	mode := usecase.Mode(d.Mode)
	start, _ := course.Roles(mode)
	var roles []string
	for _, ref := range r.Packages {
		for _, role := range start {
			if role == ref.Role {
				roles = append(roles, role)
			}
		}
	}
	newer, err := s.loadPackages(source{d.Owner, d.OwnerKey, d.App, mode}, roles, r.Packages)
	if err != nil {
		return nil, err
	}
	if err := rebooting(d, newer[course.TARole(d)]); err != nil {
		return nil, err
	}
	if len(newer) == 0 && !r.PD {
		return nil, fault.New(fault.BadRequest, "the update brings nothing")
	}
	id, err := s.newID("u")
	if err != nil {
		return nil, err
	}
	d, err = s.store.Update(c.Context(), d.ID, func(tx *store.Tx, d *store.Deployment) error {
		if err := mayRun(d); err != nil {
			return err
		}
		if len(d.Trace) < len(d.Plan) {
			return fault.New(fault.Conflict, "the deployment %s is %s: its first installation has to end before an update", d.ID, d.State)
		}
		if below := course.Below(d, newer); below != nil {
			return below
		}
		if err := course.Start(d, id, newer, r.PD, s.cfg.Now()); err != nil {
			return err
		}
		course.Settle(d, course.Current(d)) // whose turn it is
		return course.Refresh(tx, d)
	})
	if err != nil {
		return nil, err
	}
	return d.Update, nil
}
