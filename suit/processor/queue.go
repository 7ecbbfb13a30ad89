// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"errors"
	"io"
)

// queue carries a stream from the goroutine that fetches it to the one that decrypts it, in pieces that change hands: nothing is
// copied. One end calls fill, the other reads.
type queue struct {
	full  chan []byte // closed at the end of the stream
	empty chan *[pieceBytes]byte
	gone  chan struct{} // closed when nobody reads any more
	err   error         // why the stream has ended, once full is closed; nil: at its end
	why   error         // why nobody reads, once gone is closed
	last  []byte        // the piece that the reader has
	rest  []byte        // of it, for Read
}

// queueLength is how many pieces there are: one is filled, one is read, and the others keep both ends busy while the other one waits.
const queueLength = 8

func newQueue() *queue {
	q := &queue{full: make(chan []byte, queueLength), empty: make(chan *[pieceBytes]byte, queueLength), gone: make(chan struct{})}
	for range queueLength {
		q.empty <- pieces.Get().(*[pieceBytes]byte)
	}
	return q
}

// errGone stands for a reader that went without an error before the end.
var errGone = errors.New("the stream was not read to its end")

// fill passes src on until it ends, and every piece to also. It returns the error of either, or the reader's.
func (q *queue) fill(src io.Reader, also io.Writer) (err error) {
	defer func() {
		q.err = err
		close(q.full)
	}()
	for {
		var piece *[pieceBytes]byte
		select {
		case piece = <-q.empty:
		case <-q.gone:
			if q.why != nil {
				return q.why
			}
			return errGone
		}
		n, err := fillPiece(src, piece)
		if n > 0 {
			q.full <- piece[:n] // there is always room
			if _, err := also.Write(piece[:n]); err != nil {
				return err
			}
		}
		if err == io.EOF {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// fillPiece reads until the piece is full or src ends. Unlike io.ReadFull it passes on every error of src as it is.
func fillPiece(src io.Reader, piece *[pieceBytes]byte) (n int, err error) {
	for n < len(piece) && err == nil {
		var m int
		m, err = src.Read(piece[n:])
		n += m
	}
	return n, err
}

// Next implements cose.Pieces.
func (q *queue) Next() ([]byte, error) {
	if q.last != nil {
		q.empty <- (*[pieceBytes]byte)(q.last[:pieceBytes])
		q.last = nil
	}
	piece, ok := <-q.full
	switch {
	case ok:
		q.last = piece
		return piece, nil
	case q.err != nil:
		return nil, q.err
	}
	return nil, io.EOF
}

// Read implements io.Reader.
func (q *queue) Read(p []byte) (int, error) {
	if len(q.rest) == 0 {
		var err error
		if q.rest, err = q.Next(); err != nil {
			return 0, err
		}
	}
	n := copy(p, q.rest)
	q.rest = q.rest[n:]
	return n, nil
}

// stop says that nobody reads any more, and why if it is not the end.
func (q *queue) stop(err error) {
	q.why = err
	close(q.gone)
}

// free keeps the pieces for the next stream. Both ends have to be done.
func (q *queue) free() {
	if q.last != nil {
		pieces.Put((*[pieceBytes]byte)(q.last[:pieceBytes]))
	}
	for piece := range q.full {
		pieces.Put((*[pieceBytes]byte)(piece[:pieceBytes]))
	}
	close(q.empty)
	for piece := range q.empty {
		pieces.Put(piece)
	}
}
