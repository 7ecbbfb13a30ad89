// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"errors"
	"slices"
	"testing"
	"time"

	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/usecase"
)

// failing makes an Error 17 with a report; the nonce is set when the token is known.
func failing(w *world, reason report.Reason) func(*suit.Manifest) *teep.Error {
	w.agent.tamper = func(m teep.Message) {
		e, ok := m.(*teep.Error)
		if !ok || len(e.SUITReports) == 0 {
			return
		}
		r, err := report.Parse(e.SUITReports[0])
		must(w.t, err)
		r.Nonce = e.Token
		e.SUITReports[0], err = r.Marshal()
		must(w.t, err)
	}
	return func(m *suit.Manifest) *teep.Error {
		r := &report.Report{Digest: m.Digest, Failure: &report.Failure{Reason: reason}}
		data, err := r.Marshal()
		must(w.t, err)
		return &teep.Error{Code: teep.ErrCodeManifestProcessingFailed, Msg: "the reason", SUITReports: [][]byte{data}}
	}
}

// TestErrors: what the Agent answers to an Update decides whether and when it is tried again.
func TestErrors(t *testing.T) {
	code := func(c teep.ErrCode) func(*world) func(*suit.Manifest) *teep.Error {
		return func(*world) func(*suit.Manifest) *teep.Error {
			return func(*suit.Manifest) *teep.Error { return &teep.Error{Code: c, Msg: "the reason"} }
		}
	}
	reason := func(r report.Reason) func(*world) func(*suit.Manifest) *teep.Error {
		return func(w *world) func(*suit.Manifest) *teep.Error { return failing(w, r) }
	}
	for _, c := range []struct {
		name    string
		refuse  func(*world) func(*suit.Manifest) *teep.Error
		retry   time.Duration // 0: never
		problem string
		state   mocapi.State
	}{
		{"temporary", code(teep.ErrCodeTemporary), 4 * time.Second, "", mocapi.StateInstalling},
		{"permanent", code(teep.ErrCodePermanent), time.Hour, "agent-error/1", mocapi.StateFailed},
		{"unknown code", code(99), 0, "agent-error/1", mocapi.StateFailed},
		{"manifest, no report", code(teep.ErrCodeManifestProcessingFailed), 0, "manifest-refused/1", mocapi.StateFailed},
		{"payload not to be had", reason(report.ReasonOperationFailed), 4 * time.Second, "", mocapi.StateInstalling},
		{"condition", reason(report.ReasonConditionFailed), 0, "manifest-refused/1", mocapi.StateFailed},
		{"signature", reason(report.ReasonUnauthorised), 0, "manifest-refused/1", mocapi.StateFailed},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, usecase.ModeTAPD, "")
			w.agent.refuse = c.refuse(w)
			w.session()
			d := w.deployment()
			if w.problem() != c.problem || d.State != c.state || w.steps() != "admit" {
				t.Errorf("problem %q, state %s, trace %s", w.problem(), d.State, w.steps())
			}
			if c.retry == 0 != d.Private.RetryAt.IsZero() || c.retry > 0 && !d.Private.RetryAt.Equal(w.clock.Add(c.retry)) {
				t.Errorf("retry at %v, now %v", d.Private.RetryAt, w.clock)
			}
			if c.problem != "" {
				before := len(w.agent.manifests())
				w.session()
				if len(w.agent.manifests()) != before {
					t.Error("a failed deployment got an Update")
				}
			}
			w.agent.refuse = nil // mended, and the time has come
			w.update(func(_ *store.Tx, d *store.Deployment) error {
				d.Private.RetryAt, d.Private.Failed = time.Time{}, false
				return nil
			})
			w.session()
			if w.steps() != "admit ta-to-instance" || w.problem() != "" || w.deployment().Private.Attempts != 0 {
				t.Errorf("afterwards: trace %s, problem %q, %+v", w.steps(), w.problem(), w.deployment().Private)
			}
		})
	}
}

// TestAttempts: a payload that cannot be had is not asked for without end, and each time later.
func TestAttempts(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.agent.refuse = failing(w, report.ReasonOperationFailed)
	last := time.Duration(0)
	for n := 1; ; n++ {
		w.session()
		d := w.deployment()
		if d.State == mocapi.StateFailed {
			if n != 6 || w.problem() != "manifest-refused/1" {
				t.Errorf("after %d attempts: %q", n, w.problem())
			}
			return
		}
		if n > 6 {
			t.Fatal("it is tried without end")
		}
		wait := d.Private.RetryAt.Sub(w.clock)
		if wait <= last {
			t.Errorf("attempt %d: wait %v after %v", n, wait, last)
		}
		last = wait
		w.clock = w.clock.Add(wait)
	}
}

// TestDamagedPayload: where the operator's own store has other bytes than the owner pushed, or none, nothing is tried again by itself, and the
// reason is the store's. Where the store is well the cause is somewhere else.
func TestDamagedPayload(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	asked, damage := []string{}, errors.New("other bytes")
	w.engine.Stored = func(digest string) error {
		asked = append(asked, digest)
		return damage
	}
	w.agent.refuse = failing(w, report.ReasonConditionFailed)
	w.session()
	if w.problem() != "manifest-refused/1" || len(asked) != 0 {
		t.Errorf("problem %q, looked at %v", w.problem(), asked)
	}
	again := func() {
		w.update(func(_ *store.Tx, d *store.Deployment) error { course.Restart(d); return nil })
		w.session()
	}
	w.agent.refuse = failing(w, report.ReasonOperationFailed)
	again()
	blobs := w.deployment().Wanted["ta"].Blobs
	if w.problem() != "payload-damaged/1" || w.deployment().State != mocapi.StateFailed || !slices.Equal(asked, blobs) || len(blobs) == 0 {
		t.Errorf("problem %q, looked at %v of %v", w.problem(), asked, blobs)
	}
	damage = nil
	again()
	if w.problem() != "" || w.deployment().Private.RetryAt.IsZero() {
		t.Errorf("problem %q although the store is well", w.problem())
	}
	w.agent.refuse = nil
	again()
	if w.steps() != "admit ta-to-instance" {
		t.Errorf("trace %s", w.steps())
	}
}

// TestRollbackRefused: the operator sends an older TA that the owner has signed once; the Agent refuses it, and the reason is
// told for what it is.
func TestRollbackRefused(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, tam.BreakRollback)
	w.register("ta", 1, "ta v1")
	w.session()
	w.appraise()
	w.release(w.dataPackage(usecase.ModeTAPD, 3))
	w.agent.refuse = func(m *suit.Manifest) *teep.Error {
		if m.ComponentID.String() == "manifest/app/ta" && m.Sequence < 2 {
			return failing(w, report.ReasonConditionFailed)(m)
		}
		return nil
	}
	failing(w, 0) // its nonces
	w.session()
	d := w.deployment()
	if got := w.agent.manifests(); !slices.Equal(got, []string{"manifest/app/ta", "manifest/app/pd", "manifest/app/ta"}) {
		t.Fatalf("sent %v", got)
	}
	if w.problem() != "rollback-refused/5" || d.State != mocapi.StateFailed || len(d.Trace) != len(d.Plan) {
		t.Errorf("problem %q, state %s", w.problem(), d.State)
	}
	before := len(w.agent.manifests())
	w.session()
	if len(w.agent.manifests()) != before {
		t.Error("it tries again")
	}
}

// register is a former deployment of the same owner with another version of a package.
func (w *world) register(role string, sequence uint64, content string) *store.Package {
	w.t.Helper()
	p := w.program(role, sequence, content)
	d := *w.deployment()
	d.ID, d.Wanted, d.State = "d0", map[string]*store.Package{role: p}, mocapi.StateRunning
	must(w.t, w.store.Write(w.t.Context(), func(tx *store.Tx) error { return tx.InsertDeployment(&d) }))
	return p
}

// TestRemoval: the Agent is asked to give up its manifests, the last installed first, and then the instance is dropped.
func TestRemoval(t *testing.T) {
	w := newWorld(t, usecase.ModeUATAPD, "")
	w.session()
	w.appraise()
	w.release(w.dataPackage(usecase.ModeUATAPD, 3))
	w.session()
	w.delete()
	w.session()
	u := w.agent.received[len(w.agent.received)-1].(*teep.Update)
	var ids []string
	for _, id := range u.UnneededManifestList {
		ids = append(ids, id.String())
	}
	if !slices.Equal(ids, []string{"manifest/app/pd", "manifest/app/ta", "manifest/app/ua"}) || u.ManifestList != nil {
		t.Fatalf("removal of %v, manifests %d", ids, len(u.ManifestList))
	}
	d := w.deployment()
	if d.Private.Dropped == 0 || len(d.Installed) != 0 || d.State != mocapi.StateRemoving {
		t.Errorf("dropped at %d, installed %v, state %s", d.Private.Dropped, d.Installed, d.State)
	}
	received := len(w.agent.received)
	w.session()
	if len(w.agent.received) != received+1 {
		t.Error("a dropped deployment gets an Update")
	}
}

func (w *world) delete() {
	w.t.Helper()
	w.update(func(_ *store.Tx, d *store.Deployment) error { d.Private.Deleted = w.clock; return nil })
}

// TestRemovalOvertakesInstall: the Success of an installation that was under way when the owner asked for the removal does not
// count as that of the removal.
func TestRemovalOvertakesInstall(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	success := w.agent.process(w.send(w.agent.process(w.connect())))
	w.delete()
	answer := w.send(success)
	if answer == nil || w.deployment().Private.Dropped != 0 {
		t.Fatal("the instance is dropped before the Agent was asked")
	}
	w.send(w.agent.process(answer))
	if len(w.agent.installed) != 0 || w.deployment().Private.Dropped == 0 {
		t.Errorf("installed %v, %+v", w.agent.installed, w.deployment().Private)
	}
}

// TestRemovalFails: an Agent that cannot remove is destroyed with its instance; an Error without a token does not hurry that.
func TestRemovalFails(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.session()
	w.delete()
	w.dropped("an Error without a token", w.agent.sign(&teep.Error{Code: teep.ErrCodeTemporary}))
	update := w.send(w.agent.process(w.connect()))
	w.send(w.agent.sign(&teep.Error{Token: tokenOf(t, w, update), Code: teep.ErrCodeManifestProcessingFailed, Msg: "busy"}))
	if d := w.deployment(); d.Private.Dropped == 0 || d.State != mocapi.StateRemoving {
		t.Errorf("%+v", d.Private)
	}
}

// TestMisdeeds: each misdeed of a dishonest operator is done, so that what finds it out is not tested against nothing.
func TestMisdeeds(t *testing.T) {
	for _, name := range []string{"", "nonce", "signature", "ta-swap", "rollback", "pd-early"} {
		if _, err := tam.ParseAdversary(name); err != nil {
			t.Error(err)
		}
	}
	if _, err := tam.ParseAdversary("kindness"); err == nil {
		t.Error("there is no such misdeed")
	}
	t.Run("nonce", func(t *testing.T) {
		w := newWorld(t, usecase.ModeTAPD, tam.BreakNonce)
		w.session()
		answered, err := w.store.AnsweredEvidence(t.Context(), id)
		must(t, err)
		request, _ := w.ask()
		w.session()
		e := w.evidence(request)
		if !e.Ready || !bytes.Equal(e.Bundle, answered[0].Bundle) || bytes.Equal(e.Challenge, answered[0].Challenge) {
			t.Error("the owner did not get older Evidence")
		}
	})
	t.Run("signature", func(t *testing.T) {
		w := newWorld(t, usecase.ModeTAPD, tam.BreakSign)
		w.session()
		request, _ := w.ask()
		w.session()
		if w.verifies(request) {
			t.Error("the owner's copy still verifies")
		}
		honest := newWorld(t, usecase.ModeTAPD, tam.Honest)
		honest.session()
		request, nonce := honest.ask()
		honest.session()
		honest.checkEvidence(request, nonce)
	})
	t.Run("ta-swap", func(t *testing.T) {
		w := newWorld(t, usecase.ModeTAPD, tam.BreakTASwap)
		old := w.register("ta", 1, "ta v1")
		asked := w.deployment().Wanted["ta"].PackageRef
		d := *w.deployment()
		d.Wanted = map[string]*store.Package{"ta": d.Wanted["ta"]}
		tam.BreakTASwap.Swap(w.engine, &d)
		if p := d.Wanted["ta"]; p.ManifestDigest != old.ManifestDigest || p.PackageRef != asked {
			t.Errorf("wanted %+v", p)
		}
		tam.Honest.Swap(w.engine, w.deployment())
		if w.deployment().Wanted["ta"].ManifestDigest == old.ManifestDigest {
			t.Error("an honest operator swaps")
		}
	})
	t.Run("pd-early", func(t *testing.T) { // its part is in the REST side; the TAM holds PD back all the same
		w := newWorld(t, usecase.ModeTAPD, tam.BreakPDEarly)
		w.session()
		w.release(w.dataPackage(usecase.ModeTAPD, 3))
		w.session()
		if slices.Contains(w.agent.manifests(), "manifest/app/pd") || course.Appraised(w.deployment()) {
			t.Error("PD was sent")
		}
	})
}
