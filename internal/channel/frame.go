// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"sealift/cose"
	"sealift/suit"
)

// chunkSize is the largest frame of a body.
const chunkSize = 256 << 10

// request is the first frame of each stream.
type request struct {
	Kind  string           `cbor:"0,keyasint"`
	URI   string           `cbor:"1,keyasint,omitempty"` // of a TAM or a payload
	ID    suit.ComponentID `cbor:"2,keyasint,omitempty"`
	Data  []byte           `cbor:"3,keyasint,omitempty"` // a TEEP message, or start parameters
	Text  string           `cbor:"4,keyasint,omitempty"` // a reason
	Limit int64            `cbor:"5,keyasint,omitempty"`
	App   string           `cbor:"6,keyasint,omitempty"`
	TA    string           `cbor:"7,keyasint,omitempty"`
}

// The kinds of request.
const (
	kindMessage   = "message"
	kindError     = "error"
	kindRequest   = "request"
	kindUnrequest = "unrequest"
	kindPolicy    = "policy"
	kindConnect   = "connect"
	kindStatus    = "status"

	kindFetch   = "fetch"
	kindInstall = "ree-install"
	kindRemove  = "ree-remove"
	kindStart   = "ree-start"
	kindStop    = "ree-stop"
)

// reply is the answer to a request; Code is the name of one of this package's errors.
type reply struct {
	Code    string   `cbor:"0,keyasint,omitempty"`
	Text    string   `cbor:"1,keyasint,omitempty"`
	Data    []byte   `cbor:"2,keyasint,omitempty"`
	Session *Session `cbor:"3,keyasint,omitempty"`
	Status  *Status  `cbor:"4,keyasint,omitempty"`
}

// codes names the errors that keep their identity.
var codes = map[string]error{
	"not-found": ErrNotFound, "not-ready": ErrNotReady, "refused": ErrRefused, "no-space": ErrNoSpace, "busy": ErrBusy,
	"too-large": ErrTooLarge, "exec": ErrExec, "malformed": ErrMalformed,
}

// failure is the reply that reports err.
func failure(err error) reply {
	r := reply{Code: "error", Text: truncate(err.Error(), 1024)}
	for code, sentinel := range codes {
		if errors.Is(err, sentinel) {
			r.Code = code
		}
	}
	return r
}

// err returns what r reports: nil, or an error that wraps ErrRemote and the sentinel of its code.
func (r reply) err() error {
	if r.Code == "" {
		return nil
	}
	if sentinel, ok := codes[r.Code]; ok {
		return fmt.Errorf("%w %w: %s", ErrRemote, sentinel, r.Text)
	}
	return fmt.Errorf("%w: %s", ErrRemote, r.Text)
}

func truncate(s string, n int) string {
	if len(s) > n {
		return s[:n]
	}
	return s
}

// writeFrame writes one frame; empty data are the frame that ends a body.
func writeFrame(w io.Writer, data []byte) error {
	buf := make([]byte, 4+len(data))
	binary.BigEndian.PutUint32(buf, uint32(len(data)))
	copy(buf[4:], data)
	_, err := w.Write(buf)
	return err
}

// readFrame reads one frame of at most limit bytes. It never reads past the frame, since raw bytes may follow.
func readFrame(r io.Reader, limit int) ([]byte, error) {
	var head [4]byte
	if _, err := io.ReadFull(r, head[:]); err != nil {
		return nil, err
	}
	n := binary.BigEndian.Uint32(head[:])
	if int64(n) > int64(limit) {
		return nil, fmt.Errorf("%w: a frame of %d bytes, more than %d", ErrTooLarge, n, limit)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(r, data); err != nil {
		return nil, unexpected(err)
	}
	return data, nil
}

func writeValue(w io.Writer, v any) error {
	data, err := cose.Marshal(v)
	if err != nil {
		return fmt.Errorf("channel: encode: %w", err)
	}
	if len(data) > MaxMessage {
		return fmt.Errorf("%w: a message of %d bytes", ErrTooLarge, len(data))
	}
	return writeFrame(w, data)
}

func readValue(r io.Reader, v any) error {
	data, err := readFrame(r, MaxMessage)
	if err != nil {
		return err
	}
	if err := cose.Unmarshal(data, v); err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return nil
}

// unexpected turns an end of the stream in the middle of something into an error that is not io.EOF.
func unexpected(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// bodyWriter writes a body; end marks it as whole. It keeps its buffer, since a body may have gigabytes.
type bodyWriter struct {
	w   io.Writer
	buf []byte // a frame
}

func newBodyWriter(w io.Writer) *bodyWriter { return &bodyWriter{w: w, buf: make([]byte, 4+chunkSize)} }

// Write implements io.Writer.
func (b *bodyWriter) Write(p []byte) (int, error) {
	total := 0
	for len(p) > 0 {
		n := copy(b.buf[4:], p)
		if err := b.frame(n); err != nil {
			return total, err
		}
		total += n
		p = p[n:]
	}
	return total, nil
}

// ReadFrom implements io.ReaderFrom: what r delivers goes out without another copy.
func (b *bodyWriter) ReadFrom(r io.Reader) (total int64, err error) {
	for {
		n, err := r.Read(b.buf[4:])
		if n > 0 {
			if werr := b.frame(n); werr != nil {
				return total, werr
			}
			total += int64(n)
		}
		if err == io.EOF {
			return total, nil
		}
		if err != nil {
			return total, err
		}
	}
}

// frame sends the first n bytes behind the head of the buffer.
func (b *bodyWriter) frame(n int) error {
	binary.BigEndian.PutUint32(b.buf, uint32(n))
	_, err := b.w.Write(b.buf[:4+n])
	return err
}

func (b *bodyWriter) end() error { return b.frame(0) }

// bodyReader reads a body up to its end mark. A stream that ends before is io.ErrUnexpectedEOF.
type bodyReader struct {
	r    io.Reader
	left int // of the present frame
	done bool
}

func (b *bodyReader) Read(p []byte) (int, error) {
	for b.left == 0 {
		if b.done {
			return 0, io.EOF
		}
		var head [4]byte
		if _, err := io.ReadFull(b.r, head[:]); err != nil {
			return 0, unexpected(err)
		}
		n := binary.BigEndian.Uint32(head[:])
		if n > chunkSize {
			return 0, fmt.Errorf("%w: a frame of %d bytes, more than %d", ErrTooLarge, n, chunkSize)
		}
		b.left, b.done = int(n), n == 0
	}
	n, err := b.r.Read(p[:min(len(p), b.left)])
	b.left -= n
	return n, unexpected(err)
}
