// SPDX-License-Identifier: Apache-2.0

// Package course says how a deployment moves along its plan: which package a step needs, which steps an observation of
// the device proves done, and which state follows. It changes values that the caller holds in a store transaction and
// does nothing by itself, so the REST side and the TAM cannot disagree about where a deployment stands.
//
// The trace is made of what the Agent reports, in the order in which it reports it: [Advance] holds the order of the
// listed components against the plan, and what comes out of order is a failure, never sorted. Each step is done once
// (docs/architecture.md section 5), and the store refuses one that is there already. What has been done and is gone again (a device
// that lost a UA) is installed again without a second line in the trace.
package course

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

// Role returns the role of the package that a step installs, "" for the steps that install none.
func Role(d *store.Deployment, step usecase.StepName) string {
	switch step {
	case usecase.Admit, usecase.Attest:
		return ""
	case usecase.UAToREE:
		return roleOf(d, usecase.UA)
	case usecase.TAToInstance:
		return roleOf(d, usecase.TA)
	case usecase.PDToTA:
		return roleOf(d, usecase.PD)
	}
	return mocapi.PackageBundle
}

// roleOf returns the role of the package that a payload travels in: its own, or the bundle.
func roleOf(d *store.Deployment, p usecase.Payload) string {
	if len(usecase.Mode(d.Mode).With(p)) > 1 {
		return mocapi.PackageBundle
	}
	return string(p)
}

// TARole returns the role of the package that brings the TA.
func TARole(d *store.Deployment) string { return roleOf(d, usecase.TA) }

// Sealed reports whether the package of a role holds PD: it comes with a release, and moves only under an appraisal.
func Sealed(d *store.Deployment, role string) bool {
	_, released := Roles(usecase.Mode(d.Mode))
	return slices.Contains(released, role)
}

// Live reports whether the owner delivers the package of a role to the TEE itself: nobody else has it to send.
func Live(d *store.Deployment, role string) bool {
	return d.Delivery == usecase.DeliveryChannel && Sealed(d, role)
}

// undelivered reports whether the plan has come to what the owner delivers itself, and the device does not have it: it was not delivered
// yet, or the TEE has restarted and lost it.
func undelivered(d *store.Deployment) bool {
	i := slices.IndexFunc(d.Plan, func(s usecase.Step) bool { return s.NeedsRelease })
	return i >= 0 && i <= len(d.Trace) && d.Released && Live(d, Role(d, d.Plan[i].Step)) && !Present(d, Role(d, d.Plan[i].Step))
}

// Roles returns the roles of a mode's packages: those that are needed at the start, and those that come with a release
// because they hold PD.
func Roles(mode usecase.Mode) (start, released []string) {
	for _, in := range mode.Packages() {
		role := mocapi.PackageBundle
		if len(in) == 1 {
			role = string(in[0])
		}
		if slices.Contains(in, usecase.PD) {
			released = append(released, role)
		} else {
			start = append(start, role)
		}
	}
	return start, released
}

// Next returns the first step that is not done; ok is false when all are.
func Next(d *store.Deployment) (step usecase.Step, ok bool) {
	if len(d.Trace) >= len(d.Plan) {
		return usecase.Step{}, false
	}
	return d.Plan[len(d.Trace)], true
}

// Done notes the next step of the plan as done. It refuses any other.
func Done(d *store.Deployment, step usecase.StepName, now time.Time, detail string) error {
	next, ok := Next(d)
	if !ok || next.Step != step {
		return fmt.Errorf("step %s of %s is not the next: %w", step, d.ID, store.ErrConflict)
	}
	d.Trace = append(slices.Clone(d.Trace), mocapi.TraceStep{Step: next, Time: now.UTC(), Detail: detail})
	return nil
}

// Present reports whether the device has exactly the package that is wanted in a role: its manifest, by digest.
func Present(d *store.Deployment, role string) bool {
	p := d.Wanted[role]
	return p != nil && HasManifest(d, p.ManifestDigest)
}

// HasManifest reports whether the Agent has listed a manifest with that digest.
func HasManifest(d *store.Deployment, digest string) bool {
	return slices.ContainsFunc(d.Installed, func(c mocapi.InstalledComponent) bool {
		return c.Digest == digest && strings.HasPrefix(c.Component, "manifest/")
	})
}

// Missing returns the first package that the plan has reached and the device lacks: of a step that was done before, or
// of the next one. It returns nil when there is nothing to install now: because the plan waits for the owner or for the UA,
// or because all is there.
func Missing(d *store.Deployment) *store.Package {
	for i, step := range d.Plan {
		role := Role(d, step.Step)
		if role != "" && !Present(d, role) {
			if i >= len(d.Trace) && awaitsUA(d, step) {
				return nil
			}
			return d.Wanted[role] // nil: not released yet
		}
		if i >= len(d.Trace) {
			return nil // admit and attest are done by others
		}
	}
	return nil
}

// awaitsUA reports whether a step waits for the UA's request for its TA (USECASE section 5, row 4).
func awaitsUA(d *store.Deployment, step usecase.Step) bool {
	return step.Trigger == usecase.TriggerUARequest && d.Private.TARequested.IsZero()
}

// Requested notes that the UA has asked for its TA (RFC 9397 section 6.2.1, RequestTA): the Agent lists it in requested-tc-list. Only a
// plan in which something waits for that takes notice; it reports whether this is news.
func Requested(d *store.Deployment, component string, now time.Time) bool {
	waits := slices.ContainsFunc(d.Plan, func(s usecase.Step) bool { return awaitsUA(d, s) })
	if !waits || !strings.HasPrefix(component, classes[usecase.TA]+"/"+d.App+"/") {
		return false
	}
	d.Private.TARequested = now.UTC()
	return true
}

// Unstarted returns the package of the next step if the device has it and waits with the TA in it for the UA's request: a package that
// brings the UA as well.
func Unstarted(d *store.Deployment) *store.Package {
	step, ok := Next(d)
	if !ok || step.Trigger != usecase.TriggerUARequest || !Present(d, Role(d, step.Step)) {
		return nil
	}
	return d.Wanted[Role(d, step.Step)]
}

// SetInstalled notes what the Agent has listed.
func SetInstalled(d *store.Deployment, list []mocapi.InstalledComponent) {
	if list == nil {
		list = []mocapi.InstalledComponent{}
	}
	d.Installed = list
}

// AddInstalled notes one manifest or component that a report of the Agent names.
func AddInstalled(d *store.Deployment, c mocapi.InstalledComponent) {
	list := slices.Clone(d.Installed)
	i := slices.IndexFunc(list, func(x mocapi.InstalledComponent) bool { return x.Component == c.Component })
	if i >= 0 {
		list[i] = c
	} else {
		list = append(list, c)
	}
	d.Installed = list
}

// taPackage is the wanted package that brings the TA in the clear; nil where the TA travels with PD.
func taPackage(d *store.Deployment) *store.Package {
	if usecase.Mode(d.Mode).Sealed(usecase.TA) {
		return nil
	}
	return d.Wanted[TARole(d)]
}

// Covers returns what an appraisal of Evidence over these manifests, by digest, covers.
func Covers(d *store.Deployment, id string, agentKID []byte, manifests []string) store.Appraised {
	a := store.Appraised{ID: id, AgentKID: agentKID}
	if p := taPackage(d); p != nil && slices.Contains(manifests, p.ManifestDigest) {
		a.TA = p.ManifestDigest
	}
	return a
}

// TADue reports whether Evidence has to name the wanted TA now: because the plan has it before the appraisal, or because it is
// installed already.
func TADue(d *store.Deployment) bool {
	if taPackage(d) == nil {
		return false
	}
	at := func(is func(usecase.Step) bool) int { return slices.IndexFunc(d.Plan, is) }
	attest := at(func(s usecase.Step) bool { return s.Step == usecase.Attest })
	ta := at(func(s usecase.Step) bool { return slices.Contains(s.Carries, usecase.TA) })
	return ta < max(attest, len(d.Trace))
}

// Appraised reports whether a positive appraisal covers the present Agent key and, unless it comes with the PD, the present TA.
func Appraised(d *store.Deployment) bool {
	a := d.Private.Appraised
	if a == nil || d.AgentKey == nil || !bytes.Equal(a.AgentKID, d.AgentKey.KID()) {
		return false
	}
	p := taPackage(d)
	return p == nil || a.TA == p.ManifestDigest && HasManifest(d, a.TA)
}

// Fail makes the deployment failed. A zero retry means that it is not tried again by itself.
func Fail(d *store.Deployment, problem *fault.Error, retry time.Time) {
	if concerns(d, problem) {
		FailUpdate(d, problem)
		return
	}
	d.Private.Failed, d.Private.RetryAt, d.Problem = true, retry, problem
}

// Recovered clears a problem once the device answers as it should.
func Recovered(d *store.Deployment) {
	d.Private.Failed, d.Private.Attempts, d.Private.AttemptRole = false, 0, ""
	d.Private.RetryAt, d.Problem = time.Time{}, nil
}

// Drop takes the instance off its device's work list. The Broker destroys it, and when it has said so the deployment is
// removed.
func Drop(tx *store.Tx, d *store.Deployment) error {
	if d.Private.Dropped != 0 {
		return nil
	}
	generation, err := tx.BumpDevice(d.Device)
	if err != nil {
		return err
	}
	d.Private.Dropped, d.Private.RetryAt = generation, time.Time{}
	return tx.AddEvent(d.ID, "state", "the instance is no longer part of the device's work")
}

// Refresh derives the state and what else follows from the rest. Call it last in every change.
func Refresh(tx *store.Tx, d *store.Deployment) error {
	old := d.State
	d.Appraised = Appraised(Current(d))
	d.State = derive(d)
	if u := d.Update; u != nil && u.State != d.Private.UpdateSaid {
		d.Private.UpdateSaid = u.State
		text := fmt.Sprintf("update %s: %s", u.ID, u.State)
		if u.Problem != nil {
			text += ": " + u.Problem.Message
		}
		if err := tx.AddEvent(d.ID, "update", "%s", text); err != nil {
			return err
		}
	}
	if d.State == old {
		return nil
	}
	text := fmt.Sprintf("%s -> %s", old, d.State)
	if d.State == mocapi.StateFailed && d.Problem != nil {
		text += ": " + d.Problem.Message
	}
	return tx.AddEvent(d.ID, "state", "%s", text)
}

func derive(d *store.Deployment) mocapi.State {
	switch {
	case d.State == mocapi.StateRemoved:
		return mocapi.StateRemoved
	case !d.Private.Deleted.IsZero():
		return mocapi.StateRemoving
	case !d.Private.Stopped.IsZero() && d.Private.Halted:
		return mocapi.StateStopped
	case !d.Private.Stopped.IsZero():
		return mocapi.StateStopping
	case d.Private.Failed:
		return mocapi.StateFailed
	case d.Private.Unappraised && (d.InstanceStatus == nil || !d.InstanceStatus.Running):
		return mocapi.StateStarting
	case d.Private.Unappraised || held(d):
		return mocapi.StateAwaitingAppraisal
	case undelivered(d):
		return mocapi.StateAwaitingDelivery
	case len(d.Trace) == len(d.Plan):
		return mocapi.StateRunning
	case len(d.Trace) == 0 && !d.Private.Seen:
		return mocapi.StatePending
	case len(d.Trace) == 0:
		return mocapi.StateAdmitting
	}
	at := func(is func(usecase.Step) bool) int { return slices.IndexFunc(d.Plan, is) }
	attest := at(func(s usecase.Step) bool { return s.Step == usecase.Attest })
	release := at(func(s usecase.Step) bool { return s.NeedsRelease })
	switch {
	case len(d.Trace) == attest:
		return mocapi.StateAwaitingAppraisal
	case len(d.Trace) < release: // before the appraisal, or between it and the release (the TA of mode ua+pd,ta)
		return mocapi.StateInstalling
	case !d.Released:
		return mocapi.StateAwaitingAppraisal
	}
	return mocapi.StateInstallingPD
}
