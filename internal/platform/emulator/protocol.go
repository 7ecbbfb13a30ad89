// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"errors"
	"fmt"

	"sealift/internal/platform"
)

// op is what the Broker asks for. There is one request per connection: one packet there, one packet back (package packet).
type op uint

const (
	opInfo    op = 1
	opLaunch  op = 2 // with the image as the first file, and a guest payload, where there is one, as the second
	opAttach  op = 3 // the answer has the channel as the one file
	opDestroy op = 4
	opList    op = 5
	opStop    op = 6
)

type request struct {
	Op     op         `cbor:"1,keyasint"`
	ID     string     `cbor:"2,keyasint,omitempty"`
	Config []byte     `cbor:"3,keyasint,omitempty"`
	Limits wireLimits `cbor:"4,keyasint,omitempty"`
}

type wireLimits struct {
	MemoryBytes  uint64 `cbor:"1,keyasint,omitempty"`
	Processes    uint64 `cbor:"2,keyasint,omitempty"`
	OpenFiles    uint64 `cbor:"3,keyasint,omitempty"`
	ScratchBytes uint64 `cbor:"4,keyasint,omitempty"`
}

type answer struct {
	Code      code           `cbor:"1,keyasint,omitempty"`
	Text      string         `cbor:"2,keyasint,omitempty"`
	Info      *wireInfo      `cbor:"3,keyasint,omitempty"`
	Instances []wireInstance `cbor:"4,keyasint,omitempty"`
}

type wireInfo struct {
	Hardware      string            `cbor:"1,keyasint"`
	InstanceTypes []string          `cbor:"2,keyasint"`
	Capacity      int               `cbor:"3,keyasint"`
	Root          [32]byte          `cbor:"4,keyasint"`
	Lacks         map[string]string `cbor:"5,keyasint,omitempty"`
}

type wireInstance struct {
	ID      string   `cbor:"1,keyasint"`
	Running bool     `cbor:"2,keyasint"`
	Agent   [32]byte `cbor:"3,keyasint"`
	Config  [32]byte `cbor:"4,keyasint"`
	Exit    string   `cbor:"5,keyasint,omitempty"`
}

// code carries one of package platform's errors over the socket.
type code uint

const codeInternal code = 1

var codes = map[code]error{
	2: platform.ErrInvalid,
	3: platform.ErrConflict,
	4: platform.ErrNoInstance,
	5: platform.ErrNotRunning,
	6: platform.ErrCapacity,
	7: platform.ErrUnsupported,
}

// refuse turns an error into an answer.
func refuse(err error) answer {
	a := answer{Code: codeInternal, Text: err.Error()}
	for c, known := range codes {
		if errors.Is(err, known) {
			a.Code = c
		}
	}
	a.Text = a.Text[:min(len(a.Text), 1024)]
	return a
}

// remoteError is an error of the emulator as its client sees it: its text, and what it is.
type remoteError struct {
	text string
	kind error
}

func (e *remoteError) Error() string { return e.text }
func (e *remoteError) Unwrap() error { return e.kind }

func (a answer) err() error {
	switch kind, ok := codes[a.Code]; {
	case a.Code == 0:
		return nil
	case ok:
		return &remoteError{text: a.Text, kind: kind}
	}
	return fmt.Errorf("emulator: %s", a.Text)
}
