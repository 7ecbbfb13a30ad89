// SPDX-License-Identifier: Apache-2.0

//go:build linux

package supervise

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestMain lets the test binary play the programs that are supervised, and their parent.
func TestMain(m *testing.M) {
	switch os.Getenv("SUPERVISE_TEST") {
	case "":
		os.Exit(m.Run())
	case "exit":
		fmt.Println("about to end")
		os.Exit(3)
	case "flood":
		line := bytes.Repeat([]byte("x"), 4095)
		for range 1 << 12 {
			os.Stdout.Write(append(line, '\n'))
		}
	case "serve":
		ln, err := net.Listen("tcp", os.Args[1])
		if err != nil {
			os.Exit(1)
		}
		for {
			c, err := ln.Accept()
			if err != nil {
				os.Exit(1)
			}
			c.Close()
		}
	case "stubborn": // ignores SIGTERM and leaves a child behind in its group
		child := exec.Command("/bin/sleep", "1000")
		if err := child.Start(); err != nil {
			os.Exit(1)
		}
		os.WriteFile(os.Args[1], []byte(strconv.Itoa(child.Process.Pid)), 0o600)
		signal.Ignore(syscall.SIGTERM)
		select {}
	case "parent": // supervises a sleeper and reports its id
		p := Start(Spec{Path: "/bin/sleep", Args: []string{"1000"}})
		if err := p.WaitReady(context.Background()); err != nil {
			os.Exit(1)
		}
		fmt.Println(p.Status().PID)
		select {}
	}
	os.Exit(0)
}

func program(t *testing.T, role string, args ...string) Spec {
	t.Helper()
	return Spec{Name: role, Path: "/proc/self/exe", Args: args, Env: []string{"SUPERVISE_TEST=" + role},
		MinDelay: 5 * time.Millisecond, MaxDelay: 50 * time.Millisecond, Grace: 50 * time.Millisecond}
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("%s: not in 10 s", what)
}

func TestCrashIsRestartedWithDelay(t *testing.T) {
	s := program(t, "exit")
	s.Log = filepath.Join(t.TempDir(), "log")
	p := Start(s)
	eventually(t, "three restarts", func() bool { return p.Status().Restarts >= 3 })
	p.Stop()
	if st := p.Status(); st.Running || st.Error == "" {
		t.Errorf("after Stop: %+v", st)
	}
	text, _ := os.ReadFile(s.Log)
	if strings.Count(string(text), "about to end") < 3 {
		t.Errorf("the log does not hold the output of each run: %q", text)
	}
	if err := p.WaitReady(t.Context()); !errors.Is(err, ErrExited) {
		t.Errorf("WaitReady: %v", err)
	}
}

func TestRestartPolicies(t *testing.T) {
	for _, s := range []Spec{
		{Path: "/bin/true", Restart: Never}, {Path: "/bin/false", Restart: Never}, {Path: "/bin/true", Restart: OnFailure},
		{Path: "/nonexistent", Restart: Never},
	} {
		p := Start(s)
		<-p.Done()
		if st := p.Status(); st.Restarts != 0 || st.Error == "" {
			t.Errorf("%s %s: %+v", s.Path, s.Restart, st)
		}
	}
}

func TestFloodedLogIsBounded(t *testing.T) {
	s := program(t, "flood")
	s.Log, s.LogMax, s.Restart = filepath.Join(t.TempDir(), "log"), 1<<16, Never
	<-Start(s).Done()
	for _, name := range []string{s.Log, s.Log + ".1"} {
		if st, err := os.Stat(name); err != nil || st.Size() > s.LogMax {
			t.Errorf("%s: %v, %v", name, st.Size(), err)
		}
	}
}

func TestWaitReadyWaitsForTheAddress(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	ln.Close()
	s := program(t, "serve", addr)
	s.Listen = []string{addr}
	p := Start(s)
	if err := p.WaitReady(t.Context()); err != nil {
		t.Error(err)
	}
	p.Stop()
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("still serving after Stop")
	}
	// A program that runs but never listens.
	p = Start(Spec{Name: "sleep", Path: "/bin/sleep", Args: []string{"100"}, Listen: []string{addr}})
	defer p.Stop()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if err := p.WaitReady(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestStopLeavesNothing(t *testing.T) {
	file := filepath.Join(t.TempDir(), "child")
	p := Start(program(t, "stubborn", file))
	var child int
	eventually(t, "the child's id", func() bool {
		text, _ := os.ReadFile(file)
		child, _ = strconv.Atoi(string(text))
		return child > 0
	})
	p.Stop()
	eventually(t, "the end of the grandchild", func() bool { return zombieOrGone(child) })
}

func TestChildDiesWithItsSupervisor(t *testing.T) {
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"SUPERVISE_TEST=parent"}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Fscan(out, &pid); err != nil {
		t.Fatal(err)
	}
	if zombieOrGone(pid) {
		t.Fatal("the child does not run")
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	eventually(t, "the end of the child", func() bool { return zombieOrGone(pid) })
}

// zombieOrGone reports whether pid runs no more. Nobody may be there to reap it, so a zombie counts as ended.
func zombieOrGone(pid int) bool {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err != nil || bytes.Contains(text, []byte(") Z "))
}

func TestFullLogDoesNotFail(t *testing.T) {
	l, err := OpenLog("/dev/full", 1<<20)
	if err != nil {
		t.Skip(err)
	}
	defer l.Close()
	if n, err := l.Write([]byte("text")); n != 4 || err != nil {
		t.Errorf("got %d, %v", n, err)
	}
}
