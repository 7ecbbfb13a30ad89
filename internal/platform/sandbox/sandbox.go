// SPDX-License-Identifier: Apache-2.0

// Package sandbox starts a static program from a sealed memory file, isolated from everything that it was not given.
package sandbox

import (
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"os"
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

// Profile chooses the system calls and the Landlock domain of a program.
type Profile int

const (
	// ProfileTA is for a Trusted Application: it can start nothing outside itself.
	ProfileTA Profile = iota
	// ProfileAgent is for a TEEP Agent: the same, and it can build sandboxes for TAs inside its own.
	ProfileAgent
)

// Bind makes a file or folder of the caller visible inside, at an absolute path.
type Bind struct {
	Source string
	Target string
}

// Tmpfs is a writable file system in memory, at an absolute path inside.
type Tmpfs struct {
	Target string
	Bytes  uint64
}

// Limits bound what the program may use. Zero means the default beside it.
type Limits struct {
	DataBytes  uint64 // writable private memory of each process (RLIMIT_DATA); 1 GiB
	Processes  uint64 // processes and threads in the sandbox (RLIMIT_NPROC); 256
	OpenFiles  uint64 // open files of each process (RLIMIT_NOFILE); 256
	FileBytes  uint64 // size of one file (RLIMIT_FSIZE); unlimited
	CPUSeconds uint64 // CPU time of each process (RLIMIT_CPU); unlimited
}

// Spec says what to start and what it sees.
type Spec struct {
	// Program is the program, a sealed memory file (see SealedMemfd).
	Program *os.File
	// Args are the arguments, the program's name first.
	Args []string
	// Env is the whole environment.
	Env []string
	// Files become descriptors 3, 4, ...
	Files []*os.File
	// Hostname is the name of the machine as the program sees it.
	Hostname string
	// ReadOnly and ReadWrite are what it sees of the caller's files.
	ReadOnly, ReadWrite []Bind
	// Tmpfs are its own writable folders. /tmp is always there (16 MiB unless given here).
	Tmpfs []Tmpfs
	// Limits are its resource limits.
	Limits Limits
	// Profile chooses what it may do.
	Profile Profile
	// HostUID is the user and group, in the caller's user namespace, that the program has outside. Zero means the caller's own;
	// another is possible only for root.
	HostUID int
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

// Digest is the SHA-256 digest of a program.
type Digest = [sha256.Size]byte
