// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/moc"
	"sealift/internal/moc/load"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
)

// two deploys two applications into one instance, with its Agent.
func (w *world) two() (one, two *mocapi.Deployment, a *load.Agent) {
	w.t.Helper()
	one, err := w.owner.CreateDeployment(w.ctx, w.sharing("one", ""))
	must(w.t, err)
	a, err = load.NewAgent(w.pki, one.Config)
	must(w.t, err)
	w.session(a)
	two, err = w.owner.CreateDeployment(w.ctx, w.sharing("two", one.ID))
	must(w.t, err)
	w.at(a, two)
	return one, two, a
}

// sharing asks for an application in an instance that may be shared.
func (w *world) sharing(app, with string) mocapi.DeploymentRequest {
	w.t.Helper()
	return mocapi.DeploymentRequest{App: app, Mode: "ta,pd", OwnerKey: w.signer.Key(), Sharing: mocapi.SharingOwner, ShareWith: with,
		Packages: []mocapi.PackageRef{w.push("ta", 1, suit.NewComponentID("tee", app, "ta"), "a TA")}}
}

// at is the Agent of an instance in a session of another deployment.
func (w *world) at(a *load.Agent, d *mocapi.Deployment) {
	w.t.Helper()
	a.TAMURI = d.TAMURI
	w.session(a)
}

func (w *world) work() mocapi.Work {
	w.t.Helper()
	work, err := w.device.Work(w.ctx, "d1", "b1", 0, 0)
	must(w.t, err)
	return work
}

// TestSharing follows two deployments in one instance, with the M/OC restarted between acts: each has its plan, its trace and its sessions; the
// first goes and the other stays; the last takes the instance with it.
func TestSharing(t *testing.T) {
	w := newWorld(t)
	w.announce()
	one, err := w.owner.CreateDeployment(w.ctx, w.sharing("one", ""))
	must(t, err)
	a, err := load.NewAgent(w.pki, one.Config)
	must(t, err)
	w.session(a)
	two, err := w.owner.CreateDeployment(w.ctx, w.sharing("two", ""))
	must(t, err)
	if two.TEE != one.ID || one.TEE != one.ID || string(two.Config) != string(one.Config) || !slices.Equal(two.SharesWith, []string{one.ID}) {
		t.Fatalf("%+v", two)
	}
	c, err := agentconfig.Parse(one.Config)
	must(t, err)
	if !c.Shared() || c.Deployment != one.ID {
		t.Fatalf("%+v", c)
	}
	devices, err := w.owner.Devices(w.ctx)
	must(t, err)
	work := w.work()
	if devices[0].Used != 1 || len(work.Instances) != 1 || work.Instances[0].TAMURI != one.TAMURI || len(work.Instances[0].Further) != 1 ||
		work.Instances[0].Further[0].TAMURI != two.TAMURI {
		t.Fatalf("%d places are used; work %+v", devices[0].Used, work)
	}
	w.restart()
	w.announce(mocapi.InstanceStatus{ID: one.ID, Running: true, UAs: []mocapi.UAStatus{{Component: "ree/one/ua"}, {Component: "ree/two/ua"}}})
	w.at(a, two)
	w.at(a, one)
	for _, d := range []*mocapi.Deployment{one, two} {
		now := w.get(d.ID)
		if now.State != mocapi.StateAwaitingAppraisal || !now.AgentKey.Equal(a.Key()) || len(now.Installed) != 2 ||
			!strings.HasPrefix(now.Installed[0].Component, "manifest/"+d.App+"/") || len(now.InstanceStatus.UAs) != 1 {
			t.Fatalf("%s: %s, %v, %+v, %+v", d.App, now.State, steps(now), now.Installed, now.InstanceStatus)
		}
	}
	for _, d := range []*mocapi.Deployment{two, one} {
		a.TAMURI = d.TAMURI
		ap := w.appraised(d.ID, a)
		pd := w.push("pd", 2, suit.NewComponentID("pd", d.App, "rows"), "ciphertext of "+d.App)
		_, err := w.owner.Release(w.ctx, d.ID, mocapi.ReleaseRequest{Appraisal: ap.ID, Packages: []mocapi.PackageRef{pd}})
		must(t, err)
		w.session(a)
		trace, err := w.owner.Trace(w.ctx, d.ID)
		must(t, err)
		if now := w.get(d.ID); now.State != mocapi.StateRunning || !trace.Complete {
			t.Fatalf("%s: %s, %v", d.App, now.State, steps(now))
		}
	}

	_, err = w.owner.DeleteDeployment(w.ctx, one.ID)
	must(t, err)
	w.at(a, one)
	w.restart()
	work = w.work()
	if len(work.Instances) != 1 || work.Instances[0].ID != one.ID || string(work.Instances[0].Config) != string(two.Config) ||
		work.Instances[0].TAMURI != one.TAMURI || len(work.Instances[0].Further) != 1 {
		t.Fatalf("work %+v", work)
	}
	last := announcementOf(w)
	last.Generation, last.Instances = work.Generation, []mocapi.InstanceStatus{{ID: one.ID, Running: true}}
	must(t, w.device.Announce(w.ctx, "d1", last))
	if now := w.get(one.ID); now.State != mocapi.StateRemoved || w.get(two.ID).State != mocapi.StateRunning {
		t.Fatalf("one is %s, two is %s", now.State, w.get(two.ID).State)
	}
	w.at(a, one) // the Agent's own TAM URI: it has nothing to say, and is there

	three, err := w.owner.CreateDeployment(w.ctx, w.sharing("one", two.ID))
	must(t, err)
	if three.TEE != one.ID {
		t.Fatalf("%+v", three)
	}
	for _, d := range []*mocapi.Deployment{two, three} {
		_, err = w.owner.DeleteDeployment(w.ctx, d.ID)
		must(t, err)
		w.at(a, d)
	}
	if work = w.work(); len(work.Instances) != 0 {
		t.Fatalf("work %+v", work)
	}
	last.Generation, last.Instances = work.Generation, nil
	must(t, w.device.Announce(w.ctx, "d1", last))
	for _, d := range []*mocapi.Deployment{two, three} {
		if now := w.get(d.ID); now.State != mocapi.StateRemoved {
			t.Errorf("%s is %s", d.App, now.State)
		}
	}
}

// TestSharingStubborn: an Agent that does not give up one application keeps the instance for the others, and the removal waits; with the last
// the instance goes.
func TestSharingStubborn(t *testing.T) {
	w := newWorld(t)
	now := time.Now()
	w.stop()
	w.change = func(c *moc.Config) { c.Now = func() time.Time { return now } }
	w.start()
	w.announce()
	one, two, a := w.two()
	_, err := w.owner.DeleteDeployment(w.ctx, two.ID)
	must(t, err)
	before := w.work()
	now = now.Add(time.Minute)
	w.restart()
	w.announce(mocapi.InstanceStatus{ID: one.ID, Running: true})
	work, err := w.device.Work(w.ctx, "d1", "b1", before.Generation, 5*time.Second) // the M/OC asks again
	must(t, err)
	if len(work.Instances) != 1 || len(work.Instances[0].Further) != 1 || work.Instances[0].Further[0].Wake <= before.Instances[0].Further[0].Wake ||
		w.get(two.ID).State != mocapi.StateRemoving {
		t.Fatalf("%+v, %s", work, w.get(two.ID).State)
	}
	_, err = w.owner.DeleteDeployment(w.ctx, one.ID)
	must(t, err)
	w.at(a, one)
	now = now.Add(time.Minute)
	for work.Generation = 0; len(work.Instances) != 0 || work.Generation == 0; {
		w.announce(mocapi.InstanceStatus{ID: one.ID, Running: true})
		work, err = w.device.Work(w.ctx, "d1", "b1", work.Generation, 5*time.Second)
		must(t, err)
	}
}

// TestSharingStop: one application of several is stopped when the Agent holds its TA, and has no sessions meanwhile; the instance is stopped
// when all of them are.
func TestSharingStop(t *testing.T) {
	w := newWorld(t)
	w.announce()
	one, two, _ := w.two()
	state := func(first, second mocapi.State, further int, stopped bool) {
		t.Helper()
		work := w.work().Instances[0]
		if got := []mocapi.State{w.get(one.ID).State, w.get(two.ID).State}; got[0] != first || got[1] != second || len(work.Further) != further || work.Stopped != stopped {
			t.Errorf("%v, work %+v", got, work)
		}
	}
	running := mocapi.InstanceStatus{ID: one.ID, Running: true}
	w.announce(running)
	_, err := w.owner.StopDeployment(w.ctx, two.ID)
	must(t, err)
	w.announce(running)
	state(mocapi.StateAwaitingAppraisal, mocapi.StateStopping, 0, false)
	running.Held, running.TAs = true, []mocapi.TAStatus{{Component: "tee/two/ta", Held: true}}
	w.announce(running)
	state(mocapi.StateAwaitingAppraisal, mocapi.StateStopped, 0, false)
	_, err = w.owner.StartDeployment(w.ctx, two.ID)
	must(t, err)
	running.Held, running.TAs = false, nil
	w.announce(running)
	state(mocapi.StateAwaitingAppraisal, mocapi.StateAwaitingAppraisal, 1, false)
	for _, d := range []*mocapi.Deployment{one, two} {
		_, err = w.owner.StopDeployment(w.ctx, d.ID)
		must(t, err)
	}
	state(mocapi.StateStopping, mocapi.StateStopping, 0, true)
	w.announce(mocapi.InstanceStatus{ID: one.ID, Stopped: true})
	state(mocapi.StateStopped, mocapi.StateStopped, 0, true)
	devices, err := w.owner.Devices(w.ctx)
	must(t, err)
	if devices[0].Used != 0 {
		t.Errorf("%d places are used", devices[0].Used)
	}
}

// TestSharingRefused: what keeps an application out of an instance is said, and nothing was moved.
func TestSharingRefused(t *testing.T) {
	w := newWorld(t)
	w.announce()
	alone, err := w.owner.CreateDeployment(w.ctx, w.request())
	must(t, err)
	one, err := w.owner.CreateDeployment(w.ctx, w.sharing("one", ""))
	must(t, err)
	if one.TEE != one.ID {
		t.Fatal("an instance that is not shared was joined")
	}
	refused := func(name, code, part string, r mocapi.DeploymentRequest) {
		t.Helper()
		_, err := w.owner.CreateDeployment(w.ctx, r)
		var f *fault.Error
		if !errors.As(err, &f) || f.Code != code || !strings.Contains(f.Message, part) {
			t.Errorf("%s: %v", name, err)
		}
	}
	refused("two TAs with one name", fault.NoDevice, "name (it has an application one already: deployment "+one.ID, w.sharing("one", one.ID))
	refused("not shared", fault.Conflict, "for that deployment alone", w.sharing("two", alone.ID))
	refused("nothing there", fault.NotFound, "", w.sharing("two", "d0"))
	bad := w.sharing("two", "")
	bad.Sharing = "everybody"
	refused("what sharing", fault.BadRequest, "everybody", bad)
	elsewhere := w.sharing("two", one.ID)
	elsewhere.Hardware = []string{"sgx"}
	refused("hardware", fault.NoDevice, "hardware", elsewhere)
	w.signer = newSigner(t)
	refused("another key of the same owner", fault.NoDevice, "sharing (", w.sharing("two", one.ID))

	w.signer = newSigner(t)
	first, err := w.owner.CreateDeployment(w.ctx, w.sharing("many", ""))
	must(t, err)
	spread := w.sharing("more", "")
	spread.Place = mocapi.PlaceSpread
	second, err := w.owner.CreateDeployment(w.ctx, spread)
	must(t, err)
	if first.TEE == second.TEE {
		t.Error("spread, and there was room for another instance")
	}
	spread = w.sharing("most", "") // the four places are taken
	spread.Place = mocapi.PlaceSpread
	third, err := w.owner.CreateDeployment(w.ctx, spread)
	must(t, err)
	if third.TEE != first.TEE {
		t.Errorf("%s is in %s", third.ID, third.TEE)
	}
	refused("capacity", fault.NoDevice, "instances are taken", func() mocapi.DeploymentRequest {
		r := w.sharing("much", "")
		r.Sharing = ""
		return r
	}())
	for i := range 14 {
		_, err = w.owner.CreateDeployment(w.ctx, w.sharing("app"+string(rune('a'+i)), first.ID))
		must(t, err)
	}
	refused("programs", fault.NoDevice, "programs (it has 16 applications", w.sharing("end", first.ID))
}

func newSigner(t *testing.T) cose.Signer {
	t.Helper()
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(t, err)
	s, err := cose.NewSigner(key)
	must(t, err)
	return s
}
