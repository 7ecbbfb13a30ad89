// SPDX-License-Identifier: Apache-2.0

//go:build linux

package container

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"time"

	"sealift/internal/agent/runner"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
)

const openFiles = 1024

// startTime bounds how long the runtime program may take to start a container. Tests make it shorter.
var startTime = 30 * time.Second

// Launch implements runner.Loaded.
func (i *image) Launch(ctx context.Context, j runner.Job) (_ runner.Process, err error) {
	p := &started{image: i, job: j, ended: make(chan struct{})}
	p.denied, _ = i.loader.opts.Group.ForksDenied()
	if p.dir, err = os.MkdirTemp(i.dir, "run-"); err != nil {
		return nil, fmt.Errorf("container: %w", err)
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, p.clean())
		}
	}()
	if err := p.describe(); err != nil {
		return nil, err
	}
	if p.group, err = i.loader.opts.Group.Child(fmt.Sprint("ta-", i.loader.number.Add(1)), cgroup.Limits{
		MemoryBytes: j.MemoryBytes + i.loader.driver.overheadBytes, Processes: i.loader.driver.processes(j.MaxProcs), CPUMillis: uint64(j.Spec.CPUMillis),
	}); err != nil {
		return nil, err
	}
	p.cmd = sandbox.Command(ctx, p.sandbox())
	p.cmd.Stderr, p.cmd.Stdout = j.Log, j.Log
	if j.Stdout != nil {
		p.cmd.Stdout = j.Stdout
	}
	if j.Stdin != nil {
		p.cmd.Stdin = j.Stdin
	}
	if err := p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("%w: %w", runner.ErrRuntime, err)
	}
	go p.wait()
	if err := p.awaitStart(ctx); err != nil {
		return nil, errors.Join(err, p.cmd.Kill(), p.Wait())
	}
	return p, nil
}

// started is a container with its runtime program.
type started struct {
	image *image
	job   runner.Job
	dir   string // the bundle, the runtime program's state and its log
	group *cgroup.Group
	cmd   *sandbox.Cmd
	ended chan struct{}
	err   error // of cmd.Wait, once ended is closed

	denied uint64 // how often the instance was denied a process before
}

// describe writes the bundle's configuration.
func (p *started) describe() error {
	s, err := newSpec(p.image.config, p.image.mounts, p.job)
	if err != nil {
		return err
	}
	p.image.loader.driver.adapt(s, p.job)
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("container: %w", err)
	}
	if err := os.WriteFile(filepath.Join(p.dir, "config.json"), data, 0o600); err != nil {
		return fmt.Errorf("container: %w", err)
	}
	return nil
}

const (
	containerID = "ta"
	logName     = "log"
	stateName   = "state"
)

// sandbox is what the runtime program runs in.
func (p *started) sandbox() sandbox.Spec {
	l := p.image.loader
	s := sandbox.Spec{
		Program: l.program,
		Args: slices.Concat([]string{l.name, "--log", sandboxBundle + "/" + logName, "--log-format", "json", "--root", sandboxBundle + "/" + stateName},
			l.driver.flags, []string{"run"}, l.driver.options, []string{"--bundle", sandboxBundle, containerID}),
		Env:      []string{"PATH=/"},
		Hostname: "ta",
		ReadOnly: []sandbox.Bind{
			{Source: p.image.rootfs(), Target: sandboxRoot, Exec: true},
			{Source: p.job.PDDir, Target: insidePD},
		},
		ReadWrite: []sandbox.Bind{{Source: p.dir, Target: sandboxBundle}, {Source: p.job.RunDir, Target: insideRun}},
		Tmpfs:     []sandbox.Tmpfs{{Target: "/dev/shm", Bytes: p.job.MemoryBytes}},
		Limits: sandbox.Limits{
			DataBytes: p.job.MemoryBytes + 1<<30, // the group's limit is the one that binds: a runtime in Go maps more than it uses
			Processes: 2 * l.driver.processes(p.job.MaxProcs), OpenFiles: openFiles, CPUSeconds: p.job.CPUSeconds,
		},
		Profile: l.driver.profile,
		Dynamic: len(l.folders) > 0,
		Enter:   p.group.Add,
	}
	for _, folder := range l.folders {
		s.ReadOnly = append(s.ReadOnly, sandbox.Bind{Source: filepath.Join(l.runtimeDir(), folder), Target: "/" + folder, Exec: true})
	}
	// runc wants to see control groups, of version 1 that of devices, and leaves them alone when it cannot write.
	for _, m := range p.group.Mounts() {
		s.ReadOnly = append(s.ReadOnly, sandbox.Bind{Source: m.Source, Target: m.Target})
	}
	if dir := cgroup.DevicesTree(); dir != "" {
		s.ReadOnly = append(s.ReadOnly, sandbox.Bind{Source: dir, Target: cgroup.MountRoot + "/devices"})
	}
	return s
}

// awaitStart returns when the container's own program executes, or with why it does not.
func (p *started) awaitStart(ctx context.Context) error {
	state := filepath.Join(p.dir, stateName)
	deadline := time.NewTimer(startTime)
	defer deadline.Stop()
	for pause := time.Millisecond; ; pause = min(2*pause, 20*time.Millisecond) {
		if p.image.loader.driver.started(state) {
			return nil
		}
		timer := time.NewTimer(pause)
		select {
		case <-timer.C:
		case <-p.ended:
			timer.Stop()
			return nil // Wait says how
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-deadline.C:
			timer.Stop()
			return fmt.Errorf("%w: it has not started the container in %v", runner.ErrRuntime, startTime)
		}
	}
}

func (p *started) wait() {
	p.err = p.cmd.Wait()
	close(p.ended)
}

// Pid is the process of the runtime program; the container's are among its descendants.
func (p *started) Pid() int { return p.cmd.Pid() }

// Kill implements runner.Process.
func (p *started) Kill() error { return p.cmd.Kill() }

// signalBase is what runc adds to the number of the signal that ended the container's program.
const signalBase = 128

// Wait implements runner.Process. An exit status of the program is an *exec.ExitError, as for a single program; everything else
// has an error of its own.
func (p *started) Wait() error {
	<-p.ended
	err := p.result(p.err)
	if cleanErr := p.clean(); cleanErr != nil {
		p.image.loader.opts.Log.Warn("removing a container", "ta", p.job.Name, "error", cleanErr)
	}
	return err
}

func (p *started) result(err error) error {
	if err == nil {
		return nil
	}
	if text := lastError(filepath.Join(p.dir, logName)); text != "" {
		return fmt.Errorf("%w: %w: %s", runner.ErrProgram, runner.ErrRuntime, text)
	}
	if kills, countErr := p.group.OOMKills(); countErr == nil && kills > 0 {
		return fmt.Errorf("%w (%d MiB)", runner.ErrMemory, p.job.MemoryBytes>>20)
	}
	if p.image.loader.driver.ownKernel && p.forksDenied() {
		// gVisor cannot go on then. Under runc it is the program that is told, and what it makes of it is its own business.
		return fmt.Errorf("%w: it wanted more processes than it may have", runner.ErrKilled)
	}
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() && exit.ExitCode() > signalBase {
		return runner.SignalError{Signal: syscall.Signal(exit.ExitCode() - signalBase)}
	}
	return err
}

// forksDenied reports whether the container, or the instance since the container was started, had as many processes as it may.
func (p *started) forksDenied() bool {
	own, ownErr := p.group.ForksDenied()
	all, allErr := p.image.loader.opts.Group.ForksDenied()
	return ownErr == nil && own > 0 || allErr == nil && all > p.denied
}

// clean removes what the container needed.
func (p *started) clean() error {
	var errs []error
	if p.group != nil {
		errs = append(errs, p.group.Remove())
	}
	return errors.Join(append(errs, os.RemoveAll(p.dir))...)
}

// Bounds on what is read of the runtime program's log, and told of it.
const (
	maxLogBytes = 1 << 20
	maxLogText  = 500
)

// lastError returns the last error that the runtime program logged. What a container prints does not go there.
func lastError(file string) string {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	text := ""
	for entries := json.NewDecoder(io.LimitReader(f, maxLogBytes)); ; { // runsc writes them without an end of line
		var entry struct {
			Level string `json:"level"`
			Msg   string `json:"msg"`
		}
		if entries.Decode(&entry) != nil {
			break
		}
		if entry.Level == "error" || entry.Level == "fatal" {
			text = entry.Msg
		}
	}
	return text[:min(len(text), maxLogText)]
}
