// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"crypto/tls"
	"encoding/json"
	"errors"
	"testing"

	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/suit"
	"sealift/usecase"
)

// heldAs asks at the desk to hold or to consent, and returns the state that is answered, "" for no answer.
func (w *world) heldAs(as *tls.Certificate, what string) string {
	w.t.Helper()
	got, err := w.desk(as, `{"get":"`+what+`"}`)
	var u agentconfig.DeskReport
	if err != nil || json.Unmarshal([]byte(got), &u) != nil {
		return ""
	}
	return u.State
}

// isHeld checks that the TA does not run, is told to be held, and cannot be called.
func (w *world) isHeld(when string) {
	w.t.Helper()
	st, err := w.agent.Service().Status(w.t.Context())
	if err != nil || len(st.TAs) == 0 {
		w.t.Fatalf("%s: %+v, %v", when, st, err)
	}
	for _, ta := range st.TAs {
		if len(ta.ID) == 3 && ta.State != channel.TAHeld {
			w.t.Errorf("%s: the TA is %s", when, ta.State)
		}
	}
	if _, err := w.call(w.claim().TLSKey, nil, "?"); !errors.Is(err, channel.ErrNotReady) {
		w.t.Errorf("%s: calling it: %v", when, err)
	}
}

// TestHold: what its owner has stopped does not run and sees no PD, whatever the operator does, until the owner consents.
func TestHold(t *testing.T) {
	w, v1, pd := withData(t, "echo v1")
	owner := certificate(t, w.ownerKey, w.ownerKey.Public())
	_, strange := newSigner(t, w.owner.Algorithm())
	stranger := certificate(t, strange, strange.Public())
	for _, as := range []*tls.Certificate{nil, stranger} {
		if state := w.heldAs(as, agentconfig.DeskHold); state != "" {
			t.Errorf("a stranger's hold is answered: %q", state)
		}
	}
	w.asks("?", "rows=secret rows|echo v1|?")
	for range 2 {
		if state := w.heldAs(owner, agentconfig.DeskHold); state != channel.TAHeld {
			t.Fatalf("the hold is answered with %q", state)
		}
		w.isHeld("held")
	}
	launched := w.start.launched("echo v1")
	w.reboot(true)
	w.isHeld("after a restart")
	w.succeeds(w.update(v1), 1)
	w.succeeds(w.update(pd), 1)
	w.isHeld("after the same manifests again")
	v2 := w.program(usecase.TA, 2, "echo v2", anyone)
	w.succeeds(w.update(v2), 1)
	w.succeeds(w.update(w.data(2, "newer rows", w.candidate().EncKey, v2)), 1)
	w.isHeld("after an update that its owner released before it stopped it")
	w.reboot(true)
	w.isHeld("after another restart")
	if n := w.start.launched("echo v1") - launched + w.start.launched("echo v2"); n != 0 {
		t.Errorf("%d programs were started while the TA was held", n)
	}
	if state := w.heldAs(stranger, agentconfig.DeskConsent); state != "" {
		t.Errorf("a stranger's consent is answered: %q", state)
	}
	w.isHeld("after a stranger's consent")
	for range 2 {
		if state := w.heldAs(owner, agentconfig.DeskConsent); state != "running" && state != "starting" {
			t.Fatalf("the consent is answered with %q", state)
		}
		w.asks("?", "rows=newer rows|echo v2|?")
	}
	w.reboot(true)
	w.asks("?", "rows=newer rows|echo v2|?")
}

// TestHoldAndRemove: a held TA can be removed, with its PD.
func TestHoldAndRemove(t *testing.T) {
	w, _, _ := withData(t, "echo v1")
	owner := certificate(t, w.ownerKey, w.ownerKey.Public())
	if state := w.heldAs(owner, agentconfig.DeskHold); state != channel.TAHeld {
		t.Fatalf("the hold is answered with %q", state)
	}
	w.reboot(true)
	launched := w.start.launched("echo v1")
	w.succeeds(w.remove(suit.NewComponentID("manifest", "app", "pd"), suit.NewComponentID("manifest", "app", "ta")), 2)
	if got := w.installed(); got != "" || w.start.launched("echo v1") != launched {
		t.Errorf("left: %q, %d started", got, w.start.launched("echo v1")-launched)
	}
}
