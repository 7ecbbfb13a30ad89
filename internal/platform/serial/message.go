// SPDX-License-Identifier: Apache-2.0

// Package serial is what passes between a confidential virtual machine and the machine around it: three virtio-serial ports
// (virtio 1.2 section 5.3), each a plain byte stream, and no network.
//
//	sealift.hw       the hardware interface (package hw): messages, each 4 bytes of length, big-endian, and that many bytes
//	                 of CBOR. No bytes at all are a sign of life.
//	sealift.channel  the byte channel to the TEEP Broker, see Line
//	sealift.store    the instance's folder in the REE, see Folder
//
// A port has one stream for as long as the guest runs, while a Broker may come and go: so the channel has numbers in it. A
// real disk with a file system would need drivers and checks in the guest for bytes that it does not trust anyway: what lies
// in the folder is sealed by package vault, which needs files that can be renamed and synced, and no more.
//
// Both ends bound what they read. What is no message ends the port, and with it the instance.
package serial

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"sealift/cose"
)

// Names of the ports.
const (
	PortHW      = "sealift.hw"
	PortChannel = "sealift.channel"
	PortStore   = "sealift.store"
)

// MaxMessage bounds one message.
const MaxMessage = 1 << 20

// ErrMalformed means that the other end sent something that is no message.
var ErrMalformed = errors.New("serial: malformed message")

// Messages is a port that carries messages. Sending is safe for concurrent use, receiving is for one goroutine.
type Messages struct {
	port io.ReadWriteCloser
	send sync.Mutex
}

// NewMessages takes a port over.
func NewMessages(port io.ReadWriteCloser) *Messages { return &Messages{port: port} }

// Send sends v in deterministic CBOR.
func (m *Messages) Send(v any) error {
	data, err := cose.Marshal(v)
	if err != nil {
		return fmt.Errorf("serial: %w", err)
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("serial: a message of %d bytes is too large", len(data))
	}
	return m.write(data)
}

// Alive sends a sign of life.
func (m *Messages) Alive() error { return m.write(nil) }

func (m *Messages) write(data []byte) error {
	frame := make([]byte, 4, 4+len(data))
	binary.BigEndian.PutUint32(frame, uint32(len(data)))
	m.send.Lock()
	defer m.send.Unlock()
	if _, err := m.port.Write(append(frame, data...)); err != nil {
		return fmt.Errorf("serial: sending: %w", err)
	}
	return nil
}

// Receive reads the next message into v; alive is true for a sign of life, which leaves v as it is. The error is io.EOF when
// the other end is gone, and wraps ErrMalformed when what came is no message.
func (m *Messages) Receive(v any) (alive bool, err error) {
	var head [4]byte
	if _, err := io.ReadFull(m.port, head[:]); err != nil {
		return false, ended(err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if n == 0 {
		return true, nil
	}
	if n > MaxMessage {
		return false, fmt.Errorf("%w: %d bytes", ErrMalformed, n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(m.port, data); err != nil {
		return false, ended(err)
	}
	if err := cose.Unmarshal(data, v); err != nil {
		return false, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return false, nil
}

// Close closes the port.
func (m *Messages) Close() error { return m.port.Close() }

func ended(err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return io.EOF
	}
	return err
}
