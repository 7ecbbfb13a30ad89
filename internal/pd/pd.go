// SPDX-License-Identifier: Apache-2.0

// Package pd holds plaintext personalization data (PD) as a type of its own.
//
// PD may be in the clear on its owner's machine and inside an attested TEE, and nowhere else (docs/architecture.md, principles P1
// and P2). The compiler helps to keep it so: only internal/agent and internal/owner may import this package, which a
// test over the import graph checks, and a Plain neither prints nor encodes its content by accident: fmt, slog, JSON, CBOR
// and text encoders see its name and size or get ErrPlain.
package pd

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
)

// ErrPlain is returned by every encoder that is handed a Plain: plaintext PD is never serialised as a value.
var ErrPlain = errors.New("pd: plaintext personalization data is never encoded")

// Plain is one piece of plaintext PD: a named stream of known length. The zero value is an empty piece without a name.
type Plain struct {
	name string
	size int64
	open func() (io.ReadCloser, error)
}

// FromBytes returns the PD called name whose content is data. The bytes are not copied.
func FromBytes(name string, data []byte) Plain {
	return Plain{name: name, size: int64(len(data)), open: func() (io.ReadCloser, error) {
		return io.NopCloser(bytes.NewReader(data)), nil
	}}
}

// FromFile returns the PD called name that lies in the regular file at path. The file is opened anew by each Open.
func FromFile(name, path string) (Plain, error) {
	st, err := os.Stat(path)
	if err != nil {
		return Plain{}, fmt.Errorf("pd: %w", err)
	}
	if !st.Mode().IsRegular() {
		return Plain{}, fmt.Errorf("pd: %s is not a regular file", path)
	}
	return Plain{name: name, size: st.Size(), open: func() (io.ReadCloser, error) { return os.Open(path) }}, nil
}

// FromOpener returns the PD called name with size bytes that open reads. open may be called more than once.
func FromOpener(name string, size int64, open func() (io.ReadCloser, error)) Plain {
	return Plain{name: name, size: size, open: open}
}

// Name returns the file name under which the TA sees the data.
func (p Plain) Name() string { return p.name }

// Size returns the length in bytes.
func (p Plain) Size() int64 { return p.size }

// Open returns a reader of the content, which the caller closes. A reader that yields another number of bytes than Size says
// ends in an error.
func (p Plain) Open() (io.ReadCloser, error) {
	if p.open == nil {
		return io.NopCloser(bytes.NewReader(nil)), nil
	}
	r, err := p.open()
	if err != nil {
		return nil, fmt.Errorf("pd: open %q: %w", p.name, err)
	}
	return &sized{r: r, name: p.name, left: p.size}, nil
}

// String describes p without its content.
func (p Plain) String() string { return fmt.Sprintf("pd(%q, %d bytes)", p.name, p.size) }

// GoString describes p without its content.
func (p Plain) GoString() string { return p.String() }

// LogValue keeps the content out of logs.
func (p Plain) LogValue() slog.Value { return slog.StringValue(p.String()) }

// MarshalJSON refuses with ErrPlain.
func (p Plain) MarshalJSON() ([]byte, error) { return nil, ErrPlain }

// MarshalText refuses with ErrPlain.
func (p Plain) MarshalText() ([]byte, error) { return nil, ErrPlain }

// MarshalBinary refuses with ErrPlain.
func (p Plain) MarshalBinary() ([]byte, error) { return nil, ErrPlain }

// MarshalCBOR refuses with ErrPlain.
func (p Plain) MarshalCBOR() ([]byte, error) { return nil, ErrPlain }

// sized reads exactly left bytes from r: a file that grew or shrank since it was measured is not passed on as if whole.
type sized struct {
	r    io.ReadCloser
	name string
	left int64
}

func (s *sized) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	s.left -= int64(n)
	if s.left < 0 || (err == io.EOF && s.left > 0) {
		return 0, fmt.Errorf("pd: %q changed its size while it was read", s.name)
	}
	return n, err
}

func (s *sized) Close() error { return s.r.Close() }
