// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

// Package e2e runs the product as its users do: the real binaries, as processes of their own, over real sockets. What it
// starts it stops, and it fails when something stays behind.
package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// bin is the folder with the binaries under test, as `make build` lays it out.
var bin string

func TestMain(m *testing.M) {
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sealift-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	bin = filepath.Join(dir, "bin")
	for out, pkgs := range map[string][]string{
		bin:                            {"./cmd/sealift", "./cmd/sealift-agent"},
		filepath.Join(bin, "examples"): {"./examples/..."},
	} {
		build := exec.Command("go", append([]string{"build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", out + "/"}, pkgs...)...)
		build.Dir = filepath.Join("..", "..")
		build.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := build.CombinedOutput(); err != nil {
			fmt.Fprintf(os.Stderr, "building: %v\n%s", err, text)
			return 1
		}
	}
	return m.Run()
}

// result is what one command line gave.
type result struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

// user is somebody at a terminal with an owner's folder of their own.
type user struct {
	t    *testing.T
	home string // the owner's folder
	dir  string // the current folder
}

func newUser(t *testing.T) *user {
	t.Helper()
	dir := t.TempDir()
	return &user{t: t, home: filepath.Join(dir, "home"), dir: dir}
}

// sealift runs one command line, with stdin if it is given, for at most two minutes.
func (u *user) sealift(stdin string, args ...string) result {
	u.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(bin, "sealift"), args...)
	cmd.Dir = u.dir
	cmd.Env = append(os.Environ(), "SEALIFT_HOME="+u.home)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	start := time.Now()
	err := cmd.Run()
	r := result{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(start)}
	var exit *exec.ExitError
	switch {
	case err == nil:
	case errors.As(err, &exit):
		r.code = exit.ExitCode()
	default:
		u.t.Fatalf("sealift %s: %v", strings.Join(args, " "), err)
	}
	return r
}

// must runs a command line that has to succeed.
func (u *user) must(stdin string, args ...string) result {
	u.t.Helper()
	r := u.sealift(stdin, args...)
	if r.code != 0 {
		u.t.Fatalf("sealift %s: exit %d\n--- stdout\n%s\n--- stderr\n%s", strings.Join(args, " "), r.code, r.stdout, r.stderr)
	}
	return r
}

// refused runs a command line that has to end with the exit code, and to say each of the words.
func (u *user) refused(code int, words []string, args ...string) result {
	u.t.Helper()
	r := u.sealift("", args...)
	if r.code != code {
		u.t.Fatalf("sealift %s: exit %d, want %d\n--- stdout\n%s\n--- stderr\n%s", strings.Join(args, " "), r.code, code, r.stdout, r.stderr)
	}
	for _, word := range words {
		if !strings.Contains(r.stderr+r.stdout, word) {
			u.t.Errorf("sealift %s does not say %q\n--- stdout\n%s\n--- stderr\n%s", strings.Join(args, " "), word, r.stdout, r.stderr)
		}
	}
	return r
}

// write puts a file into the user's folder and returns its path.
func (u *user) write(name, content string) string {
	u.t.Helper()
	path := filepath.Join(u.dir, name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		u.t.Fatal(err)
	}
	return path
}

func decode(t *testing.T, text string, v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), v); err != nil {
		t.Fatalf("not JSON: %v\n%s", err, text)
	}
}

// process is one that runs one of the binaries under test, or something measured from memory.
type process struct {
	pid  int
	exe  string
	args []string
}

// processes lists those that belong to this test run: whose program is one of ours, or, for what runs from memory inside
// an instance, whose ancestor is one of ours.
func processes(t *testing.T) []process {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	parent := map[int]int{}
	all := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		exe, err := os.Readlink(fmt.Sprintf("/proc/%d/exe", pid))
		if err != nil {
			continue
		}
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
		ppid, _ := strconv.Atoi(fields[1])
		if fields[0] == "Z" {
			continue
		}
		cmdline, _ := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", pid))
		parent[pid] = ppid
		all[pid] = process{pid: pid, exe: exe, args: strings.Split(strings.TrimRight(string(cmdline), "\x00"), "\x00")}
	}
	var ours []process
	for pid, p := range all {
		for at := pid; at > 1; at = parent[at] {
			if strings.HasPrefix(all[at].exe, bin+"/") {
				ours = append(ours, p)
				break
			}
		}
	}
	return ours
}

// nothingLeft fails if a process of ours still runs a moment after everything was stopped.
func nothingLeft(t *testing.T) {
	t.Helper()
	var left []process
	for range 50 {
		if left = processes(t); len(left) == 0 {
			return
		}
		time.Sleep(100 * time.Millisecond)
	}
	t.Errorf("still running: %v", left)
}
