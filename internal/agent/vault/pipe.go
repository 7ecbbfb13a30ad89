// SPDX-License-Identifier: Apache-2.0

package vault

import "sealift/internal/directio"

// A large blob is written by a goroutine of its own, so that the caller can fetch, decrypt, hash and seal the next bytes meanwhile. What
// waits in between is bounded: pieces of pieceSize, pieces of them. A blob of less than a piece needs no goroutine.

const (
	// pieceSize is what is written of a large blob at one time, past the page cache: a multiple of directio.Align.
	pieceSize = 1 << 20
	pieces    = 5
	// flushSize is how much is written before the disk is asked to begin: without that, the sync at the end waits for everything that
	// went through the page cache.
	flushSize = 16 << 20
)

// flusher is a File that can be asked to begin with writing to the disk what it holds.
type flusher interface {
	StartSync(offset, size int64)
}

// newPiece makes room for a piece, and for the chunk that goes beyond it.
func newPiece() []byte { return directio.Buffer(pieceSize + chunkSize + tagSize)[:0] }

// pipe is the way from a Writer to its goroutine.
type pipe struct {
	full   chan []byte // sealed bytes, of which the first pieceSize are to be written
	empty  chan []byte // to be filled again
	failed chan error  // the first error
	done   chan struct{}
}

// start begins to write in the background. Whatever is passed is written in order; after an error the rest is dropped.
func (w *Writer) start() {
	p := &pipe{full: make(chan []byte, pieces), empty: make(chan []byte, pieces), failed: make(chan error, 1), done: make(chan struct{})}
	for range pieces - 1 { // the Writer has one already
		p.empty <- newPiece()
	}
	w.pipe = p
	go func() {
		defer close(p.done)
		failed := false
		for piece := range p.full {
			if !failed {
				if err := w.put(piece[:pieceSize]); err != nil {
					p.failed <- err
					failed = true
				}
			}
			p.empty <- piece
		}
	}()
}

// pass hands on a piece of what is sealed, and keeps the rest.
func (w *Writer) pass() error {
	if w.pipe == nil {
		w.start()
	}
	next, rest := <-w.pipe.empty, w.out[pieceSize:]
	next = append(next[:0], rest...)
	w.pipe.full <- w.out
	w.out = next
	select {
	case err := <-w.pipe.failed:
		return err
	default:
		return nil
	}
}

// wait ends the goroutine, if there is one, and returns its error, unless pass has.
func (w *Writer) wait() error {
	if w.pipe == nil {
		return nil
	}
	close(w.pipe.full)
	<-w.pipe.done
	p := w.pipe
	w.pipe = nil
	select {
	case err := <-p.failed:
		return err
	default:
		return nil
	}
}
