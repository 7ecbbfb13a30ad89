// SPDX-License-Identifier: Apache-2.0

package directio

import (
	"io"
	"os"
)

const (
	aheadSize   = 1 << 20
	aheadPieces = 3 // one is used, one is ready, one is read
)

// Reader reads a file from its beginning to its end, ahead of its user: past the page cache nobody else does.
type Reader struct {
	file  *File
	full  chan piece  // nil before the first Read
	empty chan []byte // closed by Close
	now   piece
	rest  []byte // of now
}

// piece is a part of a file, and why no other follows.
type piece struct {
	buf []byte
	n   int
	err error
}

// NewReader takes over f, which is at its beginning. The Reader is for one goroutine; it MUST be closed.
func NewReader(f *os.File) *Reader { return &Reader{file: New(f)} }

// Read implements io.Reader.
func (r *Reader) Read(p []byte) (int, error) {
	if r.full == nil && r.now.err == nil {
		r.start()
	}
	for len(r.rest) == 0 {
		if r.now.err != nil {
			return 0, r.now.err
		}
		if r.now.buf != nil {
			r.empty <- r.now.buf
		}
		r.now = <-r.full
		r.rest = r.now.buf[:r.now.n]
	}
	n := copy(p, r.rest)
	r.rest = r.rest[n:]
	return n, nil
}

func (r *Reader) start() {
	r.full, r.empty = make(chan piece, aheadPieces), make(chan []byte, aheadPieces)
	for range aheadPieces {
		r.empty <- Buffer(aheadSize)
	}
	go func() {
		defer close(r.full)
		for buf := range r.empty {
			n, err := io.ReadFull(r.file, buf)
			if err == io.ErrUnexpectedEOF {
				err = io.EOF
			}
			r.full <- piece{buf, n, err}
			if err != nil {
				return
			}
		}
	}()
}

// Close implements io.Closer.
func (r *Reader) Close() error {
	if r.full != nil {
		close(r.empty)
		for range r.full { // until the goroutine has ended
			continue
		}
		r.full, r.now, r.rest = nil, piece{err: os.ErrClosed}, nil
	}
	return r.file.Close()
}
