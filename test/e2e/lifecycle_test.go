// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bufio"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Commands at the wrong time: each says what is wrong, and leaves everything as it is.
func TestCommandsAtTheWrongTime(t *testing.T) {
	u := newUser(t)
	u.refused(0, []string{"it was not running"}, "dev", "down")
	devUp(t, u)
	before := devState(t, u)
	if r := u.must("", "dev", "up"); !strings.Contains(r.stdout+r.stderr, "running already") {
		t.Errorf("a second dev up says %q %q", r.stdout, r.stderr)
	}
	noneDied(t, before, devState(t, u))

	u.must("", "pack", textPackage(t, u, "text", "some text"))
	u.refused(1, []string{"there is no deployment \"text\""}, "call", "text")
	u.must("", "deploy", "text.sealift")
	u.refused(5, []string{"appraised", "sealift verify text"}, "call", "text")
	u.refused(5, []string{"no positive appraisal", "sealift verify"}, "release", "text")
	u.must("", "deploy", "--wait", "text.sealift")
	u.refused(2, []string{"2 deployments of \"text\"", "name one by its id"}, "call", "text")
	for _, d := range deployments(t, u) {
		u.must("", "remove", d.ID)
	}
	u.refused(1, []string{"there is no deployment \"text\""}, "call", "text")
	u.refused(1, []string{"there is no deployment \"text\""}, "remove", "text")
	u.refused(2, []string{"unknown command"}, "deplyo")
	stillWorks(t, u)
	u.must("", "dev", "down")
	u.refused(0, []string{"it was not running"}, "dev", "down")
	nothingLeft(t)
}

// Ctrl-C in the middle of deploy --wait: the command ends soon and says what goes on without it. The deployment is whole: it can
// be taken up again, or removed.
func TestCtrlCDuringDeploy(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", statsPackage(t, u, "ua,ta,pd"))
	for _, at := range []string{"push", "deploy", "ta-to-instance", "release"} {
		t.Run("after "+at, func(t *testing.T) {
			u.t = t
			cmd := exec.Command(filepath.Join(bin, "sealift"), "deploy", "--wait", "stats.sealift")
			cmd.Dir, cmd.Env = u.dir, append(os.Environ(), "SEALIFT_HOME="+u.home)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var talk strings.Builder
			sent := time.Time{}
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				talk.WriteString(lines.Text() + "\n")
				if fields := strings.Fields(lines.Text()); sent.IsZero() && len(fields) > 2 && fields[2] == at {
					sent = time.Now()
					if err := cmd.Process.Signal(os.Interrupt); err != nil {
						t.Fatal(err)
					}
				}
			}
			_ = cmd.Wait()
			if sent.IsZero() {
				t.Fatalf("%s did not come\n%s", at, &talk)
			}
			if took := time.Since(sent); took > 5*time.Second {
				t.Errorf("it ended %s after Ctrl-C", took)
			}
			if code := cmd.ProcessState.ExitCode(); code == 0 && at != "release" || cmd.ProcessState.Sys().(syscall.WaitStatus).Signaled() {
				t.Errorf("%v\n%s", cmd.ProcessState, &talk)
			}
			for _, d := range deployments(t, u) {
				if d.Unknown { // the M/OC has it, its answer did not arrive: it can only be removed
					u.must("", "remove", d.ID)
				} else {
					takeUp(t, u, d.ID)
				}
			}
		})
	}
	u.t = t
	stillWorks(t, u)
}

// takeUp brings a deployment to its end by hand, from wherever it is, and removes it.
func takeUp(t *testing.T, u *user, id string) {
	t.Helper()
	state := func() string {
		for _, d := range deployments(t, u) {
			if d.ID == id {
				return d.Remote.State
			}
		}
		return "gone"
	}
	eventually(t, 20*time.Second, "the deployment comes to where it is the owner's turn", func() bool {
		s := state()
		return s == "awaiting-appraisal" || s == "running"
	})
	if state() != "running" {
		u.must("", "verify", id)
		if r := u.sealift("", "release", id); r.code != 0 && state() != "running" {
			t.Errorf("release: exit %d\n%s", r.code, r.stderr)
		}
	}
	answers(t, u, id)
	u.must("", "remove", id)
}
