// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// stopped keeps a process of dev from running until the returned function is called: nobody starts it again, as it is alive.
func stopped(t *testing.T, u *user, name string) (goOn func()) {
	t.Helper()
	pid := devProcess(t, u, name)
	if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	goOn = func() { _ = syscall.Kill(pid, syscall.SIGCONT) }
	t.Cleanup(goOn)
	return goOn
}

// background starts a command line and returns how to wait for its end.
func (u *user) background(args ...string) (cmd *exec.Cmd, wait func() result) {
	u.t.Helper()
	cmd = exec.Command(filepath.Join(bin, "sealift"), args...)
	cmd.Dir, cmd.Env = u.dir, append(os.Environ(), "SEALIFT_HOME="+u.home)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		u.t.Fatal(err)
	}
	return cmd, func() result {
		_ = cmd.Wait()
		return result{stdout: stdout.String(), stderr: stderr.String(), code: cmd.ProcessState.ExitCode()}
	}
}

// An M/OC that does not answer: a command that is given a time ends with exit 3 and says who is away. One that is waiting
// goes on when the M/OC is back, and each thing was done once.
func TestMOCThatIsAway(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	u.must("", "deploy", "--wait", "text.sealift")

	goOn := stopped(t, u, "moc")
	for _, args := range [][]string{{"deploy", "--wait", "--timeout", "1s", "text.sealift"}, {"call", "--timeout", "1s", "text"}} {
		u.refused(3, []string{"time"}, args...)
	}
	_, wait := u.background("deploy", "--wait", "--timeout", "60s", "text.sealift")
	time.Sleep(time.Second)
	goOn()
	if r := wait(); r.code != 0 || !strings.Contains(r.stdout, "running") {
		t.Fatalf("when the M/OC is back: exit %d\n%s\n%s", r.code, r.stdout, r.stderr)
	}
	all := deployments(t, u)
	if len(all) != 2 {
		t.Errorf("%d deployments, want the first and the one that waited: %+v", len(all), all)
	}
	for _, d := range all {
		if r := u.must("some\n", "call", d.ID); r.stdout != "some text\n" {
			t.Errorf("%s answers %q", d.ID, r.stdout)
		}
		u.must("", "remove", d.ID)
	}
	stillWorks(t, u)
}

// With no M/OC at all, nobody waits for longer than asked, and what only needs this machine works.
func TestNoMOC(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	u.must("", "deploy", "--wait", "text.sealift")
	u.must("", "dev", "down")
	for _, args := range [][]string{
		{"deploy", "--wait", "--timeout", "1s", "text.sealift"}, {"call", "--timeout", "1s", "text"}, {"remove", "--timeout", "1s", "text"},
	} {
		if r := u.refused(3, nil, args...); r.took > 10*time.Second {
			t.Errorf("%v took %s", args, r.took)
		}
	}
	u.must("", "plan", "text.sealift")
	u.must("", "pack", "text.yaml")
	u.must("", "dev", "up")
	eventually(t, 30*time.Second, "the TA answers after the device was off", func() bool {
		return u.sealift("some\n", "call", "--timeout", "5s", "text").stdout == "some text\n"
	})
	u.must("", "remove", "text")
	stillWorks(t, u)
}
