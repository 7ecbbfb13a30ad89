// SPDX-License-Identifier: Apache-2.0

// Package sandbox starts a static program from a sealed memory file, isolated from everything that it was not given. The
// emulator starts TEEP Agents with it, and an Agent, inside its own sandbox, starts Trusted Applications with it.
//
// What runs is what was measured: the program lies in a memory file (memfd_create(2)) whose seals forbid every further
// change, its digest is taken after sealing, and the descriptor itself is executed (execveat(2)). No path is involved. A Broker
// starts UAs in such a sandbox too (ProfileUA): not measured, and with the machine's network.
//
// Around it stand, from the outside in:
//
//   - namespaces of its own (namespaces(7)): user, mount, pid, net, ipc, uts, cgroup. There is no network interface but an
//     idle loopback, no process but its own, and one user: not root, without capabilities.
//   - a root file system of its own in memory (pivot_root(2)), which is read-only and holds /proc (its own processes only),
//     five device nodes, /tmp, and what Spec names. The host's file systems are unmounted from its view.
//   - resource limits, no_new_privs, a Landlock domain (landlock(7)) and an allow-list of system calls (seccomp(2)).
//
// The program is process 1 of its pid namespace: when it ends, the kernel kills everything it started; and it is killed when
// its starter ends.
//
// # Two processes
//
// A process cannot do all this to itself from a running Go program, so the starter executes its own binary again, under
// another name, in the new namespaces; Init, which stands first in main, recognizes that name, builds the sandbox from within
// and becomes the program. Every binary that starts sandboxes MUST therefore call Init first in main (tests: in TestMain).
//
// # Landlock and nesting
//
// The kernel lets nobody under a Landlock file system domain mount anything. An Agent has to mount to build the sandboxes of
// its TAs, so ProfileAgent's domain covers the network, signals and abstract sockets only; its file system view is bounded by
// its mount namespace. The same holds for ProfilePod and ProfileSentry. The domains of ProfileTA and ProfileUA cover files too.
package sandbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path"
	"strings"
)

// Errors.
var (
	// ErrUnsupported means that the machine lacks something that the sandbox needs; the text says what.
	ErrUnsupported = errors.New("sandbox: not supported on this machine")
	// ErrProgram means that the program cannot be run: not an executable of this machine, or not a static one.
	ErrProgram = errors.New("sandbox: the program cannot be run")
	// ErrSpec means that the Spec itself is wrong.
	ErrSpec = errors.New("sandbox: invalid specification")
)

// Digest is the SHA-256 digest of a program.
type Digest = [sha256.Size]byte

// Profile chooses the system calls and the Landlock domain of a program.
type Profile int

const (
	// ProfileTA is for a Trusted Application: it can start nothing outside its own sandbox.
	ProfileTA Profile = iota
	// ProfileAgent is for a TEEP Agent: the same, and it can build sandboxes for TAs inside its own.
	ProfileAgent
	// ProfilePod is for the TEEP Agent of a pod sandbox, and for the OCI runtime program that it starts: the same, and it can
	// make user namespaces and enter namespaces, as runtime programs do.
	ProfilePod
	// ProfileUA is for an Untrusted Application: as ProfileTA, but in the machine's network, where it may listen on Spec.Ports and
	// connect to anything. Its program was not measured: it is executed from Spec.Path and need not be sealed.
	ProfileUA
	// ProfileSentry is ProfilePod for gVisor's runsc, which runs the programs of a container under ptrace(2) or as tracer of their system
	// calls, and wants to see all of /proc.
	ProfileSentry
)

// InsideID is the user and group of a program in its sandbox, as it sees itself.
const InsideID = 1000

// Bind makes a file or folder of the caller visible inside, at an absolute path.
type Bind struct {
	Source string
	Target string
	// Exec allows to execute what lies in it. A program under ProfileTA is kept from it all the same by its Landlock domain.
	Exec bool `json:",omitempty"`
}

// Tmpfs is a writable file system in memory, at an absolute path inside.
type Tmpfs struct {
	Target string
	Bytes  uint64
	Exec   bool `json:",omitempty"` // as in Bind
}

// Limits bound what the program may use. Zero means the default beside it.
type Limits struct {
	DataBytes  uint64 // writable private memory of each process (RLIMIT_DATA; a Go program maps 40 MiB to begin with); 1 GiB
	Processes  uint64 // processes and threads in the sandbox (RLIMIT_NPROC); 256
	OpenFiles  uint64 // open files of each process (RLIMIT_NOFILE); 256
	FileBytes  uint64 // size of one file (RLIMIT_FSIZE); unlimited
	CPUSeconds uint64 // CPU time of each process (RLIMIT_CPU); unlimited
}

// Spec says what to start and what it sees.
type Spec struct {
	// Program is the program, a sealed memory file (see SealedMemfd). The caller keeps and closes it.
	Program *os.File
	// Args are the arguments, the program's name first.
	Args []string
	// Env is the whole environment.
	Env []string
	// Files become descriptors 3, 4, ... The caller keeps and closes its own.
	Files []*os.File
	// Hostname is the name of the machine as the program sees it.
	Hostname string
	// ReadOnly and ReadWrite are what it sees of the caller's files. Mounts below a source are not taken along.
	ReadOnly, ReadWrite []Bind
	// Tmpfs are its own writable folders. /tmp is always there (16 MiB unless given here).
	Tmpfs []Tmpfs
	// Path is where a program under ProfileUA lies inside: a ReadOnly with Exec.
	Path string
	// Dir is its working folder inside; the root where it is empty.
	Dir string
	// Ports are the TCP ports that a program under ProfileUA may listen on, as far as the kernel's Landlock covers TCP (ABI 4).
	Ports []uint16
	// Limits are its resource limits.
	Limits Limits
	// Profile chooses what it may do.
	Profile Profile
	// HostUID is the user and group, in the caller's user namespace, that the program has outside. Zero means the caller's
	// own; another needs CanMapUID, and cannot open /dev/stdin anew if Stdin is a pipe of the caller's. For root itself the
	// kernel does not enforce Limits.Processes.
	HostUID int
	// Dynamic allows a dynamically linked program. Its loader and its libraries have to be in ReadOnly, with Exec.
	Dynamic bool
	// Enter is called with the program's process ID, as the caller sees it, before anything of the program runs: it puts the
	// process where resources are counted (control groups). An error ends the start.
	Enter func(pid int) error
}

// Cmd is a program in its sandbox, about to run or running. It is used like exec.Cmd.
type Cmd struct {
	// Stdin, Stdout and Stderr are as in exec.Cmd; nil means /dev/null.
	Stdin          io.Reader
	Stdout, Stderr io.Writer

	spec Spec
	ctx  context.Context
	sys  sysCmd
}

// Command prepares a program. When ctx ends, the program and everything it started is killed.
func Command(ctx context.Context, spec Spec) *Cmd { return &Cmd{ctx: ctx, spec: spec} }

// Run is Start and Wait.
func (c *Cmd) Run() error {
	if err := c.Start(); err != nil {
		return err
	}
	return c.Wait()
}

// Feature is one line of Probe: something that the kernel and this machine's policy grant or deny.
type Feature struct {
	Name     string
	OK       bool
	Required bool
	Detail   string
}

const (
	defaultTmpBytes  = 16 << 20
	defaultData      = 1 << 30
	defaultProcesses = 256
	defaultOpenFiles = 256
	maxBinds         = 64
	maxFiles         = 64
)

// withDefaults checks the specification and fills in what it leaves open.
func (s Spec) withDefaults() (Spec, error) {
	if s.Program == nil || len(s.Args) == 0 {
		return s, fmt.Errorf("%w: a program and its name are needed", ErrSpec)
	}
	if strings.ContainsRune(strings.Join(s.Args, "")+strings.Join(s.Env, ""), 0) {
		return s, fmt.Errorf("%w: a zero byte in the arguments or the environment", ErrSpec)
	}
	if len(s.ReadOnly)+len(s.ReadWrite)+len(s.Tmpfs) > maxBinds || len(s.Files) > maxFiles {
		return s, fmt.Errorf("%w: too many mounts or files", ErrSpec)
	}
	if s.Profile < ProfileTA || s.Profile > ProfileSentry {
		return s, fmt.Errorf("%w: unknown profile %d", ErrSpec, s.Profile)
	}
	if (s.Path != "") != (s.Profile == ProfileUA) {
		return s, fmt.Errorf("%w: a UA, and nothing else, is executed from a path", ErrSpec)
	}
	if len(s.Hostname) > 64 || strings.ContainsRune(s.Hostname, 0) {
		return s, fmt.Errorf("%w: host name longer than 64 bytes", ErrSpec)
	}
	orDefault(&s.Limits.DataBytes, defaultData)
	orDefault(&s.Limits.Processes, defaultProcesses)
	orDefault(&s.Limits.OpenFiles, defaultOpenFiles)
	s.Tmpfs = append([]Tmpfs(nil), s.Tmpfs...)
	return s, s.checkTargets()
}

// checkTargets gives every mount its own place, outside those that the sandbox makes itself, and adds /tmp.
func (s *Spec) checkTargets() error {
	taken := map[string]bool{}
	for _, b := range append(append([]Bind(nil), s.ReadOnly...), s.ReadWrite...) {
		if _, err := os.Stat(b.Source); err != nil {
			return fmt.Errorf("%w: source of a bind: %w", ErrSpec, err)
		}
		if err := claim(taken, b.Target); err != nil {
			return err
		}
	}
	for _, t := range s.Tmpfs {
		if t.Bytes == 0 {
			return fmt.Errorf("%w: the file system in memory at %q has no size", ErrSpec, t.Target)
		}
		if err := claim(taken, t.Target); err != nil {
			return err
		}
	}
	if !taken["/tmp"] {
		s.Tmpfs = append(s.Tmpfs, Tmpfs{Target: "/tmp", Bytes: defaultTmpBytes})
	}
	return nil
}

// claim checks one target against those already taken.
func claim(taken map[string]bool, target string) error {
	top, _, _ := strings.Cut(strings.TrimPrefix(target, "/"), "/")
	if !path.IsAbs(target) || path.Clean(target) != target || target == "/" || strings.ContainsRune(target, 0) ||
		top == "proc" || top == "dev" && target != "/dev/shm" {
		return fmt.Errorf("%w: nothing can be mounted at %q", ErrSpec, target)
	}
	for other := range taken {
		if other == target || strings.HasPrefix(other, target+"/") || strings.HasPrefix(target, other+"/") {
			return fmt.Errorf("%w: the mounts at %q and %q overlap", ErrSpec, other, target)
		}
	}
	taken[target] = true
	return nil
}

func orDefault(v *uint64, d uint64) {
	if *v == 0 {
		*v = d
	}
}
