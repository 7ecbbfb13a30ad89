// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// statsPackage writes the package file of the example in a mode, and returns its name.
func statsPackage(t *testing.T, u *user, mode string) string {
	t.Helper()
	examples := filepath.Join(bin, "examples")
	data, err := filepath.Abs(filepath.Join("..", "..", "examples", "stats", "staff.csv"))
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("name: stats\nmode: %s\nhardware: [trustzone]\ninstances: [process]\nta:\n  binary: %s\n  serve: socket\n", mode, filepath.Join(examples, "stats-ta"))
	if strings.Contains(mode, "ua") {
		text += fmt.Sprintf("ua:\n  binary: %s\n  args: [--listen, \"${HOST}:${PORT}\"]\n  ports: [questions]\n", filepath.Join(examples, "stats-ua"))
	}
	return u.write("stats.yaml", text+"pd: ["+data+"]\n")
}

// victim finds the process to kill; 0 if it does not run now.
type victim struct {
	name string
	find func(t *testing.T, u *user) int
}

// outside finds a process of the operator's by its verb, in what runs now: dev status is up to a second behind.
func outside(name, verb string) victim {
	return victim{name, func(t *testing.T, u *user) int {
		for _, p := range processes(t) {
			if len(p.args) > 2 && p.args[1] == name && p.args[2] == verb && strings.Contains(strings.Join(p.args, " "), u.home) {
				return p.pid
			}
		}
		return 0
	}}
}

// inTEE finds a process inside an instance by the name that it was started with.
func inTEE(name, argv0 string) victim {
	return victim{name, func(t *testing.T, _ *user) int {
		for _, p := range processes(t) {
			if filepath.Base(p.args[0]) == argv0 && strings.Contains(p.exe, "memfd:") {
				return p.pid
			}
		}
		return 0
	}}
}

// At every boundary between two steps, each process in turn is killed. The deployment completes all the same, the trace still
// equals the plan, no manifest is installed twice, and the TA answers (promises I3 and I9).
func TestKillAnywhere(t *testing.T) {
	boundaries := []string{"deploy", "admit", "ua-to-ree", "ta-to-instance", "attest", "release", "pd-to-ta"}
	for _, v := range []victim{outside("moc", "serve"), outside("broker", "run"), outside("emulator", "run"), inTEE("agent", "sealift-agent"), inTEE("ta", "stats-ta")} {
		t.Run(v.name, func(t *testing.T) {
			u := newUser(t)
			devUp(t, u)
			u.must("", "pack", statsPackage(t, u, "ua,ta,pd"))
			for _, at := range boundaries {
				if v.name == "ta" && (at == "deploy" || at == "admit" || at == "ua-to-ree") {
					continue // there is none yet
				}
				if !t.Run("after "+at, func(t *testing.T) { killAt(t, u, v, at) }) {
					return
				}
			}
		})
	}
}

// killing runs a command that tells its steps, kills the victim as soon as the step is told, and returns what the command prints: it has to
// succeed all the same.
func (u *user) killing(v victim, at string, args ...string) string {
	t := u.t
	t.Helper()
	cmd := exec.Command(filepath.Join(bin, "sealift"), args...)
	cmd.Dir, cmd.Env = u.dir, append(os.Environ(), "SEALIFT_HOME="+u.home)
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var talk strings.Builder
	killed := 0
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		fmt.Fprintln(&talk, lines.Text())
		if fields := strings.Fields(lines.Text()); killed == 0 && len(fields) > 2 && fields[2] == at {
			killed = kill(t, u, v)
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s (pid %d) killed after %s: %s: %v\n%s\n%s", v.name, killed, at, args[0], err, &talk, logs(u))
	}
	if killed == 0 {
		t.Fatalf("%s was not killed: %s did not come\n%s", v.name, at, &talk)
	}
	return stdout.String()
}

// killAt deploys stats, with further arguments, and kills the victim after a step.
func killAt(t *testing.T, u *user, v victim, at string, more ...string) {
	u.t = t
	var deployed struct {
		ID    string `json:"id"`
		TEE   string `json:"tee"`
		State string `json:"state"`
		Plan  []step `json:"plan"`
		Trace []step `json:"trace"`
	}
	decode(t, u.killing(v, at, append([]string{"deploy", "--wait", "--json", "--timeout", "90s", "stats.sealift"}, more...)...), &deployed)
	if want := loadSequences["ua,ta,pd"]; names(deployed.Trace) != want || names(deployed.Plan) != want || deployed.State != "running" {
		t.Errorf("state %s\nplan  %s\ntrace %s", deployed.State, names(deployed.Plan), names(deployed.Trace))
	}
	installedOnce(t, u, deployed.TEE)
	answers(t, u, deployed.ID)
	u.must("", "remove", deployed.ID)
}

// kill kills the victim with a signal that nothing can catch, and returns its process id.
func kill(t *testing.T, u *user, v victim) int {
	t.Helper()
	for range 100 {
		if pid := v.find(t, u); pid > 0 {
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Errorf("killing %s: %v", v.name, err)
			}
			return pid
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Errorf("no %s to kill", v.name)
	return 0
}

var installedLine = regexp.MustCompile(`instance=(\S+) .*msg=installed manifest=(\S+)`)

// installedOnce counts, in what the device's Agents have logged, how often each manifest was installed.
func installedOnce(t *testing.T, u *user, id string) {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(u.home, "dev", "log", "emulator.log"))
	if err != nil {
		t.Fatal(err)
	}
	count := map[string]int{}
	for _, m := range installedLine.FindAllStringSubmatch(string(data), -1) {
		if m[1] == id {
			count[m[2]]++
		}
	}
	if len(count) == 0 {
		t.Error("the device's log tells of no installation")
	}
	for manifest, n := range count {
		if n != 1 {
			t.Errorf("%s was installed %d times", manifest, n)
		}
	}
}

// answers asks the TA until it has come back, for at most a minute.
func answers(t *testing.T, u *user, id string) {
	t.Helper()
	var r result
	for deadline := time.Now().Add(time.Minute); time.Now().Before(deadline); time.Sleep(200 * time.Millisecond) {
		if r = u.sealift("mean salary by department\n", "call", id); r.code == 0 && strings.Contains(r.stdout, "production") {
			return
		}
	}
	t.Errorf("the TA does not answer any more: exit %d\n%s\n%s\n%s", r.code, r.stdout, r.stderr, logs(u))
}

// logs gathers the ends of the logs of all processes.
func logs(u *user) string {
	var out strings.Builder
	_ = filepath.WalkDir(filepath.Join(u.home, "dev", "log"), func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		fmt.Fprintf(&out, "--- %s\n%s\n", filepath.Base(path), data[max(0, len(data)-3000):])
		return err
	})
	return out.String()
}
