// SPDX-License-Identifier: Apache-2.0

// Package hw is the hardware interface of a TEE as the TEEP Agent in it sees it: Evidence, sealing keys, a monotonic counter,
// the measured configuration, and the byte channels to the TEEP Broker.
//
// The Agent is started with one end of a socket pair as file descriptor FD; the other end is held by the platform (the
// emulator) alone. Whoever holds the descriptor is the instance: there is no name, no token and no address that anybody else
// could use, so a token request for this instance's measurement can come from this instance only.
//
// On the wire each request and each answer is one packet (package packet) with one CBOR map; see protocol.go. The platform
// answers requests in order. A new channel to the Broker arrives as a packet of its own with the socket attached
// (SCM_RIGHTS, unix(7)).
//
// In a virtual machine the same requests and answers travel over one virtio-serial port, and the channels over another
// (package serial); whoever is the guest's kernel holds them. See OpenSerial.
package hw

import (
	"context"
	"errors"
	"net"
)

// FD is the descriptor on which an Agent finds its hardware.
const FD = 3

// Errors of a TEE.
var (
	// ErrGone means that the platform closed the interface. An Agent without hardware can do nothing but exit.
	ErrGone = errors.New("hw: the hardware interface is gone")
	// ErrCounter means that the counter did not have the expected value: something else than this Agent's present state has
	// moved it.
	ErrCounter = errors.New("hw: the counter has another value than expected")
	// ErrRefused means that the platform refused a request; the text says why.
	ErrRefused = errors.New("hw: the platform refused the request")
)

// MaxLabel bounds the label of a sealing key.
const MaxLabel = 64

// Info is what the hardware says about this instance.
type Info struct {
	// Hardware is the name as it stands in the binding of Evidence: "emu:trustzone" (docs/architecture.md section 4).
	Hardware string
	// Instance is the name under which the operator launched this instance. It is not measured.
	Instance string
	// UEID identifies the device (RFC 9711 section 4.2.1): a type byte 0x01 (RAND) and 32 bytes.
	UEID [33]byte
	// Config is the measured configuration, exactly the bytes that went into the measurement.
	Config []byte
	// ConfigDigest and AgentDigest are the SHA-256 digests that the Evidence carries.
	ConfigDigest, AgentDigest [32]byte
	// Register names the register that Recorder.Extend extends, as Evidence calls it; empty where the architecture has none.
	Register string
	// ScratchBytes is the size of the writable files in TEE memory; Processes bounds processes and threads.
	ScratchBytes, Processes uint64
}

// Evidence is a token signed by the hardware, with what is needed to verify it.
type Evidence struct {
	// Token is the signed token; its nonce is the 64-byte binding that was asked for.
	Token []byte
	// MediaType says what the token is, parameters included.
	MediaType string
	// Chain is the collateral: DER certificates, the leaf first, up to the vendor's root; or what else belongs to it.
	Chain [][]byte
}

// Recorder is a TEE with a register that begins with zeros at each start, can only be extended, and stands in Evidence.
type Recorder interface {
	// Extend makes the register the hash of what it was and the event (evidence.Extend). It fails with ErrRefused where Info
	// names no register.
	Extend(event [48]byte) error
}

// Quoter is the TPM of a TEE that has one.
type Quoter interface {
	// QuoteKey is the name of its attestation key (package tpm), which does not change while the instance runs.
	QuoteKey() []byte
	// Quote returns a quote by that key for the binding of Evidence: tpm.Quote, marshalled.
	Quote(binding [64]byte) ([]byte, error)
}

// TEE is the hardware that an Agent runs in. All methods are safe for concurrent use.
type TEE interface {
	// Info returns what the hardware says about this instance. It does not change while the instance runs.
	Info() (Info, error)
	// Evidence returns a token over b (see evidence.Binding) and this instance's measurements.
	Evidence(ctx context.Context, b [64]byte) (Evidence, error)
	// SealingKey derives a key from the device's secret, the instance's salt, the measurements of the Agent and of the
	// configuration, and the label. The same instance launched again from the same bytes gets the same key; nothing else does.
	SealingKey(label string) ([32]byte, error)
	// Counter returns the instance's monotonic counter. It starts at 0.
	Counter() (uint64, error)
	// Increment raises the counter from expect to expect+1 and returns the new value once that is on stable storage. If the
	// counter is not at expect it changes nothing and fails with ErrCounter.
	Increment(expect uint64) (uint64, error)
	// Channels delivers the byte channels to the Broker. A new one supersedes the one before, which is closed by then. The
	// channel is closed when the platform is gone.
	Channels() <-chan net.Conn
	// Close gives the interface up.
	Close() error
}
