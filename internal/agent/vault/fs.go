// SPDX-License-Identifier: Apache-2.0

package vault

import (
	"fmt"
	"io"
	"io/fs"
	"os"

	"sealift/internal/directio"
)

// FS is the folder in the REE. Names are relative, with "/" as separator. What Sync and SyncDir have confirmed MUST survive a
// loss of power; a Rename MUST be atomic. Errors wrap those of package syscall, so that a full disk is recognised.
type FS interface {
	Create(name string) (File, error) // truncates
	Open(name string) (io.ReadCloser, error)
	Size(name string) (int64, error)
	Rename(from, to string) error
	Remove(name string) error
	ReadDir(name string) ([]string, error)
	SyncDir(name string) error
	MkdirAll(name string) error
}

// File is a file being written.
type File interface {
	io.Writer
	Sync() error
	Close() error
}

// Dir returns the folder at path as an FS. Links that lead out of it are not followed: REE could have put them there.
func Dir(path string) (FS, error) {
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, fmt.Errorf("vault: %w", err)
	}
	return dirFS{root}, nil
}

type dirFS struct{ root *os.Root }

func (d dirFS) Create(name string) (File, error) {
	f, err := d.root.OpenFile(name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o600)
	if err != nil {
		return nil, err
	}
	return directio.New(f), nil
}

// largeFile is the size from which a file is read past the page cache: it is read once per start of a TA.
const largeFile = 8 << 20

func (d dirFS) Open(name string) (io.ReadCloser, error) {
	f, err := d.root.Open(name)
	if err != nil {
		return nil, err
	}
	if st, err := f.Stat(); err == nil && st.Mode().IsRegular() && st.Size() >= largeFile {
		return directio.NewReader(f), nil
	}
	return f, nil
}

func (d dirFS) Size(name string) (int64, error) {
	st, err := d.root.Stat(name)
	if err != nil {
		return 0, err
	}
	return st.Size(), nil
}

func (d dirFS) Rename(from, to string) error { return d.root.Rename(from, to) }
func (d dirFS) Remove(name string) error     { return d.root.Remove(name) }
func (d dirFS) MkdirAll(name string) error   { return d.root.MkdirAll(name, 0o700) }

func (d dirFS) ReadDir(name string) ([]string, error) {
	entries, err := fs.ReadDir(d.root.FS(), name)
	names := make([]string, 0, len(entries))
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names, err
}

func (d dirFS) SyncDir(name string) error {
	f, err := d.root.Open(name)
	if err != nil {
		return err
	}
	defer f.Close()
	return f.Sync()
}

// readAll reads a file of at most limit bytes.
func readAll(fsys FS, name string, limit int64) ([]byte, error) {
	f, err := fsys.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err == nil && int64(len(data)) > limit {
		err = fmt.Errorf("%w: %s is larger than %d bytes", ErrTampered, name, limit)
	}
	return data, err
}
