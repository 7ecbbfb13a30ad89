// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"crypto/rand"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/fault"
	"sealift/internal/moc"
	"sealift/internal/moc/load"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep/teephttp"
)

// TestCourse follows a deployment from request to removal, and restarts the M/OC between any two acts.
func TestCourse(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true})
	if got := w.get(d.ID).State; got != mocapi.StateAdmitting {
		t.Errorf("state %s, want admitting", got)
	}
	w.restart()
	w.session(a)
	d = w.get(d.ID)
	if d.State != mocapi.StateAwaitingAppraisal || !slices.Equal(steps(d), []string{"admit", "ta-to-instance"}) || !d.AgentKey.Equal(a.Key()) {
		t.Fatalf("state %s, trace %v", d.State, steps(d))
	}
	_, err := w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{Appraisal: "a0"})
	wantCode(t, err, fault.ReleaseBeforeAppraisal)

	w.restart()
	e, nonce := w.evidence(d.ID, a)
	stranger, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	strange, err := cose.NewSigner(stranger)
	must(t, err)
	_, err = w.owner.PostAppraisal(w.ctx, d.ID, mocapi.AppraisalRequest{Evidence: e.ID, Result: w.appraise(e, nonce, strange)})
	wantCode(t, err, fault.BadAppraisal)
	_, err = w.other.PostAppraisal(w.ctx, d.ID, mocapi.AppraisalRequest{Evidence: e.ID, Result: w.appraise(e, nonce, w.signer)})
	wantCode(t, err, fault.NotFound)
	ap, err := w.owner.PostAppraisal(w.ctx, d.ID, mocapi.AppraisalRequest{Evidence: e.ID, Result: w.appraise(e, nonce, w.signer)})
	must(t, err)
	if !ap.Positive || !w.get(d.ID).Appraised {
		t.Errorf("appraisal %+v, deployment appraised %v", ap, w.get(d.ID).Appraised)
	}

	w.restart()
	pd := w.push("pd", 2, suit.NewComponentID("pd", "app", "rows"), "ciphertext")
	_, err = w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{Appraisal: ap.ID, Packages: []mocapi.PackageRef{pd}})
	must(t, err)
	w.session(a)
	d = w.get(d.ID)
	if d.State != mocapi.StateRunning || len(a.Installs) != 2 {
		t.Fatalf("state %s, trace %v, installs %v", d.State, steps(d), a.Installs)
	}
	trace, err := w.owner.Trace(w.ctx, d.ID)
	must(t, err)
	if !trace.Complete {
		t.Errorf("trace %v is not the plan", steps(d))
	}
}

// TestRemoval checks the order: the Agent gives up, the work list drops, the Broker reports, the state follows.
func TestRemoval(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	w.session(a)
	running := mocapi.InstanceStatus{ID: d.ID, Running: true}
	w.announce(running)
	_, err := w.owner.DeleteDeployment(w.ctx, d.ID)
	must(t, err)
	work, err := w.device.Work(w.ctx, "d1", "b1", 0, 0)
	must(t, err)
	if len(work.Instances) != 1 || work.Instances[0].Wake < 2 {
		t.Fatalf("work %+v: the Agent has to be asked first", work)
	}
	w.session(a)
	work, err = w.device.Work(w.ctx, "d1", "b1", work.Generation, time.Second)
	must(t, err)
	if len(work.Instances) != 0 {
		t.Fatalf("work %+v after the Agent gave up", work)
	}
	w.announce() // of an older generation: says nothing about the drop
	if got := w.get(d.ID).State; got != mocapi.StateRemoving {
		t.Errorf("state %s before the Broker has applied the drop", got)
	}
	last := announcementOf(w)
	last.Generation = work.Generation
	must(t, w.device.Announce(w.ctx, "d1", last))
	if got := w.get(d.ID).State; got != mocapi.StateRemoved {
		t.Errorf("state %s, want removed", got)
	}
	_, err = w.owner.RequestEvidence(w.ctx, d.ID, []byte(strings.Repeat("n", 32)))
	wantCode(t, err, fault.DeploymentRemoved)
}

// TestStopStart follows a running deployment through a stop and a start, with the M/OC restarted between any two acts: its place is free
// while it is stopped, nothing is asked of its Agent, and it runs again when its owner has appraised it anew and the Agent holds nothing back.
func TestStopStart(t *testing.T) {
	w := newWorld(t)
	d, a := w.run()
	check := func(state mocapi.State, used int, stopped bool) {
		t.Helper()
		w.restart()
		if got := w.get(d.ID); got.State != state || got.Appraised != (state == mocapi.StateRunning) && state != mocapi.StateStopping && state != mocapi.StateStopped {
			t.Fatalf("state %s, appraised %v, want %s", got.State, got.Appraised, state)
		}
		devices, err := w.owner.Devices(w.ctx)
		must(t, err)
		work, err := w.device.Work(w.ctx, "d1", "b1", 0, 0)
		must(t, err)
		if devices[0].Used != used || len(work.Instances) != 1 || work.Instances[0].Stopped != stopped {
			t.Errorf("%d places are used, want %d; work %+v", devices[0].Used, used, work)
		}
	}
	start := func() error {
		_, err := w.owner.StartDeployment(w.ctx, d.ID)
		return err
	}
	must(t, start()) // it runs
	check(mocapi.StateRunning, 1, false)
	before := w.get(d.ID).Version
	for range 2 {
		_, err := w.owner.StopDeployment(w.ctx, d.ID)
		must(t, err)
		check(mocapi.StateStopping, 1, true)
	}
	if got := w.get(d.ID).Version; got != before+1 {
		t.Errorf("a second stop has changed something: version %d, %d before", got, before)
	}
	w.announce(mocapi.InstanceStatus{ID: d.ID, Stopped: true})
	check(mocapi.StateStopped, 0, true)
	w.announce() // a Broker that has just started
	check(mocapi.StateStopped, 0, true)
	w.announce(mocapi.InstanceStatus{ID: d.ID, LastError: "the platform is not there yet"})
	check(mocapi.StateStopped, 0, true)
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true})
	check(mocapi.StateStopping, 1, true)
	w.announce(mocapi.InstanceStatus{ID: d.ID, Stopped: true})
	check(mocapi.StateStopped, 0, true)
	_, err := w.owner.RequestEvidence(w.ctx, d.ID, []byte(strings.Repeat("n", 32)))
	wantCode(t, err, fault.DeploymentStopped)
	_, err = w.owner.CreateUpdate(w.ctx, d.ID, mocapi.UpdateRequest{PD: true})
	wantCode(t, err, fault.DeploymentStopped)
	_, err = w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{})
	wantCode(t, err, fault.DeploymentStopped)
	_, err = w.other.StopDeployment(w.ctx, d.ID)
	wantCode(t, err, fault.NotFound)

	var others []string
	for range 4 { // the capacity of the device
		o, err := w.owner.CreateDeployment(w.ctx, w.request())
		must(t, err)
		others = append(others, o.ID)
	}
	wantCode(t, start(), fault.NoDevice)
	for _, id := range others {
		_, err := w.owner.DeleteDeployment(w.ctx, id)
		must(t, err)
	}
	last := announcementOf(w)
	work, err := w.device.Work(w.ctx, "d1", "b1", 0, 0)
	must(t, err)
	last.Generation, last.Instances = work.Generation, []mocapi.InstanceStatus{{ID: d.ID, Stopped: true}}
	must(t, w.device.Announce(w.ctx, "d1", last))

	must(t, start())
	check(mocapi.StateStarting, 1, false)
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true, Held: true})
	check(mocapi.StateAwaitingAppraisal, 1, false)
	w.session(a)
	w.appraised(d.ID, a)
	if got := w.get(d.ID).State; got != mocapi.StateAwaitingAppraisal {
		t.Errorf("state %s while the Agent holds the TA", got)
	}
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true})
	check(mocapi.StateRunning, 1, false)
	if len(a.Installs) != 2 {
		t.Errorf("installed again: %v", a.Installs)
	}
}

// TestRemovalOfStopped: the instance is started once more, so that its Agent can give up what it has.
func TestRemovalOfStopped(t *testing.T) {
	w := newWorld(t)
	d, a := w.run()
	_, err := w.owner.StopDeployment(w.ctx, d.ID)
	must(t, err)
	w.announce(mocapi.InstanceStatus{ID: d.ID, Stopped: true})
	_, err = w.owner.DeleteDeployment(w.ctx, d.ID)
	must(t, err)
	work, err := w.device.Work(w.ctx, "d1", "b1", 0, 0)
	must(t, err)
	if len(work.Instances) != 1 || work.Instances[0].Stopped || w.get(d.ID).State != mocapi.StateRemoving {
		t.Fatalf("work %+v, state %s", work, w.get(d.ID).State)
	}
	w.session(a)
	if work, err = w.device.Work(w.ctx, "d1", "b1", work.Generation, time.Second); err != nil || len(work.Instances) != 0 {
		t.Errorf("work %+v, %v after the Agent gave up", work, err)
	}
	_, err = w.owner.StartDeployment(w.ctx, d.ID)
	wantCode(t, err, fault.DeploymentRemoved)
	_, err = w.owner.StopDeployment(w.ctx, d.ID)
	wantCode(t, err, fault.DeploymentRemoved)
}

// TestAbandon: a deployment whose device is silent can be given up, with all that the operator keeps of it; a device that comes back all the same is
// not to have it.
func TestAbandon(t *testing.T) {
	w := newWorld(t)
	d, _ := w.run()
	_, err := w.owner.AbandonDeployment(w.ctx, d.ID)
	wantCode(t, err, fault.Conflict)
	w.stop()
	now := time.Now().Add(2 * mocapi.LeaseTime)
	w.change = func(c *moc.Config) { c.Now = func() time.Time { return now } }
	w.start()
	_, err = w.other.AbandonDeployment(w.ctx, d.ID)
	wantCode(t, err, fault.NotFound)
	for range 2 {
		got, err := w.owner.AbandonDeployment(w.ctx, d.ID)
		must(t, err)
		if got.State != mocapi.StateRemoved || len(got.Packages) != 0 {
			t.Errorf("%s, with %d packages", got.State, len(got.Packages))
		}
	}
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true})
	if work, err := w.device.Work(w.ctx, "d1", "b1", 0, 0); err != nil || len(work.Instances) != 0 || w.get(d.ID).State != mocapi.StateRemoved {
		t.Errorf("work %+v, %v; state %s", work, err, w.get(d.ID).State)
	}
}

// run deploys, appraises and releases: the deployment runs.
func (w *world) run() (*mocapi.Deployment, *load.Agent) {
	w.t.Helper()
	d, a := w.deploy()
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true})
	w.session(a)
	ap := w.appraised(d.ID, a)
	pd := w.push("pd", 2, suit.NewComponentID("pd", "app", "rows"), "ciphertext")
	_, err := w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{Appraisal: ap.ID, Packages: []mocapi.PackageRef{pd}})
	must(w.t, err)
	w.session(a)
	if got := w.get(d.ID); got.State != mocapi.StateRunning {
		w.t.Fatalf("state %s, trace %v", got.State, steps(got))
	}
	return d, a
}

// appraised has fresh Evidence accepted by the owner.
func (w *world) appraised(id string, a *load.Agent) *mocapi.Appraisal {
	w.t.Helper()
	e, nonce := w.evidence(id, a)
	ap, err := w.owner.PostAppraisal(w.ctx, id, mocapi.AppraisalRequest{Evidence: e.ID, Result: w.appraise(e, nonce, w.signer)})
	must(w.t, err)
	return ap
}

// TestReplay sends every message of a session again, in every order: nothing changes.
func TestReplay(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	tap := &tap{Agent: a}
	w.play(tap)
	w.evidence(d.ID, a)
	before := w.get(d.ID)
	events, err := w.owner.Events(w.ctx, d.ID)
	must(t, err)
	for range 2 {
		for _, msg := range slices.Concat(tap.sent, reversed(tap.sent)) {
			if got := w.message(a.TAMURI, msg); len(got) != 0 {
				t.Errorf("a replayed message got an answer of %d bytes", len(got))
			}
		}
	}
	// Altered by one bit anywhere: dropped as well.
	for _, msg := range tap.sent {
		for i := 0; i < len(msg); i += 1 + len(msg)/40 {
			bad := slices.Clone(msg)
			bad[i] ^= 0x04
			if got := w.message(a.TAMURI, bad); len(got) != 0 {
				t.Errorf("a message with bit 2 of byte %d flipped got an answer", i)
			}
			w.message(a.TAMURI, msg[:i])
		}
	}
	after := w.get(d.ID)
	if after.Version != before.Version {
		t.Errorf("version %d became %d", before.Version, after.Version)
	}
	now, err := w.owner.Events(w.ctx, d.ID)
	must(t, err)
	if len(now) != len(events) {
		t.Errorf("replays wrote events: %v", now[len(events):])
	}
}

// TestConnectWritesNothing sends many empty POSTs.
func TestConnectWritesNothing(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	before := w.dump()
	seen := map[string]bool{}
	for range 50 {
		msg := w.message(a.TAMURI, nil)
		if len(msg) == 0 || seen[string(msg)] {
			t.Fatal("no QueryRequest, or one that was sent before")
		}
		seen[string(msg)] = true
	}
	if after := w.dump(); after != before {
		t.Error("empty POSTs changed the database")
	}
	if got := w.get(d.ID).Version; got != 1 {
		t.Errorf("version %d", got)
	}
}

// TestManifestRefused checks that an Agent's refusal becomes a problem that a person can read.
func TestManifestRefused(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	a.Refuse = func(*suit.Manifest) *report.Failure { return &report.Failure{Reason: report.ReasonConditionFailed} }
	w.session(a)
	d = w.get(d.ID)
	if d.State != mocapi.StateFailed || d.Problem == nil || d.Problem.Code != fault.ManifestRefused || !slices.Equal(steps(d), []string{"admit"}) {
		t.Errorf("state %s, problem %v, trace %v", d.State, d.Problem, steps(d))
	}
}

// TestLostComponent checks that what the device has lost is installed again, without a second line in the trace.
func TestLostComponent(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	w.session(a)
	a.Forgetful = true
	w.session(a)
	if got := steps(w.get(d.ID)); !slices.Equal(got, []string{"admit", "ta-to-instance"}) {
		t.Errorf("trace %v", got)
	}
}

// TestStranger has somebody else, with Evidence under a root that nobody knows, answer for a deployment: before its Agent
// was admitted and while its owner waits for Evidence. It is never admitted, it takes nothing that the Agent needs, and the
// Agent goes on as if it had not been there.
func TestStranger(t *testing.T) {
	w := newWorld(t)
	d, a := w.deploy()
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, time.Now())
	must(t, err)
	stranger, err := load.NewAgent(pki, d.Config)
	must(t, err)
	_ = new(teephttp.Client).Session(w.ctx, a.TAMURI, stranger, nil)
	if got := w.get(d.ID); got.AgentKey != nil || len(got.Trace) != 0 {
		t.Errorf("a stranger was admitted: %v", steps(got))
	}
	w.session(a)
	if got := w.get(d.ID); got.State != mocapi.StateAwaitingAppraisal || got.Problem != nil || !got.AgentKey.Equal(a.Key()) {
		t.Errorf("state %s after the Agent came: %v", got.State, got.Problem)
	}
	request, err := w.owner.RequestEvidence(w.ctx, d.ID, []byte(strings.Repeat("n", 32)))
	must(t, err)
	_ = new(teephttp.Client).Session(w.ctx, a.TAMURI, stranger, nil)
	if got := w.get(d.ID); got.State != mocapi.StateAwaitingAppraisal || !got.AgentKey.Equal(a.Key()) {
		t.Errorf("a stranger made it %s: %v", got.State, got.Problem)
	}
	w.session(a)
	e, err := w.owner.Evidence(w.ctx, d.ID, request, time.Second)
	must(t, err)
	if !e.Ready || !e.AgentKey.Equal(a.Key()) {
		t.Errorf("the owner got the Evidence of somebody else, or none: ready %v", e.Ready)
	}
}

// TestLostDevice checks that an owner who waits learns that nobody hears from the device any more, and that it is back.
func TestLostDevice(t *testing.T) {
	w := newWorld(t)
	w.announce()
	d, err := w.owner.CreateDeployment(w.ctx, w.request())
	must(t, err)
	silent := func() bool {
		t.Helper()
		now, err := w.owner.Deployment(w.ctx, d.ID, 0, 0)
		must(t, err)
		return !now.DeviceSilentSince.IsZero()
	}
	if silent() {
		t.Error("a device that was heard of a moment ago is said to be silent")
	}
	gone := announcementOf(w)
	gone.Leaving = true
	must(t, w.device.Announce(w.ctx, "d1", gone))
	if !silent() {
		t.Error("nobody is told that the device is away")
	}
	w.announce()
	if silent() {
		t.Error("the device is back, and said to be silent")
	}
}
