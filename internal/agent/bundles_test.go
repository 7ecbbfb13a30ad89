// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/usecase"
)

// together makes the manifest of a UA and a TA that are one package in the clear.
func (w *world) together(sequence uint64, ua, ta string) []byte {
	w.t.Helper()
	program := func(kind usecase.Payload, content string, spec launch.Spec) manifest.Program {
		return manifest.Program{App: "app", Kind: kind, Sequence: sequence, Cells: []usecase.Cell{cell}, Digest: w.offer([]byte(content)),
			Size: int64(len(content)), Launch: spec}
	}
	return w.sign(manifest.Programs(program(usecase.UA, ua, launch.Spec{}), program(usecase.TA, ta, anyone)), w.owner)
}

// dataFor releases data to the TA that the envelope of a bundle brought.
func (w *world) dataFor(sequence uint64, content string, to *cose.Key, bundle []byte) []byte {
	w.t.Helper()
	return w.sign(w.sealedBuilder(manifest.Sealed{
		Role: manifest.RolePD, Sequence: sequence, Items: []manifest.Item{w.item(usecase.PD, "rows", content, to, nil)},
		DependsOn: &manifest.Dependency{ID: manifest.ID("app", manifest.RoleBundle), Digest: w.digestOf(bundle)},
	}), w.owner)
}

// TestModeBundleUATA is ua+ta,pd: one manifest brings UA and TA, the UA first, and PD depends on it.
func TestModeBundleUATA(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	bundle := w.together(1, "the server", "echo v1")
	w.succeeds(w.update(bundle), 1)
	if got := w.installed(); got != "manifest/app/bundle ree/app/ua tee/app/ta" {
		t.Fatal(got)
	}
	w.asks("?", "|echo v1|?")
	w.succeeds(w.update(w.dataFor(2, "secret rows", w.claim().EncKey, bundle)), 1)
	w.asks("?", "rows=secret rows|echo v1|?")
	if w.ree.writes != 1 || w.ree.fetches != 3 {
		t.Fatalf("%d writes, %d fetches: the dependency was installed again", w.ree.writes, w.ree.fetches)
	}
	w.nothingIn("secret")
	w.reboot(false)
	w.asks("?", "rows=secret rows|echo v1|?")
	if w.ree.writes != 1 || w.ree.running["ree/app/ua"] == nil {
		t.Fatal("the UA was installed twice, or was not started")
	}
	w.succeeds(w.remove(manifest.ID("app", "bundle")), 1)
	if got := w.installed(); got != "" || len(w.ree.store) != 0 {
		t.Fatalf("left: %s, %v", got, w.ree.store)
	}
}

// TestUAGoesOutFirst: a TA that comes with a UA that cannot be started is not started either, and a UA whose TA does not start is taken
// back.
func TestUAGoesOutFirst(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	w.ree.refuse = errors.New("no port")
	w.nothingInstalled(func() { w.fails(w.update(w.together(1, "the server", "echo v1")), report.ReasonOperationFailed, "") })
	if n := w.start.launched("echo v1"); n != 0 {
		t.Fatalf("the TA was started %d times", n)
	}
	w.ree.refuse = nil
	w.nothingInstalled(func() {
		w.fails(w.update(w.together(1, "the server", "garbage")), report.ReasonComponentUnsupported, "")
	})
	if len(w.ree.store) != 0 || len(w.ree.running) != 0 {
		t.Fatalf("the UA was left in the REE: %v", w.ree.store)
	}
	w.succeeds(w.update(w.together(1, "the server", "echo v1")), 1)
	w.asks("?", "|echo v1|?")
}

// uaPD makes the package of mode ua+pd,ta for the TA that the envelope ta brought.
func (w *world) uaPD(sequence uint64, to, forPD *cose.Key, ta []byte) []byte {
	w.t.Helper()
	ua := launch.Spec{}
	return w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: sequence, Items: []manifest.Item{
		w.item(usecase.PD, "rows", "secret rows", forPD, nil),
		w.item(usecase.UA, "ua", "the server", to, &ua),
	}, DependsOn: &manifest.Dependency{ID: manifest.ID("app", manifest.RoleTA), Digest: w.digestOf(ta)}}), w.owner)
}

// TestModeBundleUAPD is ua+pd,ta: the package is opened inside the TEE; the data stays with the TA that it depends on, the UA goes out.
func TestModeBundleUAPD(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	w.succeeds(w.update(w.uaPD(2, to, to, ta)), 1)
	w.asks("?", "rows=secret rows|echo v1|?")
	if got := w.installed(); got != "manifest/app/ta tee/app/ta manifest/app/bundle pd/app/rows ree/app/ua" {
		t.Fatal(got)
	}
	if string(w.ree.store["ree/app/ua"]) != "the server" || w.ree.running["ree/app/ua"] == nil {
		t.Fatal("the UA did not come out")
	}
	w.nothingIn("secret")
	w.reboot(true)
	w.asks("?", "rows=secret rows|echo v1|?")
	w.succeeds(w.remove(manifest.ID("app", "ta")), 1)
	if got := w.installed(); got != "" || len(w.ree.store) != 0 {
		t.Fatalf("left: %s, %v", got, w.ree.store)
	}
}

// TestUAPDForAnotherTA: the package goes to the TA that it depends on, and nothing in it may be sealed to a TA's own key.
func TestUAPDForAnotherTA(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	appraised := w.program(usecase.TA, 1, "echo appraised", anyone)
	w.unchanged(func() {
		m := w.update(w.uaPD(3, to, to, appraised))
		if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrCodeManifestProcessingFailed {
			t.Fatalf("%+v", m)
		}
	})
	w.succeeds(w.update(appraised), 1)
	taKey := w.claim().EncKey
	w.unchanged(func() {
		w.fails(w.update(w.uaPD(3, to, taKey, appraised)), report.ReasonOperationFailed, "")
		w.fails(w.update(w.uaPD(3, taKey, to, appraised)), report.ReasonOperationFailed, "")
	})
	w.succeeds(w.update(w.program(usecase.TA, 2, "echo swapped", anyone)), 1)
	w.unchanged(func() { w.fails(w.update(w.uaPD(3, to, to, appraised)), report.ReasonConditionFailed, "") })
	if len(w.ree.store) != 0 {
		t.Fatal("the UA came out")
	}
	w.asks("?", "|echo swapped|?")
}

// reported returns the components that the one report of a Success lists.
func reported(t *testing.T, m teep.Message) string {
	t.Helper()
	rep, err := report.Parse(m.(*teep.Success).SUITReports[0])
	if err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, i := range rep.Items {
		if p, ok := i.(*report.SystemProperty); ok && !slices.Contains(ids, p.Component.String()) {
			ids = append(ids, p.Component.String())
		}
	}
	return strings.Join(ids, " ")
}

// TestTAOnRequest is ua+ta,pd where the TA is loaded by its UA (SGX): the TA is neither started nor listed before the UA has asked for it
// and the TAM has sent the manifest again, also across restarts.
func TestTAOnRequest(t *testing.T) {
	w := newWorld(t, func(c *agentconfig.Config) { c.TAOnRequest = true })
	w.attest()
	bundle := w.together(1, "the server", "echo v1")
	quiet := func(when string) {
		t.Helper()
		if v, r := w.attest(); len(v.Claims.TAs) != 0 || len(r.TCList) != 2 || w.start.launched("echo v1") != 0 {
			t.Fatalf("%s: %d TAs in the Evidence, list %+v, started %d times", when, len(v.Claims.TAs), r.TCList, w.start.launched("echo v1"))
		}
		if _, err := w.client.Connect(t.Context(), "app", "ta"); err == nil {
			t.Fatal("the TA answers")
		}
	}
	s := w.update(bundle)
	w.succeeds(s, 1)
	if got := reported(t, s); got != "ree/app/ua" {
		t.Fatalf("the report lists %s", got)
	}
	if w.ree.running["ree/app/ua"] == nil {
		t.Fatal("the UA does not run")
	}
	quiet("installed")
	w.succeeds(w.update(bundle), 1)
	quiet("sent again")
	w.reboot(false)
	quiet("after a reboot")

	if ses, err := w.client.RequestTA(t.Context(), taID, ""); err != nil || ses.TAMURI == "" {
		t.Fatalf("%+v, %v", ses, err)
	}
	quiet("requested")
	w.reboot(false)
	if _, r := w.attest(); len(r.RequestedTCList) != 1 || !r.RequestedTCList[0].Component.Equal(taID) {
		t.Fatalf("the request was lost: %+v", r.RequestedTCList)
	}
	s = w.update(bundle)
	w.succeeds(s, 1)
	if got := reported(t, s); got != "tee/app/ta" {
		t.Fatalf("the report lists %s", got)
	}
	w.asks("?", "|echo v1|?")
	if _, r := w.attest(); len(r.RequestedTCList) != 0 {
		t.Fatalf("%+v", r.RequestedTCList)
	}
	w.succeeds(w.update(w.dataFor(2, "rows", w.claim().EncKey, bundle)), 1)
	w.asks("?", "rows=rows|echo v1|?")
	w.reboot(false)
	w.asks("?", "rows=rows|echo v1|?")
}
