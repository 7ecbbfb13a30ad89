// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"bytes"
	"maps"
	"strings"
	"testing"

	"sealift/internal/agent/vault/crashfs"
	"sealift/internal/launch"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/teep"
	"sealift/usecase"
)

// setChange is a change of a component set, or of what depends on one another. want tells the two states that there may be: before and after
// it.
type setChange struct {
	before func(*world)              // installs what is there before
	update func(*world) *teep.Update // made once, so that it can be sent again
	old    whole
	new    whole
}

// whole is what a complete state looks like from outside.
type whole struct {
	list   string // the tc-list
	answer string // of the TA to "?"; "" where there is none
	ua     string // the content in the REE
	blobs  int    // in the sealed store: envelopes, TAs and PD
}

// set is a bundle: a TA, two files of PD, and a UA.
func (w *world) set(sequence uint64, ta, rows, more, ua string) []byte {
	w.t.Helper()
	to := w.agentEncKey()
	spec, plain := anyone, launch.Spec{}
	items := []manifest.Item{w.item(usecase.TA, "ta", ta, to, &spec), w.item(usecase.PD, "rows", rows, to, nil), w.item(usecase.PD, "more", more, to, nil)}
	if ua != "" {
		items = append(items, w.item(usecase.UA, "ua", ua, to, &plain))
	}
	return w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RoleBundle, Sequence: sequence, Items: items}), w.owner)
}

// released is a set of PD that depends on the TA's manifest.
func (w *world) released(sequence uint64, rows, more string, ta []byte) []byte {
	w.t.Helper()
	to := w.claim().EncKey
	return w.sign(w.sealedBuilder(manifest.Sealed{Role: manifest.RolePD, Sequence: sequence,
		Items:     []manifest.Item{w.item(usecase.PD, "rows", rows, to, nil), w.item(usecase.PD, "more", more, to, nil)},
		DependsOn: &manifest.Dependency{ID: manifest.ID("app", manifest.RoleTA), Digest: w.digestOf(ta)},
	}), w.owner)
}

const setList = "manifest/app/bundle tee/app/ta pd/app/rows pd/app/more"

func setChanges() map[string]setChange {
	manifests := func(make func(*world) [][]byte) func(*world) *teep.Update {
		return func(w *world) *teep.Update { return &teep.Update{Token: w.token(), ManifestList: make(w)} }
	}
	first := func(w *world) { w.succeeds(w.update(w.set(1, "echo v1", "r1", "m1", "ua v1")), 1) }
	one := whole{setList + " ree/app/ua", "more=m1,rows=r1|echo v1|?", "ua v1", 4}
	ta1 := func(w *world) []byte {
		ta := w.program(usecase.TA, 1, "echo v1", anyone)
		w.succeeds(w.update(ta), 1)
		return ta
	}
	return map[string]setChange{
		"install": {
			before: func(*world) {},
			update: manifests(func(w *world) [][]byte { return [][]byte{w.set(1, "echo v1", "r1", "m1", "ua v1")} }),
			new:    one,
		},
		"update": {
			before: first, old: one,
			update: manifests(func(w *world) [][]byte { return [][]byte{w.set(2, "echo v2", "r2", "m2", "ua v2")} }),
			new:    whole{setList + " ree/app/ua", "more=m2,rows=r2|echo v2|?", "ua v2", 4},
		},
		"update that drops a member": {
			before: first, old: one,
			update: manifests(func(w *world) [][]byte { return [][]byte{w.set(2, "echo v1", "r2", "m1", "")} }),
			new:    whole{setList, "more=m1,rows=r2|echo v1|?", "", 3 + 1},
		},
		"removal": {
			before: first, old: one,
			update: func(w *world) *teep.Update {
				return &teep.Update{Token: w.token(), UnneededManifestList: idList(manifest.ID("app", manifest.RoleBundle))}
			},
		},
		"a set that depends on a TA": {
			before: func(w *world) { ta1(w) }, old: whole{"manifest/app/ta tee/app/ta", "|echo v1|?", "", 2},
			update: manifests(func(w *world) [][]byte {
				return [][]byte{w.released(1, "r1", "m1", w.program(usecase.TA, 1, "echo v1", anyone))}
			}),
			new: whole{"manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows pd/app/more", "more=m1,rows=r1|echo v1|?", "", 5},
		},
		"update of the dependency": {
			before: func(w *world) { w.succeeds(w.update(w.released(1, "r1", "m1", ta1(w))), 1) },
			old:    whole{"manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows pd/app/more", "more=m1,rows=r1|echo v1|?", "", 5},
			update: manifests(func(w *world) [][]byte { return [][]byte{w.program(usecase.TA, 2, "echo v2", anyone)} }),
			new: whole{"manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows pd/app/more manifest/app/ta/next tee/app/ta/next",
				"more=m1,rows=r1|echo v1|?", "", 7},
		},
		"data for the candidate": {
			before: func(w *world) {
				w.succeeds(w.update(w.released(1, "r1", "m1", ta1(w))), 1)
				w.succeeds(w.update(w.program(usecase.TA, 2, "echo v2", anyone)), 1)
			},
			old: whole{"manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows pd/app/more manifest/app/ta/next tee/app/ta/next",
				"more=m1,rows=r1|echo v1|?", "", 7},
			update: manifests(func(w *world) [][]byte {
				return [][]byte{w.data(2, "r2", w.candidate().EncKey, w.program(usecase.TA, 2, "echo v2", anyone))}
			}),
			new: whole{"manifest/app/ta tee/app/ta manifest/app/pd pd/app/rows", "rows=r2|echo v2|?", "", 4},
		},
	}
}

// TestPowerCutOfSets changes sets of components and lets the power fail at each single operation on the disk, on the counter and in the REE.
// Afterwards the Agent has the whole old set or the whole new one, never some of each; its store holds no blob that does not belong to
// that; and the same Update leads to the new set.
func TestPowerCutOfSets(t *testing.T) {
	if testing.Short() {
		t.Skip("some hundred starts of an Agent")
	}
	for name, c := range setChanges() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, nil)
			w.attest()
			c.before(w)
			w.is(c.old)
			m := c.update(w)
			w.kill()
			start := w.snapshot()
			states := map[string]int{}
			for dieAt := 1; ; dieAt++ {
				survived := true
				for _, keep := range []bool{false, true} {
					w.restore(start)
					state := "survived"
					if survived = w.cutAt(dieAt, m); !survived {
						state = w.recovered(keep, &c, dieAt)
					}
					// What follows depends on the state only, so a part of the cases will do.
					if states[state]++; states[state] == 1 || dieAt%4 == 0 {
						w.succeedsAgain(m)
						w.is(c.new)
					}
					w.kill()
				}
				if survived {
					t.Logf("%d operations; afterwards: %v", dieAt-1, states)
					if states["old"] == 0 || states["new"] == 0 {
						t.Error("the power did not fail on both sides of the commit")
					}
					return
				}
			}
		})
	}
}

// snapshot is a world that is switched off.
type snapshot struct {
	fs      *crashfs.FS
	counter uint64
	store   map[string][]byte
}

func (w *world) snapshot() *snapshot {
	return &snapshot{w.fs.Reboot(true), w.tee.counter, maps.Clone(w.ree.store)}
}

func (w *world) restore(s *snapshot) {
	w.fs = s.fs.Reboot(true)
	w.tee.fs, w.tee.counter = w.fs, s.counter
	w.ree.store, w.ree.running = maps.Clone(s.store), map[string][]byte{}
	w.boot()
	q := &teep.QueryRequest{Token: w.token(), CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles}
	if _, err := w.exchange(q); err != nil { // it is answered when the Broker has been asked for everything
		w.t.Fatal(err)
	}
}

// cutAt sends the Update, and the power fails at its n-th operation; false if it did.
func (w *world) cutAt(n int, m *teep.Update) (survived bool) {
	w.t.Helper()
	w.ree.power, w.fs.DieAt = w.fs, w.fs.Ops()+n
	_, _ = w.exchange(m) // nobody may hear the answer
	survived = w.fs.Ops() < w.fs.DieAt
	w.ree.power, w.fs.DieAt = nil, 0
	return survived
}

// recovered starts the Agent after the power is back, and names the state that it is in: old, new, or old without its UA, which
// the REE had lost and the Agent does not count. Everything else fails the test.
func (w *world) recovered(keep bool, c *setChange, at int) string {
	w.t.Helper()
	w.reboot(keep)
	got := w.seen()
	withoutUA := c.old
	withoutUA.list = strings.TrimSuffix(strings.Replace(c.old.list, "manifest/app/bundle ", "", 1), " ree/app/ua")
	withoutUA.ua = ""
	switch got {
	case c.new:
		return "new"
	case c.old:
		return "old"
	case withoutUA:
		return "old, the UA lost"
	}
	w.t.Fatalf("operation %d, keep %v: %+v\nis neither %+v\nnor %+v", at, keep, got, c.old, c.new)
	return ""
}

// seen looks at everything. A UA counts as what the REE holds; if the Agent lists it, with its digest, that must be the same.
func (w *world) seen() whole {
	w.t.Helper()
	v, r := w.attest()
	var ids []string
	got := whole{ua: string(w.ree.store["ree/app/ua"]), blobs: w.blobs()}
	for _, p := range r.TCList {
		id := p.Component.String()
		ids = append(ids, id)
		if id == "ree/app/ua" && (!p.Digest.Equal(suit.SHA256([]byte(got.ua))) || w.ree.running[id] == nil) {
			w.t.Fatalf("the UA %q is not the one that is listed, or does not run", got.ua)
		}
		if id == "tee/app/ta" {
			claim, ok := v.TA(id)
			if !ok {
				w.t.Fatal("the TA is listed and not in the Evidence")
			}
			var err error
			if got.answer, err = w.call(claim.TLSKey, nil, "?"); err != nil {
				w.t.Fatalf("%v: %+v", err, got)
			}
		}
	}
	got.list = strings.Join(ids, " ")
	return got
}

func (w *world) is(want whole) {
	w.t.Helper()
	if got := w.seen(); got != want {
		w.t.Fatalf("%+v, want %+v", got, want)
	}
}

// succeedsAgain sends the Update as often as a TAM would.
func (w *world) succeedsAgain(m *teep.Update) {
	w.t.Helper()
	reply, err := w.exchange(m)
	if s, ok := reply.(*teep.Success); err != nil || !ok || !bytes.Equal(s.Token, m.Token) {
		w.t.Fatalf("the same Update again: %+v, %v", reply, err)
	}
}

// blobs counts the files of the sealed store beside the state.
func (w *world) blobs() (n int) {
	for name := range w.fs.Files() {
		if strings.HasPrefix(name, "blobs/") {
			n++
		}
	}
	return n
}
