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
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"
)

// The cache keeps large payloads that are named by their digest (RFC 6920), so that one is not moved again: not after the Broker, the
// Agent or the M/OC was gone in the middle, and not for the next deployment that has the same. What is in it is what the M/OC has too:
// programs in the clear, and ciphertext. A ciphertext is for one Agent and of no use to the next; a program in the clear is.
//
// A payload arrives in HEX.part and is renamed when it is whole. Several readers of one payload share one transfer, which goes as fast
// as the fastest of them: what has just arrived is handed to it from memory, and written past the page cache; the others read the
// file. The Agent judges every byte, so nothing is hashed here the first time. A file that was whole before is hashed before it is used
// again, and what continues a part while it is read; a damaged one is dropped. The space is bounded: the payloads that were not used
// for longest go first, and each goes after cacheAge.

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
	log *slog.Logger

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
func newCache(dir string, size int64, log *slog.Logger) (*cache, error) {
	if size == 0 {
		size = defaultCache
	}
	c := &cache{dir: dir, max: size, log: log, loads: map[string]*load{}, ending: map[string]*load{}}
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
		l = &load{c: c, name: name, total: -1, changed: make(chan struct{}), room: make(chan struct{}, 1), ready: make(chan struct{}),
			ended: make(chan struct{}), before: c.ending[name]}
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
