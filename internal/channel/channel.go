// SPDX-License-Identifier: Apache-2.0

// Package channel is the conversation between a TEEP Broker and a TEEP Agent over the one byte channel of a TEE instance
// (docs/architecture.md section 1; the abstract calls are those of RFC 9397 section 6.2.1).
//
// The byte channel carries yamux; each end opens streams and serves those of the other. A stream is one call: a frame with the
// CBOR request, then, where the call has one, a body, then a frame with the CBOR reply; a relay stays a stream of raw bytes
// after the reply. A frame is a 4-byte big-endian length and that many bytes; a body is a run of frames that ends with an empty one,
// so a body that was cut short never looks whole.
//
// The Broker is untrusted by the Agent and the Agent by nobody here: both ends bound what they accept. Nothing in this package
// authenticates; TEEP messages are signed, and the relayed bytes are TLS 1.3 that ends in the TEE.
package channel

import (
	"context"
	"errors"
	"io"
	"net"

	"sealift/suit"
)

// MaxMessage bounds a TEEP message, a request and a reply.
const MaxMessage = 8 << 20

// Errors that keep their identity across the channel; others arrive as their text, wrapped in ErrRemote.
var (
	ErrClosed    = errors.New("channel: the other end is gone")
	ErrRemote    = errors.New("channel: the other end reports")
	ErrMalformed = errors.New("channel: malformed frame")
	ErrTooLarge  = errors.New("channel: too large")
	ErrNotFound  = errors.New("channel: no such component")     // for example: an UA that the REE has lost, a payload that the store does not have
	ErrNotReady  = errors.New("channel: not running")           // the TA is installed but does not serve now
	ErrRefused   = errors.New("channel: refused")               // the other end will never do this
	ErrNoSpace   = errors.New("channel: no space left")         // the REE's storage is full
	ErrBusy      = errors.New("channel: too many at one time")  // try again later
	ErrExec      = errors.New("channel: program cannot be run") // the UA's file is not an executable for this device
)

// Session says that a TEEP session is to be opened: with the TAM at TAMURI, beginning with Message (an empty one is an HTTP POST
// without a body). The zero Session says that there is nothing to do.
type Session struct {
	TAMURI  string `cbor:"1,keyasint,omitempty"`
	Message []byte `cbor:"2,keyasint,omitempty"`
}

// AgentService is what the Agent's end serves. Errors that wrap one of this package's sentinels keep that identity.
type AgentService interface {
	// ProcessTeepMessage hands a message that arrived from tamURI to the Agent. An empty reply means that the session is done.
	ProcessTeepMessage(ctx context.Context, tamURI string, msg []byte) (reply []byte, err error)
	// ProcessError tells the Agent that the session with tamURI failed below TEEP.
	ProcessError(ctx context.Context, tamURI, reason string) error
	// RequestTA asks for a component; tamURI may be empty. The TAMURI of the Session wins over the caller's.
	RequestTA(ctx context.Context, id suit.ComponentID, tamURI string) (Session, error)
	// UnrequestTA says that a component is no longer needed.
	UnrequestTA(ctx context.Context, id suit.ComponentID, tamURI string) (Session, error)
	// RequestPolicyCheck returns the next TAM to be asked for changes; the zero Session ends a round.
	RequestPolicyCheck(ctx context.Context) (Session, error)
	// Connect relays conn to the TLS endpoint of the TA ["tee", app, ta] and returns when the relay is over, or an error before the
	// first byte. It calls ready once, when bytes may flow.
	Connect(ctx context.Context, app, ta string, conn net.Conn, ready func() error) error
	// Status tells what the Agent's operator may know.
	Status(ctx context.Context) (Status, error)
}

// BrokerService is what the Broker's end serves. The Agent believes none of its answers.
type BrokerService interface {
	// Fetch opens the payload at uri (ni, http or https). limit is the number of bytes the Agent will read at most; < 0 is none.
	Fetch(ctx context.Context, uri string, limit int64) (io.ReadCloser, error)
	// REEInstall is the one way out of the TEE: it stages the content of a component addressed to the REE.
	REEInstall(ctx context.Context, id suit.ComponentID) (REEWriter, error)
	// REERemove deletes a component of the REE and stops its program. A component that is not there is no error.
	REERemove(ctx context.Context, id suit.ComponentID) error
	// REEStart runs an installed component with the launch.Spec encoded in spec; running already with these, it does nothing.
	// A component that is not there is ErrNotFound.
	REEStart(ctx context.Context, id suit.ComponentID, spec []byte) error
	// REEStop stops a component's program. One that does not run is no error.
	REEStop(ctx context.Context, id suit.ComponentID) error
}

// REEWriter takes the bytes of one component of the REE. Exactly one of Commit and Abort ends it.
type REEWriter interface {
	io.Writer
	Commit() error // make the staged bytes the component, atomically, durably
	Abort() error  // drop them
}

// Status is what an Agent tells its Broker: nothing of it is secret and none of it is authenticated.
type Status struct {
	Deployment string      `cbor:"1,keyasint" json:"deployment"`
	Components []Component `cbor:"2,keyasint" json:"components"`
	TAs        []TAStatus  `cbor:"3,keyasint" json:"tas"`
	LastError  string      `cbor:"4,keyasint,omitempty" json:"lastError,omitempty"` // of the last message that was refused
}

// Component is an installed component.
type Component struct {
	ID       suit.ComponentID `cbor:"1,keyasint" json:"id"`
	Sequence uint64           `cbor:"2,keyasint" json:"sequence"` // of its manifest
}

// TAHeld is the state of a TA that its owner has stopped, and that does not run until its owner consents.
const TAHeld = "held"

// TAStatus is the state of one TA.
type TAStatus struct {
	ID       suit.ComponentID `cbor:"1,keyasint" json:"id"`
	State    string           `cbor:"2,keyasint" json:"state"` // "starting", "running", "ready" (stdio), "backing-off", "failed", "stopped", "waiting" (for its UA's request), TAHeld
	Restarts uint64           `cbor:"3,keyasint" json:"restarts"`
	LastExit string           `cbor:"4,keyasint,omitempty" json:"lastExit,omitempty"`
}
