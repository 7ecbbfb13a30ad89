// SPDX-License-Identifier: Apache-2.0

package vault

// A large blob is sealed and written by a goroutine of its own, so that the caller can fetch, decrypt and hash the next bytes
// meanwhile. What waits in between is bounded: batches of batchSize, batches of them. A blob of less than a batch needs no goroutine.

const (
	batchSize = 4 * chunkSize
	batches   = 4
	// pieceSize is what is written of a large blob at one time, past the page cache: a multiple of directio.Align.
	pieceSize = 1 << 20
	// flushSize is how much is written before the disk is asked to begin: without that, the sync at the end waits for everything that went through the page cache.
	flushSize = 16 << 20
)

// flusher is a File that can be asked to begin with writing to the disk what it holds.
type flusher interface {
	StartSync(offset, size int64)
}

// pipe is the way from a Writer to its goroutine.
type pipe struct {
	full  chan []byte // to be sealed
	empty chan []byte // to be filled again
	done  chan error  // the first error, or nil, once full is closed and drained
}

// start begins to seal in the background. Whatever is sent is sealed in order; after an error the rest is dropped.
func (w *Writer) start() {
	p := &pipe{full: make(chan []byte, batches), empty: make(chan []byte, batches), done: make(chan error, 1)}
	for range batches - 1 { // the Writer has one already
		p.empty <- make([]byte, 0, batchSize)
	}
	w.pipe = p
	go func() {
		var err error
		for batch := range p.full {
			if err == nil {
				if err = w.seal(batch, false); err != nil {
					w.failed.Store(true)
				}
			}
			p.empty <- batch[:0]
		}
		p.done <- err
	}()
}

// wait ends the goroutine, if there is one, and returns its error.
func (w *Writer) wait() error {
	if w.pipe == nil {
		return nil
	}
	close(w.pipe.full)
	err := <-w.pipe.done
	w.pipe = nil
	return err
}
