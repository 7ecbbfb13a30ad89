// SPDX-License-Identifier: Apache-2.0

package tam_test

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
	"sealift/usecase"
)

var modes = usecase.Modes()

// TestModes takes a deployment of each mode from its first contact to a complete trace, killing the M/OC between the acts.
func TestModes(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgESP256, cose.AlgEd25519} {
		for _, mode := range modes {
			t.Run(string(mode)+alg.String(), func(t *testing.T) {
				w := newWorld(t, mode, "")
				w.agent = newAgent(w, alg)
				w.session()
				w.restart()
				if got := w.deployment(); got.State != mocapi.StateAwaitingAppraisal || !got.AgentKey.Equal(w.agent.signer.Key()) {
					t.Fatalf("state %s, trace %s", got.State, w.steps())
				}
				request, nonce := w.ask()
				w.session()
				w.restart()
				w.checkEvidence(request, nonce)
				w.appraiseAll()
				w.release(w.dataPackage(mode, 3))
				w.session()
				d := w.deployment()
				var want []string
				for _, s := range d.Plan {
					want = append(want, string(s.Step))
				}
				if got := w.steps(); d.State != mocapi.StateRunning || got != strings.Join(want, " ") {
					t.Fatalf("state %s (%v), trace %s, want %s", d.State, d.Problem, got, want)
				}
				w.restart()
				known := len(w.agent.received)
				if posts := w.session(); posts != 2 || w.steps() != strings.Join(want, " ") || len(w.agent.received) != known+1 {
					t.Errorf("a session when all is done: %d POSTs, trace %s", posts, w.steps())
				}
				for _, c := range w.deployment().Installed {
					if strings.HasPrefix(c.Component, "enc/") || strings.HasPrefix(c.Component, "pd/") && c.Digest != "" {
						t.Errorf("installed: %+v", c)
					}
				}
			})
		}
	}
}

// checkEvidence verifies the answer to an evidence request as the owner does.
func (w *world) checkEvidence(request string, nonce []byte) {
	w.t.Helper()
	e := w.evidence(request)
	if !e.Ready || len(e.Advice) == 0 || e.AdviceStatus != "affirming" || !slices.Equal(e.Challenge, append(slices.Clone(e.TAMNonce), nonce...)) {
		w.t.Fatalf("evidence %+v", e)
	}
	_, err := evidence.Verify(e.Bundle, evidence.Input{Challenge: e.Challenge, AgentKey: e.AgentKey, Now: w.clock,
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.pki.Anchor()}}})
	must(w.t, err)
}

// TestKnownAgent: a known Agent is asked with a token, in one signature of its own suite, and not for Evidence.
func TestKnownAgent(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	first, err := teep.Parse(w.connect())
	must(t, err)
	if len(first.Algorithms()) != 2 {
		t.Errorf("the first QueryRequest has signatures with %v", first.Algorithms())
	}
	w.session()
	again, err := teep.Parse(w.connect())
	must(t, err)
	if got := again.Algorithms(); len(got) != 1 || got[0] != cose.AlgESP256 {
		t.Errorf("the second QueryRequest has signatures with %v", got)
	}
	v, err := teep.Verify(w.connect(), w.keys.Public())
	must(t, err)
	if q := v.Message.(*teep.QueryRequest); q.DataItems.Has(teep.ItemAttestation) || len(q.Token) != 32 {
		t.Errorf("%+v", q)
	}
}

// TestConnectWritesNothing: the files of the database are the same bytes after a hundred empty POSTs.
func TestConnectWritesNothing(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	files := func() (all string) {
		names, err := filepath.Glob(filepath.Join(w.dir, "moc.db*"))
		must(t, err)
		for _, name := range names {
			if strings.HasSuffix(name, "-shm") {
				continue // shared memory of readers
			}
			data, err := os.ReadFile(name)
			must(t, err)
			all += name + string(data)
		}
		return all
	}
	for _, when := range []string{"unknown", "known", "asked"} {
		before, version := files(), w.deployment().Version
		for range 100 {
			w.connect()
		}
		if files() != before || w.deployment().Version != version {
			t.Errorf("%s: an empty POST has written", when)
		}
		switch when {
		case "unknown":
			w.session()
		case "known":
			w.ask()
		}
	}
}

// TestReportedOrder: the trace is what the Agent reports. In the bundle's mode the order of the report decides.
func TestReportedOrder(t *testing.T) {
	toFirst := func(prefix string) func(*report.Report) {
		return func(r *report.Report) {
			slices.SortStableFunc(r.Items, func(x, y report.Item) int {
				rank := func(i report.Item) int {
					if strings.HasPrefix(i.(*report.SystemProperty).Component.String(), prefix) {
						return 0
					}
					return 1
				}
				return rank(x) - rank(y)
			})
		}
	}
	for prefix, trace := range map[string]string{
		"tee/": "admit attest bundle-to-tee ta-to-instance pd-to-ta ua-to-ree", // the right one
		"ree/": "admit attest bundle-to-tee",
		"pd/":  "admit attest bundle-to-tee",
	} {
		w := newWorld(t, usecase.ModeBundleUATAPD, "")
		w.session()
		w.appraise()
		w.release(w.dataPackage(usecase.ModeBundleUATAPD, 3))
		w.agent.report = toFirst(prefix)
		w.session()
		problem := "plan-violated/6"
		if prefix == "tee/" {
			problem = ""
		}
		if w.steps() != trace || w.problem() != problem {
			t.Errorf("%s first: trace %s, problem %q", prefix, w.steps(), w.problem())
		}
	}
}

// TestListedOrder: the same when the Success was lost and the tc-list tells.
func TestListedOrder(t *testing.T) {
	w := newWorld(t, usecase.ModeBundleUATAPD, "")
	w.session()
	w.appraise()
	w.release(w.dataPackage(usecase.ModeBundleUATAPD, 3))
	w.agent.process(w.send(w.agent.process(w.connect()))) // and the Success is lost
	w.agent.order = func(list []teep.SystemProperty) { slices.Reverse(list[1:]) }
	w.session()
	if w.steps() != "admit attest bundle-to-tee" || w.problem() != "plan-violated/6" || w.deployment().State != mocapi.StateFailed {
		t.Errorf("trace %s, problem %q", w.steps(), w.problem())
	}
}

// TestLostSuccess: what a lost Success would have told, the next tc-list tells.
func TestLostSuccess(t *testing.T) {
	for _, mode := range modes {
		w := newWorld(t, mode, "")
		w.session()
		w.appraiseAll()
		w.release(w.dataPackage(mode, 3))
		w.agent.process(w.send(w.agent.process(w.connect())))
		w.restart()
		if posts := w.session(); posts != 2 || w.deployment().State != mocapi.StateRunning {
			t.Errorf("%s: %d POSTs, state %s, trace %s", mode, posts, w.deployment().State, w.steps())
		}
	}
}

// TestPoorReport: a Success whose report does not say which components there are makes the TAM look at the tc-list.
func TestPoorReport(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.agent.report = func(r *report.Report) { r.Items = nil }
	wake := w.deployment().Private.Wake
	w.session()
	if w.steps() != "admit" || w.deployment().Private.Wake == wake {
		t.Fatalf("trace %s, wake %d", w.steps(), w.deployment().Private.Wake)
	}
	w.session()
	if w.steps() != "admit ta-to-instance" || w.problem() != "" {
		t.Errorf("trace %s, problem %q", w.steps(), w.problem())
	}
}

// TestComponentMissing: a manifest without its component is no progress, and no endless loop either.
func TestComponentMissing(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD, "")
	w.agent.report = func(r *report.Report) { r.Items = nil }
	w.session()
	w.agent.installed[0].components = nil
	w.session()
	if w.steps() != "admit" || w.problem() != "component-missing/6" {
		t.Errorf("trace %s, problem %q", w.steps(), w.problem())
	}
}

// TestLostUA: what the device has lost is sent again, without a second line in the trace.
func TestLostUA(t *testing.T) {
	w := newWorld(t, usecase.ModeUATAPD, "")
	w.session()
	w.agent.installed = w.agent.installed[1:]
	w.session()
	if got := strings.Join(w.agent.manifests(), " "); got != "manifest/app/ua manifest/app/ta manifest/app/ua" {
		t.Error(got)
	}
	if w.steps() != "admit ua-to-ree ta-to-instance" || w.problem() != "" {
		t.Errorf("trace %s, problem %q", w.steps(), w.problem())
	}
}

// TestTAOnRequest: where the plan has the TA wait for its UA (SGX), it is sent in the session in which the Agent tells of the request,
// not before, whatever else happens; the trace says that there was one.
func TestTAOnRequest(t *testing.T) {
	for mode, waiting := range map[usecase.Mode]string{
		usecase.ModeUATAPD:       "admit ua-to-ree",
		usecase.ModeBundleUATA:   "admit ua-to-ree",
		usecase.ModeBundleTAPDUA: "admit ua-to-ree attest",
	} {
		t.Run(string(mode), func(t *testing.T) {
			w := newWorldPlanned(t, mode, "", usecase.SGX)
			hidden := mode == usecase.ModeBundleUATA // the TA came with the UA and is not started
			w.agent.order = func(list []teep.SystemProperty) {
				for i := range list {
					if hidden && list[i].Component.String() == "tee/app/ta" {
						list[i] = list[i-1]
					}
				}
			}
			w.agent.report = func(r *report.Report) {
				r.Items = slices.DeleteFunc(r.Items, func(i report.Item) bool {
					return hidden && i.(*report.SystemProperty).Component.String() == "tee/app/ta"
				})
			}
			w.session()
			w.restart()
			if mode == usecase.ModeBundleTAPDUA {
				w.appraise()
				w.release(w.dataPackage(mode, 3))
			}
			for range 2 {
				if w.session(); w.steps() != waiting || w.problem() != "" {
					t.Fatalf("trace %s, problem %q before the request", w.steps(), w.problem())
				}
			}
			sent := len(w.agent.manifests())
			requested := true
			w.agent.tamper = func(m teep.Message) {
				if r, ok := m.(*teep.QueryResponse); ok && requested {
					r.RequestedTCList = []teep.RequestedTC{{Component: suit.NewComponentID("tee", "app", "ta")}}
				}
				if _, ok := m.(*teep.Success); ok {
					hidden, requested = false, false
				}
			}
			if hidden { // the Agent starts it, and reports it
				w.agent.report = nil
			}
			w.session()
			if got := len(w.agent.manifests()); got != sent+1 {
				t.Fatalf("%d Updates for one request", got-sent)
			}
			if mode != usecase.ModeBundleTAPDUA {
				w.appraise()
				w.release(w.dataPackage(mode, 3))
				w.session()
			}
			d := w.deployment()
			if d.State != mocapi.StateRunning || w.problem() != "" {
				t.Fatalf("state %s, trace %s, problem %q", d.State, w.steps(), w.problem())
			}
			for i, s := range d.Trace {
				if s.Trigger != d.Plan[i].Trigger || strings.Contains(s.Detail, "requested by the UA") != (s.Trigger == usecase.TriggerUARequest) {
					t.Errorf("step %s: trigger %q, %s", s.Step.Step, s.Trigger, s.Detail)
				}
			}
		})
	}
}
