// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// initName is the name under which a binary is executed to be the first stage of a sandbox.
const initName = "sealift-sandbox-init"

// probeName is the name under which it is executed to build a sandbox and report, for Probe.
const probeName = "sealift-sandbox-probe"

// Descriptors of the first stage.
const (
	controlFD = 3
	programFD = 4
	filesFD   = 5
)

// setup is the order of the starter to the first stage.
type setup struct {
	Args, Env []string
	Files     int
	Hostname  string
	ReadOnly  []Bind
	ReadWrite []Bind
	Tmpfs     []Tmpfs
	Path, Dir string
	Ports     []uint16
	Limits    Limits
	Profile   Profile
}

func newSetup(s Spec) setup {
	return setup{
		Args: s.Args, Env: s.Env, Files: len(s.Files), Hostname: s.Hostname,
		ReadOnly: s.ReadOnly, ReadWrite: s.ReadWrite, Tmpfs: s.Tmpfs, Path: s.Path, Dir: s.Dir, Ports: s.Ports,
		Limits: s.Limits, Profile: s.Profile,
	}
}

// Init MUST be the first call in main of every program that starts sandboxes. In a process that was started to be the first
// stage of a sandbox it builds the sandbox and becomes the program in it, and never returns; in any other it does nothing.
func Init() {
	if len(os.Args) != 1 || os.Args[0] != initName && os.Args[0] != probeName {
		return
	}
	runtime.LockOSThread() // everything from here on concerns the one thread that becomes the program
	if os.Args[0] == probeName {
		report := string(rune(readyByte))
		if err := probeSetup(); err != nil {
			report += err.Error()
		}
		_, _ = os.Stdout.WriteString(report)
		os.Exit(0)
	}
	fd, err := unix.FcntlInt(controlFD, unix.F_DUPFD_CLOEXEC, filesFD+maxFiles)
	if err != nil {
		os.Exit(125)
	}
	control := os.NewFile(uintptr(fd), "sandbox-control")
	err = becomeProgram(control)
	_, _ = control.WriteString(err.Error())
	os.Exit(125)
}

// becomeProgram returns only if it fails.
func becomeProgram(control *os.File) error {
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("parent death signal: %w", err)
	}
	if _, err := control.Write([]byte{readyByte}); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	order, err := io.ReadAll(control)
	if err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	var s setup
	if err := json.Unmarshal(order, &s); err != nil {
		return fmt.Errorf("no orders (has the starter died?): %w", err)
	}
	if err := isolate(s); err != nil {
		return err
	}
	exec, err := prepareExec(s)
	if err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	if err := confine(s); err != nil {
		return err
	}
	if _, err := control.Write([]byte{execByte}); err != nil {
		return fmt.Errorf("control socket: %w", err)
	}
	// From here on nothing may need memory or a thread: the limits are the program's, not the first stage's.
	if err := setLimits(s.Limits); err != nil {
		return err
	}
	return explainExec(exec.run())
}

// isolate gives the process its own view: files, user, host name.
func isolate(s setup) error {
	mounts, err := openMounts(s)
	if err != nil {
		return err
	}
	// The sources were opened with the starter's rights; all else is done as the user that the program will be.
	if err := becomeUser(); err != nil {
		return err
	}
	if err := buildRoot(mounts, s.Profile == ProfileSentry); err != nil {
		return err
	}
	if s.Dir != "" {
		if err := unix.Chdir(s.Dir); err != nil {
			return fmt.Errorf("working folder: %w", err)
		}
	}
	host := s.Hostname
	if host == "" {
		host = "tee"
	}
	if err := unix.Sethostname([]byte(host)); err != nil {
		return fmt.Errorf("host name: %w", err)
	}
	return nil
}

// becomeUser leaves the starter's user and groups for the one ID that exists in the new user namespace. The calls act on this
// thread only, which is the one that stays. Changing the user clears the parent death signal (prctl(2)), so it is set again;
// the starter may have died in between, which the control socket would show when execByte is written to it.
func becomeUser() error {
	if data, err := os.ReadFile("/proc/self/setgroups"); err == nil && string(data) == "allow\n" {
		if _, _, e := syscall.RawSyscall(unix.SYS_SETGROUPS, 0, 0, 0); e != 0 {
			return fmt.Errorf("leaving the starter's groups: %w", e)
		}
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESGID, insideID, insideID, insideID); e != 0 {
		return fmt.Errorf("changing the group: %w", e)
	}
	if _, _, e := syscall.RawSyscall(unix.SYS_SETRESUID, insideID, insideID, insideID); e != 0 {
		return fmt.Errorf("changing the user: %w", e)
	}
	if err := unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0); err != nil {
		return fmt.Errorf("parent death signal: %w", err)
	}
	return nil
}

// program is an execveat that is ready to be made: everything it needs is in memory already.
type program struct {
	fd         int
	argv, envp []*byte
	empty      *byte
}

// prepareExec puts the descriptors in order: the files at 3, 4, ..., and nothing else open across exec.
func prepareExec(s setup) (*program, error) {
	argv, err := syscall.SlicePtrFromStrings(s.Args)
	if err != nil {
		return nil, fmt.Errorf("arguments: %w", err)
	}
	envp, err := syscall.SlicePtrFromStrings(s.Env)
	if err != nil {
		return nil, fmt.Errorf("environment: %w", err)
	}
	source := programFD
	if s.Path != "" {
		if source, err = unix.Open(s.Path, unix.O_RDONLY|unix.O_CLOEXEC, 0); err != nil {
			return nil, fmt.Errorf("program: %w", err)
		}
	}
	fd, err := unix.FcntlInt(uintptr(source), unix.F_DUPFD_CLOEXEC, filesFD+s.Files)
	if err != nil {
		return nil, fmt.Errorf("program: %w", err)
	}
	// Descriptors 3 and 4 stay occupied until here, so that nothing that the Go runtime opens is overwritten.
	for i := range s.Files {
		if err := unix.Dup3(filesFD+i, controlFD+i, 0); err != nil {
			return nil, fmt.Errorf("file %d: %w", i, err)
		}
	}
	if err := unix.CloseRange(uint(controlFD+s.Files), math.MaxInt32, unix.CLOSE_RANGE_CLOEXEC); err != nil {
		return nil, fmt.Errorf("closing descriptors: %w", err)
	}
	return &program{fd: fd, argv: argv, envp: envp, empty: &[]byte{0}[0]}, nil
}

// run becomes the program. It makes the system call without telling the Go runtime, which then has no reason to start a thread.
func (p *program) run() error {
	_, _, e := syscall.RawSyscall6(unix.SYS_EXECVEAT, uintptr(p.fd), uintptr(unsafe.Pointer(p.empty)),
		uintptr(unsafe.Pointer(&p.argv[0])), uintptr(unsafe.Pointer(&p.envp[0])), unix.AT_EMPTY_PATH, 0)
	return e
}

func explainExec(err error) error {
	switch {
	case errors.Is(err, unix.E2BIG):
		return fmt.Errorf("arguments and environment are too long: %w", err)
	case errors.Is(err, unix.ENOMEM):
		return fmt.Errorf("the memory limit is too small for it: %w", err)
	}
	return fmt.Errorf("execveat: %w", err)
}
