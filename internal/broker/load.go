// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"sync"
	"syscall"
	"time"

	"sealift/internal/channel"
	"sealift/internal/directio"
)

// What has arrived last stays in memory for the readers: pieces of pieceSize bytes, which is also what is written at one time.
const (
	pieceSize = 512 << 10
	pieces    = 4
)

// load is one payload that is being read, and perhaps still arrives.
type load struct {
	c      *cache
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	ready  chan struct{} // closed when file, total and kept are set, or err
	file   *os.File      // to read
	total  int64
	kept   bool  // a part of it was on the disk before
	first  int64 // so much of it
	before *load // of the same payload, which has to end first
	ended  chan struct{}

	readers int // guarded by c.mu

	mu      sync.Mutex
	have    int64 // may be read: in memory or in the file
	lead    int64 // where the fastest reader is
	err     error
	spare   *resuming     // a body that is not kept, for the first reader
	changed chan struct{} // closed and replaced when have or err changes
	room    chan struct{} // told when lead grows
	ring    [pieces][]byte
	filling int64 // the number of the piece that is filled now
}

// run brings the payload in, as far as it is not there.
func (l *load) run(from opener, patience time.Duration) {
	defer close(l.ended)
	if l.before != nil {
		<-l.before.ended
	}
	err := l.begin(from, patience)
	if err != nil {
		l.progress(0, err)
	}
	select {
	case <-l.ready:
	default:
		close(l.ready)
	}
}

// begin opens the file and, unless it is whole, fills it.
func (l *load) begin(from opener, patience time.Duration) error {
	if f, size := l.whole(); f != nil {
		l.setTotal(size)
		l.file, l.have, l.first = f, size, size
		close(l.ready)
		l.c.log.Info("a payload is there already", "sha256", l.name, "bytes", size)
		return nil
	}
	part := l.c.path(l.name) + partSuffix
	var have int64
	if st, err := os.Stat(part); err == nil {
		have = st.Size()
	}
	body, err := newResuming(l.ctx, from, have, patience)
	if err != nil {
		return err
	}
	total := body.size()
	if total < minCached || total > l.c.max || have > total {
		_ = os.Remove(part)
		if have == 0 {
			l.mu.Lock()
			l.spare = body
			l.mu.Unlock()
			return errUncached
		}
		return errors.Join(errUncached, body.Close())
	}
	defer body.Close()
	l.setTotal(total)
	l.c.sweep(0)
	out, err := os.OpenFile(part, os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return errUncached
	}
	defer out.Close()
	in, err := os.Open(part)
	if err != nil {
		return errUncached
	}
	l.file, l.have, l.first, l.kept = in, have, have, have > 0
	close(l.ready)
	if l.kept {
		l.c.log.Info("a payload goes on where it was", "sha256", l.name, "kept", have, "bytes", total)
	}
	return l.fill(body, directio.New(out))
}

// whole opens the payload's file if it is there and has the bytes that its name says.
func (l *load) whole() (*os.File, int64) {
	f, err := os.Open(l.c.path(l.name))
	if err != nil {
		return nil, 0
	}
	h := sha256.New()
	size, err := io.CopyBuffer(h, io.MultiReader(f), make([]byte, 256<<10))
	if err == nil && hex.EncodeToString(h.Sum(nil)) == l.name {
		now := time.Now()
		_ = os.Chtimes(f.Name(), now, now) // used
		return f, size
	}
	_ = f.Close()
	_ = os.Remove(l.c.path(l.name))
	return nil, 0
}

func (l *load) setTotal(n int64) {
	l.c.mu.Lock()
	l.total = n
	l.c.mu.Unlock()
}

// fill appends what arrives, piece by piece. What of a piece is in the ring lies there as it lies in the file, so that whole pieces
// are aligned for directio.
func (l *load) fill(body io.Reader, out *directio.File) error {
	have := l.first
	for have < l.total {
		piece, err := l.piece(have)
		if err != nil {
			return err
		}
		n, err := io.ReadFull(body, piece)
		_, werr := out.WriteAt(piece[:n], have)
		have += int64(n)
		if err == nil && have == l.total && werr == nil {
			err = os.Rename(l.c.path(l.name)+partSuffix, l.c.path(l.name))
		}
		l.progress(have, nil) // after it: a reader that finds the whole damaged drops it under its last name
		switch {
		case errors.Is(werr, syscall.ENOSPC) || errors.Is(werr, syscall.EDQUOT):
			_ = os.Remove(l.c.path(l.name) + partSuffix)
			return errUncached
		case werr != nil:
			return werr
		case err == io.EOF:
			return io.ErrUnexpectedEOF
		case err != nil:
			return err
		}
	}
	return nil
}

// piece returns where in memory the bytes from off to the end of their piece go. It waits until the fastest reader has what was there.
func (l *load) piece(off int64) ([]byte, error) {
	number := off / pieceSize
	l.mu.Lock()
	defer l.mu.Unlock()
	for number-pieces >= l.first/pieceSize && l.lead < (number-pieces+1)*pieceSize {
		l.mu.Unlock()
		var err error
		select {
		case <-l.room:
		case <-l.ctx.Done():
			err = l.ctx.Err()
		}
		l.mu.Lock()
		if err != nil {
			return nil, err
		}
	}
	l.filling = number
	slot := &l.ring[number%pieces]
	if *slot == nil {
		*slot = directio.Buffer(pieceSize)
	}
	return (*slot)[off%pieceSize : min(pieceSize, l.total-number*pieceSize)], nil
}

// recent copies to p what is in memory of the payload from off on. It returns 0 and how much is in the file only, where it is not in
// memory. l.mu is held.
func (l *load) recent(p []byte, off int64) (n int, file int64) {
	if begin := max(l.first, (l.filling-pieces+1)*pieceSize); off < begin {
		return 0, begin - off
	}
	n = copy(p, l.ring[off/pieceSize%pieces][off%pieceSize:min(pieceSize, l.have-off/pieceSize*pieceSize)])
	if l.lead < off+int64(n) {
		l.lead = off + int64(n)
		select {
		case l.room <- struct{}{}:
		default:
		}
	}
	return n, 0
}

// progress tells the readers.
func (l *load) progress(have int64, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err != nil {
		l.err = err
	} else {
		l.have = have
	}
	close(l.changed)
	l.changed = make(chan struct{})
}

// leave ends a transfer that nobody follows. What has arrived stays for the next.
func (l *load) leave() {
	l.c.mu.Lock()
	l.readers--
	last := l.readers == 0
	if last {
		delete(l.c.loads, l.name)
		l.c.ending[l.name] = l
	}
	l.c.mu.Unlock()
	if !last {
		return
	}
	l.cancel()
	<-l.ended
	if l.file != nil {
		_ = l.file.Close()
	}
	if l.spare != nil {
		_ = l.spare.Close()
	}
	l.c.mu.Lock()
	if l.c.ending[l.name] == l {
		delete(l.c.ending, l.name)
	}
	l.c.mu.Unlock()
}

// follower reads one payload while it arrives.
type follower struct {
	l    *load
	ctx  context.Context
	off  int64
	hash hash.Hash // of what is read, where a part was on the disk before
	done bool
}

// size is the size of the payload.
func (r *follower) size() int64 { return r.l.total }

// Read implements io.Reader. errUncached says that the disk is full: what follows has to be fetched without the cache.
func (r *follower) Read(p []byte) (int, error) {
	for {
		r.l.mu.Lock()
		have, err, changed := r.l.have, r.l.err, r.l.changed
		var n int
		var file int64
		if r.off < have {
			n, file = r.l.recent(p, r.off)
		}
		r.l.mu.Unlock()
		if file > 0 {
			n, err = r.l.file.ReadAt(p[:min(int64(len(p)), file, have-r.off)], r.off)
			if n == 0 {
				return 0, fmt.Errorf("reading a kept payload: %w", err)
			}
		}
		switch {
		case n > 0:
			r.off += int64(n)
			if r.hash != nil {
				r.hash.Write(p[:n])
			}
			return n, nil
		case r.off == r.l.total:
			return 0, r.end()
		case err != nil:
			return 0, err
		}
		select {
		case <-changed:
		case <-r.ctx.Done():
			return 0, r.ctx.Err()
		}
	}
}

// end judges what came from the disk.
func (r *follower) end() error {
	if r.hash == nil || hex.EncodeToString(r.hash.Sum(nil)) == r.l.name {
		return io.EOF
	}
	_ = os.Remove(r.l.c.path(r.l.name))
	return fmt.Errorf("%w: a kept payload was damaged; it is fetched again the next time", channel.ErrNotReady)
}

// Close implements io.Closer.
func (r *follower) Close() error {
	if !r.done {
		r.done = true
		r.l.leave()
	}
	return nil
}
