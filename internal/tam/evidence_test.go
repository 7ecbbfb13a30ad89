// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"slices"
	"testing"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/teep"
	"sealift/teep/teephttp"
	"sealift/usecase"
)

// lies are the ways in which Evidence can be wrong, each with the code of a finding that says so.
var lies = map[string]struct {
	lie  func(*world)
	code string
}{
	"over another challenge": {func(w *world) {
		w.agent.challenge = func(c []byte) []byte { return bytes.Repeat([]byte{7}, len(c)) }
	}, evidence.CodeBinding},
	"of another key":           {func(w *world) { w.agent.boundKey = newSigner(w.t, cose.AlgESP256).Key() }, evidence.CodeAgentKey},
	"with another measurement": {func(w *world) { w.agent.image = sha256.Sum256([]byte("another Agent")) }, appraisal.CodeMeasurement},
	"of another configuration": {func(w *world) { w.agent.config = append([]byte{}, w.config[:len(w.config)-1]...) }, appraisal.CodeConfig},
	"under another root": {func(w *world) {
		pki, err := emuroot.New(rand.Reader, evidence.TrustZone, w.clock)
		must(w.t, err)
		w.agent.device, err = pki.NewDevice(rand.Reader, "device")
		must(w.t, err)
	}, evidence.CodeRoot},
}

// TestRefusedEvidence: Evidence that is wrong admits nobody, the problem says what differed, and the owner gets the Evidence to
// judge for itself. The right Agent is admitted afterwards, with the answer to the same challenge where the wrong one was
// nobody's.
func TestRefusedEvidence(t *testing.T) {
	for name, c := range lies {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, usecase.ModeTAPD, "")
			request, _ := w.ask()
			honest := *w.agent
			c.lie(w)
			want := 2
			if c.code == appraisal.CodeMeasurement || c.code == appraisal.CodeConfig {
				want = 3 // the Agent is authentic, and is told that its attestation has failed
			}
			if posts := w.session(); posts != want {
				t.Errorf("%d POSTs", posts)
			}
			d := w.deployment()
			if d.AgentKey != nil || w.steps() != "" || w.problem() != "operator-appraisal-refused/4" || len(w.agent.manifests()) != 0 {
				t.Fatalf("trace %q, problem %q", w.steps(), w.problem())
			}
			w.restart() // findings cross the database
			if text, err := d.Problem.MarshalJSON(); err != nil || !bytes.Contains(text, []byte(`"code":"`+c.code+`"`)) {
				t.Errorf("%v: no finding %s in %s", err, c.code, text)
			}
			if e := w.evidence(request); !e.Ready || len(e.Bundle) == 0 || e.AdviceStatus == "affirming" {
				t.Errorf("the owner's request: %+v", e)
			}
			w.agent = &honest
			w.session()
			if w.steps() != "admit ta-to-instance" || w.problem() != "" {
				t.Errorf("afterwards: trace %q, problem %q", w.steps(), w.problem())
			}
		})
	}
}

// TestRefusedEvidenceLeavesChallenge: Evidence for which no hardware vouches does not use up the Agent's challenge, and is itself
// used up.
func TestRefusedEvidenceLeavesChallenge(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	query := w.connect()
	honest := *w.agent
	w.agent.signer = newSigner(t, cose.AlgESP256)
	w.agent.boundKey = honest.signer.Key() // the honest Agent's Evidence, sent by another
	stolen := w.agent.process(query)
	w.send(stolen)
	w.dropped("the same again", stolen)
	w.agent = &honest
	w.send(w.agent.process(query))
	if !w.deployment().AgentKey.Equal(honest.signer.Key()) || w.problem() != "" {
		t.Errorf("trace %q, problem %q", w.steps(), w.problem())
	}
}

// TestForeignChallenge: Evidence over a challenge that this TAM has not made, or not for this owner's nonce, is not looked at.
func TestForeignChallenge(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	v, err := teep.Verify(w.connect(), w.keys.Public())
	must(t, err)
	q := v.Message.(*teep.QueryRequest)
	q.Challenge[40] ^= 1 // the owner's part
	w.dropped("another owner's nonce", w.agent.sign(w.agent.query(q)))
	q.Challenge = bytes.Repeat([]byte{9}, 64)
	w.dropped("a foreign challenge", w.agent.sign(w.agent.query(q)))
	r := w.agent.query(q)
	r.AttestationPayload = []byte{0xa0}
	w.dropped("a bundle that is none", w.agent.sign(r))
	r = w.agent.query(q)
	r.AttestationPayloadFormat = ""
	w.dropped("an Attestation Result where Evidence was asked for", w.agent.sign(r))
	r = w.agent.query(q)
	r.Extensions = nil
	w.dropped("an Agent that does not name its key", w.agent.sign(r))
}

// TestAgentChanged: another Agent that answers for an admitted deployment is found out, whether it was asked for Evidence or
// not, and gets nothing. If the right one comes back, the deployment goes on.
func TestAgentChanged(t *testing.T) {
	for _, asked := range []bool{false, true} {
		w := newWorld(t, usecase.ModeTAPD, "")
		w.session()
		right := w.agent
		request := ""
		if asked {
			request, _ = w.ask()
		}
		w.agent = newAgent(w, cose.AlgESP256)
		w.session()
		if w.problem() != "agent-changed/6" || !w.deployment().AgentKey.Equal(right.signer.Key()) || len(w.agent.manifests()) != 0 {
			t.Fatalf("problem %q, manifests %v", w.problem(), w.agent.manifests())
		}
		if asked && !w.evidence(request).AgentKey.Equal(w.agent.signer.Key()) {
			t.Error("the owner does not get the other Agent's Evidence")
		}
		w.ask()
		w.sessionWith(right)
		if w.problem() != "" {
			t.Errorf("the right Agent is back: problem %q", w.problem())
		}
	}
}

// TestStrangerOfAdmitted: a stranger for whom no hardware vouches cannot do anything to an admitted deployment.
func TestStrangerOfAdmitted(t *testing.T) {
	for _, name := range []string{"over another challenge", "of another key", "under another root"} {
		w := newWorld(t, usecase.ModeTAPD, "")
		w.session()
		request, nonce := w.ask()
		right := w.agent
		w.agent = newAgent(w, cose.AlgESP256)
		lies[name].lie(w)
		w.changesNothing(name, func() { w.session() })
		w.agent = right
		w.session()
		w.checkEvidence(request, nonce)
	}
}

// TestNoEvidence: an Error instead of Evidence has no token. Of a new Agent it is not believed, but the Broker may come
// again; of the admitted one it delays the owner's request, once.
func TestNoEvidence(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	e := w.agent.sign(&teep.Error{Code: teep.ErrCodeTemporary, Msg: "no hardware"})
	w.changesNothing("an Error of a new Agent", func() {
		if _, err := w.engine.Message(t.Context(), id, e); !errors.Is(err, teephttp.ErrUnavailable) {
			t.Error(err)
		}
	})
	w.session()
	w.dropped("an Error that nobody waits for", e)
	w.ask()
	w.send(e)
	if d := w.deployment(); d.Private.RetryAt.IsZero() || d.Private.Attempts != 0 || w.problem() != "" {
		t.Errorf("%+v", d.Private)
	}
	w.dropped("the Error again", e)
}

// TestAskedInOrder: each session answers one request, and the next is waked for.
func TestAskedInOrder(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	first, firstNonce := w.ask()
	second, secondNonce := w.ask()
	wake := w.deployment().Private.Wake
	w.session()
	w.checkEvidence(first, firstNonce)
	if w.evidence(second).Ready || w.deployment().Private.Wake == wake {
		t.Error("the second request is answered too, or nobody is waked for it")
	}
	w.session()
	w.checkEvidence(second, secondNonce)
	answered, err := w.store.AnsweredEvidence(t.Context(), id)
	must(t, err)
	if len(answered) != 2 || len(w.deployment().Private.Asked) != 0 {
		t.Errorf("%d answers, asked %v", len(answered), w.deployment().Private.Asked)
	}
}

// TestPDWaits is I1 at the TAM: PD is not sent before the step attest, not without an appraisal, and not under one that
// covers another Agent or another TA, even where the release is in the database already.
func TestPDWaits(t *testing.T) {
	faults := map[string]func(*store.Tx, *store.Deployment) error{
		"no appraisal": func(_ *store.Tx, d *store.Deployment) error { d.Private.Appraised = nil; return nil },
		"of another Agent": func(_ *store.Tx, d *store.Deployment) error {
			d.Private.Appraised = &store.Appraised{ID: "a1", AgentKID: make([]byte, 32), TA: d.Private.Appraised.TA}
			return nil
		},
		"of another TA": func(_ *store.Tx, d *store.Deployment) error {
			d.Private.Appraised = &store.Appraised{ID: "a1", AgentKID: d.AgentKey.KID(), TA: "sha256:00"}
			return nil
		},
	}
	for _, mode := range modes {
		for name, plant := range faults {
			if name == "of another TA" && mode.Sealed(usecase.TA) {
				continue // there is no TA to be appraised
			}
			w := newWorld(t, mode, tam.Honest)
			w.session()
			w.appraiseAll()
			w.update(plant)
			p := w.dataPackage(mode, 3)
			w.release(p)
			w.session()
			if sent := w.agent.manifests(); slices.Contains(sent, p.ManifestID) {
				t.Errorf("%s, appraisal %s: sent %v", mode, name, sent)
			}
		}
		w := newWorld(t, mode, tam.Honest)
		w.session()
		w.release(w.dataPackage(mode, 3)) // and nobody has appraised
		w.session()
		w.appraiseAll()
		w.session()
		if n := len(w.agent.manifests()); n != len(w.deployment().Packages) || w.problem() != "" {
			t.Errorf("%s: %v sent, problem %q", mode, w.agent.manifests(), w.problem())
		}
	}
}

// TestPDWaitsForTheTA: in mode ua+pd,ta the appraisal that lets the TA come is not one that lets the PD come.
func TestPDWaitsForTheTA(t *testing.T) {
	w := newWorld(t, usecase.ModeBundleUAPD, tam.Honest)
	w.session()
	w.appraise()
	w.session()
	if w.steps() != "admit attest ta-to-instance" || w.deployment().State != mocapi.StateAwaitingAppraisal {
		t.Fatalf("state %s, trace %s", w.deployment().State, w.steps())
	}
	p := w.dataPackage(usecase.ModeBundleUAPD, 3)
	w.release(p)
	w.session()
	if sent := w.agent.manifests(); slices.Contains(sent, p.ManifestID) {
		t.Fatalf("sent %v under an appraisal without the TA", sent)
	}
	w.appraise()
	w.session()
	if w.deployment().State != mocapi.StateRunning {
		t.Errorf("state %s, trace %s", w.deployment().State, w.steps())
	}
}

// TestTAGone: when the appraised TA is no longer listed, the appraisal no longer covers what is there.
func TestTAGone(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.session()
	w.appraise()
	w.release(w.dataPackage(usecase.ModeTAPD, 3))
	w.agent.installed = nil
	w.session()
	if got := w.agent.manifests(); !slices.Equal(got, []string{"manifest/app/ta", "manifest/app/ta", "manifest/app/pd"}) {
		t.Errorf("%v: the TA comes before its PD", got)
	}
}

// verifies reports whether the answer to an evidence request is authentic.
func (w *world) verifies(request string) bool {
	e := w.evidence(request)
	_, err := evidence.Verify(e.Bundle, evidence.Input{Challenge: e.Challenge, AgentKey: e.AgentKey, Now: w.clock,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}})
	return err == nil
}
