// SPDX-License-Identifier: Apache-2.0

package course

import (
	"time"

	"sealift/internal/store"
)

// Stop has the device end the instance and keep what it has sealed. Nothing is retried meanwhile.
func Stop(d *store.Deployment, now time.Time) {
	d.Private.Stopped, d.Private.Halted, d.Private.RetryAt = now.UTC(), false, time.Time{}
	Observe(d)
}

// Restart has the device run an instance again that was stopped or given up. What the owner has appraised was the run before, so no
// appraisal counts any more: PD is withheld from packages on their way, and a deployment whose steps are all done is not running before the
// owner has appraised it again. The Agent by itself keeps PD from TAs that its owner has stopped (docs/design/0018).
func Restart(d *store.Deployment) {
	Recovered(d)
	d.Private.Stopped = time.Time{}
	d.Private.Unappraised = d.Private.Unappraised || d.Private.Appraised != nil || len(d.Trace) == len(d.Plan)
	d.Private.Appraised, d.Private.Before = nil, nil
	d.Private.Again = true
	d.Private.Wake++
}

// Observe notes what the device says of a deployment that is to be stopped. What it has stopped stays so: only its Broker could launch it again, and
// one that has just started does not know yet what there is.
func Observe(d *store.Deployment) {
	if st := d.InstanceStatus; st != nil && (st.Stopped || st.Running) {
		d.Private.Halted = st.Stopped
	}
}

// held reports whether the Agent waits for the owner's consent with a deployment whose steps are all done.
func held(d *store.Deployment) bool {
	return d.InstanceStatus != nil && d.InstanceStatus.Held && len(d.Trace) == len(d.Plan)
}
