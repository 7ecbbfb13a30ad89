// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ree

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/internal/channel"
	"sealift/internal/launch"
	"sealift/internal/platform/sandbox"
	"sealift/suit"
)

// TestMain lets the test binary be the first stage of the UAs' sandboxes.
func TestMain(m *testing.M) {
	sandbox.Init()
	code := m.Run()
	if built.dir != "" {
		os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

var built struct {
	sync.Once
	dir  string
	data []byte
	err  error
}

// program is a static program that plays UAs: the inmate of package sandbox.
func program(t testing.TB) []byte {
	t.Helper()
	built.Do(func() {
		if built.dir, built.err = os.MkdirTemp("", "ree-test-"); built.err != nil {
			return
		}
		file := filepath.Join(built.dir, "inmate")
		cmd := exec.Command("go", "build", "-o", file, "sealift/internal/platform/sandbox/testdata/inmate")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		if text, err := cmd.CombinedOutput(); err != nil {
			built.err = fmt.Errorf("%w: %s", err, text)
			return
		}
		built.data, built.err = os.ReadFile(file)
	})
	if built.err != nil {
		t.Fatal(built.err)
	}
	return built.data
}

var uaID = suit.ComponentID{[]byte("ree"), []byte("app"), []byte("ua")}

func newHost(t *testing.T, dir string) *Host {
	t.Helper()
	h, err := NewHost(Config{Dir: dir, Log: slog.New(slog.DiscardHandler),
		TA: func(_ context.Context, instance, app, ta string, conn net.Conn) error {
			fmt.Fprintf(conn, "%s/%s/%s:", instance, app, ta)
			_, err := io.Copy(conn, conn)
			return err
		}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		h.Close()
		if parent, name, err := groupOf(dir); err == nil && parent.At(name).Exists() {
			t.Error("its control group is left")
		}
	})
	return h
}

// install puts a program in place.
func install(t *testing.T, h *Host, content []byte) {
	t.Helper()
	installAs(t, h, uaID, content)
}

func installAs(t *testing.T, h *Host, id suit.ComponentID, content []byte) {
	t.Helper()
	w, err := h.Install("d1", id)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(content); err != nil {
		t.Fatal(err)
	}
	if err := w.Commit(); err != nil {
		t.Fatal(err)
	}
}

var spec = launch.Spec{Args: []string{"relay", "${HOST}:${PORT}"}, Ports: []launch.Port{{Name: "http"}}}.Marshal()

func call(t *testing.T, addr string) string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(10 * time.Second))
	io.WriteString(c, "hello")
	c.(*net.TCPConn).CloseWrite()
	out, err := io.ReadAll(c)
	if err != nil {
		t.Fatal(err)
	}
	return string(out)
}

func TestUAReachesItsTAAndComesBack(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir)
	install(t, h, program(t))
	for range 2 { // the second call finds it running
		if err := h.Start(t.Context(), "d1", uaID, spec); err != nil {
			t.Fatal(err)
		}
	}
	st := h.Status("d1")
	if len(st) != 1 || !st[0].Running || st[0].Restarts != 0 {
		t.Fatalf("status %+v", st)
	}
	addr := st[0].Ports["http"]
	if got := call(t, addr); got != "d1/app/ta:hello" {
		t.Errorf("got %q", got)
	}
	h.Close()
	if _, err := net.Dial("tcp", addr); err == nil {
		t.Error("the UA runs after Close")
	}
	again := newHost(t, dir)
	if err := again.Resume(); err != nil {
		t.Fatal(err)
	}
	st = again.Status("d1")
	if len(st) != 1 || st[0].Ports["http"] != addr {
		t.Fatalf("after a restart: %+v, the address was %s", st, addr)
	}
	if err := again.Start(t.Context(), "d1", uaID, spec); err != nil {
		t.Fatal(err)
	}
	if got := call(t, addr); got != "d1/app/ta:hello" {
		t.Errorf("got %q", got)
	}
	if err := again.Remove("d1", uaID); err != nil {
		t.Fatal(err)
	}
	if len(again.Status("d1")) != 0 {
		t.Error("still listed after Remove")
	}
	if err := again.RemoveInstance("d1"); err != nil {
		t.Fatal(err)
	}
	left, _ := filepath.Glob(filepath.Join(dir, "components", "*"))
	if len(left) != 1 || filepath.Base(left[0]) != stagingDir {
		t.Errorf("left on the disk: %v", left)
	}
}

func TestUASeesItsName(t *testing.T) {
	h := newHost(t, t.TempDir())
	install(t, h, program(t))
	for name, want := range map[string]string{"": "ua\n", "tool": "tool\n"} {
		s := launch.Spec{Name: name, Args: []string{"myname"}}.Marshal()
		if err := h.Start(t.Context(), "d1", uaID, s); err != nil {
			t.Fatal(err)
		}
		log := h.store.path(key{"d1", "app", "ua"}, logFile)
		for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			if text, _ := os.ReadFile(log); strings.HasSuffix(string(text), want) {
				break
			}
		}
		text, _ := os.ReadFile(log)
		if !strings.HasSuffix(string(text), want) {
			t.Errorf("name %q: the log is %q", name, text)
		}
		const most = 3
		if logs := h.Logs("d1", most); len(logs) != 1 || !logs[0].Component.Equal(uaID) || string(logs[0].Text) != string(text[len(text)-most:]) {
			t.Errorf("name %q: the last of its log is %+v", name, logs)
		}
	}
}

func TestUAThatCannotStart(t *testing.T) {
	h := newHost(t, t.TempDir())
	if err := h.Start(t.Context(), "d1", uaID, spec); !errors.Is(err, channel.ErrNotFound) {
		t.Errorf("a UA that is not installed: %v", err)
	}
	install(t, h, program(t))
	crashing := launch.Spec{Args: []string{"exit", "7"}, Ports: []launch.Port{{Name: "p"}}}.Marshal()
	if err := h.Start(t.Context(), "d1", uaID, crashing); !errors.Is(err, channel.ErrExec) || !strings.Contains(err.Error(), "7") {
		t.Errorf("a UA that crashes: %v", err)
	}
	install(t, h, []byte("not a program"))
	if err := h.Start(t.Context(), "d1", uaID, spec); !errors.Is(err, channel.ErrExec) {
		t.Errorf("no program: %v", err)
	}
	if err := h.Start(t.Context(), "d1", uaID, []byte("\xff")); !errors.Is(err, channel.ErrRefused) {
		t.Errorf("malformed parameters: %v", err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	taken := launch.Spec{Ports: []launch.Port{{Name: "p", Port: uint16(ln.Addr().(*net.TCPAddr).Port)}}}.Marshal()
	if err := h.Start(t.Context(), "d1", uaID, taken); !errors.Is(err, channel.ErrBusy) {
		t.Errorf("a port that is taken: %v", err)
	}
	if len(h.Status("d1")) != 0 {
		t.Errorf("something runs: %+v", h.Status("d1"))
	}
}

func TestUpdateReplacesTheRunningProgram(t *testing.T) {
	h := newHost(t, t.TempDir())
	install(t, h, program(t))
	if err := h.Start(t.Context(), "d1", uaID, spec); err != nil {
		t.Fatal(err)
	}
	before := h.Status("d1")[0]
	install(t, h, append(slices.Clone(program(t)), "newer"...))
	if err := h.Start(t.Context(), "d1", uaID, spec); err != nil {
		t.Fatal(err)
	}
	after := h.Status("d1")[0]
	if after.PID == before.PID || after.Ports["http"] != before.Ports["http"] {
		t.Errorf("before %+v, after %+v", before, after)
	}
	if err := h.Stop("d1", uaID); err != nil {
		t.Fatal(err)
	}
	if err := h.Resume(); err != nil || len(h.Status("d1")) != 0 {
		t.Errorf("a stopped UA was started again: %v %+v", err, h.Status("d1"))
	}
}

func TestOnlyTheREEIsReachable(t *testing.T) {
	h := newHost(t, t.TempDir())
	for _, id := range []suit.ComponentID{
		{[]byte("tee"), []byte("app"), []byte("ta")},
		{[]byte("pd"), []byte("app"), []byte("x")},
		{[]byte("ree"), []byte("app")},
		{[]byte("ree"), []byte(".."), []byte("ua")},
		{[]byte("ree"), []byte("app"), []byte("a/b")},
		{[]byte("ree"), []byte("app"), []byte("")},
		nil,
	} {
		if _, err := h.Install("d1", id); !errors.Is(err, channel.ErrRefused) {
			t.Errorf("%s: %v", id, err)
		}
	}
	if _, err := h.Install("../d1", uaID); !errors.Is(err, channel.ErrRefused) {
		t.Errorf("a path as instance: %v", err)
	}
}

func TestStagingIsAtomicAndBounded(t *testing.T) {
	dir := t.TempDir()
	h := newHost(t, dir)
	h.store.max = 8
	w, err := h.Install("d1", uaID)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, "too much for it"); !errors.Is(err, channel.ErrTooLarge) {
		t.Errorf("got %v", err)
	}
	if err := w.Commit(); !errors.Is(err, channel.ErrTooLarge) {
		t.Errorf("Commit after a failed write: %v", err)
	}
	w, _ = h.Install("d1", uaID)
	io.WriteString(w, "half")
	if keys, _ := h.store.keys(); len(keys) != 0 {
		t.Errorf("in place before Commit: %v", keys)
	}
	if _, err := NewHost(Config{Dir: dir}); err != nil { // the Broker starts again
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(dir, "components", stagingDir)); len(left) != 0 {
		t.Errorf("left in staging: %v", left)
	}
	if err := w.Commit(); err == nil {
		t.Error("Commit of a file that is gone did not fail")
	}
}

func TestDeepStateFolder(t *testing.T) {
	h := newHost(t, filepath.Join(t.TempDir(), strings.Repeat("deep", 30)))
	install(t, h, program(t))
	if err := h.Start(t.Context(), "d1", uaID, spec); err != nil {
		t.Fatal(err)
	}
	if got := call(t, h.Status("d1")[0].Ports["http"]); got != "d1/app/ta:hello" {
		t.Errorf("got %q", got)
	}
}

// TestUAAsksForItsTA: the request names the UA's own TA, whatever the UA says, and is answered before the UA serves.
func TestUAAsksForItsTA(t *testing.T) {
	h := newHost(t, t.TempDir())
	asked := make(chan string, 2)
	h.cfg.Request = func(_ context.Context, instance, app, ta string) { asked <- instance + "/" + app + "/" + ta }
	install(t, h, program(t))
	asking := launch.Spec{Args: []string{"relay", "${HOST}:${PORT}", "ask"}, Ports: []launch.Port{{Name: "http"}}}.Marshal()
	if err := h.Start(t.Context(), "d1", uaID, asking); err != nil {
		t.Fatal(err)
	}
	if got := <-asked; got != "d1/app/ta" {
		t.Errorf("asked for %s", got)
	}
	if err := h.Stop("d1", uaID); err != nil {
		t.Fatal(err)
	}
	if left, _ := os.ReadDir(filepath.Join(h.cfg.Dir, "s")); len(left) != 0 {
		t.Errorf("sockets left: %v", left)
	}
}
