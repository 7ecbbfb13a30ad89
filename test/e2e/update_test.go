// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/usecase"
)

// updateSequences are the update plans for a newer TA and newer PD, written down a second time as loadSequences are.
var updateSequences = map[string]string{
	"ua+ta,pd": "ua-to-ree ta-to-instance attest pd-to-ta",
	"ua,ta,pd": "ta-to-instance attest pd-to-ta",
	"ta,pd":    "ta-to-instance attest pd-to-ta",
	"ta+pd,ua": "attest ta+pd-to-instance",
	"ta+pd":    "attest ta+pd-to-instance",
	"ua+pd,ta": "attest ta-to-instance ua+pd-to-ta ua-to-ree",
	"ua+ta+pd": "attest bundle-to-tee ta-to-instance pd-to-ta ua-to-ree",
}

// updated is a deployment as update --json shows it.
type updated struct {
	ID     string `json:"id"`
	State  string `json:"state"`
	Update struct {
		State   string `json:"state"`
		Problem struct {
			Code    string `json:"code"`
			Message string `json:"message"`
		} `json:"problem"`
		Plan  []step `json:"plan"`
		Trace []step `json:"trace"`
	} `json:"update"`
}

// newerStats writes the example's package in its n-th version: a TA of other bytes, and PD with another department.
func newerStats(t *testing.T, u *user, mode string, n int) string {
	t.Helper()
	text, err := os.ReadFile(statsPackage(t, u, mode))
	if err != nil {
		t.Fatal(err)
	}
	ta, err := os.ReadFile(filepath.Join(bin, "examples", "stats-ta"))
	if err != nil {
		t.Fatal(err)
	}
	table, err := os.ReadFile(filepath.Join("..", "..", "examples", "stats", "staff.csv"))
	if err != nil {
		t.Fatal(err)
	}
	program := filepath.Join(u.dir, "stats-ta")
	if err := os.WriteFile(program, append(ta, byte(n)), 0o700); err != nil { // what follows the ELF sections runs nothing
		t.Fatal(err)
	}
	data := u.write("staff.csv", strings.ReplaceAll(string(table), "production", fmt.Sprintf("production-%d", n)))
	at := strings.Index(string(text), "pd: [")
	out := strings.Replace(string(text[:at]), filepath.Join(bin, "examples", "stats-ta"), program, 1)
	return u.write("stats.yaml", out+"pd: ["+data+"]\n")
}

// answersWith asks until the answer holds the words, for at most 20 s.
func answersWith(t *testing.T, u *user, id, words string) {
	t.Helper()
	var r result
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if r = u.sealift("mean salary by department\n", "call", id); r.code == 0 && strings.Contains(r.stdout, words) {
			return
		}
	}
	t.Errorf("the TA does not answer with %q: exit %d\n%s\n%s\n%s", words, r.code, r.stdout, r.stderr, logs(u))
}

// In every mode: the present version serves until the owner has appraised the newer one and released to it; plan and trace of the update are
// those of the use case; afterwards the newer version serves, with the newer PD, and does so again after a stop and a start. So it is where the
// owner takes PD to the TEE itself.
func TestUpdate(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	runs := map[string]string{} // mode and delivery
	for mode := range updateSequences {
		runs[mode+" "+usecase.DeliverySealed] = mode
	}
	for _, mode := range []string{"ta,pd", "ua+pd,ta"} {
		runs[mode+" "+usecase.DeliveryChannel] = mode
	}
	for name, mode := range runs {
		t.Run(name, func(t *testing.T) {
			want, delivery := updateSequences[mode], strings.Fields(name)[1]
			u.t = t
			u.must("", "pack", newerStats(t, u, mode, 1))
			u.must("", "deploy", "--wait", "--delivery", delivery, "stats.sealift")
			t.Cleanup(func() { u.sealift("", "remove", "stats") })
			answersWith(t, u, "stats", "production-1")
			u.refused(5, []string{"the deployment got", "already"}, "update", "stats", "stats.sealift")
			u.must("", "pack", newerStats(t, u, mode, 2))
			u.must("", "update", "stats", "stats.sealift")
			eventually(t, 20*time.Second, "it is the owner's turn", func() bool {
				return strings.Contains(u.must("", "status", "stats").stdout, "awaiting-appraisal")
			})
			answersWith(t, u, "stats", "production-1")

			var d updated
			decode(t, u.must("", "update", "stats", "--wait", "--json").stdout, &d)
			if d.State != "running" || d.Update.State != "done" || names(d.Update.Plan) != want || names(d.Update.Trace) != want {
				t.Errorf("%s, update %s\nwant  %s\nplan  %s\ntrace %s", d.State, d.Update.State, want, names(d.Update.Plan), names(d.Update.Trace))
			}
			answersWith(t, u, "stats", "production-2")
			u.must("", "verify", "stats")
			u.must("", "status", "stats")
			if r := u.must("", "stop", "stats", "--json"); !strings.Contains(r.stdout, `"held":true`) {
				t.Errorf("stop says %s", r.stdout)
			}
			u.must("", "start", "stats")
			answersWith(t, u, "stats", "production-2")
			u.must("", "status", "stats")
			u.must("", "remove", "stats")
		})
	}
}

// What can go wrong with a newer version leaves the present one serving, and the next update works.
func TestUpdateThatFails(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", newerStats(t, u, "ta,pd", 1))
	u.must("", "deploy", "--wait", "stats.sealift")
	// A program that starts well enough without PD, which the Agent does not hold against it, and ends with it.
	text, err := os.ReadFile(newerStats(t, u, "ta,pd", 2))
	if err != nil {
		t.Fatal(err)
	}
	crash := fmt.Sprintf("binary: %s\n  args: [sh, -c, \"exit 3\"]", busybox(t))
	u.write("stats.yaml", strings.Replace(string(text), "binary: "+filepath.Join(u.dir, "stats-ta"), crash, 1))
	u.must("", "pack", "stats.yaml")
	r := u.refused(1, []string{"update failed", "the TA ends at once"}, "update", "stats", "stats.sealift", "--wait")
	if strings.Contains(r.stderr, "production") {
		t.Error("the data is in the error")
	}
	answersWith(t, u, "stats", "production-1")
	if s := u.must("", "status", "stats").stdout; !strings.Contains(s, "running") || !strings.Contains(s, "update failed: ") {
		t.Errorf("status says\n%s", s)
	}
	u.must("", "verify", "stats")

	u.must("", "pack", newerStats(t, u, "ta,pd", 3))
	u.must("", "update", "stats", "stats.sealift", "--wait")
	answersWith(t, u, "stats", "production-3")

	// Newer PD alone, to the same TA.
	again := newerStats(t, u, "ta,pd", 3)
	u.write("staff.csv", strings.ReplaceAll(readText(t, filepath.Join(u.dir, "staff.csv")), "production-3", "production-4"))
	u.must("", "pack", again)
	var d updated
	decode(t, u.must("", "update", "stats", "stats.sealift", "--wait", "--json").stdout, &d)
	if got := names(d.Update.Trace); got != "attest pd-to-ta" {
		t.Errorf("the trace is %q", got)
	}
	answersWith(t, u, "stats", "production-4")
	u.must("", "pack", again)
	u.refused(1, []string{"does not have already"}, "update", "stats", "stats.sealift", "--wait")
	if r := u.must("", "top", "stats"); !strings.Contains(r.stdout, "running") || !strings.Contains(r.stdout, "PD 1 files") {
		t.Errorf("top says\n%s", r.stdout)
	}
	if r := u.must("", "remove", "stats"); !strings.Contains(r.stdout, "signed that it destroyed") || !strings.Contains(r.stdout, "tee/stats/ta") ||
		!strings.Contains(r.stdout, "pd/stats/staff.csv") {
		t.Errorf("remove says\n%s", r.stdout)
	}
}

func readText(t *testing.T, path string) string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// At each boundary between two steps of an update, a process is killed: the update completes, its trace equals its plan.
func TestKillDuringUpdate(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", newerStats(t, u, "ta,pd", 1))
	u.must("", "deploy", "--wait", "stats.sealift")
	n := 1
	for _, v := range []victim{outside("moc", "serve"), outside("emulator", "run"), inTEE("agent", "sealift-agent")} {
		for _, at := range []string{"update", "ta-to-instance", "attest", "release"} {
			t.Run(v.name+" after "+at, func(t *testing.T) {
				u.t = t
				n++
				u.must("", "pack", newerStats(t, u, "ta,pd", n))
				var d updated
				out := u.killing(v, at, "update", "--wait", "--json", "--timeout", "90s", "stats", "stats.sealift")
				decode(t, out, &d)
				if d.State != "running" || d.Update.State != "done" || names(d.Update.Trace) != "ta-to-instance attest pd-to-ta" {
					t.Errorf("%s", out)
				}
				answersWith(t, u, "stats", fmt.Sprintf("production-%d", n))
			})
		}
	}
}
