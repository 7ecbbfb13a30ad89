// SPDX-License-Identifier: Apache-2.0

// Package crashfs is a folder in memory for tests of sealed storage. It tells what is durable from what is not, can die at one chosen
// operation, and can be full.
package crashfs

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"strings"
	"sync"
	"syscall"

	"sealift/internal/agent/vault"
)

// ErrCrash is what every operation returns from the fatal one on.
var ErrCrash = errors.New("crashfs: crashed")

// FS is the folder: a vault.FS. One operation can be fatal: it is half done, and everything after it fails. It is safe for
// concurrent use.
type FS struct {
	// DieAt is the number of the fatal operation, counted from 1 by Ops; 0 is none.
	DieAt int
	// Space is the number of bytes that still fit; negative: no bound.
	Space int64

	mu            sync.Mutex
	live, durable map[string]*node
	ops           int
}

type node struct{ live, durable []byte }

// New returns an empty folder.
func New() *FS { return &FS{live: map[string]*node{}, durable: map[string]*node{}, Space: -1} }

// Ops returns how many operations were counted: all that change something.
func (c *FS) Ops() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ops
}

// Get returns the content of a file, nil if there is none.
func (c *FS) Get(name string) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	if n := c.live[name]; n != nil {
		return bytes.Clone(n.live)
	}
	return nil
}

// Put is what REE does: it replaces a file, or deletes it if data is nil.
func (c *FS) Put(name string, data []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.live, name)
	if data != nil {
		c.live[name] = &node{live: bytes.Clone(data), durable: bytes.Clone(data)}
	}
}

// Files returns the content of all files.
func (c *FS) Files() map[string][]byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string][]byte{}
	for name, f := range c.live {
		out[name] = bytes.Clone(f.live)
	}
	return out
}

// dead counts an operation and returns true when this one, or an earlier one, is fatal.
func (c *FS) dead() bool {
	c.ops++
	return c.DieAt > 0 && c.ops >= c.DieAt
}

// Dead is for hardware that dies with the folder: it counts an operation.
func (c *FS) Dead() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.dead()
}

// Reboot returns what is left after a loss of power. keep says that even what was never synced has survived.
func (c *FS) Reboot(keep bool) *FS {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := New()
	from := c.durable
	if keep {
		from = c.live
	}
	for name, f := range from {
		data := f.durable
		if keep {
			data = f.live
		}
		fresh := &node{live: bytes.Clone(data), durable: bytes.Clone(data)}
		n.live[name], n.durable[name] = fresh, fresh
	}
	return n
}

// Create implements vault.FS.
func (c *FS) Create(name string) (vault.File, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead() {
		return nil, ErrCrash
	}
	if old := c.live[name]; old != nil && c.Space >= 0 {
		c.Space += int64(len(old.live))
	}
	n := &node{}
	c.live[name] = n
	return &file{c, n}, nil
}

// Open implements vault.FS.
func (c *FS) Open(name string) (io.ReadCloser, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.live[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(n.live)), nil
}

// Size implements vault.FS.
func (c *FS) Size(name string) (int64, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	n, ok := c.live[name]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(n.live)), nil
}

// Rename implements vault.FS.
func (c *FS) Rename(from, to string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead() {
		return ErrCrash
	}
	c.live[to] = c.live[from]
	delete(c.live, from)
	return nil
}

// Remove implements vault.FS.
func (c *FS) Remove(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead() {
		return ErrCrash
	}
	n, ok := c.live[name]
	if !ok {
		return fs.ErrNotExist
	}
	if c.Space >= 0 {
		c.Space += int64(len(n.live))
	}
	delete(c.live, name)
	return nil
}

// ReadDir implements vault.FS.
func (c *FS) ReadDir(name string) (names []string, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for n := range c.live {
		if rest, ok := strings.CutPrefix(n, name+"/"); ok {
			names = append(names, rest)
		}
	}
	return names, nil
}

// SyncDir implements vault.FS.
func (c *FS) SyncDir(name string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.dead() {
		return ErrCrash
	}
	inDir := func(path string) bool {
		dir, _, nested := strings.Cut(path, "/")
		return nested == (name != ".") && (!nested || dir == name)
	}
	maps.DeleteFunc(c.durable, func(path string, _ *node) bool { return inDir(path) })
	for path, n := range c.live {
		if inDir(path) {
			c.durable[path] = n
		}
	}
	return nil
}

// MkdirAll implements vault.FS.
func (c *FS) MkdirAll(string) error { return nil }

type file struct {
	c *FS
	n *node
}

func (f *file) Write(p []byte) (int, error) {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.dead() {
		f.n.live = append(f.n.live, p[:len(p)/2]...)
		return len(p) / 2, ErrCrash
	}
	if f.c.Space >= 0 && int64(len(p)) > f.c.Space {
		n := f.c.Space
		f.n.live = append(f.n.live, p[:n]...)
		f.c.Space = 0
		return int(n), &fs.PathError{Op: "write", Path: "file", Err: syscall.ENOSPC}
	}
	if f.c.Space >= 0 {
		f.c.Space -= int64(len(p))
	}
	f.n.live = append(f.n.live, p...)
	return len(p), nil
}

func (f *file) Sync() error {
	f.c.mu.Lock()
	defer f.c.mu.Unlock()
	if f.c.dead() {
		return ErrCrash
	}
	f.n.durable = bytes.Clone(f.n.live)
	return nil
}

func (f *file) Close() error { return nil }
