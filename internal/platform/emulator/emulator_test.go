// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"bytes"
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/sandbox"
)

// serveEnv makes the test binary an emulator of its own process: its value is the state folder and the socket.
const serveEnv = "SEALIFT_TEST_EMULATOR"

// programsEnv names a folder with the tests' programs, for a run that cannot build them.
const programsEnv = "SEALIFT_TEST_PROGRAMS"

func TestMain(m *testing.M) {
	sandbox.Init()
	if v := os.Getenv(serveEnv); v != "" {
		dir, socket, _ := strings.Cut(v, "\n")
		err := emulator.Serve(context.Background(), dir, socket, emulator.Options{
			Log: slog.New(slog.NewTextHandler(os.Stderr, nil)), Ready: func(platform.Info) { os.Stdout.WriteString("ready\n") },
		})
		os.Stderr.WriteString(err.Error() + "\n")
		os.Exit(1)
	}
	programs.dir = os.Getenv(programsEnv)
	code := m.Run()
	if programs.dir != "" && os.Getenv(programsEnv) == "" {
		os.RemoveAll(programs.dir)
	}
	os.Exit(code)
}

var programs struct {
	sync.Mutex
	dir string
}

// build builds one of the tests' programs, once.
func build(t testing.TB, name, pkg string) string {
	t.Helper()
	programs.Lock()
	defer programs.Unlock()
	if programs.dir == "" {
		dir, err := os.MkdirTemp("", "emulator-test-")
		if err != nil {
			t.Fatal(err)
		}
		programs.dir = dir
	}
	out := filepath.Join(programs.dir, name)
	if _, err := os.Stat(out); err == nil {
		return out
	}
	cmd := exec.Command("go", "build", "-o", out, pkg)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("building %s: %v\n%s", pkg, err, text)
	}
	return out
}

func agentPath(t testing.TB) string { return build(t, "agent", "./testdata/agent") }
func taPath(t testing.TB) string    { return build(t, "inmate", "../sandbox/testdata/inmate") }

// logBuffer collects the emulator's log.
type logBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// world is an emulator in this process.
type world struct {
	t      testing.TB
	dir    string
	socket string
	driver platform.Driver
	log    *logBuffer
	stop   func()
	info   platform.Info
	layer  string // a guest payload for launches that follow
}

func serve(t testing.TB, dir string, o emulator.Options) *world {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	w := &world{t: t, dir: dir, socket: filepath.Join(t.TempDir(), "hw"), log: &logBuffer{}}
	ready, done := make(chan platform.Info, 1), make(chan error, 1)
	o.Log = slog.New(slog.NewTextHandler(w.log, nil))
	o.Ready = func(i platform.Info) { ready <- i }
	go func() { done <- emulator.Serve(ctx, dir, w.socket, o) }()
	w.stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("the emulator ended with %v", err)
		}
	})
	t.Cleanup(w.stop)
	select {
	case w.info = <-ready:
	case err := <-done:
		done <- nil
		t.Fatalf("the emulator did not start: %v", err)
	}
	w.driver = emulator.Dial(w.socket)
	return w
}

func (w *world) launch(id string, config string) {
	w.t.Helper()
	if err := w.tryLaunch(id, agentPath(w.t), config, platform.Limits{}); err != nil {
		w.t.Fatalf("launch %s: %v", id, err)
	}
}

func (w *world) tryLaunch(id, path, config string, l platform.Limits) error {
	f, err := os.Open(path)
	if err != nil {
		w.t.Fatal(err)
	}
	defer f.Close()
	spec := platform.Spec{ID: id, Agent: f, Config: []byte(config), Limits: l}
	if w.layer != "" {
		if spec.Layer, err = os.Open(w.layer); err != nil {
			w.t.Fatal(err)
		}
		defer spec.Layer.Close()
	}
	return w.driver.Launch(w.t.Context(), spec)
}

// order and report mirror the test agent's.
type order struct {
	Do     string
	Arg    string
	Number uint64
}

type report struct {
	Error  string
	Text   string
	Number uint64
	Data   []byte
	Chain  [][]byte
	Info   *hw.Info
}

// agent is a channel to a test agent.
type agent struct {
	t    testing.TB
	conn net.Conn
	in   *json.Decoder
}

func (w *world) attach(id string) *agent {
	w.t.Helper()
	conn, err := w.driver.Attach(w.t.Context(), id)
	if err != nil {
		w.t.Fatalf("attach %s: %v", id, err)
	}
	w.t.Cleanup(func() { conn.Close() })
	return &agent{t: w.t, conn: conn, in: json.NewDecoder(conn)}
}

func (a *agent) try(o order) (report, error) {
	var r report
	_ = a.conn.SetDeadline(time.Now().Add(30 * time.Second))
	if err := json.NewEncoder(a.conn).Encode(o); err != nil {
		return r, err
	}
	err := a.in.Decode(&r)
	return r, err
}

func (a *agent) do(what, arg string, n uint64) report {
	a.t.Helper()
	r, err := a.try(order{Do: what, Arg: arg, Number: n})
	if err != nil {
		a.t.Fatalf("%s: %v", what, err)
	}
	return r
}

// must is do for what may not fail.
func (a *agent) must(what, arg string, n uint64) report {
	a.t.Helper()
	r := a.do(what, arg, n)
	if r.Error != "" {
		a.t.Fatalf("%s %s: %s", what, arg, r.Error)
	}
	return r
}

func (w *world) state(id string) platform.InstanceState {
	w.t.Helper()
	all, err := w.driver.List(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	for _, s := range all {
		if s.ID == id {
			return s
		}
	}
	w.t.Fatalf("no instance %s", id)
	return platform.InstanceState{}
}

// until waits for something that another process brings about.
func until(t testing.TB, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("waiting in vain for: %s", what)
}

func wantErr(t testing.TB, err, want error) {
	t.Helper()
	if !errors.Is(err, want) {
		t.Fatalf("got error %v, want %v", err, want)
	}
}

func hexBinding(fill byte) string { return hex.EncodeToString(bytes.Repeat([]byte{fill}, 64)) }
