// SPDX-License-Identifier: Apache-2.0

package course

import (
	"slices"
	"time"

	"sealift/internal/store"
)

// Several deployments can share a TEE instance (docs/design/0019). Each has a plan, a trace and sessions of its own; the instance is
// launched for the first, and destroyed with the last.

// Stays reports whether a deployment is one for which its instance has to stay.
func Stays(d *store.Deployment) bool { return d.Private.Deleted.IsZero() }

// Needed reports whether one of the deployments beside d needs the instance.
func Needed(d *store.Deployment, inTEE []*store.Deployment) bool {
	return slices.ContainsFunc(inTEE, func(o *store.Deployment) bool { return o.ID != d.ID && o.TEE == d.TEE && Stays(o) })
}

// GiveUp ends the removal of a deployment whose Agent has not given it up: the device destroys the instance and its secrets instead. Where
// others need the instance that cannot be: the Agent is asked again at the time again.
func GiveUp(tx *store.Tx, d *store.Deployment, again time.Time) error {
	beside, err := tx.InTEE(d.TEE)
	if err != nil {
		return err
	}
	if !Needed(d, beside) {
		return Drop(tx, d)
	}
	d.Private.RetryAt = again
	return nil
}
