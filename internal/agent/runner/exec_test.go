// SPDX-License-Identifier: Apache-2.0

package runner_test

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
	"syscall"
	"testing"
	"time"

	"sealift/internal/agent/runner"
)

// TestMain makes the test binary a TA when a test runs it as one.
func TestMain(m *testing.M) {
	if mode := os.Getenv("TEST_TA"); mode != "" {
		os.Exit(runTA(mode))
	}
	os.Exit(m.Run())
}

func runTA(mode string) int {
	switch mode {
	case "echo":
		return echo()
	case "crash":
		fmt.Fprintln(os.Stderr, "about to crash")
		return 3
	case "crash-without-data":
		if _, err := os.Stat(filepath.Join(os.Getenv("SEALIFT_PD"), "data")); err != nil {
			return 4
		}
		return echo()
	case "loop":
		for {
			time.Sleep(time.Hour)
		}
	case "flood":
		for {
			fmt.Fprintln(os.Stderr, strings.Repeat("spam", 1000))
		}
	case "cat-data":
		data, _ := os.ReadFile(filepath.Join(os.Getenv("SEALIFT_PD"), "data"))
		in, _ := io.ReadAll(os.Stdin)
		fmt.Printf("%s|%s|%s", in, data, strings.Join(os.Args[1:], " "))
		return 1
	case "attest":
		return attest()
	case "link":
		dir := filepath.Dir(os.Getenv("SEALIFT_LISTEN"))
		os.Symlink(filepath.Join(dir, "attest.sock"), os.Getenv("SEALIFT_LISTEN"))
		time.Sleep(time.Hour)
	}
	return 9
}

func echo() int {
	ln, err := net.Listen("unix", os.Getenv("SEALIFT_LISTEN"))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 5
	}
	for {
		conn, err := ln.Accept()
		if err != nil {
			return 6
		}
		go func() {
			defer conn.Close()
			var head [4]byte
			n, _ := io.ReadFull(conn, head[:])
			switch string(head[:n]) {
			case "exit":
				os.Exit(7)
			case "half": // an answer, and death in the middle of it
				conn.Write(head[:2])
				io.Copy(io.Discard, conn)
				syscall.Kill(os.Getpid(), syscall.SIGKILL)
			case "over": // all that it has to say
				conn.Write(head[:n])
				io.Copy(io.Discard, conn)
				os.Exit(0)
			default:
				conn.Write(head[:n])
			}
			io.Copy(conn, conn)
		}()
	}
}

func attest() int {
	for _, nonce := range []string{"short", "a nonce of good length"} {
		conn, err := net.Dial("unix", os.Getenv("SEALIFT_ATTEST"))
		if err != nil {
			fmt.Println(err)
			return 5
		}
		fmt.Fprint(conn, nonce)
		conn.(*net.UnixConn).CloseWrite()
		got, _ := io.ReadAll(conn)
		fmt.Printf("[%s]", got)
	}
	return 0
}

// execLauncher runs TAs as plain processes.
type execLauncher struct {
	t    testing.TB
	mode string
	mu   sync.Mutex
	jobs []runner.Job
}

func (l *execLauncher) Seal(_ string, r io.Reader) (*os.File, [32]byte, error) {
	path := filepath.Join(l.t.TempDir(), "ta")
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, [32]byte{}, err
	}
	if err := os.WriteFile(path, data, 0o700); err != nil {
		return nil, [32]byte{}, err
	}
	f, err := os.Open(path)
	return f, sha256.Sum256(data), err
}

func (l *execLauncher) Inside(pdDir, runDir string) (string, string) { return pdDir, runDir }

func (l *execLauncher) Launch(_ context.Context, j runner.Job) (runner.Process, error) {
	l.mu.Lock()
	l.jobs = append(l.jobs, j)
	l.mu.Unlock()
	cmd := exec.Command(j.Program.Name(), j.Args[1:]...)
	cmd.Env = append(j.Env, "TEST_TA="+l.mode)
	cmd.Stdout, cmd.Stderr = j.Log, j.Log
	if j.Stdin != nil {
		cmd.Stdin = j.Stdin
	}
	if j.Stdout != nil {
		cmd.Stdout = j.Stdout
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", runner.ErrProgram, err)
	}
	return process{cmd}, nil
}

type process struct{ *exec.Cmd }

func (p process) Kill() error { return p.Process.Kill() }

var self = sync.OnceValue(func() []byte {
	data, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		panic(err)
	}
	return data
})

func program() runner.Program {
	data := self()
	return runner.Program{
		Name: "tee/app/ta", Digest: sha256.Sum256(data),
		Binary: func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil },
		Attest: func(_ context.Context, nonce []byte) ([]byte, error) {
			return append([]byte("evidence for "), nonce...), nil
		},
	}
}

func options(t testing.TB, mode string) runner.Options {
	return runner.Options{
		Launcher: &execLauncher{t: t, mode: mode}, Dir: t.TempDir(), LogBytes: 1000,
		MinBackOff: time.Millisecond, MaxBackOff: 5 * time.Millisecond, MaxEnds: 4, ReadyTimeout: 10 * time.Second,
	}
}

func start(t *testing.T, p runner.Program, o runner.Options) *runner.TA {
	t.Helper()
	ta, err := runner.Start(t.Context(), p, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(ta.Stop)
	return ta
}

// ask sends text to the TA as a caller does, and returns the answer.
func ask(t *testing.T, ta *runner.TA, text string) (string, error) {
	t.Helper()
	inside, caller := unixPair(t)
	done := make(chan error, 1)
	go func() {
		err := ta.Serve(context.Background(), inside)
		inside.Close()
		done <- err
	}()
	fmt.Fprint(caller, text)
	caller.(*net.UnixConn).CloseWrite()
	answer, err := io.ReadAll(caller)
	return string(answer), errors.Join(<-done, err)
}

func unixPair(t *testing.T) (net.Conn, net.Conn) {
	t.Helper()
	ln, err := net.Listen("unix", filepath.Join(t.TempDir(), "s"))
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	a, err := net.Dial("unix", ln.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	b, err := ln.Accept()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.Close(); b.Close() })
	return a, b
}
