// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"strings"
	"testing"

	"sealift/evidence"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/usecase"
)

var nextTA = suit.NewComponentID("tee", "app", "ta", "next")

// candidate returns what the Evidence says of the TA's next version.
func (w *world) candidate() evidence.TAClaim {
	w.t.Helper()
	v, _ := w.attest()
	claim, ok := v.TA(nextTA.String())
	if !ok {
		w.t.Fatal("no candidate in the Evidence")
	}
	return claim
}

// withData is a deployment whose TA serves with PD.
func withData(t *testing.T, ta string) (w *world, v1, pd []byte) {
	w = newWorld(t, nil)
	w.attest()
	v1 = w.program(usecase.TA, 1, ta, anyone)
	w.succeeds(w.update(v1), 1)
	pd = w.data(1, "secret rows", w.claim().EncKey, v1)
	w.succeeds(w.update(pd), 1)
	return w, v1, pd
}

const bothListed = "manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows manifest/app/ta/next tee/app/ta/next"

// TestUpdateInheritsNoPD: the new version is installed beside the present one, has other keys and no PD, and nobody but the owner, who
// seals PD to it, lets it serve. The present version serves with its PD until then.
func TestUpdateInheritsNoPD(t *testing.T) {
	w, _, pd := withData(t, "echo v1")
	old := w.claim()
	v2 := w.program(usecase.TA, 2, "echo v2", anyone)
	w.succeeds(w.update(v2), 1)
	w.asks("?", "rows=secret rows|echo v1|?")
	if got := w.installed(); got != bothListed {
		t.Fatal(got)
	}
	next := w.candidate()
	if next.EncKey.Equal(old.EncKey) || next.TLSKey.Equal(old.TLSKey) || next.Sequence != 2 || !next.Digest.Equal(w.offer([]byte("echo v2"))) {
		t.Fatalf("%+v", next)
	}
	if w.start.launched("echo v2") != 1 {
		t.Fatal("the new version does not wait ready")
	}

	w.reboot(false)
	w.asks("?", "rows=secret rows|echo v1|?")
	if again := w.candidate(); !again.EncKey.Equal(next.EncKey) || w.installed() != bothListed {
		t.Fatal("the candidate did not survive the restart")
	}
	// Whatever the TAM sends again, the new version gets nothing by it.
	w.succeeds(w.update(v2, pd), 2)
	w.asks("?", "rows=secret rows|echo v1|?")
	if !w.candidate().EncKey.Equal(next.EncKey) || w.installed() != bothListed {
		t.Fatal(w.installed())
	}

	w.succeeds(w.update(w.data(2, "new rows", next.EncKey, v2)), 1)
	w.asks("?", "rows=new rows|echo v2|?")
	if got := w.installed(); got != "manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows" {
		t.Fatal(got)
	}
	if now := w.claim(); !now.EncKey.Equal(next.EncKey) || !now.TLSKey.Equal(next.TLSKey) {
		t.Fatal("it changed its keys")
	}
	w.fails(w.update(pd), report.ReasonConditionFailed, "")
	w.reboot(false)
	w.asks("?", "rows=new rows|echo v2|?")
	w.start.mu.Lock()
	defer w.start.mu.Unlock()
	if w.start.live != 1 {
		t.Fatalf("%d TAs live", w.start.live)
	}
}

// TestUpdateNotBelow is promise I4 with a candidate: a TAM that holds every manifest the owner has ever signed can go back neither behind
// the present version nor behind the candidate, also after restarts.
func TestUpdateNotBelow(t *testing.T) {
	w, v1, _ := withData(t, "echo v2")
	two := w.program(usecase.TA, 2, "echo other", anyone)
	five, four := w.program(usecase.TA, 5, "echo v5", anyone), w.program(usecase.TA, 4, "echo v4", anyone)
	w.succeeds(w.update(two), 1)
	w.succeeds(w.update(five), 1) // a candidate is replaced by a newer one
	for range 2 {
		w.fails(w.update(four), report.ReasonConditionFailed, "too low")
		w.fails(w.update(w.program(usecase.TA, 5, "echo w5", anyone)), report.ReasonConditionFailed, "too low")
		w.fails(w.update(w.program(usecase.TA, 1, "echo w1", anyone)), report.ReasonConditionFailed, "")
		w.succeeds(w.update(v1), 1) // is installed: changes nothing
		w.asks("?", "rows=secret rows|echo v2|?")
		if w.candidate().Sequence != 5 {
			t.Fatal("another candidate")
		}
		w.reboot(false)
	}
	w.succeeds(w.update(w.data(6, "r", w.candidate().EncKey, five)), 1)
	for _, older := range [][]byte{v1, two, four} {
		w.fails(w.update(older), report.ReasonConditionFailed, "")
	}
	w.asks("?", "rows=r|echo v5|?")
}

// TestUpdateThatFails: whatever is wrong with the new version, the present one serves on, and the next update works.
func TestUpdateThatFails(t *testing.T) {
	w, _, _ := withData(t, "echo v1")
	serves := func() {
		t.Helper()
		w.asks("?", "rows=secret rows|echo v1|?")
	}
	w.fails(w.update(w.program(usecase.TA, 2, "garbage", anyone)), report.ReasonComponentUnsupported, "the program cannot be run")
	serves()
	b := w.programBuilder(usecase.TA, 3, "echo v3", anyone)
	w.ree.payloads = map[string][]byte{}
	w.fails(w.update(w.sign(b, w.owner)), report.ReasonOperationFailed, "payload")
	serves()
	if got := w.installed(); strings.Contains(got, "next") {
		t.Fatal(got)
	}
	// It starts without data, and not with it.
	crash := w.program(usecase.TA, 4, "crash", anyone)
	w.succeeds(w.update(crash), 1)
	w.fails(w.update(w.data(4, "rows", w.candidate().EncKey, crash)), report.ReasonOperationFailed, "the TA ends at once")
	serves()
	if got := w.installed(); got != bothListed {
		t.Fatal(got)
	}
	w.succeeds(w.remove(suit.NewComponentID("manifest", "app", "ta", "next")), 1)
	if got := w.installed(); strings.Contains(got, "next") {
		t.Fatal(got)
	}
	serves()
	v5 := w.program(usecase.TA, 5, "picky v5", anyone)
	w.succeeds(w.update(v5), 1)
	w.succeeds(w.update(w.data(5, "rows", w.candidate().EncKey, v5)), 1)
	w.asks("?", "rows=rows|picky v5|?")
}

// TestUpdateOfUAAndTA: where UA and TA come in one manifest, the new UA goes out together with the PD for the new TA, and not before.
func TestUpdateOfUAAndTA(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	pair := func(n uint64, ua, ta string) []byte {
		program := func(kind usecase.Payload, content string, spec launch.Spec) manifest.Program {
			return manifest.Program{App: "app", Kind: kind, Sequence: n, Cells: []usecase.Cell{cell}, Digest: w.offer([]byte(content)),
				Size: int64(len(content)), Launch: spec}
		}
		return w.sign(manifest.Programs(program(usecase.UA, ua, launch.Spec{}), program(usecase.TA, ta, anyone)), w.owner)
	}
	one := pair(1, "ua v1", "echo v1")
	w.succeeds(w.update(one), 1)
	w.succeeds(w.update(w.dataFor(1, "rows", w.claim().EncKey, one)), 1)
	two := pair(2, "ua v2", "echo v2")
	w.succeeds(w.update(two), 1)
	w.asks("?", "rows=rows|echo v1|?")
	if got := string(w.ree.store["ree/app/ua"]); got != "ua v1" {
		t.Fatal(got)
	}
	w.reboot(false)
	w.succeeds(w.update(w.dataFor(2, "rows 2", w.candidate().EncKey, two)), 1)
	w.asks("?", "rows=rows 2|echo v2|?")
	if got := string(w.ree.store["ree/app/ua"]); got != "ua v2" {
		t.Fatal(got)
	}
	if got := w.installed(); got != "manifest/app/bundle ree/app/ua tee/app/ta manifest/app/pd pd/app/rows" {
		t.Fatal(got)
	}
	three := pair(3, "ua v2", "echo v3") // the same UA
	w.succeeds(w.update(three), 1)
	w.succeeds(w.update(w.dataFor(3, "rows 3", w.candidate().EncKey, three)), 1)
	w.asks("?", "rows=rows 3|echo v3|?")
	if got := string(w.ree.store["ree/app/ua"]); got != "ua v2" {
		t.Fatal(got)
	}
}
