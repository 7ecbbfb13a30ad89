// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/archive"
	"sealift/usecase"
)

// UpdateRequest says what to update and to what.
type UpdateRequest struct {
	Deployment string // its id, or the application's name
	Package    string // the package file; empty: go on with the update that was begun
	Wait       bool   // go on until the newer version serves: await, verify, release
	Policy     string // the owner's policy for Wait; empty: home.DefaultPolicy
	Timeout    time.Duration
}

// update is an update that is going on, in the owner's folder.
type update struct {
	ID string `json:"id"`
	// Package is what the deployment has afterwards: the newer components, and the present ones where nothing has changed.
	Package archive.Description `json:"package"`
	Time    time.Time           `json:"time"`
}

// Update brings a newer package to a running deployment: what has changed of it, and nothing else. The present version serves until the
// newer one has all it needs. Where that includes PD, the owner appraises the TEE again and releases to the newer TA: with Wait by
// itself, when the policy is satisfied, else by [Owner.Verify] and [Owner.Release]. A package that is not newer than everything this
// deployment ever got is refused here, by the M/OC and by the Agent.
func (o *Owner) Update(ctx context.Context, r UpdateRequest) (*mocapi.Deployment, error) {
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	d, err := o.find(r.Deployment)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	if r.Package != "" {
		if err := o.beginUpdate(ctx, s, d, r.Package); err != nil {
			return nil, err
		}
	} else if d.Update == nil {
		return nil, fault.New(fault.BadRequest, "no update of %s is going on", d.ID).WithHint("sealift update %s PACKAGE begins one", r.Deployment)
	}
	if !r.Wait {
		return persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	}
	return o.finishUpdate(ctx, d.ID, r.Policy)
}

// beginUpdate pushes what has changed and may be public, and asks for the update.
func (o *Owner) beginUpdate(ctx context.Context, s *session, d *deployment, path string) error {
	file, err := archive.Open(path)
	if err != nil {
		return fault.Wrap(fault.BadRequest, err).WithHint("sealift pack makes a package file, NAME.sealift")
	}
	defer file.Close()
	dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	if err != nil {
		return err
	}
	if err := o.settle(d, dep); err != nil {
		return err
	}
	if err := successor(d, dep, &file.Description); err != nil {
		return err
	}
	merged, clear, sealed := merge(&d.Package, &file.Description)
	if len(clear) == 0 && !sealed {
		return fault.New(fault.Conflict, "%s holds nothing that %s does not have already", path, d.ID)
	}
	request := mocapi.UpdateRequest{Packages: []mocapi.PackageRef{}, PD: sealed}
	var changed []usecase.Payload
	for _, a := range file.Artifacts {
		if !slices.Contains(clear, a.Role) {
			continue
		}
		ref, err := o.push(ctx, s, repository(d.Account, d.Package.Name, a.Role), a)
		if err != nil {
			return err
		}
		request.Packages = append(request.Packages, ref)
	}
	for _, in := range d.Package.Mode.Packages() {
		if slices.Contains(clear, roleOf(in)) {
			changed = append(changed, in...)
		}
	}
	if sealed {
		changed = append(changed, usecase.PD)
	}
	began, err := o.createUpdate(ctx, s, d.ID, request)
	if err != nil {
		return err
	}
	if err := checkUpdatePlan(&d.Package, dep, began, changed); err != nil {
		return err
	}
	o.tell("update", "moc", fmt.Sprintf("the M/OC updates deployment %s to sequence %d: %s", d.ID, file.Description.Sequence, kindsText(changed)))
	return o.change(d.ID, func(d *deployment) error {
		d.Update = &update{ID: began.ID, Package: *merged, Time: o.Now().UTC()}
		d.Latest = file.Description.Sequence
		return nil
	})
}

// createUpdate asks for an update once, also when the answer is lost.
func (o *Owner) createUpdate(ctx context.Context, s *session, id string, r mocapi.UpdateRequest) (*mocapi.Update, error) {
	before, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, id, 0, 0) })
	if err != nil {
		return nil, err
	}
	unsure := false
	return persist(ctx, o, func() (*mocapi.Update, error) {
		if unsure {
			now, err := s.api.Deployment(ctx, id, 0, 0)
			if err != nil {
				return nil, err
			}
			if u := now.Update; u != nil && (before.Update == nil || u.ID != before.Update.ID) {
				return u, nil
			}
		}
		u, err := s.api.CreateUpdate(ctx, id, r)
		unsure = unsure || (err != nil && !neverArrived(err))
		return u, err
	})
}

// successor checks that a package may follow what the deployment has.
func successor(d *deployment, dep *mocapi.Deployment, next *archive.Description) error {
	old := &d.Package
	switch {
	case next.Name != old.Name:
		return fault.New(fault.BadRequest, "the package is of application %q, the deployment of %q", next.Name, old.Name)
	case next.Mode != old.Mode:
		return fault.New(fault.BadRequest, "the package has mode %s, the deployment %s", next.Mode, old.Mode).
			WithHint("another mode is another deployment: sealift deploy")
	case !next.Owner.Equal(old.Owner):
		return fault.New(fault.BadRequest, "the package was signed with another owner's key than the deployment's")
	case !slices.Contains(CellsOf(next), usecase.Cell{Instance: usecase.Instance(dep.Instance), Hardware: usecase.Hardware(dep.Hardware)}):
		return fault.New(fault.InvalidCell, "the package does not accept where the deployment is: %s/%s", dep.Hardware, dep.Instance)
	}
	if latest := max(d.Latest, old.Sequence); next.Sequence <= latest {
		return fault.New(fault.RollbackRefused, "the package has sequence number %d, the deployment got %d already", next.Sequence, latest).
			WithHint("sealift pack gives the next sequence number")
	}
	return nil
}

// merge says what a deployment with the package old has after an update to next: next, with the present packages where nothing has changed.
// clear are the roles of the changed packages that may be public; sealed says that what travels with PD has changed.
func merge(old, next *archive.Description) (merged *archive.Description, clear []string, sealed bool) {
	m := *next
	m.Components, m.Packages = slices.Clone(next.Components), nil
	for _, in := range next.Mode.Packages() {
		role := roleOf(in)
		changed := componentsChanged(old, next, in)
		from := next
		switch {
		case slices.Contains(in, usecase.PD):
			sealed = changed
			continue
		case changed:
			clear = append(clear, role)
		default:
			from = old
			if slices.Contains(in, usecase.TA) {
				m.Sequence = old.Sequence
			}
		}
		if p, ok := from.Package(role); ok {
			m.Packages = append(m.Packages, p)
		}
	}
	return &m, clear, sealed
}

// componentsChanged reports whether the components of these kinds differ in content or start parameters.
func componentsChanged(old, next *archive.Description, kinds []usecase.Payload) bool {
	of := func(d *archive.Description) map[string]archive.Component {
		out := map[string]archive.Component{}
		for _, c := range d.Components {
			if slices.Contains(kinds, c.Kind) {
				out[c.ID.String()] = archive.Component{SHA256: c.SHA256, Launch: c.Launch}
			}
		}
		return out
	}
	return !reflect.DeepEqual(of(old), of(next))
}

// checkUpdatePlan compares the M/OC's plan with the one that the use case has for such an update.
func checkUpdatePlan(d *archive.Description, dep *mocapi.Deployment, u *mocapi.Update, changed []usecase.Payload) error {
	own, err := usecase.UpdatePlan(d.Mode, usecase.Instance(dep.Instance), usecase.Hardware(dep.Hardware), changed)
	if err != nil {
		return fault.Wrap(fault.BadRequest, err)
	}
	var names []usecase.StepName
	for _, s := range u.Plan {
		names = append(names, s.Step)
	}
	if !slices.Equal(names, own.Names()) {
		return &fault.Error{Code: fault.Conflict, Exit: fault.ExitDrift, Message: fmt.Sprintf(
			"the M/OC's plan %v of the update differs from what the use case has: %v", names, own.Names())}
	}
	return nil
}

// finishUpdate drives an update to its end.
func (o *Owner) finishUpdate(ctx context.Context, id, policy string) (*mocapi.Deployment, error) {
	released, live := false, false
	for {
		short, cancel := ctx, context.CancelFunc(func() {})
		if released && live {
			short, cancel = context.WithTimeout(ctx, noticeTime)
		}
		dep, err := o.followUpdate(short, id, released)
		late := short.Err() != nil && ctx.Err() == nil
		cancel()
		if err != nil && late { // what was delivered may be lost in a restart: then it is the owner's turn again
			released = false
			continue
		}
		if err != nil {
			return nil, err
		}
		if dep.Update.State == mocapi.UpdateDone {
			d, err := o.find(id)
			if err == nil && d.Package.Mode.Sealed(usecase.TA) { // the newer TA came with the PD: its keys are known only now
				_, err = o.Verify(ctx, id, VerifyOptions{Policy: policy})
			}
			return dep, err
		}
		a, err := o.Verify(ctx, id, VerifyOptions{Policy: policy})
		if err != nil {
			return nil, err
		}
		d, err := o.find(id)
		if err != nil {
			return nil, err
		}
		if d.Update != nil {
			d.Package = d.Update.Package
		}
		live = d.Delivery == usecase.DeliveryChannel
		if a.covers(d) {
			if _, err := o.Release(ctx, a); err != nil {
				return nil, err
			}
			released = true
		}
	}
}

// followUpdate waits until it is the owner's turn, the update is done, or has failed, which is an error. Once the release was posted, the
// owner has no turn any more.
func (o *Owner) followUpdate(ctx context.Context, id string, released bool) (*mocapi.Deployment, error) {
	d, err := o.find(id)
	if err != nil {
		return nil, err
	}
	var mine *mocapi.Update
	attested := 0
	dep, err := o.follow(ctx, id, func(dep *mocapi.Deployment) bool {
		u := dep.Update
		if u == nil || d.Update == nil || u.ID != d.Update.ID {
			return true
		}
		mine = u
		o.tellUpdate(dep)
		attested = slices.IndexFunc(u.Plan, func(s usecase.Step) bool { return s.Step == usecase.Attest })
		return u.State.Ends() || !released && u.State == mocapi.UpdateAwaitingAppraisal
	})
	switch {
	case err != nil:
		return nil, err
	case mine == nil:
		return nil, fault.New(fault.Conflict, "the update of %s was superseded by another", id)
	case mine.State == mocapi.UpdateFailed:
		return nil, updateFailed(dep)
	case mine.State == mocapi.UpdateDone && attested >= 0 && !released && len(d.Released) == 0:
		return nil, errNotAppraised("the M/OC says that an update with PD is done, and this owner has released nothing")
	}
	return dep, o.settle(d, dep)
}

// updateFailed is the error of an update that failed, with the code of its cause.
func updateFailed(dep *mocapi.Deployment) error {
	p := dep.Update.Problem
	if p == nil {
		p = fault.New(fault.Internal, "the M/OC does not say why")
	}
	e := *p
	e.Message = "update failed: " + p.Message
	if e.Hint == "" {
		e.Hint = "the deployment runs on in its former version; the next update needs a newer package: sealift pack"
	}
	return &e
}

// tellUpdate tells the steps of an update that were not told yet.
func (o *Owner) tellUpdate(dep *mocapi.Deployment) {
	key := dep.ID + "/" + dep.Update.ID
	if o.told == nil {
		o.told = map[string]int{}
	}
	for i, t := range dep.Update.Trace {
		if i < o.told[key] {
			continue
		}
		if o.Events != nil {
			o.Events(Event{Time: t.Time, Step: string(t.Step.Step), Actor: string(t.Actor), Text: t.What + ": " + t.Detail})
		}
		o.told[key] = i + 1
	}
}

// settle takes note of an update that is done: from now on the newer package is the deployment's.
func (o *Owner) settle(d *deployment, dep *mocapi.Deployment) error {
	if d.Update == nil || dep.Update == nil || dep.Update.ID != d.Update.ID || dep.Update.State != mocapi.UpdateDone {
		return nil
	}
	id := d.Update.ID
	err := o.change(d.ID, func(now *deployment) error {
		if now.Update == nil || now.Update.ID != id {
			return nil
		}
		now.Package, now.Update = now.Update.Package, nil
		if n := len(now.Released); n > 1 {
			now.Released = now.Released[n-1:]
		}
		return nil
	})
	if err != nil {
		return err
	}
	fresh, err := o.find(d.ID)
	if err == nil {
		*d = *fresh
	}
	return err
}

// ahead makes d what it is to become, where its update is going on: what is released now is for the newer version.
func (o *Owner) ahead(d *deployment, dep *mocapi.Deployment) error {
	if err := o.settle(d, dep); err != nil {
		return err
	}
	if d.Update != nil && dep.Update != nil && dep.Update.ID == d.Update.ID && !dep.Update.State.Ends() {
		d.Package = d.Update.Package
	}
	return nil
}
