// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/archive"
	"sealift/usecase"
)

// DeployRequest says what to deploy.
type DeployRequest struct {
	Package string            // the package file
	Device  string            // only on this device; empty: the M/OC chooses
	Labels  map[string]string // that the device must have
	Place   string            // mocapi.PlaceSpread (default) or PlacePack
	// Delivery is how what holds PD comes to the TEE: usecase.DeliverySealed (empty: this) or usecase.DeliveryChannel.
	Delivery string
	// Sharing lets further applications of this owner into the TEE instance, and this one into an instance that was made so. ShareWith names
	// a deployment with Sharing whose instance it has to be.
	Sharing   bool
	ShareWith string
	Wait      bool   // go on until the application runs: await, verify, release
	Policy    string // the owner's policy for Wait; empty: home.DefaultPolicy
	Timeout   time.Duration
}

// Deploy pushes the packages that may be public and asks the M/OC for a confidential resource. With Wait it verifies and releases by
// itself when the owner's policy is satisfied, and returns when the application runs.
func (o *Owner) Deploy(ctx context.Context, r DeployRequest) (*mocapi.Deployment, error) {
	file, err := archive.Open(r.Package)
	if err != nil {
		return nil, fault.Wrap(fault.BadRequest, err).WithHint("sealift pack makes a package file, NAME.sealift")
	}
	defer file.Close()
	d := &file.Description
	if _, err := o.Home.KeyByPublic(d.Owner); err != nil {
		return nil, fault.Wrap(fault.BadRequest, fmt.Errorf("the package was signed with another owner's key: %w", err))
	}
	if err := o.Home.RaiseSequence(d.Name, d.Sequence); err != nil {
		return nil, err
	}
	s, err := o.connect(o.Context)
	if err != nil {
		return nil, err
	}
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	dep, err := o.create(ctx, s, file, r)
	if err != nil {
		return nil, err
	}
	if !r.Wait {
		return dep, nil
	}
	return o.finish(ctx, dep.ID, r.Policy)
}

// create pushes, posts the request and stores the deployment.
func (o *Owner) create(ctx context.Context, s *session, file *archive.File, r DeployRequest) (*mocapi.Deployment, error) {
	d := &file.Description
	me, err := persist(ctx, o, func() (mocapi.Identity, error) { return s.api.WhoAmI(ctx) })
	if err != nil {
		return nil, err
	}
	var with *deployment
	if r.ShareWith != "" {
		if with, err = o.shareWith(r.ShareWith, d.Name); err != nil {
			return nil, err
		}
		r.Sharing = true
	}
	request := requestFor(d, r, with)
	for _, a := range file.Artifacts {
		ref, err := o.push(ctx, s, repository(me.Name, d.Name, a.Role), a)
		if err != nil {
			return nil, err
		}
		request.Packages = append(request.Packages, ref)
	}
	dep, err := o.createOnce(ctx, s, request)
	if err != nil {
		return nil, err
	}
	if err := checkPlan(d, dep, r.Delivery); err != nil {
		return nil, err
	}
	if err := checkInstance(dep, r.Sharing, with); err != nil {
		return nil, err
	}
	o.followFrom(dep.ID, 0)
	state := deployment{ID: dep.ID, Context: s.name, Account: me.Name, Delivery: r.Delivery, Package: *d, Created: o.Now().UTC(), Sharing: r.Sharing}
	if dep.TEE != dep.ID {
		state.TEE = dep.TEE
	}
	if err := o.Home.AddDeployment(dep.ID, state); err != nil {
		return nil, err
	}
	where := ""
	if state.TEE != "" {
		where = "in the TEE instance " + state.TEE + " "
	}
	o.tell("deploy", "moc", fmt.Sprintf("the M/OC placed deployment %s %son device %s (%s/%s)%s", dep.ID, where, dep.Device, dep.Hardware, dep.Instance, mark(dep.Emulated)))
	return dep, nil
}

// requestFor is the request without its packages.
func requestFor(d *archive.Description, r DeployRequest, with *deployment) mocapi.DeploymentRequest {
	out := mocapi.DeploymentRequest{App: d.Name, Mode: string(d.Mode), Device: r.Device, Labels: r.Labels, Place: r.Place, Delivery: r.Delivery,
		OwnerKey: d.Owner, Packages: []mocapi.PackageRef{}}
	if r.Sharing {
		out.Sharing = mocapi.SharingOwner
	}
	if with != nil {
		out.ShareWith = with.ID
	}
	for _, h := range d.Hardware {
		out.Hardware = append(out.Hardware, string(h))
	}
	for _, i := range d.Instances {
		out.Instances = append(out.Instances, string(i))
	}
	return out
}

// createOnce posts a deployment request exactly once, also when an answer is lost: a request that may have arrived is looked for in
// the list of deployments before it is repeated.
func (o *Owner) createOnce(ctx context.Context, s *session, r mocapi.DeploymentRequest) (*mocapi.Deployment, error) {
	known, err := persist(ctx, o, func() ([]mocapi.Deployment, error) { return s.api.Deployments(ctx) })
	if err != nil {
		return nil, err
	}
	unsure := false
	return persist(ctx, o, func() (*mocapi.Deployment, error) {
		if unsure {
			now, err := s.api.Deployments(ctx)
			if err != nil {
				return nil, err
			}
			if d := newOne(known, now, r); d != nil {
				return d, nil
			}
		}
		d, err := s.api.CreateDeployment(ctx, r)
		unsure = unsure || (err != nil && !neverArrived(err))
		return d, err
	})
}

// newOne returns the deployment in now that is not in known and fits the request.
func newOne(known, now []mocapi.Deployment, r mocapi.DeploymentRequest) *mocapi.Deployment {
	for i := range now {
		d := &now[i]
		old := slices.ContainsFunc(known, func(k mocapi.Deployment) bool { return k.ID == d.ID })
		if !old && d.App == r.App && d.Sharing == r.Sharing && (d.Delivery == usecase.DeliveryChannel) == (r.Delivery == usecase.DeliveryChannel) && d.OwnerKey.Equal(r.OwnerKey) && slices.Equal(d.Packages, r.Packages) {
			return d
		}
	}
	return nil
}

// repository is where an owner's packages lie in the M/OC's registry.
func repository(account, app, role string) string { return account + "/" + app + "/" + role }

// checkPlan compares the M/OC's plan with the one that the use case has for this mode and place: an operator that leaves out the
// attestation, or moves PD before it, is noticed before anything is released.
func checkPlan(d *archive.Description, dep *mocapi.Deployment, delivery string) error {
	own, err := planOf(d.Mode, usecase.Cell{Instance: usecase.Instance(dep.Instance), Hardware: usecase.Hardware(dep.Hardware)}, delivery)
	if err != nil {
		return fault.Wrap(fault.InvalidCell, fmt.Errorf("the M/OC placed the deployment where it cannot be: %w", err))
	}
	if !slices.Contains(CellsOf(d), usecase.Cell{Instance: own.Instance, Hardware: own.Hardware}) {
		return &fault.Error{Code: fault.InvalidCell, Exit: fault.ExitPolicy, Message: fmt.Sprintf(
			"the M/OC placed the deployment on %s/%s, which the package does not accept", dep.Hardware, dep.Instance)}
	}
	var names []usecase.StepName
	for _, s := range dep.Plan {
		names = append(names, s.Step)
	}
	if own.Delivery == usecase.DeliveryChannel && dep.Delivery != own.Delivery {
		return &fault.Error{Code: fault.Conflict, Exit: fault.ExitDrift, Message: "the M/OC does not know the delivery " + own.Delivery}
	}
	if !slices.Equal(names, own.Names()) {
		return &fault.Error{Code: fault.Conflict, Exit: fault.ExitDrift, Message: fmt.Sprintf(
			"the M/OC's plan %v differs from the load sequence of mode %s: %v", names, d.Mode, own.Names())}
	}
	return nil
}

// finish drives a deployment to running: each time it is the owner's turn, it verifies and, once the appraisal covers what the PD goes to,
// releases. In mode ua+pd,ta there are two turns: the Agent is appraised before the TA comes, and with the TA before the PD does.
func (o *Owner) finish(ctx context.Context, id, policy string) (*mocapi.Deployment, error) {
	d, err := o.find(id)
	if err != nil {
		return nil, err
	}
	dep, err := o.Await(ctx, id)
	if err != nil {
		return nil, err
	}
	for turn := 1; dep.State == mocapi.StateAwaitingAppraisal; turn++ {
		a, err := o.Verify(ctx, id, VerifyOptions{Policy: policy})
		if err != nil {
			return nil, err
		}
		if a.covers(d) || turn > 1 {
			if _, err := o.Release(ctx, a); err != nil {
				return nil, err
			}
			dep, err = o.AwaitReleased(ctx, a)
		} else {
			dep, err = o.Await(ctx, id)
		}
		if err != nil {
			return nil, err
		}
	}
	if dep, err = o.AwaitRunning(ctx, id); err != nil {
		return nil, err
	}
	if d.Package.Mode.Sealed(usecase.TA) {
		// The TA came with the PD, after the Agent was appraised: its own keys are known only now.
		if _, err := o.Verify(ctx, id, VerifyOptions{Policy: policy}); err != nil {
			return nil, err
		}
	}
	return dep, nil
}

// Await waits until it is the owner's turn (state awaiting-appraisal) or the application runs, and tells each step as the M/OC records it.
func (o *Owner) Await(ctx context.Context, ref string) (*mocapi.Deployment, error) {
	return o.follow(ctx, ref, func(d *mocapi.Deployment) bool {
		return d.State == mocapi.StateAwaitingAppraisal || d.State == mocapi.StateAwaitingDelivery || d.State == mocapi.StateRunning
	})
}

// AwaitRunning waits until every step of the plan is done.
func (o *Owner) AwaitRunning(ctx context.Context, ref string) (*mocapi.Deployment, error) {
	return o.follow(ctx, ref, func(d *mocapi.Deployment) bool { return d.State == mocapi.StateRunning })
}

// follow polls a deployment until done. A deployment that failed or is being removed ends it.
func (o *Owner) follow(ctx context.Context, ref string, done func(*mocapi.Deployment) bool) (*mocapi.Deployment, error) {
	local, err := o.find(ref)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(local.Context)
	if err != nil {
		return nil, err
	}
	var since uint64
	var last *mocapi.Deployment
	said := "" // by the device, of what keeps it
	silent := false
	for {
		dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, local.ID, since, longPoll) })
		if errors.Is(err, context.DeadlineExceeded) && last != nil {
			if fresh, err := s.again(local.ID); err == nil {
				last = fresh
			}
			return last, timeoutError(last)
		}
		if err != nil {
			return nil, err
		}
		o.tellSteps(dep)
		if st := dep.InstanceStatus; st != nil && st.LastError != "" && st.LastError != said {
			o.tell("wait", "device", "the device says: "+st.LastError)
			said = st.LastError
		}
		if now := !dep.DeviceSilentSince.IsZero(); now != silent {
			if silent = now; silent {
				o.tell("wait", "moc", silence(dep))
			}
		}
		o.tellTransfers(dep)
		last, since = dep, dep.Version
		switch {
		case done(dep):
			return dep, nil
		case dep.State == mocapi.StateFailed:
			return dep, problemOf(dep)
		case dep.State == mocapi.StateStopping || dep.State == mocapi.StateStopped:
			return dep, resting(dep)
		case dep.State == mocapi.StateRemoving || dep.State == mocapi.StateRemoved:
			return dep, fault.New(fault.DeploymentRemoved, "the deployment %s is %s", dep.ID, dep.State)
		}
	}
}

// again asks for a deployment once more when the time that was given is over: what keeps it may have shown since the last answer.
func (s *session) again(id string) (*mocapi.Deployment, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return s.api.Deployment(ctx, id, 0, 0)
}

func problemOf(dep *mocapi.Deployment) error {
	if dep.Problem != nil {
		return dep.Problem
	}
	return fault.New(fault.Internal, "the deployment %s failed, and the M/OC does not say why", dep.ID)
}

// silence says that the device of a deployment may be lost.
func silence(dep *mocapi.Deployment) string {
	return fmt.Sprintf("the M/OC has not heard from device %s since %s", dep.Device, dep.DeviceSilentSince.Local().Format("2006-01-02 15:04:05"))
}

func timeoutError(dep *mocapi.Deployment) error {
	e := fault.New(fault.Unavailable, "the deployment %s is still %s", dep.ID, dep.State)
	if !dep.DeviceSilentSince.IsZero() {
		return e.WithHint("%s", silence(dep))
	}
	if st := dep.InstanceStatus; st != nil && st.LastError != "" {
		return e.WithHint("the device says: %s", st.LastError)
	}
	return e.WithHint("sealift status %s shows where it stands; a longer --timeout waits longer", dep.ID)
}

// tellTransfers tells how much of the large payloads has reached the device.
func (o *Owner) tellTransfers(dep *mocapi.Deployment) {
	if o.Progress == nil || dep.InstanceStatus == nil {
		return
	}
	for _, t := range dep.InstanceStatus.Transfers {
		o.Progress("installing "+t.Component, t.Bytes, t.Total)
	}
}

// followFrom says that the first n steps of a deployment are known.
func (o *Owner) followFrom(id string, n int) {
	if o.told == nil {
		o.told = make(map[string]int)
	}
	o.told[id] = n
}

// tellSteps tells the steps of a trace that were not told yet. What a deployment had done before this Owner first looked at it is history,
// not news: `sealift status` shows it.
func (o *Owner) tellSteps(dep *mocapi.Deployment) {
	if _, followed := o.told[dep.ID]; !followed {
		o.followFrom(dep.ID, len(dep.Trace))
	}
	for i, t := range dep.Trace {
		if i < o.told[dep.ID] {
			continue
		}
		text := t.What
		if t.Detail != "" {
			text += ": " + t.Detail
		}
		if o.Events != nil {
			o.Events(Event{Time: t.Time, Step: string(t.Step.Step), Actor: string(t.Actor), Text: text})
		}
		o.told[dep.ID] = i + 1
	}
}

// mark is what every output carries that rests on an emulated root.
func mark(emulated bool) string {
	if emulated {
		return " [EMULATED]"
	}
	return ""
}
