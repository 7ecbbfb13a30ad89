// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"testing"

	"sealift/evidence"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/teep"
	"sealift/usecase"
)

// TestCrashAtEveryOperation runs a whole deployment, with an upgrade and a removal, and lets the power fail at each single
// operation on the disk and on the counter in turn. After each failure the Agent starts again from what the disk may hold, and the
// TAM, which knows only what the Agent tells, brings the deployment to its end. The Agent must start, keep its identity,
// hold the step that it has acknowledged, and never hold half of one.
func TestCrashAtEveryOperation(t *testing.T) {
	if testing.Short() {
		t.Skip("some hundred starts of an Agent")
	}
	for dieAt := 1; ; dieAt++ {
		survived := true
		for _, keep := range []bool{false, true} {
			d := &deployment{world: newWorld(t, nil)}
			d.fs.DieAt = d.fs.Ops() + dieAt
			survived = d.run()
			if !survived {
				d.recover(keep)
			}
			d.kill()
		}
		if survived {
			t.Logf("%d operations", dieAt-1)
			return
		}
	}
}

// deployment is a TAM's view: what was acknowledged, and what was made for it.
type deployment struct {
	*world
	acked     int
	ta1, data []byte
	data2     []byte // for the second version
	claim1    evidence.TAClaim
}

// The state after each step, as the tc-list tells it.
var after = []string{
	"",
	"manifest/app/ua ree/app/ua",
	"manifest/app/ua ree/app/ua manifest/app/ta tee/app/ta",
	"manifest/app/ua ree/app/ua manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows",
	"manifest/app/ua ree/app/ua manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows manifest/app/ta/next tee/app/ta/next",
	"manifest/app/ua ree/app/ua manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows",
	"manifest/app/ua ree/app/ua",
}

// run makes the steps from d.acked on. It returns false when the Agent died.
func (d *deployment) run() bool {
	d.t.Helper()
	for d.acked < len(after)-1 {
		var m teep.Message
		var err error
		switch d.acked {
		case 0:
			m, err = d.try(d.program(usecase.UA, 1, "server", launch.Spec{}))
		case 1:
			d.ta1 = d.program(usecase.TA, 1, "echo v1", anyone)
			m, err = d.try(d.ta1)
		case 2:
			if !d.appraise() {
				return false
			}
			m, err = d.try(d.data)
		case 3:
			m, err = d.try(d.program(usecase.TA, 2, "echo v2", anyone))
		case 4:
			if d.data2 == nil {
				d.data2 = d.world.data(2, "newer rows", d.candidate().EncKey, d.program(usecase.TA, 2, "echo v2", anyone))
			}
			m, err = d.try(d.data2)
		case 5:
			m, err = d.exchange(&teep.Update{Token: d.token(), UnneededManifestList: idList(manifest.ID("app", "ta"))})
		}
		if _, ok := m.(*teep.Success); err != nil || !ok {
			return false
		}
		d.acked++
	}
	return true
}

func (d *deployment) try(envelope []byte) (teep.Message, error) {
	if d.agentKey == nil {
		d.attest()
	}
	return d.exchange(&teep.Update{Token: d.token(), ManifestList: [][]byte{envelope}})
}

// appraise does what the owner does, once: it seals the data to the TA in the Evidence.
func (d *deployment) appraise() bool {
	if d.data == nil {
		d.claim1 = d.claim()
		d.data = d.world.data(1, "rows", d.claim1.EncKey, d.ta1)
	}
	return true
}

// recover starts the Agent again and brings the deployment to its end.
func (d *deployment) recover(keep bool) {
	d.t.Helper()
	d.kill()
	d.fs = d.fs.Reboot(keep)
	d.tee.fs = d.fs
	if err := d.tryBoot(); err != nil {
		d.t.Fatalf("operation %d, keep %v, step %d: the Agent does not start: %v", d.fs.Ops(), keep, d.acked, err)
	}
	got := d.installed()
	if got != after[d.acked] && (d.acked+1 >= len(after) || got != after[d.acked+1]) {
		d.t.Fatalf("keep %v, step %d: installed %q", keep, d.acked, got)
	}
	if !d.run() {
		d.t.Fatalf("keep %v, step %d: the deployment does not go on", keep, d.acked)
	}
	if d.installed() != after[len(after)-1] || d.ree.writes > 2 {
		d.t.Fatalf("%q, %d writes to the REE", d.installed(), d.ree.writes)
	}
	if bytes.Contains(d.fs.Get("state"), []byte("server")) {
		d.t.Fatal("the state is in the clear")
	}
}

// TestOtherMeasurement: what one Agent has sealed, no other configuration opens.
func TestOtherMeasurement(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", anyone)), 1)
	other := newWorld(t, nil)
	other.kill()
	w.kill()
	w.tee.config = other.tee.config
	if err := w.tryBoot(); err == nil {
		t.Fatal("it was opened")
	}
	w.agent = nil
}

// TestRolledBackStore: an older copy of the store, or none, does not start.
func TestRolledBackStore(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	old := w.fs.Get("state")
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", anyone)), 1)
	w.kill()
	for name, state := range map[string][]byte{"older": old, "none": nil} {
		w.fs.Put("state", state)
		if err := w.tryBoot(); err == nil {
			t.Fatalf("%s: it started", name)
		}
		w.agent = nil
	}
}

func idList(ids ...suit.ComponentID) []suit.ComponentID { return ids }
