// SPDX-License-Identifier: Apache-2.0

// Package runner runs TAs inside the TEE: each as a supervised program in a sandbox of its own, from a sealed memory file whose
// digest was checked, with its released data in a folder in TEE memory.
//
// A TA value is one generation: one binary, one set of start parameters, one set of data. Whatever changes makes a new
// generation, which is started beside the old one and takes its place when it runs, so that an update that fails leaves the
// old one serving.
//
// A TA serves in one of two ways (package launch): on a Unix socket, as one long-running process that is restarted with
// back-off when it ends; or on stdin and stdout, as one process for each request. What it prints stays in a ring buffer here.
package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sealift/internal/launch"
	"sealift/internal/pd"
)

// Errors of a TA.
var (
	ErrDigest   = errors.New("runner: the stored program is not the one that was installed")
	ErrProgram  = errors.New("runner: the program cannot be run")
	ErrExited   = errors.New("runner: the program ended before it served")
	ErrNotReady = errors.New("runner: the program does not serve now")
	ErrTimeout  = errors.New("runner: the program took too long")
	ErrStopped  = errors.New("runner: stopped")
)

// States of a TA, as Status shows them.
const (
	StateStarting   = "starting"
	StateRunning    = "running" // a socket TA that listens
	StateReady      = "ready"   // a stdio TA
	StateBackingOff = "backing-off"
	StateFailed     = "failed" // it ended too often; only a new generation starts it again
	StateStopped    = "stopped"
)

// Program is what to run.
type Program struct {
	Name   string                        // for logs
	Binary func() (io.ReadCloser, error) // the program's bytes
	Digest [32]byte                      // their SHA-256
	Spec   launch.Spec
	PD     []pd.Plain
	// Patient lets the first start succeed although the program ended early: a TA may be of no use before its data is there.
	Patient bool
	// Attest gives Evidence for a nonce of the TA's own choice.
	Attest func(ctx context.Context, nonce []byte) ([]byte, error)
}

// Job is one process to start.
type Job struct {
	Name          string
	Program       *os.File // a sealed memory file
	Args, Env     []string // the program's own name first
	PDDir, RunDir string   // folders of the Agent, bound read-only and writable
	Stdin, Stdout *os.File // nil: nothing, or the log
	Log           io.Writer
	MemoryBytes   uint64
	MaxProcs      uint64
	CPUSeconds    uint64
}

// Process is a started process.
type Process interface {
	Wait() error // once
	Kill() error
}

// Launcher starts processes; Sandbox is the real one.
type Launcher interface {
	// Seal copies a program into a sealed memory file and returns its SHA-256. ErrProgram says that it can never run here.
	Seal(name string, r io.Reader) (*os.File, [32]byte, error)
	// Inside returns the paths under which a process sees its two folders.
	Inside(pdDir, runDir string) (pd, run string)
	// Launch returns when the program executes. ErrProgram says that it never will.
	Launch(ctx context.Context, j Job) (Process, error)
}

// Options are the surroundings of all TAs. Zero durations and counts get the default beside them.
type Options struct {
	Launcher Launcher
	Dir      string // in TEE memory; each TA makes a folder of its own in it
	Log      *slog.Logger

	MaxMemoryBytes uint64        // 4 GiB; upper bound of what a Spec may ask for, and what one that asks for nothing gets
	MaxProcs       uint64        // 256
	LogBytes       int           // 64 KiB
	RequestTimeout time.Duration // 5 min: a request to a stdio TA, silence on a connection to a socket TA
	ReadyTimeout   time.Duration // 5 s: how long Start waits for a socket TA to listen
	MinBackOff     time.Duration // 100 ms, doubled for each end in a row
	MaxBackOff     time.Duration // 10 s
	MaxEnds        int           // 10 ends in a row, each before StableAfter, make a TA fail
	StableAfter    time.Duration // 1 min
}

func (o Options) withDefaults() Options {
	setDefault(&o.MaxMemoryBytes, 4<<30)
	setDefault(&o.MaxProcs, 256)
	setDefault(&o.LogBytes, 64<<10)
	setDefault(&o.RequestTimeout, 5*time.Minute)
	setDefault(&o.ReadyTimeout, 5*time.Second)
	setDefault(&o.MinBackOff, 100*time.Millisecond)
	setDefault(&o.MaxBackOff, 10*time.Second)
	setDefault(&o.MaxEnds, 10)
	setDefault(&o.StableAfter, time.Minute)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	return o
}

func setDefault[T comparable](v *T, d T) {
	var zero T
	if *v == zero {
		*v = d
	}
}

// Status is the state of a TA.
type Status struct {
	State    string
	Restarts uint64
	LastExit string
}

// TA is one generation of a Trusted Application.
type TA struct {
	prog   Program
	opts   Options
	dir    string // holds the folders pd and run
	memfd  *os.File
	log    *Ring
	attest *attester
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // everything that uses dir or memfd

	mu     sync.Mutex
	status Status
	closed bool
}

// Start prepares p and starts it. A socket TA listens when Start returns, or is taking longer than ReadyTimeout. ctx bounds
// the start, not the TA's life, which Stop ends.
func Start(ctx context.Context, p Program, o Options) (*TA, error) {
	o = o.withDefaults()
	t := &TA{prog: p, opts: o, log: NewRing(o.LogBytes), status: Status{State: StateStarting}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if err := t.prepare(); err != nil {
		t.Stop()
		return nil, err
	}
	if p.Spec.Serve == launch.ServeStdio {
		t.setState(StateReady)
		return t, nil
	}
	first := make(chan error, 1)
	t.wg.Go(func() { t.supervise(first) })
	if err := t.awaitFirst(ctx, first); err != nil {
		t.Stop()
		return nil, err
	}
	return t, nil
}

// prepare makes the memory file, the folders and the socket for Evidence.
func (t *TA) prepare() error {
	r, err := t.prog.Binary()
	if err != nil {
		return fmt.Errorf("runner: %s: %w", t.prog.Name, err)
	}
	defer r.Close()
	var digest [32]byte
	if t.memfd, digest, err = t.opts.Launcher.Seal("ta", r); err != nil {
		return fmt.Errorf("runner: %s: %w", t.prog.Name, err)
	}
	if digest != t.prog.Digest {
		return fmt.Errorf("%w: %s", ErrDigest, t.prog.Name)
	}
	if t.dir, err = os.MkdirTemp(t.opts.Dir, "ta-"); err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	for _, dir := range []string{t.pdDir(), t.runDir()} {
		if err := os.Mkdir(dir, 0o700); err != nil {
			return fmt.Errorf("runner: %w", err)
		}
	}
	if err := writePD(t.pdDir(), t.prog.PD); err != nil {
		return err
	}
	t.attest, err = serveAttest(filepath.Join(t.runDir(), attestName), t.prog.Attest)
	return err
}

func (t *TA) pdDir() string  { return filepath.Join(t.dir, "pd") }
func (t *TA) runDir() string { return filepath.Join(t.dir, "run") }

// writePD puts the data where the TA reads it.
func writePD(dir string, plains []pd.Plain) error {
	for _, p := range plains {
		if err := writeOne(filepath.Join(dir, p.Name()), p); err != nil {
			return fmt.Errorf("runner: data %q: %w", p.Name(), err)
		}
	}
	return nil
}

func writeOne(path string, p pd.Plain) error {
	r, err := p.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o400)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, r)
	return errors.Join(err, f.Close())
}

// Status returns the state.
func (t *TA) Status() Status {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.status
}

// Spec returns the start parameters.
func (t *TA) Spec() launch.Spec { return t.prog.Spec }

// Log returns the last of what the TA printed. It belongs to the TA's owner and does not leave the TEE.
func (t *TA) Log() []byte { return t.log.Bytes() }

// Stop kills the TA's processes, ends its relays, waits for both and removes its folders from memory.
func (t *TA) Stop() {
	t.mu.Lock()
	closed := t.closed
	t.closed = true
	t.status.State = StateStopped
	t.mu.Unlock()
	t.cancel()
	if closed {
		return
	}
	if t.attest != nil {
		t.attest.close()
	}
	t.wg.Wait()
	if t.memfd != nil {
		t.memfd.Close()
	}
	if t.dir != "" {
		_ = os.RemoveAll(t.dir)
	}
}

// enter registers a user of the TA's folders, unless it is being stopped.
func (t *TA) enter() error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return ErrStopped
	}
	t.wg.Add(1)
	return nil
}

func (t *TA) setState(state string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if !t.closed {
		t.status.State = state
	}
}

// job fills in what all of the TA's processes share.
func (t *TA) job() Job {
	pdDir, runDir := t.opts.Launcher.Inside(t.pdDir(), t.runDir())
	listen, attest := filepath.Join(runDir, listenName), filepath.Join(runDir, attestName)
	spec := t.prog.Spec
	env := append([]string{"PATH=/", launch.EnvPD + "=" + pdDir, launch.EnvAttest + "=" + attest}, spec.Env...)
	vars := map[string]string{"PD": pdDir, "ATTEST": attest}
	if spec.Serve != launch.ServeStdio {
		env = append(env, launch.EnvListen+"="+listen)
		vars["LISTEN"] = listen
	}
	name := spec.Name
	if name == "" {
		name = "ta"
	}
	return Job{
		Name: t.prog.Name, Program: t.memfd, Args: append([]string{name}, launch.Expand(spec.Args, vars)...), Env: env, PDDir: t.pdDir(), RunDir: t.runDir(),
		Log: t.log, MemoryBytes: bounded(spec.MemoryBytes, t.opts.MaxMemoryBytes),
		MaxProcs: bounded(uint64(spec.MaxProcs), t.opts.MaxProcs), CPUSeconds: spec.CPUSeconds,
	}
}

func bounded(asked, limit uint64) uint64 {
	if asked == 0 || asked > limit {
		return limit
	}
	return asked
}
