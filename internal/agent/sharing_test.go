// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"testing"

	"sealift/internal/agentconfig"
	"sealift/internal/launch"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/usecase"
)

// shareable makes an instance that its owner may share among applications.
func shareable(c *agentconfig.Config) { c.Owners[0].App = agentconfig.AnyApp }

// TestSharing: two applications of one owner in one instance, each with its own TA, key and PD. What becomes of one is nothing to the other.
func TestSharing(t *testing.T) {
	w := newWorld(t, shareable)
	w.attest()
	install := func(app, secret string) {
		t.Helper()
		w.app = app
		ta := w.program(usecase.TA, 1, "echo", anyone) // the same program in both
		w.succeeds(w.update(ta), 1)
		w.succeeds(w.update(w.data(1, secret, w.claim().EncKey, ta)), 1)
	}
	install("one", "the PD of one")
	install("two", "the PD of two")
	w.nothingIn("the PD of one")
	w.nothingIn("the PD of two")
	has := func(app, secret string) {
		t.Helper()
		w.app = app
		w.asks("hi", "rows="+secret+"|echo|hi")
	}
	v, _ := w.attest()
	if len(v.Claims.TAs) != 2 || v.Claims.TAs[0].TLSKey.Equal(v.Claims.TAs[1].TLSKey) || v.Claims.TAs[0].EncKey.Equal(v.Claims.TAs[1].EncKey) {
		t.Fatalf("%+v", v.Claims.TAs)
	}
	for _, reboot := range []bool{false, true} {
		if reboot {
			w.reboot(false)
		}
		has("one", "the PD of one")
		has("two", "the PD of two")
	}
	w.app = "two"
	key := w.claim().TLSKey
	w.succeeds(w.remove(suit.NewComponentID("manifest", "one", "pd"), suit.NewComponentID("manifest", "one", "ta")), 2)
	has("two", "the PD of two")
	if !w.claim().TLSKey.Equal(key) || w.installed() != "manifest/two/ta tee/two/ta manifest/two/pd pd/two/rows" {
		t.Fatal(w.installed())
	}
	// The numbers are each application's own: "one" is over, and "two" goes on from 1.
	w.app = "one"
	w.fails(w.update(w.program(usecase.TA, 1, "echo", anyone)), report.ReasonConditionFailed, "sequence number")
	w.app = "two"
	w.succeeds(w.update(w.program(usecase.TA, 2, "other", anyone)), 1)
}

// TestSharingIsAllowed: without permission there is one application, and with it one owner. The manifest of one application names nothing of
// another.
func TestSharingIsAllowed(t *testing.T) {
	alone := newWorld(t, nil)
	alone.attest()
	alone.succeeds(alone.update(alone.program(usecase.TA, 1, "echo", anyone)), 1)
	alone.app = "two"
	alone.fails(alone.update(alone.program(usecase.TA, 1, "echo", anyone)), report.ReasonComponentUnauthorised, "may not write")

	w := newWorld(t, shareable)
	w.attest()
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo", anyone)), 1)
	w.app = "two"
	foreign := w.sign(w.programBuilder(usecase.TA, 1, "echo", anyone), w.stranger)
	w.fails(w.update(foreign), report.ReasonUnauthorised, "unauthorised")
	w.app = "*"
	w.fails(w.update(w.program(usecase.TA, 1, "echo", anyone)), report.ReasonComponentUnauthorised, "may not write")
	w.app = "two"
	b := w.programBuilder(usecase.TA, 1, "echo", anyone)
	b.ComponentID = suit.NewComponentID("manifest", "three", "ta")
	w.fails(w.update(w.sign(b, w.owner)), report.ReasonComponentUnauthorised, "in a manifest of application three")
	if got := w.installed(); got != "manifest/app/ta tee/app/ta" {
		t.Fatal(got)
	}
}

// TestSharedMemory: what the TAs of an instance may have together is bounded.
func TestSharedMemory(t *testing.T) {
	w := newWorld(t, func(c *agentconfig.Config) { shareable(c); c.Limits.TAMemoryBytes = 100 << 20 })
	w.attest()
	asks := func(app string, sequence, mib uint64) []byte {
		w.app = app
		return w.program(usecase.TA, sequence, "echo", launch.Spec{Callers: launch.CallersAny, MemoryBytes: mib << 20})
	}
	w.succeeds(w.update(asks("one", 1, 60)), 1)
	w.fails(w.update(asks("two", 1, 60)), report.ReasonOperationFailed, "leave too little memory")
	w.succeeds(w.update(asks("two", 2, 40)), 1)
	w.succeeds(w.update(asks("one", 2, 50)), 1) // its own is counted once
	w.memory = 80 << 20
	w.reboot(false)
	w.fails(w.update(asks("two", 3, 40)), report.ReasonOperationFailed, "leave too little memory") // one has 50 of 80
	w.succeeds(w.update(asks("two", 4, 30)), 1)
}
