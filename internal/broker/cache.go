// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"sealift/internal/channel"
)

// The cache keeps large payloads that are named by their digest (RFC 6920), so that one is not moved again: not after the Broker, the
// Agent or the M/OC was gone in the middle, and not for the next deployment that has the same. What is in it is what the M/OC has too:
// programs in the clear, and ciphertext. A ciphertext is for one Agent and of no use to the next; a program in the clear is.
//
// A payload arrives in HEX.part and is renamed when it is whole. Whoever reads follows the file while it grows; several readers of
// one payload share one transfer. The Agent judges every byte, so nothing is hashed here the first time. A file that was whole before
// is hashed before it is used again, and what continues a part while it is read; a damaged one is dropped. The space is bounded: the payloads that were not used for longest go first, and each goes after cacheAge.

// Bounds of the cache.
const (
	defaultCache = 4 << 30 // bytes of all payloads
	minCached    = 4 << 20 // of one; getting a smaller one again costs nothing worth a file
	cacheAge     = 24 * time.Hour
	partSuffix   = ".part"
)

// errUncached says that a payload is not kept: it is too small or too large, or the disk is full.
var errUncached = errors.New("not kept")

// cache is the folder of payloads.
type cache struct {
	dir string
	max int64

	mu    sync.Mutex
	loads map[string]*load // by name
	// ending has the loads that nobody follows any more and that have not ended yet.
	ending map[string]*load
}

// sized is a payload's body, from the cache or not.
type sized interface {
	io.ReadCloser
	size() int64 // -1: not known
}

// newCache opens the cache in dir and drops what does not fit into it.
func newCache(dir string, size int64) (*cache, error) {
	if size == 0 {
		size = defaultCache
	}
	c := &cache{dir: dir, max: size, loads: map[string]*load{}, ending: map[string]*load{}}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("opening the cache of payloads: %w", err)
	}
	c.sweep(0)
	return c, nil
}

// cacheName returns the name under which a payload is kept: its SHA-256 in hex. Only an ni URI says it.
func cacheName(uri string) (string, bool) {
	value, ok := strings.CutPrefix(uri, "ni:///sha-256;")
	value, _, _ = strings.Cut(value, "?")
	sum, err := base64.RawURLEncoding.Strict().DecodeString(value)
	return hex.EncodeToString(sum), ok && err == nil && len(sum) == sha256.Size
}

func (c *cache) path(name string) string { return filepath.Join(c.dir, name) }

// sweep deletes what is old, and what was not used for longest until room more bytes fit. What is on its way stays.
func (c *cache) sweep(room int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	entries, err := os.ReadDir(c.dir)
	if err != nil {
		return
	}
	type file struct {
		name string
		size int64
		used time.Time
	}
	var files []file
	total := room
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || c.loads[strings.TrimSuffix(e.Name(), partSuffix)] != nil {
			continue
		}
		if time.Since(info.ModTime()) > cacheAge {
			_ = os.Remove(c.path(e.Name()))
			continue
		}
		files = append(files, file{e.Name(), info.Size(), info.ModTime()})
		total += info.Size()
	}
	for _, l := range c.loads {
		total += max(l.total, 0)
	}
	slices.SortFunc(files, func(a, b file) int { return a.used.Compare(b.used) })
	for _, f := range files {
		if total <= c.max {
			return
		}
		if os.Remove(c.path(f.name)) == nil {
			total -= f.size
		}
	}
}

// open returns a reader of the payload: from the disk, from a transfer that runs, or from one that it starts. errUncached says that
// it is not kept, and has to be fetched without.
func (c *cache) open(ctx context.Context, name string, from opener, patience time.Duration) (sized, error) {
	c.mu.Lock()
	l := c.loads[name]
	if l == nil {
		l = &load{c: c, name: name, total: -1, changed: make(chan struct{}), ready: make(chan struct{}), ended: make(chan struct{}),
			before: c.ending[name]}
		l.ctx, l.cancel = context.WithCancel(context.Background())
		c.loads[name] = l
		go l.run(from, patience)
	}
	l.readers++
	c.mu.Unlock()
	r := &follower{l: l, ctx: ctx}
	select {
	case <-l.ready:
	case <-ctx.Done():
		r.Close()
		return nil, ctx.Err()
	}
	l.mu.Lock()
	err, spare := l.err, l.spare
	l.spare = nil
	l.mu.Unlock()
	if spare != nil { // not kept, and this request is open already
		return &direct{spare, r}, nil
	}
	if err != nil && l.file == nil {
		r.Close()
		return nil, err
	}
	if l.kept {
		r.hash = sha256.New()
	}
	return r, nil
}

// direct is a body that is not kept. The transfer that it came from ends with it.
type direct struct {
	*resuming
	r *follower
}

// Close implements io.Closer.
func (d *direct) Close() error { return errors.Join(d.resuming.Close(), d.r.Close()) }

// load is one payload that is being read, and perhaps still arrives.
type load struct {
	c      *cache
	name   string
	ctx    context.Context
	cancel context.CancelFunc
	ready  chan struct{} // closed when file, total and kept are set, or err
	file   *os.File
	total  int64
	kept   bool  // a part of it was on the disk before
	before *load // of the same payload, which has to end first
	ended  chan struct{}

	readers int // guarded by c.mu

	mu      sync.Mutex
	have    int64
	err     error
	spare   *resuming     // a body that is not kept, for the first reader
	changed chan struct{} // closed and replaced when have or err changes
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
		l.file, l.have = f, size
		close(l.ready)
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
	f, err := os.OpenFile(part, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return errUncached
	}
	l.file, l.have, l.kept = f, have, have > 0
	close(l.ready)
	return l.fill(body, have)
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

// fill appends what arrives.
func (l *load) fill(body io.Reader, have int64) error {
	buf := make([]byte, 256<<10)
	for have < l.total {
		n, err := body.Read(buf[:min(int64(len(buf)), l.total-have)])
		if n > 0 {
			if _, werr := l.file.WriteAt(buf[:n], have); werr != nil {
				if errors.Is(werr, syscall.ENOSPC) || errors.Is(werr, syscall.EDQUOT) {
					_ = os.Remove(l.c.path(l.name) + partSuffix)
					return errUncached
				}
				return werr
			}
			if have += int64(n); have < l.total {
				l.progress(have, nil)
			}
		}
		if err == io.EOF && have < l.total {
			return io.ErrUnexpectedEOF
		}
		if err != nil && err != io.EOF {
			return err
		}
	}
	err := os.Rename(l.c.path(l.name)+partSuffix, l.c.path(l.name))
	l.progress(have, nil) // after it: a reader that finds the whole damaged drops it under its last name
	return err
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
		r.l.mu.Unlock()
		if r.off < have {
			n, err := r.l.file.ReadAt(p[:min(int64(len(p)), have-r.off)], r.off)
			r.off += int64(n)
			if r.hash != nil {
				r.hash.Write(p[:n])
			}
			if n > 0 {
				return n, nil
			}
			return 0, fmt.Errorf("reading a kept payload: %w", err)
		}
		switch {
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
