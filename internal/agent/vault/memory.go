// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"sync"
)

// CreateVolatile begins a blob that is kept in the memory of the TEE and nowhere else. It is gone with the process, so a state that is read
// at the next start must not count on its Ref.
func (v *Vault) CreateVolatile() (*Writer, error) { return v.create(true) }

// files returns where the blob of a Ref lies.
func (v *Vault) files(ref Ref) FS {
	if ref.Volatile {
		return &v.memory
	}
	return v.fs
}

// memoryFS holds blobs in memory. Only what blobs need is there.
type memoryFS struct {
	mu    sync.Mutex
	files map[string]*memoryFile
}

// errMemory says that memory was asked for something that is no blob's.
var errMemory = errors.New("vault: not in memory")

// Create implements FS.
func (m *memoryFS) Create(name string) (File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.files == nil {
		m.files = map[string]*memoryFile{}
	}
	f := &memoryFile{}
	m.files[name] = f
	return f, nil
}

// Open implements FS. The file has been closed by its writer.
func (m *memoryFS) Open(name string) (io.ReadCloser, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	f := m.files[name]
	if f == nil {
		return nil, fs.ErrNotExist
	}
	readers := make([]io.Reader, len(f.parts))
	for i, p := range f.parts {
		readers[i] = bytes.NewReader(p)
	}
	return io.NopCloser(io.MultiReader(readers...)), nil
}

// Remove implements FS. What is read now can be read to its end, as in a folder.
func (m *memoryFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.files, name)
	return nil
}

// SyncDir implements FS.
func (m *memoryFS) SyncDir(string) error { return nil }

// Size implements FS.
func (m *memoryFS) Size(string) (int64, error) { return 0, errMemory }

// Rename implements FS.
func (m *memoryFS) Rename(string, string) error { return errMemory }

// ReadDir implements FS.
func (m *memoryFS) ReadDir(string) ([]string, error) { return nil, errMemory }

// MkdirAll implements FS.
func (m *memoryFS) MkdirAll(string) error { return nil }

// memoryFile keeps what is written in the pieces in which it comes: nothing is copied twice.
type memoryFile struct{ parts [][]byte }

// Write implements File.
func (f *memoryFile) Write(p []byte) (int, error) {
	f.parts = append(f.parts, bytes.Clone(p))
	return len(p), nil
}

// Sync implements File.
func (f *memoryFile) Sync() error { return nil }

// Close implements File.
func (f *memoryFile) Close() error { return nil }
