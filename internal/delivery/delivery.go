// SPDX-License-Identifier: Apache-2.0

// Package delivery is the live way of PD into the TEE: delivery "channel". The owner connects through the
// Broker's relay, which sees bytes, to an endpoint of TLS 1.3 (RFC 8446) that ends inside the TEE: at the TA's own key where PD is a
// package of its own, at the Agent's where PD shares a package. Nothing that crosses it is stored outside the TEE.
//
// Who is who:
//   - the server proves the key that stands in the Evidence which the owner has appraised; the owner pins it;
//   - the client proves the owner's signing key, which stands in the measured configuration; the Agent pins it;
//   - then the Agent gives Evidence over [Challenge], a value that only the two ends of this very session can compute (RFC 8446
//     section 7.5). The owner appraises it before anything leaves: it is fresh, it is of this session, and it names what is loaded now.
//
// What crosses, in frames of a 4-byte big-endian length and that many bytes of CBOR:
//
//	Agent  {1: Evidence}
//	owner  {1: SUIT envelope}
//	Agent  {2: {1: URI, 2: limit}}   as often as the manifest fetches something
//	owner  {1: size}, then as many raw bytes; a negative size: there is no such payload
//	Agent  {3: {1: code, 2: text}}   the outcome, and close_notify
//
// The Agent asks for a payload when its SUIT processor fetches it: after the manifest was verified, and after the TA that it depends on was
// found. A manifest that is refused, or installed already, draws no payload from the owner.
package delivery

import (
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	"sealift/cose"
)

// Suffix follows the name of the TA in the name that the relay is asked for; without a TA's name it is the Agent. No TA's name has a plus.
const Suffix = "+deliver"

// ALPN is the application protocol of the session.
const ALPN = "sealift-delivery/1"

// Curves are the key agreements of the session: hybrid ones only, so that what is recorded on the way stays closed to a quantum computer.
var Curves = []tls.CurveID{tls.X25519MLKEM768}

// Errors of both ends.
var (
	ErrInterrupted = errors.New("delivery: the connection was cut off")
	ErrMalformed   = errors.New("delivery: malformed message")
	ErrTooLarge    = errors.New("delivery: too large")
	ErrNotOffered  = errors.New("delivery: the owner has no such payload")
)

// Codes of an [Outcome]. Those that name a refusal are the M/OC's codes for the same.
const (
	Installed  = ""
	Refused    = "manifest-refused"
	RolledBack = "rollback-refused"
	Failed     = "agent-error" // not the manifest's fault: it may be tried again
)

// Outcome is the Agent's last word.
type Outcome struct {
	Code string `cbor:"1,keyasint,omitempty"`
	Text string `cbor:"2,keyasint,omitempty"` // why, for people; at most MaxText bytes
}

// MaxText bounds the text of an Outcome.
const MaxText = 1024

// Bounds on frames. An envelope has the bound of the Agent's configuration.
const (
	maxFromTEE   = 2 << 20  // Evidence has at most evidence.MaxBundle
	maxFromOwner = 64       // the size of a payload
	headroom     = 16       // of an offer around its envelope
	chunk        = 64 << 10 // of a payload between two looks at what the Agent says
)

// Times without progress after which a session is given up.
const (
	idle    = time.Minute      // of a transfer
	patient = 10 * time.Minute // of an installation; the relay ends a session that says nothing for longer
	drain   = 10 * time.Second // of what was sent in vain
)

// fromTEE is a message of the Agent: exactly one member is there.
type fromTEE struct {
	Evidence []byte   `cbor:"1,keyasint,omitempty"`
	Want     *want    `cbor:"2,keyasint,omitempty"`
	Outcome  *Outcome `cbor:"3,keyasint,omitempty"`
}

type want struct {
	URI   string `cbor:"1,keyasint"`
	Limit int64  `cbor:"2,keyasint"` // bytes that the Agent reads at most; negative: no bound
}

func (m *fromTEE) check() error {
	n := 0
	for _, there := range []bool{m.Evidence != nil, m.Want != nil, m.Outcome != nil} {
		if there {
			n++
		}
	}
	if n != 1 || m.Outcome != nil && len(m.Outcome.Text) > MaxText {
		return ErrMalformed
	}
	return nil
}

// offer is the owner's first message.
type offer struct {
	Envelope []byte `cbor:"1,keyasint"`
}

// payload goes before the bytes of a payload.
type payload struct {
	Size int64 `cbor:"1,keyasint"`
}

// exporterLabel is that of [Challenge].
const exporterLabel = "EXPORTER-Sealift-Delivery-Challenge"

// Challenge is what the Evidence of a session is over: 64 bytes of exported keying material (RFC 8446 section 7.5). They depend on both
// ends' random values, keys and certificates, so no other session has them.
func Challenge(cs tls.ConnectionState) ([]byte, error) {
	if cs.Version != tls.VersionTLS13 || cs.NegotiatedProtocol != ALPN {
		return nil, fmt.Errorf("%w: not TLS 1.3 with %s", ErrMalformed, ALPN)
	}
	return cs.ExportKeyingMaterial(exporterLabel, nil, 64)
}

func writeMessage(w io.Writer, v any) error {
	data, err := cose.Marshal(v)
	if err != nil {
		return fmt.Errorf("delivery: encode: %w", err)
	}
	_, err = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(data))), data...))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	return nil
}

// readMessage reads one frame of at most limit bytes, and never past it: raw bytes may follow.
func readMessage(r io.Reader, limit int, v any) error {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	n := binary.BigEndian.Uint32(head[:])
	if uint64(n) > uint64(limit) {
		return fmt.Errorf("%w: a message of %d bytes, more than %d", ErrTooLarge, n, limit)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	if err := cose.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}
