// SPDX-License-Identifier: Apache-2.0

package hw

// Op is what an Agent asks its platform for.
type Op uint

// Operations.
const (
	OpInfo       Op = 1
	OpEvidence   Op = 2
	OpSealingKey Op = 3
	OpCounter    Op = 4
	OpIncrement  Op = 5
	OpExtend     Op = 6
)

// Request is one packet from the Agent.
type Request struct {
	ID      uint64 `cbor:"1,keyasint"` // chosen by the Agent, not 0; the answer carries it again
	Op      Op     `cbor:"2,keyasint"`
	Binding []byte `cbor:"3,keyasint,omitempty"` // OpEvidence: 64 bytes
	Label   string `cbor:"4,keyasint,omitempty"` // OpSealingKey: 1 to MaxLabel bytes
	Expect  uint64 `cbor:"5,keyasint,omitempty"` // OpIncrement
	Event   []byte `cbor:"6,keyasint,omitempty"` // OpExtend: 48 bytes
}

// Code says why a request was refused.
type Code uint

// Codes.
const (
	CodeOK      Code = 0
	CodeRefused Code = 1 // ErrRefused
	CodeCounter Code = 2 // ErrCounter
)

// Answer is one packet from the platform: the answer to the request with the same ID, or, with ID 0, news: the one file that
// comes with the packet is a new byte channel to the Broker.
type Answer struct {
	ID      uint64     `cbor:"1,keyasint"`
	Code    Code       `cbor:"2,keyasint,omitempty"`
	Text    string     `cbor:"3,keyasint,omitempty"`
	Info    *WireInfo  `cbor:"4,keyasint,omitempty"`
	Token   *WireToken `cbor:"5,keyasint,omitempty"`
	Key     []byte     `cbor:"6,keyasint,omitempty"` // OpSealingKey: 32 bytes
	Counter uint64     `cbor:"7,keyasint,omitempty"` // OpCounter, OpIncrement
}

// WireInfo is Info on the wire.
type WireInfo struct {
	Hardware     string   `cbor:"1,keyasint"`
	Instance     string   `cbor:"2,keyasint"`
	UEID         [33]byte `cbor:"3,keyasint"`
	Config       []byte   `cbor:"4,keyasint"`
	ConfigDigest [32]byte `cbor:"5,keyasint"`
	AgentDigest  [32]byte `cbor:"6,keyasint"`
	ScratchBytes uint64   `cbor:"7,keyasint"`
	Processes    uint64   `cbor:"8,keyasint"`
	Register     string   `cbor:"9,keyasint,omitempty"`
}

// WireToken is Evidence on the wire.
type WireToken struct {
	Token     []byte   `cbor:"1,keyasint"`
	MediaType string   `cbor:"2,keyasint"`
	Chain     [][]byte `cbor:"3,keyasint"`
}
