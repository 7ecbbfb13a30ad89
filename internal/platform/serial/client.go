// SPDX-License-Identifier: Apache-2.0

package serial

import (
	"errors"
	"fmt"
	"io"
	"sync"
	"syscall"
)

// Folder is the instance's folder in the REE as the guest sees it. All calls are safe for concurrent use and are made one
// after the other. It trusts the other end with nothing but to answer: package vault checks what it reads. Errors wrap those
// of package syscall.
type Folder struct {
	mu sync.Mutex
	m  *Messages
}

// NewFolder takes over the guest's end of the port.
func NewFolder(port io.ReadWriteCloser) *Folder { return &Folder{m: NewMessages(port)} }

var errAnswer = errors.New("serial: the answer does not fit the request")

func (f *Folder) call(q folderRequest) (folderAnswer, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var a folderAnswer
	if err := f.m.Send(q); err != nil {
		return a, err
	}
	for {
		alive, err := f.m.Receive(&a)
		if err != nil {
			return a, fmt.Errorf("serial: waiting for the store: %w", err)
		}
		if !alive {
			break
		}
	}
	if a.Errno != 0 {
		return a, fmt.Errorf("store: %s: %w", a.Text, syscall.Errno(a.Errno))
	}
	return a, nil
}

// Create opens a file for writing; what it held is gone.
func (f *Folder) Create(name string) (*File, error) {
	a, err := f.call(folderRequest{Op: opCreate, Name: name})
	return &File{folder: f, handle: a.Handle}, err
}

// Open opens a file for reading.
func (f *Folder) Open(name string) (*File, error) {
	a, err := f.call(folderRequest{Op: opOpen, Name: name})
	return &File{folder: f, handle: a.Handle}, err
}

// Size returns the size of a file in bytes.
func (f *Folder) Size(name string) (int64, error) {
	a, err := f.call(folderRequest{Op: opSize, Name: name})
	return a.Size, err
}

// Rename gives a file another name, in place of what has that name.
func (f *Folder) Rename(from, to string) error {
	_, err := f.call(folderRequest{Op: opRename, Name: from, To: to})
	return err
}

// Remove deletes a file or an empty folder.
func (f *Folder) Remove(name string) error {
	_, err := f.call(folderRequest{Op: opRemove, Name: name})
	return err
}

// ReadDir lists the names in a folder.
func (f *Folder) ReadDir(name string) ([]string, error) {
	a, err := f.call(folderRequest{Op: opReadDir, Name: name})
	return a.Names, err
}

// SyncDir makes the names in a folder durable.
func (f *Folder) SyncDir(name string) error {
	_, err := f.call(folderRequest{Op: opSyncDir, Name: name})
	return err
}

// MkdirAll makes a folder with those above it.
func (f *Folder) MkdirAll(name string) error {
	_, err := f.call(folderRequest{Op: opMkdirAll, Name: name})
	return err
}

// Close ends the port.
func (f *Folder) Close() error { return f.m.Close() }

// File is an open file of a Folder, for reading or for writing. It is for one goroutine.
type File struct {
	folder *Folder
	handle uint32
	rest   []byte
	end    bool
}

// Read implements io.Reader.
func (f *File) Read(p []byte) (int, error) {
	if len(f.rest) == 0 && !f.end {
		a, err := f.folder.call(folderRequest{Op: opRead, Handle: f.handle, N: maxChunk})
		if err != nil {
			return 0, err
		}
		if len(a.Data) > maxChunk {
			return 0, errAnswer
		}
		f.rest, f.end = a.Data, len(a.Data) == 0
	}
	if f.end {
		return 0, io.EOF
	}
	n := copy(p, f.rest)
	f.rest = f.rest[n:]
	return n, nil
}

// Write implements io.Writer.
func (f *File) Write(p []byte) (int, error) {
	done := 0
	for done < len(p) {
		n := min(len(p)-done, maxChunk)
		if _, err := f.folder.call(folderRequest{Op: opWrite, Handle: f.handle, Data: p[done : done+n]}); err != nil {
			return done, err
		}
		done += n
	}
	return done, nil
}

// Sync makes what was written durable.
func (f *File) Sync() error {
	_, err := f.folder.call(folderRequest{Op: opSync, Handle: f.handle})
	return err
}

// Close closes the file.
func (f *File) Close() error {
	_, err := f.folder.call(folderRequest{Op: opClose, Handle: f.handle})
	return err
}
