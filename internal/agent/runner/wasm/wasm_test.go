// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wasm_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"sealift/internal/agent/runner"
	"sealift/internal/agent/runner/wasm"
	"sealift/internal/launch"
	"sealift/internal/platform/sandbox"
)

func TestMain(m *testing.M) {
	sandbox.Init()
	os.Exit(run(m))
}

var host string // a static program that calls wasm.Host

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "wasm-host-")
	if err != nil {
		panic(err)
	}
	defer os.RemoveAll(dir)
	host = filepath.Join(dir, "host")
	cmd := exec.Command("go", "build", "-o", host, "./testdata/host")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		panic(fmt.Sprintf("%v: %s", err, text))
	}
	return m.Run()
}

// builds of the example, made once.
var builds = struct {
	sync.Mutex
	files map[string][]byte
}{files: map[string][]byte{}}

// tally builds the example as a command or as a reactor.
func tally(t *testing.T, mode string) []byte {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if data := builds.files[mode]; data != nil {
		return data
	}
	out := filepath.Join(t.TempDir(), "tally.wasm")
	args := []string{"build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w", "-o", out}
	if mode == launch.ServeSocket {
		args = append(args, "-buildmode=c-shared")
	}
	cmd := exec.Command("go", append(args, "sealift/examples/wasm/tally")...)
	cmd.Env = append(os.Environ(), "GOOS=wasip1", "GOARCH=wasm", "CGO_ENABLED=0")
	if text, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, text)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	builds.files[mode] = data
	return data
}

func reader(data []byte) func() (io.ReadCloser, error) {
	return func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
}

// start starts a TA over module.
func start(t *testing.T, module []byte, spec launch.Spec) (*runner.TA, error) {
	t.Helper()
	spec.Kind = launch.KindWASM
	dir := t.TempDir()
	ta, err := runner.Start(t.Context(), runner.Program{Name: "tally", Binary: reader(module), Digest: sha256.Sum256(module), Spec: spec,
		Attest: func(_ context.Context, nonce []byte) ([]byte, error) { return append([]byte("over "), nonce...), nil }},
		runner.Options{Launcher: runner.Sandbox{}, Loaders: map[string]runner.Loader{launch.KindWASM: wasm.Loader{Dir: dir, Program: host}}, Dir: dir,
			ReadyTimeout: 20 * time.Second, MaxEnds: 2})
	if err == nil {
		t.Cleanup(ta.Stop)
	}
	return ta, err
}

// ask makes one request.
func ask(t *testing.T, ta *runner.TA, question string) (string, error) {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	var ends [2]*net.UnixConn
	for i, fd := range fds {
		f := os.NewFile(uintptr(fd), "caller")
		conn, err := net.FileConn(f)
		if err != nil {
			t.Fatal(err)
		}
		f.Close()
		defer conn.Close()
		ends[i] = conn.(*net.UnixConn)
	}
	done := make(chan error, 1)
	go func() {
		done <- ta.Serve(t.Context(), ends[1])
		ends[1].Close()
	}()
	_, err = io.WriteString(ends[0], question+"\n")
	err = errors.Join(err, ends[0].CloseWrite())
	answer, readErr := io.ReadAll(ends[0])
	return string(answer), errors.Join(err, readErr, <-done)
}

// TestCommand guards one-shot modules: each request starts the module anew.
func TestCommand(t *testing.T) {
	ta, err := start(t, tally(t, launch.ServeStdio), launch.Spec{Serve: launch.ServeStdio})
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("asked 1, lines 0, sha256 %x\n", sha256.Sum256([]byte("hello")))
	for range 2 {
		if got, err := ask(t, ta, "hello"); got != want || err != nil {
			t.Fatalf("%q %v: %s", got, err, ta.Log())
		}
	}
}

// TestReactor guards modules that stay: what they keep in memory lasts from request to request.
func TestReactor(t *testing.T) {
	ta, err := start(t, tally(t, launch.ServeSocket), launch.Spec{Serve: launch.ServeSocket})
	if err != nil {
		t.Fatal(err)
	}
	for n := 1; n <= 3; n++ {
		want := fmt.Sprintf("asked %d, lines 0, sha256 %x\n", n, sha256.Sum256([]byte("hello")))
		if got, err := ask(t, ta, "hello"); got != want || err != nil {
			t.Fatalf("%q %v: %s", got, err, ta.Log())
		}
	}
	if s := ta.Status(); s.State != runner.StateRunning || s.Restarts != 0 {
		t.Errorf("%+v", s)
	}
}

// TestWrongForm guards what is said where a module is of the other form than its start parameters say.
func TestWrongForm(t *testing.T) {
	ta, err := start(t, tally(t, launch.ServeStdio), launch.Spec{Serve: launch.ServeSocket})
	if err == nil || !errors.Is(err, runner.ErrExited) {
		t.Errorf("a command on a socket: %v", err)
	}
	if ta != nil && !strings.Contains(string(ta.Log()), "it is a command") {
		t.Errorf("%s", ta.Log())
	}
}

// A module in the binary format, section by section.
func section(id byte, content ...byte) []byte {
	return append([]byte{id, byte(len(content))}, content...)
}

var header = []byte("\x00asm\x01\x00\x00\x00")

// small is a module whose exported _start has the given code; more are sections before the function section.
func small(code ...byte) []byte {
	m := bytes.Clone(header)
	m = append(m, section(1, 1, 0x60, 0, 0)...)                                // one type: () -> ()
	m = append(m, section(3, 1, 0)...)                                         // one function of it
	m = append(m, section(5, 1, 0, 1)...)                                      // a memory of one page
	m = append(m, section(7, append([]byte{1, 6}, "_start\x00\x00"...)...)...) // exported
	body := append([]byte{0}, append(code, 0x0b)...)
	return append(m, section(10, append([]byte{1, byte(len(body))}, body...)...)...)
}

// TestHostileModules guards the Agent against modules that do not compile, ask for what there is not, or do not end.
func TestHostileModules(t *testing.T) {
	imports := append(bytes.Clone(header), section(1, 1, 0x60, 0, 0)...)
	imports = append(imports, section(2, append([]byte{1, 3}, "env\x04evil\x00\x00"...)...)...)
	for name, c := range map[string]struct {
		module []byte
		says   string
	}{
		"text":           {[]byte("#!/bin/sh\n"), "not a WebAssembly module"},
		"empty":          {bytes.Clone(header), "neither _start"},
		"cut off":        {tally(t, launch.ServeStdio)[:5000], "does not compile"},
		"foreign import": {imports, "env.evil"},
	} {
		_, err := start(t, c.module, launch.Spec{Serve: launch.ServeStdio})
		if !errors.Is(err, runner.ErrProgram) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	loop := small(0x03, 0x40, 0x0c, 0x00, 0x0b) // loop: br 0
	ta, err := start(t, loop, launch.Spec{Serve: launch.ServeStdio, CPUSeconds: 1})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, ta, "x"); err == nil {
		t.Error("a module that never ends has answered")
	}
	trap := small(0x00) // unreachable
	if ta, err = start(t, trap, launch.Spec{Serve: launch.ServeStdio}); err != nil {
		t.Fatal(err)
	}
	if got, _ := ask(t, ta, "x"); got != "" || !strings.Contains(string(ta.Log()), "unreachable") {
		t.Errorf("%q, log %s", got, ta.Log())
	}
	grow := small(0x41, 0x80, 0x10, 0x40, 0x00, 0x41, 0x7f, 0x46, 0x04, 0x40, 0x00, 0x0b) // memory.grow 2048 == -1: trap
	if ta, err = start(t, grow, launch.Spec{Serve: launch.ServeStdio, MemoryBytes: 16 << 20}); err != nil {
		t.Fatal(err)
	}
	if _, _ = ask(t, ta, "x"); !strings.Contains(string(ta.Log()), "unreachable") {
		t.Errorf("128 MiB were given to a module with 16: %s", ta.Log())
	}
	outside := append([]byte(nil), hashOutside()...)
	if ta, err = start(t, outside, launch.Spec{Serve: launch.ServeStdio}); err != nil {
		t.Fatal(err)
	}
	if _, _ = ask(t, ta, "x"); !strings.Contains(string(ta.Log()), "outside of the module's memory") {
		t.Errorf("%s", ta.Log())
	}
}

// hashOutside is a module that has 256 bytes hashed at the end of its memory.
func hashOutside() []byte {
	m := bytes.Clone(header)
	m = append(m, section(1, 2, 0x60, 3, 0x7f, 0x7f, 0x7f, 1, 0x7f, 0x60, 0, 0)...)
	m = append(m, section(2, append([]byte{1, 7}, "sealift\x06sha256\x00\x00"...)...)...)
	m = append(m, section(3, 1, 1)...)
	m = append(m, section(5, 1, 0, 1)...)
	m = append(m, section(7, append([]byte{1, 6}, "_start\x00\x01"...)...)...)
	body := []byte{0, 0x41, 0xff, 0xff, 0x03, 0x41, 0x80, 0x02, 0x41, 0x00, 0x10, 0x00, 0x1a, 0x0b}
	return append(m, section(10, append([]byte{1, byte(len(body))}, body...)...)...)
}
