// SPDX-License-Identifier: Apache-2.0

// Package runner runs TAs inside the TEE: each as a supervised program in a sandbox of its own, from a sealed memory file whose
// digest was checked, with its released data in a folder in TEE memory. Payloads of other kinds (launch.Spec.Kind) have a [Loader]
// each: package container runs OCI images.
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
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"syscall"
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
	ErrMemory   = errors.New("runner: the program was killed because it reached its memory limit")
	ErrKilled   = errors.New("runner: the program was killed")
	ErrRuntime  = errors.New("runner: the runtime program failed")
	ErrGone     = errors.New("runner: the process that answered has ended")
)

// StatusError says that a program has ended by itself, with a status other than 0.
type StatusError struct{ Code int }

// Error implements error.
func (e StatusError) Error() string { return "runner: exit status " + strconv.Itoa(e.Code) }

// SignalError says by which signal a program was killed. It is an ErrKilled.
type SignalError struct{ Signal syscall.Signal }

// Error implements error.
func (e SignalError) Error() string { return ErrKilled.Error() + " by signal " + e.Signal.String() }

// Unwrap returns ErrKilled.
func (SignalError) Unwrap() error { return ErrKilled }

// describe gives the error of a process's Wait its identity.
func describe(err error) error {
	exit, ok := errors.AsType[*exec.ExitError](err)
	if !ok {
		return err
	}
	if ws, ok := exit.Sys().(syscall.WaitStatus); ok && ws.Signaled() {
		return SignalError{ws.Signal()}
	}
	return StatusError{exit.ExitCode()}
}

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
	Program       *os.File    // a sealed memory file
	Args, Env     []string    // the program's own name first
	Spec          launch.Spec // as the owner signed it, with variables expanded; Args and Env say the same for a single program
	Contract      []string    // the SEALIFT_ variables alone
	PDDir, RunDir string      // folders of the Agent, bound read-only and writable
	Root          string      // a folder whose entries the process sees at its root, read-only; none for a single program
	Stdin, Stdout *os.File    // nil: nothing, or the log
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

// Loader takes in payloads of one kind that are more than a single program.
type Loader interface {
	// Load takes in the payload that open gives, and returns its SHA-256. ErrProgram says that it can never run here.
	Load(ctx context.Context, open func() (io.ReadCloser, error)) (Loaded, [32]byte, error)
}

// Sharer is a Loader that knows what it has loaded, for payloads that are dear to load.
type Sharer interface {
	Loader
	// Again returns a payload that is loaded, by its digest, for one more user, who closes it as one that was loaded.
	Again(digest [32]byte) (Loaded, bool)
}

// Loaded is a payload from which processes can be started, at the same time and one after the other.
type Loaded interface {
	// Inside and Launch are those of Launcher; Program is nil in the Job.
	Inside(pdDir, runDir string) (pd, run string)
	Launch(ctx context.Context, j Job) (Process, error)
	// Close frees what Load took. Nothing of it runs any more.
	Close() error
}

// Hidden is a Loaded whose processes may run under a kernel of their own, so that this machine's knows nothing of their end.
type Hidden interface{ Hidden() bool }

// Launcher starts processes of single programs; Sandbox is the real one.
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
	Loaders  map[string]Loader // by launch.Spec.Kind, for all kinds but launch.KindProgram
	Dir      string            // in TEE memory; each TA makes a folder of its own in it
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
	loaded Loaded
	log    *Ring
	attest *attester
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup // everything that uses dir or loaded

	mu     sync.Mutex
	status Status
	closed bool
	pids   map[int]bool // of the processes that run
	run    *life        // of a socket TA: the last one that was started
}

// life is one process of a socket TA.
type life struct {
	ended chan struct{}
	err   error // of its Wait, once ended is closed
}

// current returns the last process that was started; nil if there was none.
func (t *TA) current() *life {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.run
}

// Start prepares p and starts it. A socket TA listens when Start returns, or is taking longer than ReadyTimeout. ctx bounds
// the start, not the TA's life, which Stop ends.
func Start(ctx context.Context, p Program, o Options) (*TA, error) {
	o = o.withDefaults()
	t := &TA{prog: p, opts: o, log: NewRing(o.LogBytes), status: Status{State: StateStarting}}
	t.ctx, t.cancel = context.WithCancel(context.Background())
	if err := t.prepare(ctx); err != nil {
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

// prepare takes the payload in, and makes the folders and the socket for Evidence.
func (t *TA) prepare(ctx context.Context) (err error) {
	var digest [32]byte
	if t.loaded, digest, err = t.load(ctx); err != nil {
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

func (t *TA) load(ctx context.Context) (Loaded, [32]byte, error) {
	if kind := t.prog.Spec.Kind; kind != "" && kind != launch.KindProgram {
		l := t.opts.Loaders[kind]
		if l == nil {
			return nil, [32]byte{}, fmt.Errorf("%w: this instance type runs no payloads of kind %q", ErrProgram, kind)
		}
		if s, ok := l.(Sharer); ok {
			if loaded, ok := s.Again(t.prog.Digest); ok {
				return loaded, t.prog.Digest, nil
			}
		}
		return l.Load(ctx, t.prog.Binary)
	}
	r, err := t.prog.Binary()
	if err != nil {
		return nil, [32]byte{}, err
	}
	defer r.Close()
	memfd, digest, err := t.opts.Launcher.Seal("ta", r)
	if err != nil {
		return nil, digest, err
	}
	return sealed{t.opts.Launcher, memfd}, digest, nil
}

// sealed is a single program in a sealed memory file.
type sealed struct {
	Launcher
	memfd *os.File
}

// Launch implements Loaded.
func (s sealed) Launch(ctx context.Context, j Job) (Process, error) {
	j.Program = s.memfd
	return s.Launcher.Launch(ctx, j)
}

// Close implements Loaded.
func (s sealed) Close() error { return s.memfd.Close() }

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
	if t.loaded != nil {
		if err := t.loaded.Close(); err != nil {
			t.opts.Log.Warn("freeing a TA", "ta", t.prog.Name, "error", err)
		}
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
	pdDir, runDir := t.loaded.Inside(t.pdDir(), t.runDir())
	listen, attest := filepath.Join(runDir, listenName), filepath.Join(runDir, attestName)
	spec := t.prog.Spec
	contract := []string{launch.EnvPD + "=" + pdDir, launch.EnvAttest + "=" + attest}
	vars := map[string]string{"PD": pdDir, "ATTEST": attest}
	if spec.Serve != launch.ServeStdio {
		contract = append(contract, launch.EnvListen+"="+listen)
		vars["LISTEN"] = listen
	}
	spec.Args, spec.Entrypoint = launch.Expand(spec.Args, vars), launch.Expand(spec.Entrypoint, vars)
	name := spec.Name
	if name == "" {
		name = "ta"
	}
	return Job{
		Name: t.prog.Name, Args: append([]string{name}, spec.Args...), Env: slices.Concat([]string{"PATH=/"}, contract, spec.Env),
		Spec: spec, Contract: contract, PDDir: t.pdDir(), RunDir: t.runDir(),
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
