// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"crypto/rand"
	"errors"
	"slices"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/teep/teephttp"
	"sealift/usecase"
)

// dropped fails the test unless the TAM answers msg with 204 and changes nothing.
func (w *world) dropped(what string, msg []byte) {
	w.t.Helper()
	w.changesNothing(what, func() {
		if answer := w.send(msg); answer != nil {
			w.t.Errorf("%s got an answer of %d bytes", what, len(answer))
		}
	})
}

// TestReplay: every message of a whole deployment, sent a second time at any later moment, changes nothing.
func TestReplay(t *testing.T) {
	w := newWorld(t, usecase.ModeUATAPD, "")
	var sent [][]byte
	session := func() {
		for answer := w.connect(); answer != nil; {
			msg := w.agent.process(answer)
			answer = w.send(msg)
			sent = append(sent, msg)
			for _, old := range sent {
				w.dropped("a replay", old)
			}
		}
	}
	session()
	w.ask()
	session()
	w.appraise()
	w.release(w.dataPackage(usecase.ModeUATAPD, 3))
	session()
	if len(sent) != 6 || w.deployment().State != mocapi.StateRunning {
		t.Fatalf("%d messages, state %s", len(sent), w.deployment().State)
	}
	w.restart()
	for _, old := range sent {
		w.dropped("a replay after a restart", old)
	}
}

// TestForged: a message of each type that is truncated, altered, or signed by another key changes nothing, and the token that
// it carries still serves the Agent.
func TestForged(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	forge := func(msg []byte) {
		t.Helper()
		for n := 0; n < len(msg); n += 1 + len(msg)/40 {
			w.dropped("a truncated message", msg[:n])
			altered := slices.Clone(msg)
			altered[n] ^= 1
			if n > 0 { // the first byte is the tag, and a message without tag is one too
				w.changesNothing("an altered message", func() { _, _ = w.engine.Message(t.Context(), id, altered) })
			}
		}
		w.dropped("a longer message", append(slices.Clone(msg), 0))
	}
	for answer := w.connect(); answer != nil; {
		msg := w.agent.process(answer)
		forge(msg)
		answer = w.send(msg)
	}
	if w.steps() != "admit ta-to-instance" {
		t.Fatalf("trace %s: a forgery has used up a token", w.steps())
	}
	own, strange := w.agent.signer, newSigner(t, cose.AlgESP256)
	// A QueryResponse of another key is no answer; that key is asked what it is.
	reply := w.agent.answer(w.connect())
	w.agent.signer = strange
	w.changesNothing("another key's QueryResponse", func() {
		v, err := teep.Verify(w.send(w.agent.sign(reply)), w.keys.Public())
		must(t, err)
		if q, ok := v.Message.(*teep.QueryRequest); !ok || !q.DataItems.Has(teep.ItemAttestation) {
			t.Errorf("answer %+v", v.Message)
		}
	})
	w.agent.signer = own
	if !w.changes(func() { w.send(w.agent.sign(reply)) }) {
		t.Error("the stranger has used up the token")
	}
}

func (w *world) changes(do func()) bool {
	before := w.dump()
	do()
	return w.dump() != before
}

// TestForgedSuccess: the token of an Update serves the admitted Agent only.
func TestForgedSuccess(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	success := w.agent.answer(w.send(w.agent.process(w.connect())))
	own := w.agent.signer
	w.agent.signer = newSigner(t, cose.AlgESP256)
	w.dropped("another key's Success", w.agent.sign(success))
	w.agent.signer = w.keys.Signers[0]
	w.dropped("the TAM's own key", w.agent.sign(success))
	w.agent.signer = own
	w.send(w.agent.sign(success))
	if w.steps() != "admit ta-to-instance" {
		t.Error(w.steps())
	}
}

// TestTokens: a token is good for one type of message, one deployment, one Agent, and for a time.
func TestTokens(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	q := w.agent.answer(w.connect())
	update, err := teep.Verify(w.send(w.agent.sign(q)), w.keys.Public())
	must(t, err)
	ofUpdate := update.Message.TokenBytes()
	query, err := teep.Verify(w.connect(), w.keys.Public())
	must(t, err)
	ofQuery := query.Message.TokenBytes()
	cut := slices.Clone(ofUpdate)
	cut[31] ^= 1
	for what, m := range map[string]teep.Message{
		"a Success with the token of a QueryRequest":     &teep.Success{Token: ofQuery},
		"a QueryResponse with the token of an Update":    &teep.QueryResponse{Token: ofUpdate},
		"a Success with an altered token":                &teep.Success{Token: cut},
		"a Success with a token of its own":              &teep.Success{Token: make([]byte, 32)},
		"a Success without a token":                      &teep.Success{},
		"an Error with a token of its own":               &teep.Error{Token: make([]byte, 32), Code: teep.ErrCodePermanent},
		"an Error without a token that nobody asked for": &teep.Error{Code: teep.ErrCodeTemporary},
		"a QueryResponse without a token":                &teep.QueryResponse{},
	} {
		w.dropped(what, w.agent.sign(m))
	}

	// Another deployment with the very same Agent.
	w.place2(t)
	w.changesNothing("a token of another deployment", func() {
		answer, err := w.engine.Message(t.Context(), "d2", w.agent.sign(&teep.Success{Token: ofUpdate}))
		if answer != nil || err != nil {
			t.Errorf("answer %x, %v", answer, err)
		}
	})

	w.clock = w.clock.Add(6*time.Hour + time.Second)
	w.dropped("an expired token", w.agent.sign(&teep.Success{Token: ofUpdate}))
	w.dropped("an expired token of a QueryRequest", w.agent.sign(&teep.QueryResponse{Token: ofQuery}))
	w.clock = w.clock.Add(-time.Minute)
	w.send(w.agent.sign(&teep.QueryResponse{Token: ofQuery}))
	w.changesNothing("nothing", func() {})
}

// place2 makes a second deployment with the same Agent key.
func (w *world) place2(t *testing.T) {
	t.Helper()
	d := *w.deployment()
	d.ID, d.Wanted = "d2", map[string]*store.Package{}
	must(t, w.store.Write(t.Context(), func(tx *store.Tx) error { return tx.InsertDeployment(&d) }))
}

// TestTokenOfAnotherAgent: a challenge may be answered by any Agent, but a token only by the one it was made for.
func TestTokenOfAnotherAgent(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	update, err := teep.Verify(w.send(w.agent.process(w.connect())), w.keys.Public())
	must(t, err)
	other := newSigner(t, cose.AlgESP256)
	w.update(func(_ *store.Tx, d *store.Deployment) error { d.AgentKey = other.Key(); return nil })
	w.agent.signer = other
	w.dropped("a token of another Agent", w.agent.sign(&teep.Success{Token: update.Message.TokenBytes()}))
}

// TestReordered: answers that come in another order are each judged by their own token, and none undoes another.
func TestReordered(t *testing.T) {
	w := newWorld(t, usecase.ModeUATAPD, "")
	old := w.agent.process(w.connect()) // an Agent with nothing, which is not admitted yet
	w.session()
	trace := w.steps()
	w.send(old) // fresh, and about the past: the Agent is the same, and the trace never goes back
	if w.steps() != trace {
		t.Errorf("trace %s, was %s", w.steps(), trace)
	}
	w.session()
	if w.steps() != trace || w.deployment().State != mocapi.StateAwaitingAppraisal {
		t.Errorf("trace %s, state %s", w.steps(), w.deployment().State)
	}
}

// TestReportNonce: a Success is believed only if each report repeats the Update's token.
func TestReportNonce(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	update := w.send(w.agent.process(w.connect()))
	for what, change := range map[string]func(*report.Report){
		"another nonce": func(r *report.Report) { r.Nonce = make([]byte, 32); rand.Read(r.Nonce) },
		"no nonce":      func(r *report.Report) { r.Nonce = nil },
	} {
		w.agent.report = change
		w.dropped("a Success whose report has "+what, w.agent.process(update))
	}
	w.agent.report = nil
	w.dropped("a Success with a report that is none", w.agent.sign(&teep.Success{Token: tokenOf(t, w, update), SUITReports: [][]byte{{0xa0}}}))
	w.send(w.agent.process(update))
	if w.steps() != "admit ta-to-instance" {
		t.Error(w.steps())
	}
}

func tokenOf(t *testing.T, w *world, msg []byte) []byte {
	t.Helper()
	v, err := teep.Verify(msg, w.keys.Public())
	must(t, err)
	return v.Message.TokenBytes()
}

// TestForeignReport: a Success that reports nothing that the plan needs installs nothing, and is not answered with the same
// Update without end.
func TestForeignReport(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.agent.report = func(r *report.Report) { r.Digest.Bytes = make([]byte, 32) }
	for n := 1; n <= 6; n++ {
		w.agent.installed = nil
		if posts := w.session(); posts != 3 || w.steps() != "admit" || len(w.deployment().Installed) != 0 {
			t.Fatalf("%d POSTs, trace %s, installed %v", posts, w.steps(), w.deployment().Installed)
		}
		if failed := w.problem() == "component-missing/6"; failed != (n == 6) || failed != w.deployment().Private.RetryAt.IsZero() {
			t.Fatalf("after %d: problem %q, %+v", n, w.problem(), w.deployment().Private)
		}
		w.update(func(_ *store.Tx, d *store.Deployment) error { d.Private.RetryAt = time.Time{}; return nil })
	}
}

// TestNoReport: reports are the Agent's choice; without them, the tc-list alone tells.
func TestNoReport(t *testing.T) {
	w := newWorld(t, usecase.ModeUATAPD, "")
	w.agent.tamper = func(m teep.Message) {
		if s, ok := m.(*teep.Success); ok {
			s.SUITReports = nil
		}
	}
	for range 3 {
		w.session()
	}
	if w.steps() != "admit ua-to-ree ta-to-instance" || w.problem() != "" {
		t.Errorf("trace %s, problem %q", w.steps(), w.problem())
	}
}

// TestRemoved: for a removed deployment there is no TAM, also for messages under way.
func TestRemoved(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.session()
	msg := w.agent.process(w.connect())
	w.update(func(tx *store.Tx, d *store.Deployment) error { d.State = mocapi.StateRemoved; return tx.Forget(d.ID) })
	w.changesNothing("a message", func() {
		if _, err := w.engine.Message(t.Context(), id, msg); !errors.Is(err, teephttp.ErrNotFound) {
			t.Error(err)
		}
		if _, err := w.engine.Connect(t.Context(), id); !errors.Is(err, teephttp.ErrNotFound) {
			t.Error(err)
		}
	})
	for _, hint := range []string{"", "d9"} {
		if _, err := w.engine.Connect(t.Context(), hint); !errors.Is(err, teephttp.ErrNotFound) {
			t.Errorf("%q: %v", hint, err)
		}
	}
}
