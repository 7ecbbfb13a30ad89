// SPDX-License-Identifier: Apache-2.0

//go:build linux

package cgroup

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/internal/sharedtest"
)

// TestMain makes the test binary also the program that is bounded.
func TestMain(m *testing.M) {
	if what := os.Getenv("CGROUP_TEST"); what != "" {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n') // until it is in its group
		os.Exit(victim(what))
	}
	os.Exit(m.Run())
}

func victim(what string) int {
	switch what {
	case "eat":
		var all [][]byte
		for range 256 {
			b := make([]byte, 1<<20)
			for i := 0; i < len(b); i += 4096 {
				b[i] = 1
			}
			all = append(all, b)
		}
		return len(all) & 1
	case "fork":
		for range 64 {
			if err := exec.Command("/bin/sleep", "100").Start(); err != nil {
				if errors.Is(err, syscall.EAGAIN) {
					return 42
				}
				fmt.Fprintln(os.Stderr, err)
				return 1
			}
		}
		return 0
	case "sleep":
		_ = exec.Command("/bin/sleep", "100").Start()
		fmt.Println("ready")
		time.Sleep(100 * time.Second)
	}
	return 0
}

func group(t *testing.T, l Limits) *Group {
	t.Helper()
	parent, err := Find()
	if err != nil {
		sharedtest.Missing(t, "control groups that this user can make: %v", err)
	}
	g, err := parent.Child(fmt.Sprintf("sealift-test-%d-%s", os.Getpid(), strings.ToLower(t.Name())), l)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := g.Remove(); err != nil {
			t.Error(err)
		}
		for _, dir := range g.folders() {
			if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
				t.Errorf("%s is left: %v", dir, err)
			}
		}
	})
	return g
}

// start starts the program in g.
func start(t *testing.T, g *Group, what string) (*exec.Cmd, io.Reader) {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), "CGROUP_TEST="+what)
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill() })
	if err := g.Add(cmd.Process.Pid); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintln(in)
	return cmd, out
}

// TestMemory guards that the memory limit binds a group below the one that has it, and that the kill is counted there.
func TestMemory(t *testing.T) {
	g := group(t, Limits{MemoryBytes: 64 << 20})
	leaf, err := g.Child("leaf", Limits{})
	if err != nil {
		t.Fatal(err)
	}
	cmd, _ := start(t, leaf, "eat")
	var exit *exec.ExitError
	if err := cmd.Wait(); !errors.As(err, &exit) || exit.Sys().(syscall.WaitStatus).Signal() != syscall.SIGKILL {
		t.Fatalf("it ended with %v", err)
	}
	if n, err := leaf.OOMKills(); n == 0 || err != nil {
		t.Errorf("%d kills counted, %v", n, err)
	}
}

// TestProcesses guards the limit of processes.
func TestProcesses(t *testing.T) {
	g := group(t, Limits{Processes: 24})
	cmd, _ := start(t, g, "fork")
	if err := cmd.Wait(); cmd.ProcessState.ExitCode() != 42 {
		t.Fatalf("it ended with %v", err)
	}
	if n, err := g.ForksDenied(); n == 0 || err != nil {
		t.Errorf("%d counted, %v", n, err)
	}
}

// TestRemove guards that nothing runs on when a group is removed, also not in groups that were made inside.
func TestRemove(t *testing.T) {
	g := group(t, Limits{CPUMillis: 500})
	leaf, err := g.Child("inside", Limits{Processes: 100})
	if err != nil {
		t.Fatal(err)
	}
	cmd, out := start(t, leaf, "sleep")
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatal(line, err)
	}
	done := make(chan error, 1)
	go func() { done <- cmd.Wait() }()
	if err := g.Remove(); err != nil {
		t.Fatal(err)
	}
	if err := <-done; err == nil {
		t.Error("it ended by itself")
	}
}

// TestNames guards the groups' names, which are paths.
func TestNames(t *testing.T) {
	g := &Group{dirs: map[string]string{"cpu": t.TempDir(), "memory": t.TempDir(), "pids": t.TempDir()}}
	for _, name := range []string{"", ".", "..", "a/b", "/a", strings.Repeat("x", 200)} {
		if _, err := g.Child(name, Limits{}); err == nil {
			t.Errorf("%q was made", name)
		}
	}
}

// fakeV2 lays a folder out as version 2 does: this machine may carry its controllers by version 1.
func fakeV2(t *testing.T, control string) string {
	t.Helper()
	dir := t.TempDir()
	for name, content := range map[string]string{"cgroup.procs": "", "cgroup.subtree_control": control} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// TestVersion2 guards the files that are written under version 2.
func TestVersion2(t *testing.T) {
	dir := fakeV2(t, "cpu memory\n")
	g, err := find(map[string]string{"": "/"}, map[string]tree{"": {"/", dir}})
	if err != nil {
		t.Fatal(err)
	}
	if data, _ := os.ReadFile(filepath.Join(dir, "cgroup.subtree_control")); !strings.HasPrefix(string(data), "+pids") {
		t.Errorf("subtree_control: %q", data)
	}
	c := g.At("x")
	if err := os.Mkdir(c.folders()[0], 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"memory.max", "memory.swap.max", "pids.max", "cpu.max", "cgroup.procs", "cgroup.subtree_control", "cgroup.threads"} {
		if err := os.WriteFile(filepath.Join(c.folders()[0], name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(c.limit(Limits{MemoryBytes: 1 << 20, Processes: 7, CPUMillis: 250}), c.Add(12345), c.Delegate(os.Getuid())); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]string{"memory.max": "1048576", "memory.swap.max": "0", "pids.max": "7", "cpu.max": "25000 100000",
		"cgroup.procs": "12345", "cgroup.subtree_control": "+cpu +memory +pids"} {
		if data, err := os.ReadFile(filepath.Join(c.folders()[0], name)); string(data) != want {
			t.Errorf("%s: %q %v, want %q", name, data, err, want)
		}
	}
	if m := c.Mounts(); len(m) != 1 || m[0].Target != MountRoot {
		t.Errorf("%v", m)
	}
	if err := os.WriteFile(filepath.Join(c.folders()[0], "memory.events"), []byte("low 0\noom 2\noom_kill 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := c.OOMKills(); n != 1 || err != nil {
		t.Errorf("%d %v", n, err)
	}
	inside, err := openAt(c.folders()[0])
	if err != nil || !inside.v2 {
		t.Errorf("%v %v", inside, err)
	}
}

// TestTables guards the reading of the kernel's tables, on machines of each kind.
func TestTables(t *testing.T) {
	own, err := parseMembership(strings.NewReader("4:memory:/a/b\n3:cpu,cpuacct:/c\n0::/d\nnonsense\n"))
	if err != nil || own["memory"] != "/a/b" || own["cpu"] != "/c" || own[""] != "/d" {
		t.Errorf("%v %v", own, err)
	}
	trees, err := parseMounts(strings.NewReader(`30 25 0:26 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755
31 30 0:27 /docker/x /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
32 30 0:28 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw
short
`))
	if err != nil || trees["cpu"] != (tree{"/docker/x", "/sys/fs/cgroup/cpu,cpuacct"}) || trees[""].mount != "/sys/fs/cgroup/unified" {
		t.Errorf("%v %v", trees, err)
	}
	if _, err := find(own, map[string]tree{}); !errors.Is(err, ErrUnsupported) {
		t.Errorf("%v", err)
	}
	dir := t.TempDir()
	tr := tree{"/docker/x", dir}
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o700); err != nil {
		t.Fatal(err)
	}
	for group, want := range map[string]string{"/docker/x/in": dir + "/in", "/docker/x": dir, "/elsewhere": dir, "/../y": dir, "/docker/x/gone": dir} {
		if got := tr.locate(group); got != want {
			t.Errorf("%s is at %s, want %s", group, got, want)
		}
	}
}
