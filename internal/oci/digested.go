// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"crypto/sha256"
	"io"
)

// digested passes a payload on, in pieces, and hashes it beside what its reader does with it: unpacking hashes each layer by itself, and
// the two digests of a large image take as long as everything else.
type digested struct {
	r      io.Reader
	now    []byte      // what Read has not passed on
	used   []byte      // the piece that now is in
	free   chan []byte // pieces that were hashed
	hashed chan []byte // pieces to be hashed
	sum    chan [sha256.Size]byte
	err    error // of r, behind the last piece
	ended  bool
}

const (
	digestedPiece  = 256 << 10
	digestedPieces = 3
)

// newDigested begins. end has to be called, once or more often.
func newDigested(r io.Reader) *digested {
	d := &digested{r: r, free: make(chan []byte, digestedPieces), hashed: make(chan []byte, digestedPieces), sum: make(chan [sha256.Size]byte, 1)}
	for range digestedPieces {
		d.free <- make([]byte, digestedPiece)
	}
	go func() {
		h := sha256.New()
		for piece := range d.hashed {
			h.Write(piece)
			d.free <- piece[:digestedPiece]
		}
		d.sum <- [sha256.Size]byte(h.Sum(nil))
	}()
	return d
}

// Read implements io.Reader.
func (d *digested) Read(p []byte) (int, error) {
	for len(d.now) == 0 {
		if d.used != nil {
			d.hashed <- d.used
			d.used = nil
		}
		if d.err != nil {
			return 0, d.err
		}
		piece, n := <-d.free, 0
		n, d.err = d.r.Read(piece)
		d.used, d.now = piece[:n], piece[:n]
	}
	n := copy(p, d.now)
	d.now = d.now[n:]
	return n, nil
}

// end returns the digest of what was read. After it nothing may be read any more.
func (d *digested) end() (sum [sha256.Size]byte) {
	if d.ended {
		return sum
	}
	d.ended = true
	if d.used != nil {
		d.hashed <- d.used
	}
	close(d.hashed)
	return <-d.sum
}
