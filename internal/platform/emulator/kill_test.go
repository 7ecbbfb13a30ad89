// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
)

// process is an emulator in a process of its own.
type process struct {
	cmd    *exec.Cmd
	driver platform.Driver
}

func startProcess(t *testing.T, dir, socket string) *process {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), serveEnv+"="+dir+"\n"+socket)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	buf := make([]byte, 16)
	if n, err := out.Read(buf); err != nil || string(buf[:n]) != "ready\n" {
		t.Fatalf("%q, %v", buf[:n], err)
	}
	return &process{cmd: cmd, driver: emulator.Dial(socket)}
}

// TestKilledEmulator guards that kill -9 at any moment leaves no process behind and a state that is whole: a counter is never
// behind what was answered, and never ahead by more than the one that was being made.
func TestKilledEmulator(t *testing.T) {
	dir, socket := t.TempDir(), filepath.Join(t.TempDir(), "hw")
	counted := uint64(0)
	var key []byte
	for round := range 8 {
		p := startProcess(t, dir, socket)
		w := &world{t: t, dir: dir, socket: socket, driver: p.driver}
		w.launch("one", "config-of-the-killed-emulator")
		a := w.attach("one")
		agents := agentsOf(p.cmd.Process.Pid)
		if len(agents) == 0 {
			t.Fatal("the search for Agents does not find one that runs")
		}
		got := a.must("key", "state", 0).Data
		if key != nil && string(key) != string(got) {
			t.Fatal("another sealing key after a kill")
		}
		key = got
		now := a.must("counter", "", 0).Number
		if now != counted && now != counted+1 {
			t.Fatalf("round %d: the counter is at %d, %d was answered", round, now, counted)
		}
		counted = now
		time.AfterFunc(time.Duration(round*7)*time.Millisecond, func() { _ = p.cmd.Process.Kill() })
		for {
			r, err := a.try(order{Do: "increment", Number: counted})
			if err != nil || r.Error != "" {
				break
			}
			counted = r.Number
		}
		_ = p.cmd.Wait()
		for _, pid := range agents {
			until(t, "the Agent is dead", func() bool { return !alive(pid) })
		}
	}
	if counted == 0 {
		t.Error("no increment was made")
	}
	p := startProcess(t, dir, socket)
	w := &world{t: t, dir: dir, socket: socket, driver: p.driver}
	w.launch("two", "c")
	go func() { time.Sleep(3 * time.Millisecond); _ = p.cmd.Process.Kill() }()
	_ = p.driver.Destroy(t.Context(), "two") // killed in the middle, or just after
	_ = p.cmd.Wait()
	p = startProcess(t, dir, socket)
	if left, err := os.ReadDir(filepath.Join(dir, "trash")); err != nil || len(left) != 0 {
		t.Errorf("the trash holds %v (%v)", left, err)
	}
}

// alive reports whether the process runs. A dead one that nobody has waited for yet has no command line any more.
func alive(pid int) bool {
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
	return err == nil && len(line) > 0
}

// agentsOf returns the process IDs of a process's children.
func agentsOf(pid int) []int {
	var pids []int
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	for _, file := range tasks {
		data, _ := os.ReadFile(file)
		for _, word := range strings.Fields(string(data)) {
			var child int
			if _, err := fmt.Sscan(word, &child); err == nil {
				pids = append(pids, child)
			}
		}
	}
	return pids
}

// TestOrdinaryUser runs the other tests again as an ordinary user.
func TestOrdinaryUser(t *testing.T) {
	setpriv, err := exec.LookPath("setpriv")
	if os.Getuid() != 0 || err != nil {
		t.Skip("this is an ordinary user already, or setpriv is missing")
	}
	agentPath(t)
	taPath(t)
	for _, d := range []string{programs.dir} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	tmp, err := os.MkdirTemp("", "ordinary-")
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(tmp)
	if err := os.Chown(tmp, 65534, 65534); err != nil {
		t.Fatal(err)
	}
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	binary := filepath.Join(tmp, "emulator.test")
	if err := os.WriteFile(binary, self, 0o755); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(binary, 0o755)
	cmd := exec.Command(setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups", binary, "-test.run",
		"^(TestEvidence|TestKeysAndCounters|TestDestroy|TestAttach|TestHostileAgent|TestNestedTA|TestInstancesAreApart|TestKilledEmulator)$")
	cmd.Env = append(os.Environ(), "TMPDIR="+tmp, "HOME="+tmp, programsEnv+"="+programs.dir)
	cmd.Dir = tmp
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}

// BenchmarkLaunchToEvidence measures from the Broker's call to the first token.
func BenchmarkLaunchToEvidence(b *testing.B) {
	w := serve(b, b.TempDir(), emulator.Options{})
	agentPath(b)
	for b.Loop() {
		w.launch("one", "c")
		a := w.attach("one")
		a.must("evidence", hexBinding(1), 0)
		b.StopTimer()
		if err := w.driver.Destroy(b.Context(), "one"); err != nil {
			b.Fatal(err)
		}
		a.conn.Close()
		b.StartTimer()
	}
}

// BenchmarkIncrement measures one durable step of a counter, from inside.
func BenchmarkIncrement(b *testing.B) {
	w := serve(b, b.TempDir(), emulator.Options{})
	w.launch("one", "c")
	a := w.attach("one")
	n := uint64(0)
	for b.Loop() {
		n = a.must("increment", "", n).Number
	}
}
