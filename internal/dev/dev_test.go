// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dev

import (
	"context"
	"errors"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/internal/owner/home"
)

// TestMain lets the test binary play a daemon.
func TestMain(m *testing.M) {
	if len(os.Args) == 3 && os.Args[1] == "play-daemon" {
		playDaemon(os.Args[2])
	}
	os.Exit(m.Run())
}

// playDaemon does what Supervise does around its processes: takes the folder, tells its state, and stays.
func playDaemon(dir string) {
	lock, err := acquire(dir)
	if err != nil {
		os.Exit(1)
	}
	defer lock.Close()
	st := State{PID: os.Getpid(), Ready: true, URL: "http://x"}
	if _, err := os.Stat(filepath.Join(dir, "broken")); err == nil {
		st.Ready, st.Error = false, "the disk is full"
		_ = writeState(dir, st)
		os.Exit(1)
	}
	end := make(chan os.Signal, 1)
	signal.Notify(end, syscall.SIGTERM) // a bare select would let the runtime call it a deadlock
	_ = writeState(dir, st)
	<-end
	os.Exit(0)
}

func TestUpAndDown(t *testing.T) {
	dir, ctx := t.TempDir(), t.Context()
	if _, err := Status(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("before: %v", err)
	}
	if err := Down(ctx, dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("down before up: %v", err)
	}
	st, err := Up(ctx, dir, "/proc/self/exe", "play-daemon", dir)
	if err != nil {
		t.Fatal(err)
	}
	if again, err := Up(ctx, dir, "/bin/false"); !errors.Is(err, ErrRunning) || again.PID != st.PID {
		t.Errorf("a second up: %+v, %v", again, err)
	}
	if err := Down(ctx, dir); err != nil {
		t.Fatal(err)
	}
	if _, err := Status(dir); !errors.Is(err, ErrNotRunning) {
		t.Errorf("after: %v", err)
	}
}

func TestUpThatFails(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "broken"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), dir, "/proc/self/exe", "play-daemon", dir); err == nil || err.Error() != "the disk is full" {
		t.Errorf("got %v", err)
	}
	if _, err := Up(t.Context(), dir, "/bin/false"); err == nil || !strings.Contains(err.Error(), "supervisor.log") {
		t.Errorf("got %v", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Millisecond)
	defer cancel()
	if _, err := Up(ctx, dir, "/bin/sleep", "100"); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("got %v", err)
	}
}

func TestPurgeTakesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	if err := Purge(filepath.Join(dir, "none")); err != nil {
		t.Error(err)
	}
	if err := Purge(dir); err == nil {
		t.Error("a foreign folder was purged")
	}
	if err := os.Mkdir(filepath.Join(dir, "emulator"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := Purge(dir); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("still there: %v", err)
	}
}

func TestOwnersPolicyStays(t *testing.T) {
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	for i, c := range []struct {
		write, want string
		kept        bool
	}{{"first", "first", false}, {"second", "second", false}, {"second", "second", false}} {
		kept, err := setPolicy(h, []byte(c.write))
		if got, _ := h.Policy(home.DefaultPolicy); err != nil || kept != c.kept || string(got) != c.want {
			t.Errorf("%d: %q, %v, %v", i, got, kept, err)
		}
	}
	if err := h.SetPolicy(home.DefaultPolicy, []byte("the owner's"), true); err != nil {
		t.Fatal(err)
	}
	kept, err := setPolicy(h, []byte("third"))
	if got, _ := h.Policy(home.DefaultPolicy); err != nil || !kept || string(got) != "the owner's" {
		t.Errorf("%q, %v, %v", got, kept, err)
	}
	if got, _ := h.Policy(ContextName); string(got) != "third" {
		t.Errorf("under the Stack's own name: %q", got)
	}
}

func TestKeptAddress(t *testing.T) {
	dir := t.TempDir()
	if got := keptAddress(dir, ""); got != "" {
		t.Errorf("without a file: %q", got)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := ln.Addr().String()
	if err := os.WriteFile(filepath.Join(dir, "address"), []byte(addr+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if got := keptAddress(dir, ""); got != "" {
		t.Errorf("an address in use: %q", got)
	}
	ln.Close()
	if got := keptAddress(dir, ""); got != addr {
		t.Errorf("%q, want %q", got, addr)
	}
	if got := keptAddress(dir, "x:1"); got != "x:1" {
		t.Errorf("%q", got)
	}
}

func TestDeepFolderGetsAShortSocket(t *testing.T) {
	s := &Stack{cfg: Config{Dir: filepath.Join(t.TempDir(), strings.Repeat("deep", 30))}, Devices: []Device{newDevice("trustzone")}}
	if err := s.chooseSocket(); err != nil {
		t.Fatal(err)
	}
	if len(s.socket(s.Devices[0])) > 100 || s.tmpDir == "" {
		t.Errorf("socket %s", s.socket(s.Devices[0]))
	}
	s.Stop()
	if _, err := os.Stat(s.tmpDir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left behind: %v", err)
	}
}
