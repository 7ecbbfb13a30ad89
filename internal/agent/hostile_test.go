// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/usecase"
)

// unchanged runs do and fails the test if the Agent's sealed state or the REE has another content afterwards.
func (w *world) unchanged(do func()) {
	w.t.Helper()
	state := w.fs.Get("state")
	w.nothingInstalled(do)
	if !bytes.Equal(state, w.fs.Get("state")) {
		w.t.Fatal("the sealed state was written")
	}
}

// nothingInstalled is unchanged for what gets as far as the REE: that it was about to change is noted in the state.
func (w *world) nothingInstalled(do func()) {
	w.t.Helper()
	before, installed := len(w.fs.Files()), w.installed()
	do()
	if got := w.installed(); got != installed {
		w.t.Fatalf("installed: %s, before: %s", got, installed)
	}
	if n := len(w.fs.Files()); n != before {
		w.t.Fatalf("%d files, %d before", n, before)
	}
}

func TestPayloadThatDiffersByOneBit(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	env := w.program(usecase.TA, 1, "echo v1", anyone)
	uri := manifest.URI(suit.SHA256([]byte("echo v1")))
	w.unchanged(func() {
		w.ree.payloads[uri] = []byte("echo v0")
		w.fails(w.update(env), report.ReasonOperationFailed, "")
		w.ree.payloads[uri] = []byte("echo v1 and more")
		w.fails(w.update(env), report.ReasonOperationFailed, "")
		delete(w.ree.payloads, uri)
		w.fails(w.update(env), report.ReasonOperationFailed, "")
	})
	w.ree.payloads[uri] = []byte("echo v1")
	w.succeeds(w.update(env), 1)
}

func TestCiphertextThatDiffersByOneBit(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	spec := anyone
	item := w.item(usecase.TA, "ta", "echo v1", to, &spec)
	env := w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{item}}), w.owner)
	w.unchanged(func() {
		w.ree.payloads[manifest.URI(item.Ciphertext)][3] ^= 1
		w.fails(w.update(env), report.ReasonOperationFailed, "")
	})
}

// TestSwappedTA: data that was released to one TA is refused where another is installed, and cannot be opened there.
func TestSwappedTA(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	appraised := w.program(usecase.TA, 1, "echo appraised", anyone)
	w.succeeds(w.update(appraised), 1)
	pd := w.data(1, "secret rows", w.claim().EncKey, appraised)
	w.succeeds(w.update(w.program(usecase.TA, 2, "echo swapped", anyone)), 1)
	w.unchanged(func() { w.fails(w.update(pd), report.ReasonConditionFailed, "") })
	w.asks("?", "|echo swapped|?")

	// The owner's tools would have to be wrong for this one: right dependency, key of another TA.
	other := newWorld(t, nil)
	other.attest()
	other.succeeds(other.update(other.program(usecase.TA, 1, "echo appraised", anyone)), 1)
	wrong := w.data(1, "secret rows", other.claim().EncKey, w.program(usecase.TA, 2, "echo swapped", anyone))
	w.unchanged(func() { w.fails(w.update(wrong), report.ReasonOperationFailed, "") })
}

// TestDataForTheAgentsKey: data that depends on a TA is opened with that TA's key and no other.
func TestDataForTheAgentsKey(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	w.unchanged(func() { w.fails(w.update(w.data(1, "rows", to, ta)), report.ReasonOperationFailed, "") })
}

// TestDataBeforeItsTA: mode ua,ta,pd in the wrong order.
func TestDataBeforeItsTA(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.unchanged(func() {
		m := w.update(w.data(1, "rows", to, ta))
		if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrCodeManifestProcessingFailed {
			t.Fatalf("%+v", m)
		}
	})
}

func TestDataWithoutATA(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	env := w.sign(w.sealedBuilder(manifest.Sealed{
		Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{w.item(usecase.PD, "rows", "secret", to, nil)},
	}), w.owner)
	w.unchanged(func() { w.fails(w.update(env), report.ReasonComponentUnauthorised, "bind") })
}

func TestRollback(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	old := w.program(usecase.TA, 4, "echo v4", anyone)
	w.succeeds(w.update(w.program(usecase.TA, 5, "echo v5", anyone)), 1)
	w.unchanged(func() {
		w.fails(w.update(old), report.ReasonConditionFailed, "sequence number")
		w.fails(w.update(w.program(usecase.TA, 5, "echo other five", anyone)), report.ReasonConditionFailed, "sequence number")
	})
	w.asks("?", "|echo v5|?")

	// A recorded Update does not bring back what was removed.
	five := w.program(usecase.TA, 5, "echo v5", anyone)
	w.succeeds(w.remove(manifest.ID("app", "ta")), 1)
	w.unchanged(func() { w.fails(w.update(five), report.ReasonConditionFailed, "sequence number") })
	w.reboot(false)
	w.unchanged(func() { w.fails(w.update(five), report.ReasonConditionFailed, "sequence number") })
	w.succeeds(w.remove(manifest.ID("app", "ta")), 0)
	w.succeeds(w.update(w.program(usecase.TA, 6, "echo v6", anyone)), 1)
}

func TestWrongSigner(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	b := w.programBuilder(usecase.TA, 1, "echo v1", anyone)
	w.unchanged(func() {
		m := w.update(w.sign(b, w.stranger))
		if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrCodeManifestProcessingFailed {
			t.Fatalf("%+v", m)
		}
		env := w.sign(b, w.owner)
		for i := range env {
			bad := bytes.Clone(env)
			bad[i] ^= 1
			if e, err := suit.ParseEnvelope(bad); err == nil {
				if _, err := e.Verify([]*cose.Key{w.owner.Key()}, suit.VerifyOptions{}); err == nil {
					continue // the unprotected header: a hint that nobody signs
				}
			}
			if m, ok := w.update(bad).(*teep.Error); !ok {
				t.Fatalf("byte %d: %+v", i, m)
			}
		}
	})
}

// TestAnotherApplication: an owner writes its own application's components and no other.
func TestAnotherApplication(t *testing.T) {
	var second cose.Signer
	w := newWorld(t, func(c *agentconfig.Config) {
		second, _ = newSigner(t, cose.AlgEd25519)
		c.Owners = append(c.Owners, agentconfig.Owner{Key: second.Key(), App: "second"})
	})
	w.attest()
	w.unchanged(func() {
		w.fails(w.update(w.sign(w.programBuilder(usecase.TA, 1, "echo v1", anyone), second)), report.ReasonComponentUnauthorised, "")
	})
	b := w.programBuilder(usecase.TA, 1, "echo v1", anyone)
	b.ComponentID = suit.NewComponentID("manifest", "second", "ta")
	w.unchanged(func() {
		w.fails(w.update(w.sign(b, w.owner)), report.ReasonComponentUnauthorised, "")
		w.fails(w.update(w.sign(b, second)), report.ReasonComponentUnauthorised, "")
	})
}

// TestNothingElseGoesOut: components with other shapes are refused, and one ciphertext is not opened as PD and as a UA.
func TestNothingElseGoesOut(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	w.unchanged(func() {
		for _, id := range []suit.ComponentID{
			suit.NewComponentID("host", "app", "x"), suit.NewComponentID("ree", "app"), suit.NewComponentID("ree", "app", "x", "y"),
			suit.NewComponentID("ree", "app", ".."), suit.NewComponentID("pd", "app", "a/b"), suit.NewComponentID("pd", "app", ""),
			suit.NewComponentID("manifest", "app", "x"), {},
		} {
			b := w.programBuilder(usecase.UA, 1, "server", launch.Spec{})
			b.Components = []suit.ComponentID{id}
			w.fails(w.update(w.sign(b, w.owner)), report.ReasonComponentUnauthorised, "")
		}
	})
	ta, ua := anyone, launch.Spec{}
	rows := w.item(usecase.PD, "rows", "secret rows", to, nil)
	out := rows
	out.Kind, out.Name, out.Launch = usecase.UA, "ua", &ua
	both := w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{
		w.item(usecase.TA, "ta", "echo v1", to, &ta), rows, out,
	}}), w.owner)
	w.unchanged(func() { w.fails(w.update(both), report.ReasonOperationFailed, "") })

	w.succeeds(w.update(w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: 1, Items: []manifest.Item{
		w.item(usecase.TA, "ta", "echo v1", to, &ta), rows,
	}}), w.owner)), 1)
	later := w.sealedBuilder(manifest.Sealed{Role: "later", Sequence: 1, Items: []manifest.Item{out}})
	w.unchanged(func() { w.fails(w.update(w.sign(later, w.owner)), report.ReasonOperationFailed, "") })

	// A copy from an installed component into the REE.
	for _, source := range [][]suit.ComponentID{
		{suit.NewComponentID("tee", "app", "ta")},
		{suit.NewComponentID("pd", "app", "rows"), suit.NewComponentID("tee", "app", "ta")},
	} {
		thief := &suit.Builder{Sequence: 1, ComponentID: manifest.ID("app", "thief")}
		thief.Components = append([]suit.ComponentID{suit.NewComponentID("ree", "app", "ua")}, source...)
		vendor := suit.VendorID(suit.SealiftVendorDomain)
		thief.Shared = suit.Sequence{suit.SetComponentIndex(0, 1), suit.Override(suit.Params{suit.ParamVendorID: vendor[:]}), suit.VendorIdentifier()}
		thief.Install = suit.Sequence{suit.SetComponentIndex(0), suit.Override(suit.Params{suit.ParamSource: uint64(1)}), suit.Copy()}
		w.unchanged(func() { w.fails(w.update(w.sign(thief, w.owner)), report.ReasonOperationFailed, "") })
	}
	if len(w.ree.store) != 0 {
		t.Fatal("something went out")
	}
}

// TestTAThatCannotStart: the previous version stays.
func TestTAThatCannotStart(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", anyone)), 1)
	w.unchanged(func() {
		w.fails(w.update(w.program(usecase.TA, 2, "garbage", anyone)), report.ReasonComponentUnsupported, "invoke")
		b := w.programBuilder(usecase.TA, 2, "echo v2", anyone)
		b.Invoke[0] = suit.Override(suit.Params{suit.ParamInvokeArgs: []byte{0xff}})
		w.fails(w.update(w.sign(b, w.owner)), report.ReasonOperationFailed, "invoke")
	})
	w.asks("still?", "|echo v1|still?")
	if n := w.start.launched("echo v1"); n != 1 {
		t.Fatalf("the running version was started %d times", n)
	}
}

// TestTAThatCrashesOnItsData: the data is refused, and the TA goes on without it.
func TestTAThatCrashes(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ta := w.program(usecase.TA, 1, "crash", anyone)
	w.succeeds(w.update(ta), 1) // it may be of no use before its data is there
	eventually(t, func() bool {
		st, err := w.client.Status(t.Context())
		return err == nil && len(st.TAs) == 1 && st.TAs[0].State == "failed" && st.TAs[0].LastExit == "exit status 3"
	})
	if _, err := w.call(w.claim().TLSKey, nil, "x"); !errors.Is(err, channel.ErrNotReady) {
		t.Fatal(err)
	}
	w.unchanged(func() {
		w.fails(w.update(w.data(1, "rows", w.claim().EncKey, ta)), report.ReasonOperationFailed, "invoke")
	})

	p := newWorld(t, nil)
	p.attest()
	picky := p.program(usecase.TA, 1, "picky v1", anyone)
	p.succeeds(p.update(picky), 1)
	p.succeeds(p.update(p.data(1, "rows", p.claim().EncKey, picky)), 1)
	p.asks("now?", "rows=rows|picky v1|now?")
}

// TestUAThatCannotStart: the UA does not stay in the REE.
func TestUAThatCannotStart(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	w.ree.refuse = channel.ErrExec
	w.fails(w.update(w.program(usecase.UA, 1, "not a program", launch.Spec{})), report.ReasonOperationFailed, "")
	if got := w.installed(); got != "" || len(w.ree.store) != 0 || w.blobs() != 0 {
		t.Fatalf("installed %q, %d components in the REE, %d blobs", got, len(w.ree.store), w.blobs())
	}
	w.ree.refuse = nil
	w.succeeds(w.update(w.program(usecase.UA, 1, "server", launch.Spec{})), 1) // its number is not used up
}

// TestREEThatForgets: a UA that the REE has lost is not told as installed, and is installed again by the same manifest.
func TestREEThatForgets(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ua := w.program(usecase.UA, 1, "server", launch.Spec{})
	w.succeeds(w.update(ua), 1)
	delete(w.ree.store, "ree/app/ua")
	w.reboot(true)
	if got := w.installed(); got != "" {
		t.Fatal(got)
	}
	_, r := w.attest() // it is asked for, and not an older one
	if len(r.RequestedTCList) != 1 || r.RequestedTCList[0].Component.String() != "ree/app/ua" || *r.RequestedTCList[0].SequenceNumber != 1 {
		t.Fatalf("%+v", r.RequestedTCList)
	}
	w.succeeds(w.update(ua), 1)
	if _, r := w.attest(); len(r.RequestedTCList) != 0 {
		t.Fatalf("%+v", r.RequestedTCList)
	}
	if got := w.installed(); got != "manifest/app/ua ree/app/ua" || w.ree.store["ree/app/ua"] == nil {
		t.Fatal(got)
	}
}

func TestBounds(t *testing.T) {
	w := newWorld(t, func(c *agentconfig.Config) {
		c.Limits = agentconfig.Limits{Manifests: 2, Components: 2, PayloadBytes: 100, StoreBytes: 150, ManifestBytes: 4000, TAs: 1}
	})
	w.attest()
	w.succeeds(w.update(w.program(usecase.TA, 1, "echo v1", anyone)), 1)
	w.unchanged(func() {
		w.fails(w.update(w.program(usecase.TA, 2, "echo "+strings.Repeat("x", 100), anyone)), report.ReasonOperationFailed, "")
		m := w.update(make([]byte, 5000))
		if e, ok := m.(*teep.Error); !ok || e.Code != teep.ErrCodeManifestProcessingFailed {
			t.Fatalf("%+v", m)
		}
		if m, ok := w.update(make([][]byte, 3)...).(*teep.Error); !ok || m.Code != teep.ErrCodePermanent {
			t.Fatalf("%+v", m)
		}
	})
}

func TestStoreIsFull(t *testing.T) {
	w := newWorld(t, nil)
	w.attest()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	w.succeeds(w.update(ta), 1)
	big := "echo " + strings.Repeat("x", 200_000)
	w.unchanged(func() {
		w.fs.Space = 100_000
		m := w.update(w.program(usecase.TA, 2, big, anyone))
		w.fails(m, report.ReasonOperationFailed, "no space left")
	})
	w.asks("?", "|echo v1|?")
	w.fs.Space = 0 // not even the sealed state fits: the reserve makes room for a removal
	w.succeeds(w.remove(manifest.ID("app", "ta")), 1)
	w.fs.Space = -1
	w.reboot(false)
	if got := w.installed(); got != "" {
		t.Fatal(got)
	}
}

// TestDependencyThatComesAlong: a manifest that brings its dependency with it is refused in whole.
func TestDependencyThatComesAlong(t *testing.T) {
	w := newWorld(t, nil)
	to := w.agentEncKey()
	ta := w.program(usecase.TA, 1, "echo v1", anyone)
	b := w.dataBuilder(1, "rows", to, ta)
	dep := b.Dependencies[0].Index
	b.Payloads = map[string][]byte{"#ta": ta}
	b.DependencyResolution = append(suit.Sequence{
		suit.SetComponentIndex(dep), suit.Override(suit.Params{suit.ParamURI: "#ta"}), suit.Fetch(),
	}, b.DependencyResolution...)
	w.unchanged(func() { w.fails(w.update(w.sign(b, w.owner)), report.ReasonOperationFailed, "") })
}
