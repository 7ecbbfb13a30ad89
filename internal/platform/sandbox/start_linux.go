// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// sysCmd is the part of a Cmd that exists once it was started.
type sysCmd struct {
	cmd *exec.Cmd
}

const insideID = InsideID

// cloneFlags are the namespaces of a sandbox.
const cloneFlags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// namespaces are those that a program gets of its own.
func (p Profile) namespaces() uintptr {
	if p == ProfileUA {
		return cloneFlags &^ unix.CLONE_NEWNET
	}
	return cloneFlags
}

// setupCaps are the capabilities that the first stage needs, in the new user namespace only, until it becomes the program.
var setupCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETUID, unix.CAP_SETGID, unix.CAP_SETPCAP}

// setupTime bounds the building of a sandbox on a machine that is overloaded.
const setupTime = 30 * time.Second

// Start builds the sandbox, starts the program in it, and returns when the program executes, or with what hindered it.
func (c *Cmd) Start() error {
	if c.sys.cmd != nil {
		return fmt.Errorf("%w: it was started before", ErrSpec)
	}
	spec, err := c.spec.withDefaults()
	if err != nil {
		return err
	}
	if spec.Profile != ProfileUA {
		if err := checkSealed(spec.Program); err != nil {
			return err
		}
	}
	if err := checkProgram(spec.Program, spec.Dynamic); err != nil {
		return err
	}
	if spec.HostUID != 0 && spec.HostUID != os.Geteuid() && !CanMapUID(spec.HostUID) {
		return fmt.Errorf("%w: this process cannot start programs as user %d", ErrSpec, spec.HostUID)
	}
	order, err := json.Marshal(newSetup(spec))
	if err != nil {
		return fmt.Errorf("sandbox: %w", err)
	}
	control, child, err := controlPair()
	if err != nil {
		return err
	}
	defer control.Close()
	cmd := c.command(spec, child)
	err = spawn(cmd)
	child.Close()
	if err != nil {
		return explainStart(err)
	}
	if err := c.begin(cmd.Process.Pid, control, order); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		return err
	}
	c.sys.cmd = cmd
	return nil
}

// begin lets the first stage go on, once it is where its resources are counted.
func (c *Cmd) begin(pid int, control net.Conn, order []byte) error {
	if c.spec.Enter != nil {
		if err := c.spec.Enter(pid); err != nil {
			return fmt.Errorf("sandbox: %w", err)
		}
	}
	return handshake(c.ctx, control, order)
}

// command is the first stage: this very binary under another name, in the new namespaces.
func (c *Cmd) command(spec Spec, control *os.File) *exec.Cmd {
	cmd := exec.CommandContext(c.ctx, "/proc/self/exe")
	cmd.Args = []string{initName}
	cmd.Env = []string{"GOMAXPROCS=2", "GODEBUG=netdns=go"}
	cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Stdin, c.Stdout, c.Stderr
	cmd.ExtraFiles = append([]*os.File{control, spec.Program}, spec.Files...)
	cmd.WaitDelay = 2 * time.Second
	uid, gid := os.Geteuid(), os.Getegid()
	other := spec.HostUID != 0 && spec.HostUID != uid
	if other {
		uid, gid = spec.HostUID, spec.HostUID
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  spec.Profile.namespaces(),
		UidMappings: []syscall.SysProcIDMap{{ContainerID: insideID, HostID: uid, Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: insideID, HostID: gid, Size: 1}},
		// Without setgroups an ordinary user cannot use a sandbox to get out of a group that denies it something.
		GidMappingsEnableSetgroups: other,
		AmbientCaps:                setupCaps,
		Pdeathsig:                  syscall.SIGKILL,
		Setpgid:                    true,
	}
	return cmd
}

// controlPair makes the socket pair over which both stages speak: net.Conn for this process, a file for the other.
func controlPair() (net.Conn, *os.File, error) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return nil, nil, fmt.Errorf("sandbox: control socket: %w", err)
	}
	ours, theirs := os.NewFile(uintptr(fds[0]), "sandbox-control"), os.NewFile(uintptr(fds[1]), "sandbox-control")
	defer ours.Close()
	conn, err := net.FileConn(ours)
	if err != nil {
		theirs.Close()
		return nil, nil, fmt.Errorf("sandbox: control socket: %w", err)
	}
	return conn, theirs, nil
}

// The bytes by which the first stage reports. After readyByte it is bound to die with its starter, and waits for its orders; had
// the starter died before, there is nobody to send any. After execByte only an error text can follow; the end of the stream
// then means that the program executes, because the control socket is closed by a successful execveat.
const (
	readyByte = 'r'
	execByte  = 'x'
)

func handshake(ctx context.Context, control net.Conn, order []byte) error {
	deadline := time.Now().Add(setupTime)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	_ = control.SetDeadline(deadline)
	stop := context.AfterFunc(ctx, func() { _ = control.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	var ready [1]byte
	if _, err := io.ReadFull(control, ready[:]); err != nil {
		return fmt.Errorf("%w: the first stage did not start: does main call sandbox.Init first? (%w)", ErrUnsupported, err)
	}
	if _, err := control.Write(order); err != nil {
		return fmt.Errorf("sandbox: giving orders to the first stage: %w", err)
	}
	if err := control.(*net.UnixConn).CloseWrite(); err != nil {
		return fmt.Errorf("sandbox: giving orders to the first stage: %w", err)
	}
	answer, err := io.ReadAll(io.LimitReader(control, 4096))
	if err != nil {
		return fmt.Errorf("sandbox: waiting for the program to start: %w", err)
	}
	text, executing := strings.CutPrefix(string(answer), string(rune(execByte)))
	switch {
	case executing && text == "":
		return nil
	case executing:
		return fmt.Errorf("%w: %s", ErrProgram, text)
	case text == "":
		return errors.New("sandbox: the first stage ended without a word")
	}
	return fmt.Errorf("%w: %s", ErrUnsupported, text)
}

// explainStart turns the error of clone(2) into what the user can do about it.
func explainStart(err error) error {
	if errors.Is(err, syscall.EPERM) || errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EUSERS) {
		return fmt.Errorf("%w: user namespaces are not available to this user (sysctl user.max_user_namespaces, "+
			"kernel.unprivileged_userns_clone, kernel.apparmor_restrict_unprivileged_userns, or the container this runs in): %w",
			ErrUnsupported, err)
	}
	return fmt.Errorf("sandbox: starting the first stage: %w", err)
}

// Wait waits for the program's end and for its output to be copied. The error is as that of exec.Cmd.Wait.
func (c *Cmd) Wait() error {
	if c.sys.cmd == nil {
		return fmt.Errorf("%w: it was not started", ErrSpec)
	}
	return c.sys.cmd.Wait()
}

// Kill kills the program, and with it everything that it started. Wait has still to be called.
func (c *Cmd) Kill() error {
	if c.sys.cmd == nil {
		return fmt.Errorf("%w: it was not started", ErrSpec)
	}
	if err := c.sys.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("sandbox: %w", err)
	}
	return nil
}

// Pid is the process ID of the program as the caller sees it, or 0 before Start.
func (c *Cmd) Pid() int {
	if c.sys.cmd == nil {
		return 0
	}
	return c.sys.cmd.Process.Pid
}

// spawn starts cmd from one thread that lives as long as this process. The kernel's "parent" of a process, whose death sends
// the parent death signal, is the thread that made it (prctl(2), PR_SET_PDEATHSIG), and the Go runtime may end others.
func spawn(cmd *exec.Cmd) error {
	spawner.Do(func() {
		spawns = make(chan func())
		go func() {
			runtime.LockOSThread()
			for f := range spawns {
				f()
			}
		}()
	})
	done := make(chan error)
	spawns <- func() { done <- cmd.Start() }
	return <-done
}

var (
	spawner sync.Once
	spawns  chan func()
)
