// SPDX-License-Identifier: Apache-2.0

// Package answer frames what a TA answers to a call, so that the end of the answer says how the TA ended.
//
// Inside TLS 1.3 the end of the byte stream is authentic (close_notify, RFC 8446 section 6.1), and says nothing about the program
// that wrote it: one that was killed in the middle closes its connection like one that has said everything. A caller that
// offers the application protocol [ALPN] (RFC 7301) therefore gets the answer as chunks, each a 4-byte big-endian length and
// that many bytes; an empty chunk, and after it five bytes, the [End]: one of its kind, four of its code, big-endian. What the
// caller sends is not framed. Callers that offer [Plain] alone get the bare bytes.
package answer

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"syscall"
)

// The application protocols of a TA's endpoint.
const (
	ALPN  = "sealift/2"
	Plain = "sealift/1"
)

// ErrMalformed means that the bytes are no framed answer.
var ErrMalformed = errors.New("answer: malformed")

// Kind is how an answer ended.
type Kind byte

// The kinds. Their numbers are on the wire.
const (
	Whole     Kind = iota // the answer is whole, and the TA ended well or goes on
	Exited                // the answer is what the TA said; then its process ended with the exit status Code
	Signaled              // the process was killed by the signal Code
	Memory                // it was killed at its memory limit
	TimedOut              // it took too long
	Stopped               // the TA is being stopped, removed or replaced
	Gone                  // its process ended, nobody knows how
	Unstarted             // it could not be started, or does not serve
	kinds
)

var names = [kinds]string{"whole", "exited", "signaled", "memory", "timed-out", "stopped", "gone", "unstarted"}

// MarshalText returns the kind's name.
func (k Kind) MarshalText() ([]byte, error) { return []byte(names[min(k, kinds-1)]), nil }

// maxChunk bounds a chunk. A sender's, with its length, fills whole records of TLS (RFC 8446 section 5.1).
const (
	maxChunk  = 64 << 10
	sendBytes = 4 * (16 << 10)
)

// End is how an answer ended.
type End struct {
	Kind Kind   `json:"kind"`
	Code uint32 `json:"code,omitempty"` // of Exited and Signaled, else 0
}

// String says it in words.
func (e End) String() string {
	switch e.Kind {
	case Whole:
		return "the answer is whole"
	case Exited:
		return fmt.Sprintf("the TA ended with exit code %d", e.Code)
	case Signaled:
		return fmt.Sprintf("the TA was killed by signal %d (%s) before its answer was whole", e.Code, syscall.Signal(e.Code))
	case Memory:
		return "the TA was killed at its memory limit before its answer was whole"
	case TimedOut:
		return "the TA took too long, and its answer is not whole"
	case Stopped:
		return "the TA was stopped before its answer was whole"
	case Unstarted:
		return "the TA could not be started for this call"
	default:
		return "the TA ended before its answer was whole"
	}
}

// valid reports whether e can be on the wire.
func (e End) valid() bool {
	coded := e.Kind == Exited || e.Kind == Signaled
	return e.Kind < kinds && coded == (e.Code != 0)
}

// Writer frames an answer. End is its last call.
type Writer struct {
	w     io.Writer
	ended bool
}

// NewWriter returns a Writer to w.
func NewWriter(w io.Writer) *Writer { return &Writer{w: w} }

// Write sends p.
func (w *Writer) Write(p []byte) (n int, err error) {
	buf := make([]byte, min(4+len(p), sendBytes))
	for len(p) > 0 {
		c := copy(buf[4:], p)
		if err := w.chunk(buf[:4+c]); err != nil {
			return n, err
		}
		n, p = n+c, p[c:]
	}
	return n, nil
}

// ReadFrom implements io.ReaderFrom: one chunk for each read.
func (w *Writer) ReadFrom(r io.Reader) (n int64, err error) {
	buf := make([]byte, sendBytes)
	for {
		c, err := r.Read(buf[4:])
		if c > 0 {
			if err := w.chunk(buf[:4+c]); err != nil {
				return n, err
			}
			n += int64(c)
		}
		if errors.Is(err, io.EOF) {
			return n, nil
		}
		if err != nil {
			return n, err
		}
	}
}

// chunk sends b, of which the first four bytes are the length's.
func (w *Writer) chunk(b []byte) error {
	if w.ended {
		return io.ErrClosedPipe
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	_, err := w.w.Write(b)
	return err
}

// End ends the answer. Only the first call counts.
func (w *Writer) End(e End) error {
	if w.ended {
		return nil
	}
	w.ended = true
	var b [9]byte
	b[4] = byte(e.Kind)
	binary.BigEndian.PutUint32(b[5:], e.Code)
	_, err := w.w.Write(b[:])
	return err
}

// Reader reads a framed answer: its bytes, and io.EOF where the End is. An answer without one ends with io.ErrUnexpectedEOF.
type Reader struct {
	r    io.Reader
	left uint32 // of the chunk
	end  *End
}

// NewReader returns a Reader of what r has.
func NewReader(r io.Reader) *Reader { return &Reader{r: r} }

// End is how the answer ended; nil before Read has returned io.EOF.
func (r *Reader) End() *End { return r.end }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.end != nil {
		return 0, io.EOF
	}
	if len(p) == 0 {
		return 0, nil
	}
	if r.left == 0 {
		if err := r.next(); err != nil {
			return 0, err
		}
	}
	n, err := r.r.Read(p[:min(uint64(len(p)), uint64(r.left))])
	r.left -= uint32(n)
	if n > 0 {
		return n, nil // an error comes again
	}
	return n, cut(err)
}

// next reads the head of a chunk, or the end.
func (r *Reader) next() error {
	var head [5]byte
	if _, err := io.ReadFull(r.r, head[:4]); err != nil {
		return cut(err)
	}
	if r.left = binary.BigEndian.Uint32(head[:]); r.left > maxChunk {
		return fmt.Errorf("%w: a chunk of %d bytes", ErrMalformed, r.left)
	}
	if r.left > 0 {
		return nil
	}
	if _, err := io.ReadFull(r.r, head[:]); err != nil {
		return cut(err)
	}
	e := End{Kind(head[0]), binary.BigEndian.Uint32(head[1:])}
	if !e.valid() {
		return fmt.Errorf("%w: an end of kind %d, code %d", ErrMalformed, e.Kind, e.Code)
	}
	r.end = &e
	return io.EOF
}

// cut is the error of a stream that ends where it must not.
func cut(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}
