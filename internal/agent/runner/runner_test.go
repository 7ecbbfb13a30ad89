// SPDX-License-Identifier: Apache-2.0

package runner_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"sealift/internal/agent/runner"
	"sealift/internal/launch"
	"sealift/internal/pd"
)

// eventually waits for something that happens in another process.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("never: " + what)
		}
	}
}

func TestSocketTAServesAndIsRestarted(t *testing.T) {
	ta := start(t, program(), options(t, "echo"))
	for range 3 {
		if got, err := ask(t, ta, "hello"); err != nil || got != "hello" {
			t.Fatalf("%q, %v", got, err)
		}
	}
	_, _ = ask(t, ta, "exit")
	eventually(t, "restart", func() bool { return ta.Status().Restarts == 1 })
	if got, err := ask(t, ta, "again"); err != nil || got != "again" {
		t.Fatalf("%q, %v", got, err)
	}
	eventually(t, "seen to serve", func() bool { return ta.Status().State == runner.StateRunning })
	if s := ta.Status(); s.LastExit != "exit status 7" {
		t.Fatalf("%+v", s)
	}
}

func TestTAThatCrashes(t *testing.T) {
	o := options(t, "crash")
	if _, err := runner.Start(t.Context(), program(), o); !errors.Is(err, runner.ErrExited) {
		t.Fatal(err)
	}
	p := program()
	p.Patient = true
	ta := start(t, p, o)
	eventually(t, "give up", func() bool { return ta.Status().State == runner.StateFailed })
	if s := ta.Status(); s.Restarts != uint64(o.MaxEnds) || s.LastExit != "exit status 3" {
		t.Fatalf("%+v", s)
	}
	if _, err := ask(t, ta, "x"); !errors.Is(err, runner.ErrNotReady) {
		t.Fatal(err)
	}
	if !strings.Contains(string(ta.Log()), "about to crash") {
		t.Fatalf("log: %q", ta.Log())
	}
}

func TestRestartPolicy(t *testing.T) {
	p := program()
	p.Patient, p.Spec.Restart = true, launch.RestartNever
	ta := start(t, p, options(t, "crash"))
	eventually(t, "stop", func() bool { return ta.Status().State == runner.StateStopped })
	if s := ta.Status(); s.Restarts != 1 {
		t.Fatalf("%+v", s)
	}
}

func TestTAThatNeverListens(t *testing.T) {
	o := options(t, "loop")
	o.ReadyTimeout = 100 * time.Millisecond
	ta := start(t, program(), o)
	if s := ta.Status(); s.State != runner.StateStarting {
		t.Fatalf("%+v", s)
	}
	if _, err := ask(t, ta, "x"); !errors.Is(err, runner.ErrNotReady) {
		t.Fatal(err)
	}
}

func TestTAThatFloodsItsLog(t *testing.T) {
	o := options(t, "flood")
	o.ReadyTimeout = 300 * time.Millisecond
	ta := start(t, program(), o)
	eventually(t, "a full log", func() bool { return len(ta.Log()) >= o.LogBytes })
	if n := len(ta.Log()); n != o.LogBytes {
		t.Fatalf("%d bytes of log, bound %d", n, o.LogBytes)
	}
}

func TestDataIsThereAndGoesWithTheTA(t *testing.T) {
	o := options(t, "cat-data")
	p := program()
	p.Spec = launch.Spec{Serve: launch.ServeStdio, Args: []string{"-f", "${PD}/data"}}
	p.PD = []pd.Plain{pd.FromBytes("data", []byte("the rows"))}
	ta := start(t, p, o)
	for range 2 {
		got, err := ask(t, ta, "question")
		if !errors.Is(err, runner.StatusError{Code: 1}) || !strings.HasPrefix(got, "question|the rows|-f /") || !strings.HasSuffix(got, "/pd/data") {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if found, _ := filepath.Glob(filepath.Join(o.Dir, "*", "pd", "data")); len(found) != 1 {
		t.Fatal(found)
	}
	ta.Stop()
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Fatal("the data outlived the TA")
	}
	if _, err := ask(t, ta, "x"); !errors.Is(err, runner.ErrStopped) {
		t.Fatal(err)
	}
}

func TestStdioTimeoutAndCallerGone(t *testing.T) {
	o := options(t, "loop")
	o.RequestTimeout = 100 * time.Millisecond
	p := program()
	p.Spec.Serve = launch.ServeStdio
	ta := start(t, p, o)
	if _, err := ask(t, ta, "x"); !errors.Is(err, runner.ErrTimeout) {
		t.Fatal(err)
	}
	o.RequestTimeout = time.Hour
	ta = start(t, p, o)
	inside, _ := unixPair(t)
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- ta.Serve(ctx, inside) }()
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	go func() { done <- ta.Serve(t.Context(), inside) }()
	eventually(t, "second request", func() bool { return len(o.Launcher.(*execLauncher).jobs) > 1 })
	ta.Stop() // with a request under way
	<-done
}

func TestIdleConnectionEnds(t *testing.T) {
	o := options(t, "echo")
	o.RequestTimeout = 100 * time.Millisecond
	ta := start(t, program(), o)
	inside, _ := unixPair(t)
	if err := ta.Serve(t.Context(), inside); !errors.Is(err, runner.ErrTimeout) {
		t.Fatal(err)
	}
}

// TestEndOfAnAnswer guards that the answer of a TA that died is told from a whole one, and the other way round.
func TestEndOfAnAnswer(t *testing.T) {
	for _, c := range []struct {
		question, answer string
		want             error
	}{
		{"hello", "hello", nil},
		{"half", "ha", runner.SignalError{Signal: syscall.SIGKILL}},
		{"exit", "", runner.StatusError{Code: 7}},
		{"over", "over", nil},
	} {
		ta := start(t, program(), options(t, "echo"))
		inside, caller := unixPair(t)
		e := &ender{Conn: inside}
		done := make(chan error, 1)
		go func() {
			err := ta.Serve(context.Background(), e)
			inside.Close()
			done <- err
		}()
		fmt.Fprint(caller, c.question)
		caller.(*net.UnixConn).CloseWrite()
		got, _ := io.ReadAll(caller) // a TA that dies with the question unread resets the connection
		if string(got) != c.answer {
			t.Errorf("%s: the answer is %q", c.question, got)
		}
		if err := <-done; err != c.want || len(e.told) == 0 || e.told[0] != c.want {
			t.Errorf("%s: the caller is told %v, Serve returns %v, want %v", c.question, e.told, err, c.want)
		}
	}
}

// ender is a caller that wants to know how its answer ended.
type ender struct {
	net.Conn
	mu   sync.Mutex
	told []error
}

// End implements runner.Ender.
func (e *ender) End(err error) error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.told = append(e.told, err)
	return e.Conn.(*net.UnixConn).CloseWrite()
}

func TestAnotherProgramIsNotRun(t *testing.T) {
	p, o := program(), options(t, "echo")
	p.Digest[0] ^= 1
	if _, err := runner.Start(t.Context(), p, o); !errors.Is(err, runner.ErrDigest) {
		t.Fatal(err)
	}
	if jobs := o.Launcher.(*execLauncher).jobs; len(jobs) != 0 {
		t.Fatal("it was started")
	}
	if left, _ := os.ReadDir(o.Dir); len(left) != 0 {
		t.Fatal("something was left behind")
	}
}

func TestDataArrives(t *testing.T) {
	p, o := program(), options(t, "crash-without-data")
	if _, err := runner.Start(t.Context(), p, o); !errors.Is(err, runner.ErrExited) {
		t.Fatal(err)
	}
	p.PD = []pd.Plain{pd.FromBytes("data", []byte("rows"))}
	if got, err := ask(t, start(t, p, o), "ok"); err != nil || got != "ok" {
		t.Fatal(got, err)
	}
}

func TestAttest(t *testing.T) {
	p := program()
	p.Spec.Serve = launch.ServeStdio
	got, err := ask(t, start(t, p, options(t, "attest")), "")
	if err != nil || got != "[][evidence for a nonce of good length]" {
		t.Fatalf("%q, %v", got, err)
	}
}

func TestSocketThatIsALinkIsRefused(t *testing.T) {
	o := options(t, "link")
	o.ReadyTimeout = 200 * time.Millisecond
	ta := start(t, program(), o)
	eventually(t, "link", func() bool {
		found, _ := filepath.Glob(filepath.Join(o.Dir, "*", "run"))
		st, err := os.Lstat(filepath.Join(found[0], "listen.sock"))
		return err == nil && st.Mode()&os.ModeSymlink != 0
	})
	if _, err := ask(t, ta, "x"); !errors.Is(err, runner.ErrNotReady) {
		t.Fatal(err)
	}
}

func TestRing(t *testing.T) {
	r := runner.NewRing(5)
	for _, step := range []struct{ write, want string }{
		{"ab", "ab"}, {"cde", "abcde"}, {"f", "bcdef"}, {"ghijklmn", "jklmn"}, {"", "jklmn"}, {"opqrs", "opqrs"}, {"tuv", "rstuv"},
	} {
		if n, err := r.Write([]byte(step.write)); n != len(step.write) || err != nil {
			t.Fatal(n, err)
		}
		if got := string(r.Bytes()); got != step.want {
			t.Fatalf("after %q: %q, want %q", step.write, got, step.want)
		}
	}
}

func TestBoundsOnWhatAManifestAsksFor(t *testing.T) {
	p, o := program(), options(t, "echo")
	o.MaxMemoryBytes, o.MaxProcs = 1<<30, 7
	p.Spec.MemoryBytes, p.Spec.MaxProcs = 1<<40, 1000
	start(t, p, o)
	job := o.Launcher.(*execLauncher).jobs[0]
	if job.MemoryBytes != 1<<30 || job.MaxProcs != 7 {
		t.Fatalf("%+v", job)
	}
}
