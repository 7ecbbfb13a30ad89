// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package supervise keeps programs running: each in a process group of its own, started again with a growing delay when it
// ends, its output in log files of bounded size, and killed with its parent.
//
// The kernel's parent death signal (prctl PR_SET_PDEATHSIG) follows the thread that started the child, not the process.
// Each program is therefore started by a goroutine that keeps one OS thread to itself for as long as the program is
// supervised.
package supervise

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Restart policies.
const (
	Always    = "always"
	OnFailure = "on-failure"
	Never     = "never"
)

// ErrExited says that the program ended before it was ready.
var ErrExited = errors.New("the program ended")

// Spec says what to run. The zero values of the times and sizes stand for the package's defaults.
type Spec struct {
	Name    string // for messages
	Path    string
	Arg0    string // what the program sees as its own name; empty means Path
	Args    []string
	Env     []string // the whole environment; nothing is inherited
	Dir     string
	Log     string   // file for stdout and stderr; empty discards them
	LogMax  int64    // bytes before the log is moved to Log+".1"; default 1 MiB
	Listen  []string // TCP addresses the program serves once it is ready
	Restart string   // Always when empty

	// Start, if set, starts the program in place of Path, Arg0, Args, Env and Dir, for example in a sandbox: as the leader of a process
	// group of its own, from a thread that lives as long as this process.
	Start func(output io.Writer) (Child, error)

	MinDelay time.Duration // before the first restart; default 100 ms, doubled each time
	MaxDelay time.Duration // default 30 s
	Steady   time.Duration // a run this long resets the delay; default 10 s
	Grace    time.Duration // between SIGTERM and SIGKILL; default 3 s
}

// Child is a started program.
type Child interface {
	Pid() int
	Wait() error // once
}

func (s Spec) withDefaults() Spec {
	set := func(d *time.Duration, v time.Duration) {
		if *d == 0 {
			*d = v
		}
	}
	set(&s.MinDelay, 100*time.Millisecond)
	set(&s.MaxDelay, 30*time.Second)
	set(&s.Steady, 10*time.Second)
	set(&s.Grace, 3*time.Second)
	if s.LogMax == 0 {
		s.LogMax = 1 << 20
	}
	if s.Restart == "" {
		s.Restart = Always
	}
	return s
}

// Status is what is known of a supervised program.
type Status struct {
	Running  bool
	PID      int
	Restarts int
	Error    string // how the last run ended; empty while the first one lasts
}

// ended reports whether a run is over and the next one has not begun.
func (s Status) ended() bool { return !s.Running && s.Error != "" }

// Process is one supervised program.
type Process struct {
	spec Spec
	stop chan struct{} // closed by Stop
	once sync.Once
	done chan struct{} // closed when the program will not run again

	mu     sync.Mutex
	status Status
	change chan struct{} // closed and replaced at each change of status
}

// Start begins to supervise the program that s describes. It does not wait for it: see WaitReady.
func Start(s Spec) *Process {
	p := &Process{spec: s.withDefaults(), stop: make(chan struct{}), done: make(chan struct{}), change: make(chan struct{})}
	go p.run()
	return p
}

// Spec returns what the program was started with.
func (p *Process) Spec() Spec { return p.spec }

// Status returns the current status.
func (p *Process) Status() Status {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status
}

// Done is closed when the program has ended and will not be started again.
func (p *Process) Done() <-chan struct{} { return p.done }

// Stop ends the program and everything in its process group: SIGTERM, and SIGKILL after the grace time. It returns when
// nothing is left.
func (p *Process) Stop() {
	p.once.Do(func() { close(p.stop) })
	<-p.done
}

// WaitReady waits until the program runs and serves all its Listen addresses. It fails with ErrExited when the program
// has ended, whether or not it will be started again, so that one that cannot start is found out at once.
func (p *Process) WaitReady(ctx context.Context) error {
	for _, addr := range p.spec.Listen {
		if err := p.waitListening(ctx, addr); err != nil {
			return err
		}
	}
	for {
		st, change := p.snapshot()
		switch {
		case st.ended():
			return fmt.Errorf("%s: %w: %s", p.spec.Name, ErrExited, st.Error)
		case st.Running:
			return nil
		}
		select {
		case <-change:
		case <-p.done:
		case <-ctx.Done():
			return fmt.Errorf("%s does not start: %w", p.spec.Name, ctx.Err())
		}
	}
}

func (p *Process) waitListening(ctx context.Context, addr string) error {
	var d net.Dialer
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		if st := p.Status(); st.ended() {
			return fmt.Errorf("%s: %w: %s", p.spec.Name, ErrExited, st.Error)
		}
		if conn, err := d.DialContext(ctx, "tcp", addr); err == nil {
			conn.Close()
			return nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("%s does not serve %s: %w", p.spec.Name, addr, ctx.Err())
		}
	}
}

func (p *Process) snapshot() (Status, <-chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.status, p.change
}

func (p *Process) set(f func(*Status)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	f(&p.status)
	close(p.change)
	p.change = make(chan struct{})
}

// run starts the program again and again. It never gives its OS thread back, see the package comment.
func (p *Process) run() {
	runtime.LockOSThread()
	defer close(p.done)
	delay := p.spec.MinDelay
	for {
		begun := time.Now()
		err := p.runOnce()
		p.set(func(s *Status) { s.Running, s.PID, s.Error = false, 0, ending(err) })
		if p.stopped(0) || p.spec.Restart == Never || p.spec.Restart == OnFailure && err == nil {
			return
		}
		if time.Since(begun) >= p.spec.Steady {
			delay = p.spec.MinDelay
		}
		if p.stopped(delay) {
			return
		}
		delay = min(2*delay, p.spec.MaxDelay)
		p.set(func(s *Status) { s.Restarts++ })
	}
}

// stopped waits for d and reports whether Stop was called until then.
func (p *Process) stopped(d time.Duration) bool {
	select {
	case <-p.stop:
		return true
	case <-time.After(d):
		return false
	}
}

func ending(err error) string {
	if err == nil {
		return "exit status 0"
	}
	return err.Error()
}

// runOnce runs the program from start to end and makes sure that nothing of its process group stays behind.
func (p *Process) runOnce() error {
	output := io.Discard
	if p.spec.Log != "" {
		log, err := OpenLog(p.spec.Log, p.spec.LogMax)
		if err != nil {
			return err
		}
		defer log.Close()
		output = log
	}
	start := p.spec.Start
	if start == nil {
		start = p.exec
	}
	child, err := start(output)
	if err != nil {
		return err
	}
	pid := child.Pid()
	p.set(func(s *Status) { s.Running, s.PID = true, pid })
	ended := make(chan struct{})
	go p.terminate(pid, ended)
	err = child.Wait()
	close(ended)
	_ = syscall.Kill(-pid, syscall.SIGKILL)
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return err
}

// exec starts the program that the Spec names.
func (p *Process) exec(output io.Writer) (Child, error) {
	cmd := exec.Command(p.spec.Path, p.spec.Args...)
	if p.spec.Arg0 != "" {
		cmd.Args[0] = p.spec.Arg0
	}
	cmd.Env = p.spec.Env
	cmd.Dir = p.spec.Dir
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	cmd.WaitDelay = time.Second // a descendant that holds the output open must not hold us
	if p.spec.Env == nil {
		cmd.Env = []string{}
	}
	if output != io.Discard {
		cmd.Stdout, cmd.Stderr = output, output
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	_ = unix.Prlimit(cmd.Process.Pid, unix.RLIMIT_CORE, &unix.Rlimit{}, nil)
	return command{cmd}, nil
}

type command struct{ *exec.Cmd }

func (c command) Pid() int { return c.Process.Pid }

// terminate ends the process group when Stop is called.
func (p *Process) terminate(pid int, ended <-chan struct{}) {
	select {
	case <-ended:
		return
	case <-p.stop:
	}
	_ = syscall.Kill(-pid, syscall.SIGTERM)
	grace := p.spec.Grace
	if p.spec.Start != nil && defaultTerm(pid) {
		grace = 0
	}
	select {
	case <-ended:
	case <-time.After(grace):
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// defaultTerm reports whether SIGTERM ends the process by default. The kernel does not let it end one that is number 1 of its pid
// namespace (pid_namespaces(7)); SIGKILL does then what SIGTERM would have done.
func defaultTerm(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		name, mask, _ := strings.Cut(line, ":")
		if name != "SigIgn" && name != "SigCgt" {
			continue
		}
		set, err := strconv.ParseUint(strings.TrimSpace(mask), 16, 64)
		if err != nil || set&(1<<(syscall.SIGTERM-1)) != 0 {
			return false
		}
	}
	return true
}
