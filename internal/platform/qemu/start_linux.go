// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Find returns the path of the emulator, or says what is missing.
func Find() (string, error) {
	if runtime.GOARCH != "amd64" {
		return "", fmt.Errorf("%w: virtual machines are for amd64, this machine is %s", ErrUnsupported, runtime.GOARCH)
	}
	path, err := exec.LookPath(Program)
	if err != nil {
		return "", fmt.Errorf("%w: the program %s is missing (Debian: apt-get install qemu-system-x86)", ErrUnsupported, Program)
	}
	return path, nil
}

// VM is a running virtual machine.
type VM struct {
	cmd  *exec.Cmd
	done chan struct{}
	err  error
}

// insideID is the user and group of QEMU as it sees itself.
const insideID = 1000

// cloneFlags are the namespaces of a QEMU.
const cloneFlags = unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC |
	unix.CLONE_NEWUTS | unix.CLONE_NEWCGROUP

// Start starts a virtual machine. When ctx ends, or this process does, it is killed. Its console is written to until Wait
// returns.
func Start(ctx context.Context, m Machine) (*VM, error) {
	path, err := Find()
	if err != nil {
		return nil, err
	}
	args, err := m.args()
	if err != nil {
		return nil, err
	}
	const own = 768 << 20 // translated code, devices, stacks of threads
	p := process{path: path, args: args, files: m.files(), out: m.Console, uid: m.UID, kvm: m.KVM, limits: map[int]uint64{
		unix.RLIMIT_DATA: uint64(m.MemoryMiB)<<20 + own, unix.RLIMIT_NOFILE: 128, unix.RLIMIT_FSIZE: 0, unix.RLIMIT_CORE: 0,
	}}
	return p.start(ctx)
}

// process is a program to start confined.
type process struct {
	path   string
	args   []string
	files  []*os.File // from descriptor 3 on
	out    io.Writer
	uid    int            // user of the host; 0 is the starter's own
	dir    string         // the only folder that it can write to; empty: none
	kvm    bool           // it may open the kernel's interface for virtualization
	limits map[int]uint64 // by resource
}

func (p process) start(ctx context.Context) (*VM, error) {
	cmd := exec.CommandContext(ctx, p.path)
	cmd.Args, cmd.Env, cmd.Dir = p.args, []string{"PATH=/usr/bin:/bin", "LC_ALL=C"}, "/"
	cmd.Stdout, cmd.Stderr = p.out, p.out
	cmd.ExtraFiles = p.files
	cmd.WaitDelay = 2 * time.Second
	uid, gid, other := os.Geteuid(), os.Getegid(), false
	if p.uid != 0 && p.uid != uid {
		uid, gid, other = p.uid, p.uid, true
	}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:                 cloneFlags,
		UidMappings:                []syscall.SysProcIDMap{{ContainerID: insideID, HostID: uid, Size: 1}},
		GidMappings:                []syscall.SysProcIDMap{{ContainerID: insideID, HostID: gid, Size: 1}},
		GidMappingsEnableSetgroups: other,
		Credential:                 &syscall.Credential{Uid: insideID, Gid: insideID, NoSetGroups: !other},
		Pdeathsig:                  syscall.SIGKILL,
		Setpgid:                    true,
	}
	v := &VM{cmd: cmd, done: make(chan struct{})}
	if err := v.spawn(p); err != nil {
		return nil, fmt.Errorf("qemu: starting %s: %w", p.args[0], err)
	}
	if err := limit(cmd.Process.Pid, p.limits); err != nil {
		_ = v.Kill()
		return nil, errors.Join(err, v.Wait())
	}
	return v, nil
}

// spawn starts QEMU from a thread of its own, which gives up all other files first and ends with QEMU: a Landlock domain is
// inherited and cannot be left, and the death of that thread is what QEMU dies of (prctl(2), PR_SET_PDEATHSIG).
func (v *VM) spawn(p process) error {
	started := make(chan error, 1)
	go func() {
		defer close(v.done)
		runtime.LockOSThread() // and never unlocked: the thread ends here
		err := confine(p.path, p.dir, p.kvm)
		if err == nil {
			err = v.cmd.Start()
		}
		started <- err
		if err == nil {
			v.err = v.cmd.Wait()
		}
	}()
	return <-started
}

// limit bounds what a process may use. QEMU needs the guest's memory and little more, and writes no files.
func limit(pid int, limits map[int]uint64) error {
	for resource, value := range limits {
		var now unix.Rlimit
		err := unix.Prlimit(pid, resource, nil, &now)
		if err == nil && value < now.Max {
			err = unix.Prlimit(pid, resource, &unix.Rlimit{Cur: value, Max: value}, nil)
		}
		if err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("qemu: resource limit %d: %w", resource, err)
		}
	}
	return nil
}

// Pid is QEMU's process ID.
func (v *VM) Pid() int { return v.cmd.Process.Pid }

// Kill kills QEMU. Wait has still to be called.
func (v *VM) Kill() error {
	if err := v.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("qemu: %w", err)
	}
	return nil
}

// Done is closed when QEMU has ended and all that it wrote is at its console.
func (v *VM) Done() <-chan struct{} { return v.done }

// Wait waits for QEMU's end. The error is as that of exec.Cmd.Wait: nil when the guest switched itself off.
func (v *VM) Wait() error {
	<-v.done
	return v.err
}
