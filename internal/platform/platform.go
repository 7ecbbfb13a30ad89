// SPDX-License-Identifier: Apache-2.0

// Package platform is what the TEEP Broker sees of the secure hardware of its device: a Driver launches TEE instances from
// an Agent image and a measured configuration, hands out byte channels to the Agents in them, and destroys them.
//
// The Broker stands in the REE and is not trusted (RFC 9397 section 2, "TEEP Broker"), so the interface offers nothing that
// could make hardware vouch for something it did not launch: the bytes that are given to Launch are the bytes that the
// hardware measures and executes, and Evidence can only be asked for from inside an instance (see package hw).
//
// One TEE instance serves one deployment. Instances of different data owners share nothing: each has its own namespaces,
// its own sealing keys and its own counter.
//
// The one driver of today is the emulator (package emulator): a process of its own that plays the hardware. A driver of
// real hardware stands behind the same interface.
package platform

import (
	"context"
	"errors"
	"net"
	"os"
	"regexp"

	"sealift/evidence"
)

// Errors of a Driver. All other errors are about the machinery (a socket that is gone, a full disk).
var (
	// ErrUnreachable means that the platform's process does not answer. Its instances are gone with it.
	ErrUnreachable = errors.New("platform: the TEE platform is not reachable")
	// ErrNoInstance means that no instance of this ID exists.
	ErrNoInstance = errors.New("platform: no such instance")
	// ErrNotRunning means that the instance exists but its Agent does not run; Launch starts it again.
	ErrNotRunning = errors.New("platform: the instance is not running")
	// ErrConflict means that an instance of this ID runs with another Agent or another configuration.
	ErrConflict = errors.New("platform: the instance runs with another agent or configuration")
	// ErrCapacity means that the platform runs as many instances as it can, or keeps too many that are stopped.
	ErrCapacity = errors.New("platform: no capacity for another instance")
	// ErrInvalid means that the request itself is wrong: a bad ID, an image that cannot run, a size beyond the bounds.
	ErrInvalid = errors.New("platform: invalid request")
	// ErrUnsupported means that this machine lacks what the platform needs; the text says what.
	ErrUnsupported = errors.New("platform: not supported on this machine")
)

// Bounds that every driver enforces.
const (
	// MaxConfigBytes bounds the measured configuration.
	MaxConfigBytes = 64 << 10
	// MaxAgentBytes bounds the Agent image.
	MaxAgentBytes = 256 << 20
)

// Limits bound what one instance may use of the device. A zero means the default beside it.
type Limits struct {
	MemoryBytes  uint64 // a process: writable private memory of each process in it; a container: all memory together; 4 GiB
	Processes    uint64 // processes and threads, all TAs included; 1024
	OpenFiles    uint64 // open files of each process; 1024
	ScratchBytes uint64 // files in TEE memory (released PD lies there); 1 GiB
}

// Spec says what to launch. Agent, Layer and Config are measured; ID and Limits are the operator's business.
type Spec struct {
	// ID names the instance on this device; see ValidID.
	ID string
	// Agent is the image: a static executable in a regular file, read from offset 0. The caller keeps and closes it.
	Agent *os.File
	// Config is the measured configuration that the Agent reads from its hardware.
	Config []byte
	// Layer is a guest payload (package initramfs) that a vm is booted with beside its image, and that is measured with it: a regular file,
	// read from offset 0; nil for none. The caller keeps and closes it.
	Layer *os.File
	// Limits are resource limits.
	Limits Limits
}

// Info describes the platform.
type Info struct {
	Hardware      evidence.Hardware
	Emulated      bool
	InstanceTypes []string // "process", "container", "vm"
	// Lacks says, of instance types that the hardware could protect and that are not among InstanceTypes, what this machine lacks.
	Lacks           map[string]string
	Capacity        int      // how many instances it can hold
	RootFingerprint [32]byte // SHA-256 of the DER certificate under which its Evidence verifies
}

// InstanceState is one instance as the platform sees it. The digests are SHA-256; they are those of the last launch, and
// zero for an instance that has not been launched since the platform started.
type InstanceState struct {
	ID           string
	Running      bool
	AgentDigest  [32]byte
	ConfigDigest [32]byte
	// Exit says how the Agent ended, for an instance that ran and does not run any more.
	Exit string
}

// Driver is what the Broker uses. Implementations MUST be safe for concurrent use, and MUST bound every call by its context.
type Driver interface {
	// Info describes the platform.
	Info(ctx context.Context) (Info, error)
	// Launch measures the image and the configuration, starts the Agent and returns when it executes. For an instance that
	// runs with the same bytes it does nothing; for one that runs with other bytes it MUST fail with ErrConflict; one that has
	// stopped is started again, with the same secrets only if the bytes are the same.
	Launch(ctx context.Context, spec Spec) error
	// Attach makes a new byte channel to the instance's Agent, which supersedes the one before. It launches nothing. The
	// channel ends when the Agent ends.
	Attach(ctx context.Context, id string) (net.Conn, error)
	// Stop ends the instance's Agent and all that it started, and keeps what it had sealed: an instance of the same ID that is launched
	// later with the same bytes can open it. A stopped instance takes no place. Stopping what does not run or does not exist is no error.
	Stop(ctx context.Context, id string) error
	// Destroy ends the instance and wipes its secrets: nothing that it had sealed can be recovered, also not by an instance
	// of the same ID launched later. Destroying what does not exist is no error.
	Destroy(ctx context.Context, id string) error
	// List returns all instances, running or not, sorted by ID.
	List(ctx context.Context) ([]InstanceState, error)
}

var idPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$`)

// ValidID reports whether id can name an instance: 1 to 64 letters, digits, dots, underscores and dashes, the first a
// letter or a digit. It is safe as the name of a folder.
func ValidID(id string) bool { return idPattern.MatchString(id) }
