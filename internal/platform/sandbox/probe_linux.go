// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"unsafe"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"

	"sealift/internal/platform/sandbox/cgroup"
)

// landlockWanted is the version of Landlock's ABI that covers all that the sandbox asks for: files, network, signals and
// abstract sockets.
const landlockWanted = 6

// Probe says line by line what this machine offers, by trying it; the last line builds a whole sandbox.
func Probe() []Feature {
	return []Feature{
		probeKernel(), probeNamespaces(), probeMemfd(), probeSeccomp(), probeLandlock(), probeUsers(), probeGroups(), probeSecret(), probeWhole(),
	}
}

func probeKernel() Feature {
	f := Feature{Name: "Linux", OK: true, Required: true}
	var u unix.Utsname
	if err := unix.Uname(&u); err != nil {
		f.OK, f.Detail = false, err.Error()
		return f
	}
	f.Detail = unix.ByteSliceToString(u.Release[:]) + " " + unix.ByteSliceToString(u.Machine[:])
	return f
}

// probeNamespaces starts a process in new namespaces that only fails to be a sandbox, for want of orders.
func probeNamespaces() Feature {
	f := Feature{Name: "namespaces", Required: true, Detail: "user, mount, pid, net, ipc, uts, cgroup"}
	cmd := (&Cmd{ctx: context.Background()}).command(Spec{}, nil)
	cmd.ExtraFiles = nil
	if err := spawn(cmd); err != nil {
		f.Detail = explainStart(err).Error()
		return f
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	f.OK = true
	return f
}

func probeMemfd() Feature {
	f := Feature{Name: "sealed memory files", Required: true, Detail: "what is executed is what was measured"}
	program, _, err := SealedMemfd("probe", strings.NewReader("x"))
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	defer program.Close()
	if _, err := program.WriteAt([]byte("y"), 0); err == nil {
		f.Detail = "seals have no effect"
		return f
	}
	f.OK = true
	return f
}

func probeSeccomp() Feature {
	f := Feature{Name: "seccomp", Required: true, Detail: "allow-list of system calls"}
	deny := uint32(unix.SECCOMP_RET_ERRNO) // whether the kernel knows this verdict (seccomp(2), SECCOMP_GET_ACTION_AVAIL)
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_GET_ACTION_AVAIL, 0, uintptr(unsafe.Pointer(&deny)))
	if e != 0 {
		f.Detail = "not in this kernel"
		return f
	}
	f.OK = true
	return f
}

func probeLandlock() Feature {
	f := Feature{Name: "Landlock"}
	version, err := ll.LandlockGetABIVersion()
	switch {
	case err != nil:
		f.Detail = "not in this kernel, or not enabled at boot; namespaces alone then bound files and network"
	case version < landlockWanted:
		f.OK, f.Detail = true, fmt.Sprintf("ABI %d; signals and abstract sockets, or more, are bounded by namespaces alone (ABI %d covers them)",
			version, landlockWanted)
	default:
		f.OK, f.Detail = true, fmt.Sprintf("ABI %d: files, network, signals, abstract sockets", version)
	}
	return f
}

func probeUsers() Feature {
	f := Feature{Name: "users of their own", OK: CanMapUID(FirstHostUID)}
	if f.OK {
		f.Detail = "each instance and each UA runs as another user of the host"
	} else {
		f.Detail = "all instances and UAs run as this user of the host, apart by namespaces; root can give each its own"
	}
	return f
}

func probeGroups() Feature {
	f := Feature{Name: "control groups", OK: true, Detail: "limits bind each TEE instance, TA and UA as a whole"}
	if _, err := cgroup.Find(); err != nil {
		f.OK, f.Detail = false, "no containers here, and limits of memory bind single processes only: "+err.Error()
	}
	return f
}

func probeSecret() Feature {
	f := Feature{Name: "memfd_secret"}
	fd, err := unix.MemfdSecret(0)
	if err != nil {
		f.Detail = "not in this kernel, or not enabled at boot; not used yet"
		return f
	}
	_ = unix.Close(fd)
	f.OK, f.Detail = true, "available; not used yet"
	return f
}

// probeWhole builds a sandbox in which nothing is run.
func probeWhole() Feature {
	f := Feature{Name: "sandbox", Required: true, Detail: "built and left"}
	exe, err := exec.LookPath("/proc/self/exe")
	if err != nil {
		f.Detail = err.Error()
		return f
	}
	var out bytes.Buffer
	cmd := exec.Command(exe)
	cmd.Args, cmd.Env = []string{probeName}, []string{"GOMAXPROCS=2"}
	cmd.Stdout = &out
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  cloneFlags,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: insideID, HostID: os.Geteuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: insideID, HostID: os.Getegid(), Size: 1}},
		AmbientCaps: setupCaps,
		Pdeathsig:   syscall.SIGKILL,
	}
	if err := spawn(cmd); err != nil {
		f.Detail = explainStart(err).Error()
		return f
	}
	err = cmd.Wait()
	f.OK = err == nil && out.String() == string(rune(readyByte))
	if !f.OK {
		f.Detail = strings.TrimPrefix(out.String(), string(rune(readyByte)))
		if f.Detail == "" && err != nil {
			f.Detail = "does main call sandbox.Init first? " + err.Error()
		}
	}
	return f
}

// probeSetup is what the first stage does for probeWhole.
func probeSetup() error {
	s, err := Spec{Program: os.Stdin, Args: []string{"probe"}}.withDefaults()
	if err != nil {
		return err
	}
	order := newSetup(s)
	if err := isolate(order); err != nil {
		return err
	}
	if err := dropCapabilities(); err != nil {
		return err
	}
	return confine(order)
}
