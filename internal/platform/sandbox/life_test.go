// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sandbox_test

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/internal/platform/sandbox"
	"sealift/internal/sharedtest"
)

// processes returns the IDs of all processes of the machine that have mark in their command line.
func processes(mark string) []string {
	var found []string
	lines, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range lines {
		if data, err := os.ReadFile(file); err == nil && strings.Contains(string(data), mark) {
			found = append(found, filepath.Base(filepath.Dir(file)))
		}
	}
	return found
}

func waitNone(t *testing.T, mark string) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if len(processes(mark)) == 0 {
			return
		}
	}
	t.Errorf("processes with %q are left: %v", mark, processes(mark))
}

// asleep starts an inmate that sleeps, and returns when it does.
func asleep(t *testing.T, ctx context.Context, mark string) *sandbox.Cmd {
	t.Helper()
	r, w := io.Pipe()
	cmd := sandbox.Command(ctx, sandbox.Spec{Program: inmate(t), Args: []string{"inmate", "sleep", mark}, HostUID: someUser()})
	cmd.Stdout = w
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(r).ReadString('\n'); err != nil || line != "asleep\n" {
		t.Fatalf("%q, %v", line, err)
	}
	if len(processes(mark)) == 0 {
		t.Fatal("the search for processes does not find one that runs")
	}
	return cmd
}

// TestKill guards the ways in which a starter ends a program.
func TestKill(t *testing.T) {
	mark := fmt.Sprintf("mark-of-kill-%d", os.Getpid())
	cmd := asleep(t, t.Context(), mark)
	if err := cmd.Kill(); err != nil {
		t.Error(err)
	}
	if err := cmd.Wait(); err == nil {
		t.Error("a killed program ended well")
	}
	if err := cmd.Kill(); err != nil {
		t.Errorf("killing what is dead: %v", err)
	}
	waitNone(t, mark)
	ctx, cancel := context.WithCancel(t.Context())
	cmd = asleep(t, ctx, mark)
	cancel()
	if err := cmd.Wait(); err == nil {
		t.Error("a cancelled program ended well")
	}
	waitNone(t, mark)
}

// TestStarterDies guards that nothing outlives its starter, at any depth, also when the starter has no time to clean up.
func TestStarterDies(t *testing.T) {
	for _, s := range starters(t) {
		mark := fmt.Sprintf("mark-of-starter-%d", time.Now().UnixNano())
		words := append(append([]string{}, s.words...), "sleep", mark)
		cmd := exec.Command(words[0], words[1:]...)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "asleep\n" {
			t.Errorf("%s: %q, %v", s.name, line, err)
		}
		if n := len(processes(mark)); n < 2 {
			t.Errorf("%s: %d processes are there", s.name, n)
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		waitNone(t, mark)
	}
}

// TestDaemon guards that a process that makes itself independent ends with the program all the same.
func TestDaemon(t *testing.T) {
	if out, err := run(t, sandbox.Spec{}, "", "spawn"); err != nil || out != "allowed\n" {
		t.Fatalf("%v: %s", err, out)
	}
	waitNone(t, "left-behind")
}

// TestNothingIsLeft guards mounts, descriptors and files of the starter, over many starts that succeed and fail.
func TestNothingIsLeft(t *testing.T) {
	program := inmate(t)
	count := func() (mounts string, fds int) {
		data, err := os.ReadFile("/proc/self/mountinfo")
		if err != nil {
			t.Fatal(err)
		}
		open, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return string(data), len(open)
	}
	start := func() {
		if _, err := run(t, sandbox.Spec{Program: program}, "", "who"); err != nil {
			t.Error(err)
		}
		if _, err := run(t, sandbox.Spec{Program: program, ReadOnly: []sandbox.Bind{{Source: "/does/not/exist", Target: "/x"}}}, ""); err == nil {
			t.Error("a bind of nothing worked")
		}
	}
	start()
	mounts, fds := count()
	for range 20 {
		start()
	}
	if m, f := count(); m != mounts || f > fds {
		t.Errorf("descriptors: %d, then %d; same mounts: %v", fds, f, m == mounts)
	}
}

// TestSocket guards the way in which a TA serves: a socket in a folder of the starter's.
func TestSocket(t *testing.T) {
	dir := t.TempDir()
	if uid := someUser(); uid != 0 {
		if err := os.Chown(dir, uid, uid); err != nil {
			t.Fatal(err)
		}
	}
	spec := sandbox.Spec{
		Program: inmate(t), Args: []string{"inmate", "unixserve", "/run/ta/s"}, HostUID: someUser(),
		ReadWrite: []sandbox.Bind{{Source: dir, Target: "/run/ta"}},
	}
	cmd := sandbox.Command(t.Context(), spec)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var conn net.Conn
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		var err error
		if conn, err = net.Dial("unix", filepath.Join(dir, "s")); err == nil {
			break
		}
	}
	if conn == nil {
		t.Fatal("the program does not serve")
	}
	defer conn.Close()
	if text, err := io.ReadAll(conn); err != nil || string(text) != "hello from inside" {
		t.Errorf("%q, %v", text, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// TestBusybox guards that a foreign static program runs as a TA: Debian's busybox, reading a question from stdin and data from
// a folder.
func TestBusybox(t *testing.T) {
	path, err := exec.LookPath("busybox")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("busybox is missing, and CI must not skip its test (Debian: busybox-static)")
		}
		sharedtest.Missing(t, "no busybox here (Debian: busybox-static)")
	}
	program := sealed(t, path)
	if f, err := os.Open(path); err == nil {
		if sandbox.CheckProgram(f) != nil {
			sharedtest.Missing(t, "this busybox is not static")
		}
		f.Close()
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "oui.csv"), []byte("MA-L,286FB9,Nokia Shanghai Bell\nMA-L,08EA44,Extreme Networks\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	ta := func(stdin string, args ...string) string {
		var out strings.Builder
		cmd := sandbox.Command(t.Context(), sandbox.Spec{
			Program: program, Args: args, ReadOnly: []sandbox.Bind{{Source: dir, Target: "/pd"}},
			Limits: sandbox.Limits{DataBytes: 16 << 20, Processes: 16},
		})
		cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &out
		if err := cmd.Run(); err != nil {
			t.Errorf("%v: %v: %s", args, err, out.String())
		}
		return out.String()
	}
	if out := ta("nokia\n", "grep", "-i", "-f", "/dev/stdin", "/pd/oui.csv"); out != "MA-L,286FB9,Nokia Shanghai Bell\n" {
		t.Errorf("grep: %q", out)
	}
	if out := ta("", "sh", "-c", "cd /tmp && cp /pd/oui.csv a && sort a | head -n 1 | cut -d, -f 2 && id -u && hostname"); out != "08EA44\n1000\ntee\n" {
		t.Errorf("sh: %q", out)
	}
}

// BenchmarkStart measures from Start to the end of a program that does nothing.
func BenchmarkStart(b *testing.B) {
	program := inmate(b)
	for b.Loop() {
		cmd := sandbox.Command(b.Context(), sandbox.Spec{Program: program, Args: []string{"inmate"}, HostUID: someUser()})
		if err := cmd.Run(); err != nil {
			b.Fatal(err)
		}
	}
}
