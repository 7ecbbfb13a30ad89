// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/usecase"
)

// holdTime bounds how long Stop tries to reach the TEE.
const holdTime = 20 * time.Second

// Stopped is what came of a stop.
type Stopped struct {
	*mocapi.Deployment
	// Held says that the TEE itself has answered: the TA does not run and sees no PD, under seal, until this owner consents by Start.
	Held    bool   `json:"held"`
	Why     string `json:"why,omitempty"`     // not held
	Already bool   `json:"already,omitempty"` // it was stopped before
}

// Stop ends a deployment's TEE instance and its UA and keeps what the instance has sealed. First the TEE is told, at the owner's desk of the
// TA, so that nobody but this owner can have the TA run with PD again; where it cannot be told, that is said, and the stop goes on. It waits
// until the device has stopped it.
func (o *Owner) Stop(ctx context.Context, ref string) (*Stopped, error) {
	d, err := o.find(ref)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	if err != nil {
		return nil, err
	}
	out := &Stopped{Already: dep.State == mocapi.StateStopped}
	switch {
	case out.Already || dep.State == mocapi.StateStopping:
		out.Why = "the stop was asked for before"
	case len(d.Released) == 0 && !d.Sharing: // the TEE has to end one TA of a shared instance, the device cannot
		out.Why = "no PD was released to it"
	case !dep.DeviceSilentSince.IsZero():
		out.Why = silence(dep)
	case d.Appraised == nil && dep.InstanceStatus != nil && dep.InstanceStatus.Held:
		out.Why = "its last Evidence was refused, so the TEE was not asked; the device says that it still holds the TA back"
	case !d.Sharing && (dep.InstanceStatus == nil || !dep.InstanceStatus.Running):
		out.Why = "its TEE instance does not run"
	default:
		err := o.hold(ctx, d)
		if err != nil && d.Sharing {
			return nil, fault.Wrap(fault.Conflict, fmt.Errorf("its TEE instance runs on for other deployments, and could not be told to stop its TA: %w", err))
		}
		if err != nil {
			out.Why = err.Error()
			o.tell("stop", "owner", "the TEE could not be told, and keeps no PD back when it is started: "+out.Why)
		} else {
			out.Held = true
			o.tell("stop", "agent", "the TEE has sealed that its TA sees no PD until this owner starts it"+mark(dep.Emulated))
		}
	}
	dep, err = persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.StopDeployment(ctx, d.ID) })
	for err == nil && dep.State == mocapi.StateStopping {
		last := dep
		dep, err = persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, last.Version, longPoll) })
		if err != nil && ctx.Err() != nil {
			if fresh, err := s.again(d.ID); err == nil {
				last = fresh
			}
			e := fault.New(fault.Unavailable, "the device has not reported the deployment %s stopped", d.ID)
			return nil, e.WithHint("%s", stillStopping(last))
		}
	}
	if err != nil {
		return nil, err
	}
	if out.Deployment = dep; dep.State != mocapi.StateStopped {
		return nil, fault.New(fault.Conflict, "the deployment %s was to be stopped, and is %s: somebody else has spoken since", d.ID, dep.State)
	}
	return out, nil
}

func stillStopping(dep *mocapi.Deployment) string {
	const goesOn = "the stop goes on; run stop again to wait for it"
	if !dep.DeviceSilentSince.IsZero() {
		return silence(dep) + "; " + goesOn
	}
	if st := dep.InstanceStatus; st != nil && st.LastError != "" {
		return "the device says: " + st.LastError + "; " + goesOn
	}
	return goesOn
}

// hold tells the TEE that the TA is stopped.
func (o *Owner) hold(ctx context.Context, d *deployment) error {
	ctx, cancel := context.WithTimeout(ctx, holdTime)
	defer cancel()
	u, err := o.speakUntil(ctx, d.ID, agentconfig.DeskHold)
	if err == nil && u.State != channel.TAHeld {
		err = fault.New(fault.AgentError, "the TEE answers that the TA is %s", u.State)
	}
	return err
}

// speakUntil makes a request of the desk that is answered with a report, and makes it again while the device comes back: asking twice changes nothing.
func (o *Owner) speakUntil(ctx context.Context, ref, what string) (*agentconfig.DeskReport, error) {
	for pause := 100 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		u, err := o.speak(ctx, ref, what)
		if err == nil || !away(err) && !fault.Is(err, fault.NotFound) { // a Broker that has just started knows of no deployment yet
			return u, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

// speak makes a request of the desk that is answered with a report.
func (o *Owner) speak(ctx context.Context, ref, what string) (*agentconfig.DeskReport, error) {
	var u agentconfig.DeskReport
	err := o.desk(ctx, ref, agentconfig.DeskRequest{Get: what}, func(r io.Reader) error {
		return json.NewDecoder(io.LimitReader(r, maxReport)).Decode(&u)
	})
	return &u, err
}

// StartRequest says what to start.
type StartRequest struct {
	Deployment string
	Policy     string // the owner's policy; empty: home.DefaultPolicy
	Timeout    time.Duration
}

// Started is what came of a start.
type Started struct {
	*mocapi.Deployment
	Already bool `json:"already,omitempty"` // it ran
}

// Start runs a deployment again that was stopped, or that its device had given up, and waits until it is up. Then the owner appraises it
// anew, by fresh Evidence; only if it accepts does it tell the TEE to go on, and only then does the deployment count as running. What is
// sealed opens for the very program and configuration that were appraised before, so nothing is released again. A deployment whose first
// installation had not ended goes on with that; its owner verifies and releases as before. Where the owner delivers PD itself, it was in the
// memory of the instance that has ended, and is delivered again.
func (o *Owner) Start(ctx context.Context, r StartRequest) (*Started, error) {
	d, err := o.find(r.Deployment)
	if err != nil {
		return nil, err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return nil, err
	}
	if r.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, r.Timeout)
		defer cancel()
	}
	dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.StartDeployment(ctx, d.ID) })
	if err != nil || dep.State == mocapi.StateRunning {
		return &Started{dep, true}, err
	}
	dep, err = o.follow(ctx, d.ID, func(dep *mocapi.Deployment) bool { return dep.State != mocapi.StateStarting })
	if err != nil || dep.State == mocapi.StateRunning || len(dep.Trace) < len(dep.Plan) {
		return &Started{dep, false}, err
	}
	o.tell("start", "device", fmt.Sprintf("the TEE instance runs again on device %s%s", dep.Device, mark(dep.Emulated)))
	if _, err := o.Verify(ctx, d.ID, VerifyOptions{Policy: r.Policy}); err != nil {
		return nil, err
	}
	if d.Delivery == usecase.DeliveryChannel && d.Package.Mode.Sealed(usecase.TA) { // there is no TA: it was in memory only
		return o.startLive(ctx, d.ID)
	}
	u, err := o.speakUntil(ctx, d.ID, agentconfig.DeskConsent)
	if err != nil {
		return nil, err
	}
	o.tell("start", "agent", fmt.Sprintf("the TEE has the owner's consent; the TA is %s%s", u.State, mark(dep.Emulated)))
	if d.Delivery == usecase.DeliveryChannel {
		return o.startLive(ctx, d.ID)
	}
	dep, err = o.AwaitRunning(ctx, d.ID)
	return &Started{dep, false}, err
}

// startLive goes on with the start of a deployment whose PD the owner delivers itself: it was in the memory of the instance that has ended.
func (o *Owner) startLive(ctx context.Context, id string) (*Started, error) {
	a, err := o.Appraised(id)
	if err != nil {
		return nil, err
	}
	if _, err := o.Release(ctx, a); err != nil {
		return nil, err
	}
	dep, err := o.AwaitReleased(ctx, a)
	return &Started{dep, false}, err
}

// resting returns why a deployment does not answer although nothing is wrong with it: it is stopped, or was started again and waits for its
// owner. It returns nil where that is not so.
func resting(dep *mocapi.Deployment) error {
	switch {
	case dep.State == mocapi.StateStopping || dep.State == mocapi.StateStopped || dep.State == mocapi.StateStarting:
		return fault.New(fault.DeploymentStopped, "the deployment %s is %s", dep.ID, dep.State).WithHint("sealift start %s runs it again", dep.ID)
	case dep.State == mocapi.StateAwaitingDelivery:
		return fault.New(fault.DeliveryDue, "the TEE of the deployment %s waits for what its owner delivers", dep.ID).
			WithHint("sealift release %s delivers it", dep.ID)
	case dep.State == mocapi.StateAwaitingAppraisal && len(dep.Trace) == len(dep.Plan):
		return fault.New(fault.ReleaseBeforeAppraisal, "the deployment %s was started again, and waits for its owner", dep.ID).
			WithHint("sealift start %s appraises it and lets it run", dep.ID)
	}
	return nil
}
