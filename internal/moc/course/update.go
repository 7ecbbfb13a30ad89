// SPDX-License-Identifier: Apache-2.0

package course

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

// An update moves along a plan of its own, by the rules of the first deployment: [Current] shows a deployment under update as one whose plan
// and trace are the update's and whose wanted packages are the newer ones, and [Settle] takes back what became of it. Which packages the
// deployment wants in the end follows from what the Agent lists, as everything does: a newer package takes the place of the former
// when the device has it and no longer has that one. Until then, and for good if the update fails, the former is wanted.

// Start begins an update: newer packages by role, and whether PD comes later although no TA has changed. One that had not ended is
// given up for it.
func Start(d *store.Deployment, id string, newer map[string]*store.Package, pd bool, now time.Time) error {
	if u := d.Update; u != nil && !u.State.Ends() {
		endUpdate(d)
	}
	var changed []usecase.Payload
	if pd {
		changed = append(changed, usecase.PD)
	}
	mode := usecase.Mode(d.Mode)
	for _, in := range mode.Packages() {
		if newer[roleOf(d, in[0])] != nil {
			changed = append(changed, in...)
		}
	}
	plan, err := usecase.UpdatePlan(mode, usecase.Instance(d.Instance), usecase.Hardware(d.Hardware), changed)
	if err == nil {
		plan, err = plan.Through(d.Delivery)
	}
	if err != nil {
		return err
	}
	d.Update = &mocapi.Update{ID: id, State: mocapi.UpdateInstalling, Plan: plan.Steps, Trace: []mocapi.TraceStep{},
		Packages: []mocapi.PackageRef{}, Created: now.UTC()}
	for _, role := range slices.Sorted(maps.Keys(newer)) {
		SetNext(d, newer[role])
	}
	d.Private.Before = d.Private.Appraised
	d.Private.Attempts, d.Private.RetryAt = 0, time.Time{}
	d.Private.Failed, d.Problem = false, nil
	d.Private.Wake++
	return nil
}

// SetNext makes p the newer package of its role.
func SetNext(d *store.Deployment, p *store.Package) {
	u := *d.Update
	u.Packages = slices.DeleteFunc(slices.Clone(u.Packages), func(r mocapi.PackageRef) bool { return r.Role == p.Role })
	if p.Digest != "" {
		u.Packages = append(u.Packages, p.PackageRef)
	}
	d.Update = &u
	next := *p
	next.Role = store.NextRole + p.Role
	d.Wanted[next.Role] = &next
}

// Moves reports whether the update's plan has the package of a role.
func Moves(d *store.Deployment, role string) bool {
	return d.Update != nil && !d.Update.State.Ends() && slices.ContainsFunc(d.Update.Plan, func(s usecase.Step) bool { return Role(d, s.Step) == role })
}

// Current returns the deployment as the one that is going on sees it: itself, or the view of its update.
func Current(d *store.Deployment) *store.Deployment {
	if d.Update == nil || d.Update.State.Ends() {
		return d
	}
	v := *d
	v.Plan, v.Trace, v.Update = d.Update.Plan, d.Update.Trace, nil
	v.Wanted = map[string]*store.Package{}
	for role, p := range d.Wanted {
		if newer, ok := strings.CutPrefix(role, store.NextRole); ok {
			q := *p
			q.Role = newer
			v.Wanted[newer] = &q
		} else if !Moves(d, role) {
			v.Wanted[role] = p
		}
	}
	v.Installed = withCandidates(d)
	return &v
}

// withCandidates is the tc-list as it would be with the wanted candidates in the place of the present versions.
func withCandidates(d *store.Deployment) (out []mocapi.InstalledComponent) {
	abandoned := Abandoned(d)
	var next []mocapi.InstalledComponent
	for _, c := range d.Installed {
		if name, ok := candidate(c.Component); ok && len(abandoned) == 0 {
			c.Component = name
			next = append(next, c)
		}
	}
	for _, c := range d.Installed {
		_, ok := candidate(c.Component)
		if !ok && !slices.ContainsFunc(next, func(n mocapi.InstalledComponent) bool { return n.Component == c.Component }) {
			out = append(out, c)
		}
	}
	return append(out, next...)
}

// candidate returns the name of what a listed candidate is a newer version of; ok is false for what is none.
func candidate(listed string) (name string, ok bool) {
	name, ok = strings.CutSuffix(listed, "/"+agentconfig.CandidateSegment)
	return name, ok && strings.Count(name, "/") == 2
}

// Settle takes over what became of the view v of d: its trace, its appraisal, its end.
func Settle(d, v *store.Deployment) {
	if v == d {
		return
	}
	d.Private = v.Private
	u := *d.Update
	u.Trace, u.State = v.Trace, updateState(v)
	d.Update = &u
	for role, p := range v.Wanted {
		if d.Wanted[store.NextRole+role] == nil || !HasManifest(d, p.ManifestDigest) || Present(d, role) {
			continue
		}
		d.SetWanted(p)
		delete(d.Wanted, store.NextRole+role)
		// What was released to the former TA went with it.
		for _, sealed := range []string{mocapi.PackagePD, mocapi.PackageBundle} {
			if role == TARole(d) && role != sealed && Sealed(d, sealed) && !Present(d, sealed) {
				delete(d.Wanted, sealed)
			}
		}
	}
	if v.Private.Failed {
		d.Private.Failed = false
		FailUpdate(d, v.Problem)
		return
	}
	if u.State == mocapi.UpdateDone {
		endUpdate(d)
	}
	d.Problem = v.Problem
}

// FailUpdate ends an update. The deployment goes on as it was; what waits for PD on the device is withdrawn.
func FailUpdate(d *store.Deployment, problem *fault.Error) {
	u := *d.Update
	u.State, u.Problem = mocapi.UpdateFailed, problem
	d.Update = &u
	endUpdate(d)
	d.Private.Appraised = d.Private.Before
	d.Private.Attempts, d.Private.RetryAt = 0, time.Time{}
	d.Private.Wake++
}

// endUpdate forgets the newer packages that have not become the wanted ones.
func endUpdate(d *store.Deployment) {
	for role := range d.Wanted {
		if strings.HasPrefix(role, store.NextRole) {
			delete(d.Wanted, role)
		}
	}
}

// concerns says whether a problem is one of the update that is going on, and not of the deployment.
func concerns(d *store.Deployment, problem *fault.Error) bool {
	return Current(d) != d && problem != nil && slices.Contains([]string{fault.ManifestRefused, fault.RollbackRefused, fault.AgentError,
		fault.ComponentMissing, fault.PlanViolated, fault.PayloadDamaged}, problem.Code)
}

func updateState(v *store.Deployment) mocapi.UpdateState {
	step, ok := Next(v)
	switch {
	case !ok:
		return mocapi.UpdateDone
	case step.Step == usecase.Attest, step.NeedsRelease && (v.Wanted[Role(v, step.Step)] == nil || Live(v, Role(v, step.Step))):
		return mocapi.UpdateAwaitingAppraisal
	case len(v.Trace) > 0 && slices.ContainsFunc(v.Trace, func(t mocapi.TraceStep) bool { return t.Step.Step == usecase.Attest }) &&
		v.Wanted[Role(v, releaseStep(v))] != nil:
		return mocapi.UpdateInstallingPD
	}
	return mocapi.UpdateInstalling
}

func releaseStep(v *store.Deployment) usecase.StepName {
	for _, s := range v.Plan {
		if s.NeedsRelease {
			return s.Step
		}
	}
	return ""
}

// Abandoned lists the manifests of candidates on the device that no update waits for: their names in the tc-list.
func Abandoned(d *store.Deployment) (out []string) {
	for _, c := range d.Installed {
		if _, ok := candidate(c.Component); !ok || !strings.HasPrefix(c.Component, "manifest/") {
			continue
		}
		wanted := false
		for _, p := range d.Wanted {
			wanted = wanted || p.ManifestDigest == c.Digest
		}
		if !wanted {
			out = append(out, c.Component)
		}
	}
	return out
}

// Below returns the refusal of packages that are not newer than those that a deployment has or is being updated to; nil if all are.
func Below(d *store.Deployment, newer map[string]*store.Package) *fault.Error {
	var details []map[string]string
	for _, role := range slices.Sorted(maps.Keys(newer)) {
		for _, have := range []*store.Package{d.Wanted[role], d.Wanted[store.NextRole+role]} {
			if have == nil || newer[role].Sequence > have.Sequence || newer[role].ManifestDigest == have.ManifestDigest && have.Role != role {
				continue
			}
			details = append(details, map[string]string{"claim": "sequence number of " + have.ManifestID,
				"expected": fmt.Sprintf("at least %d", have.Sequence+1), "got": fmt.Sprint(newer[role].Sequence), "source": "the deployment " + d.ID})
		}
	}
	if details == nil {
		return nil
	}
	return fault.New(fault.RollbackRefused, "the update of %s is not newer than what it has", d.ID).WithDetails(details).
		WithHint("sealift pack gives the next sequence number")
}
