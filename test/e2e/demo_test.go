// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// demoReport is the one line that `sealift demo --json` prints.
type demoReport struct {
	Mode       string `json:"mode"`
	Hardware   string `json:"hardware"`
	Instance   string `json:"instance"`
	Emulated   bool   `json:"emulated"`
	Plan       []step `json:"plan"`
	Trace      []step `json:"trace"`
	Appraisals []struct {
		Who    string          `json:"who"`
		Result string          `json:"result"`
		Claims json.RawMessage `json:"claims"`
	} `json:"appraisals"`
	Answer json.RawMessage `json:"answer"`
	Exit   int             `json:"exit"`

	Refusal struct {
		Code        string          `json:"code"`
		Differences json.RawMessage `json:"differences"`
	} `json:"refusal"`
}

type step struct {
	Step    string `json:"step"`
	Trigger string `json:"trigger"`
	Detail  string `json:"detail"` // of a trace
}

func names(steps []step) string {
	var out []string
	for _, s := range steps {
		out = append(out, s.Step)
	}
	return strings.Join(out, " ")
}

// loadSequences are those of the use case, section 3, written down here a second time on purpose: a plan that is wrong in
// the data would otherwise agree with a trace that is wrong in the same way.
var loadSequences = map[string]string{
	"ua+ta,pd": "admit ua-to-ree ta-to-instance attest pd-to-ta",
	"ua,ta,pd": "admit ua-to-ree ta-to-instance attest pd-to-ta",
	"ta,pd":    "admit ta-to-instance attest pd-to-ta",
	"ta+pd,ua": "admit ua-to-ree attest ta+pd-to-instance",
	"ta+pd":    "admit attest ta+pd-to-instance",
	"ua+pd,ta": "admit attest ta-to-instance ua+pd-to-ta ua-to-ree",
	"ua+ta+pd": "admit attest bundle-to-tee ta-to-instance pd-to-ta ua-to-ree",
}

func demo(t *testing.T, args ...string) (demoReport, result) {
	t.Helper()
	u := newUser(t)
	r := u.sealift("", append([]string{"demo", "--json"}, args...)...)
	if strings.Count(r.stdout, "\n") != 1 {
		t.Fatalf("exit %d, stdout is not one line:\n%s\n--- stderr\n%s", r.code, r.stdout, r.stderr)
	}
	var report demoReport
	decode(t, r.stdout, &report)
	if report.Exit != r.code {
		t.Errorf("the report says exit %d, the process ended with %d", report.Exit, r.code)
	}
	if !report.Emulated {
		t.Error("the report does not say that it rests on an emulated device")
	}
	if entries, err := os.ReadDir(u.dir); err != nil || len(entries) > 1 {
		t.Errorf("the demo left files in the current folder: %v %v", entries, err)
	}
	nothingLeft(t)
	return report, r
}

// The trace, which is made of what the Agent reported, equals the plan in each mode.
func TestDemoModes(t *testing.T) {
	var answers []string
	for mode, want := range loadSequences {
		t.Run(mode, func(t *testing.T) {
			report, r := demo(t, "--mode", mode)
			if r.code != 0 {
				t.Fatalf("exit %d\n%s", r.code, r.stderr)
			}
			if report.Mode != mode || report.Hardware != "trustzone" || report.Instance != "process" {
				t.Errorf("mode %q, hardware %q, instance %q", report.Mode, report.Hardware, report.Instance)
			}
			if names(report.Plan) != want || names(report.Trace) != want {
				t.Errorf("want  %s\nplan  %s\ntrace %s", want, names(report.Plan), names(report.Trace))
			}
			owner := false
			for _, a := range report.Appraisals {
				owner = owner || a.Who == "owner" && strings.HasPrefix(a.Result, "affirming") && len(a.Claims) > 10
			}
			if !owner {
				t.Errorf("no affirming appraisal by the owner in %+v", report.Appraisals)
			}
			if len(report.Answer) < 10 {
				t.Errorf("no answer: %s", report.Answer)
			}
			answers = append(answers, string(report.Answer))
		})
	}
	for _, a := range answers {
		if a != answers[0] {
			t.Errorf("the same question over the same data is answered differently: %s and %s", answers[0], a)
		}
	}
}

// A dishonest operator is refused, with the reason, by the right exit code.
func TestDemoBreaks(t *testing.T) {
	for fault := range refusals {
		t.Run(fault, func(t *testing.T) { breaks(t, fault) })
	}
}

// It is refused for the same reason in every other mode.
func TestDemoBreaksInAllModes(t *testing.T) {
	for fault := range refusals {
		for mode := range loadSequences {
			if mode != "ua,ta,pd" { // TestDemoBreaks
				t.Run(fault+"/"+mode, func(t *testing.T) { breaks(t, fault, "--mode", mode) })
			}
		}
	}
}

// refusals are how the demo's faults end: the code of the refusal, the exit code, and what the refusal says; the first word names what
// differed.
var refusals = map[string]struct {
	codes string
	exit  int
	words []string
}{
	"measurement": {"operator-appraisal-refused appraisal-refused", 4, []string{"AGENT", "expected", "got"}},
	"ta-swap":     {"appraisal-refused", 4, []string{"tee/stats/ta", "expected", "got"}},
	"nonce":       {"appraisal-refused", 4, []string{"nonce", "expected", "got"}},
	"signature":   {"appraisal-refused", 4, []string{"signature"}},
	"rollback":    {"rollback-refused", 5, []string{"sequence", "expected", "got"}},
	"pd-early":    {"release-before-appraisal", 5, []string{"appraisal"}},
}

func breaks(t *testing.T, fault string, args ...string) {
	t.Helper()
	want := refusals[fault]
	report, r := demo(t, append([]string{"--break", fault}, args...)...)
	if r.code != want.exit || !slices.Contains(strings.Fields(want.codes), report.Refusal.Code) {
		t.Errorf("exit %d, code %q, want %d, %s", r.code, report.Refusal.Code, want.exit, want.codes)
	}
	for _, word := range want.words {
		if !strings.Contains(r.stdout+r.stderr, word) {
			t.Errorf("the refusal does not say %q", word)
		}
	}
	// The story names the fault in any case; it is the refusal that has to name what differed.
	if differs := string(report.Refusal.Differences); !strings.Contains(differs, want.words[0]) {
		t.Errorf("what differed is not %q: %s", want.words[0], differs)
	}
	if fault != "rollback" && strings.Contains(names(report.Trace), "pd") {
		t.Errorf("PD moved: %s", names(report.Trace))
	}
	if t.Failed() {
		t.Logf("stdout:\n%s\nstderr:\n%s", r.stdout, r.stderr)
	}
}

// On SGX the UA is there first and has its TA loaded: the trace says that the step waited for the UA's request, and that there was one.
func TestDemoSGXOrder(t *testing.T) {
	for mode, triggered := range map[string]string{"ua,ta,pd": "ta-to-instance", "ua+ta,pd": "ta-to-instance", "ta+pd,ua": "ta+pd-to-instance", "ua+ta+pd": ""} {
		t.Run(mode, func(t *testing.T) {
			report, r := demo(t, "--hardware", "sgx", "--mode", mode)
			if r.code != 0 || names(report.Trace) != loadSequences[mode] || names(report.Plan) != loadSequences[mode] {
				t.Fatalf("exit %d, trace %s\n%s", r.code, names(report.Trace), r.stderr)
			}
			for _, s := range report.Trace {
				trigger := ""
				if s.Step == triggered {
					trigger = "ua-request"
				}
				if s.Trigger != trigger || strings.Contains(s.Detail, "requested by the UA at ") != (trigger != "") {
					t.Errorf("step %s: trigger %q, detail %q", s.Step, s.Trigger, s.Detail)
				}
			}
		})
	}
}

// A UA that knows nothing of asking for its TA: it connects to the TA when it has a caller, and the Broker, which
// looks whether it serves its port, is its first.
func TestSGXWithAForeignUA(t *testing.T) {
	u := newUser(t)
	devUp(t, u, "--hardware", "sgx")
	text, err := os.ReadFile(statsPackage(t, u, "ua,ta,pd"))
	if err != nil {
		t.Fatal(err)
	}
	foreign := strings.NewReplacer("[trustzone]", "[sgx]", filepath.Join(bin, "examples", "stats-ua"), inmate(t, u),
		"args: [--listen, ", "args: [relay, ").Replace(string(text))
	u.write("stats.yaml", foreign)
	u.must("", "pack", "stats.yaml")
	u.must("", "deploy", "--wait", "--timeout", "60s", "stats.sealift")
	if r := u.must("mean salary by department\n", "call", "stats"); !strings.Contains(r.stdout, "administration") {
		t.Errorf("no answer: %s", r.stdout)
	}
	if r := u.must("", "logs", "--ua", "--json", "stats"); !strings.Contains(r.stdout, `{"attested":false,"uas":[{"component":"ree/stats/ua"`) {
		t.Errorf("what the UA has printed: %s", r.stdout)
	}
	u.must("", "remove", "stats")
}

func TestDemoSaysWhatItRestsOn(t *testing.T) {
	u := newUser(t)
	r := u.must("", "demo")
	if !strings.Contains(r.stdout, "EMULATED") {
		t.Errorf("the demo does not print EMULATED:\n%s", r.stdout)
	}
	nothingLeft(t)
}
