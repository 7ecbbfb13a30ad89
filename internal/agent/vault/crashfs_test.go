// SPDX-License-Identifier: Apache-2.0

package vault_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"strings"
	"syscall"

	"sealift/internal/agent/vault"
)

var errCrash = errors.New("crashed")

// crashFS is a folder in memory that tells what is durable from what is not, and that dies at one chosen operation: that one is
// half done, and everything after it fails.
type crashFS struct {
	live, durable map[string]*node
	ops, dieAt    int   // dieAt 0: never
	space         int64 // bytes that still fit; < 0: no bound
}

type node struct{ live, durable []byte }

func newCrashFS() *crashFS {
	return &crashFS{live: map[string]*node{}, durable: map[string]*node{}, space: -1}
}

// dead counts an operation. It returns true when this one, or an earlier one, is fatal.
func (c *crashFS) dead() bool {
	c.ops++
	return c.dieAt > 0 && c.ops >= c.dieAt
}

// reboot returns what is left after the loss of power. keep says that even what was never synced has survived.
func (c *crashFS) reboot(keep bool) *crashFS {
	n := newCrashFS()
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

func (c *crashFS) snapshot() map[string][]byte {
	out := map[string][]byte{}
	for name, f := range c.live {
		out[name] = bytes.Clone(f.live)
	}
	return out
}

func (c *crashFS) Create(name string) (vault.File, error) {
	if c.dead() {
		return nil, errCrash
	}
	if old := c.live[name]; old != nil && c.space >= 0 {
		c.space += int64(len(old.live))
	}
	n := &node{}
	c.live[name] = n
	return &crashFile{c, n}, nil
}

func (c *crashFS) Open(name string) (io.ReadCloser, error) {
	n, ok := c.live[name]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(n.live)), nil
}

func (c *crashFS) Size(name string) (int64, error) {
	n, ok := c.live[name]
	if !ok {
		return 0, fs.ErrNotExist
	}
	return int64(len(n.live)), nil
}

func (c *crashFS) Rename(from, to string) error {
	if c.dead() {
		return errCrash
	}
	c.live[to] = c.live[from]
	delete(c.live, from)
	return nil
}

func (c *crashFS) Remove(name string) error {
	if c.dead() {
		return errCrash
	}
	n, ok := c.live[name]
	if !ok {
		return fs.ErrNotExist
	}
	if c.space >= 0 {
		c.space += int64(len(n.live))
	}
	delete(c.live, name)
	return nil
}

func (c *crashFS) ReadDir(name string) (names []string, err error) {
	for n := range c.live {
		if rest, ok := strings.CutPrefix(n, name+"/"); ok {
			names = append(names, rest)
		}
	}
	return names, nil
}

func (c *crashFS) SyncDir(name string) error {
	if c.dead() {
		return errCrash
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

func (c *crashFS) MkdirAll(string) error { return nil }

type crashFile struct {
	c *crashFS
	n *node
}

func (f *crashFile) Write(p []byte) (int, error) {
	if f.c.dead() {
		f.n.live = append(f.n.live, p[:len(p)/2]...)
		return len(p) / 2, errCrash
	}
	if f.c.space >= 0 && int64(len(p)) > f.c.space {
		n := f.c.space
		f.n.live = append(f.n.live, p[:n]...)
		f.c.space = 0
		return int(n), &fs.PathError{Op: "write", Path: "file", Err: syscall.ENOSPC}
	}
	if f.c.space >= 0 {
		f.c.space -= int64(len(p))
	}
	f.n.live = append(f.n.live, p...)
	return len(p), nil
}

func (f *crashFile) Sync() error {
	if f.c.dead() {
		return errCrash
	}
	f.n.durable = bytes.Clone(f.n.live)
	return nil
}

func (f *crashFile) Close() error { return nil }

// counter is the hardware's; it dies with the file system.
type counter struct {
	n    uint64
	fs   *crashFS
	dead bool
}

func (c *counter) Counter() (uint64, error) { return c.n, nil }

func (c *counter) Increment(expect uint64) (uint64, error) {
	if c.dead || c.fs != nil && c.fs.dead() {
		return 0, errCrash
	}
	if c.n != expect {
		return 0, errors.New("counter differs")
	}
	c.n++
	return c.n, nil
}
