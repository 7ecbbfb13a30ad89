// SPDX-License-Identifier: Apache-2.0

package serial

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// Operations on a folder. Names are relative, with "/" as separator.
const (
	opCreate   = 1 // the answer has a handle; truncates
	opOpen     = 2 // the answer has a handle
	opRead     = 3 // at most N bytes from a handle; no data is the end
	opWrite    = 4
	opSync     = 5
	opClose    = 6
	opSize     = 7
	opRename   = 8
	opRemove   = 9
	opReadDir  = 10
	opSyncDir  = 11
	opMkdirAll = 12
)

// Bounds of a folder's service.
const (
	maxChunk   = 256 << 10
	maxHandles = 64
	maxEntries = 1 << 14
	maxName    = 1024
)

// folderRequest and folderAnswer are one call. Calls are made one after the other.
type folderRequest struct {
	Op     uint   `cbor:"1,keyasint"`
	Name   string `cbor:"2,keyasint,omitempty"`
	To     string `cbor:"3,keyasint,omitempty"` // opRename
	Handle uint32 `cbor:"4,keyasint,omitempty"`
	Data   []byte `cbor:"5,keyasint,omitempty"` // opWrite
	N      uint32 `cbor:"6,keyasint,omitempty"` // opRead
}

type folderAnswer struct {
	Errno  uint32   `cbor:"1,keyasint,omitempty"` // errno(3) of Linux; 0 is success
	Text   string   `cbor:"2,keyasint,omitempty"` // of an error
	Handle uint32   `cbor:"3,keyasint,omitempty"`
	Data   []byte   `cbor:"4,keyasint,omitempty"`
	Size   int64    `cbor:"5,keyasint,omitempty"`
	Names  []string `cbor:"6,keyasint,omitempty"`
}

// ServeFolder does to the folder root what the guest asks for, until the port ends. It follows no link out of the folder, and
// whatever the guest asks for, it gets at nothing else. The error is nil when the port has just ended.
func ServeFolder(port io.ReadWriteCloser, root *os.Root) error {
	s := &folderServer{root: root, handles: map[uint32]*os.File{}}
	defer s.closeAll()
	m := NewMessages(port)
	defer m.Close()
	for {
		var q folderRequest
		alive, err := m.Receive(&q)
		switch {
		case errors.Is(err, ErrMalformed):
			return err
		case err != nil:
			return nil
		case alive:
			continue
		}
		if err := m.Send(s.answer(q)); err != nil {
			return nil
		}
	}
}

type folderServer struct {
	root    *os.Root
	handles map[uint32]*os.File
	last    uint32
}

func (s *folderServer) closeAll() {
	for _, f := range s.handles {
		f.Close()
	}
}

func (s *folderServer) answer(q folderRequest) folderAnswer {
	var a folderAnswer
	err := s.do(q, &a)
	if err == nil {
		return a
	}
	a = folderAnswer{Errno: uint32(syscall.EIO), Text: err.Error()}
	var errno syscall.Errno
	switch {
	case errors.As(err, &errno):
		a.Errno = uint32(errno)
	case errors.Is(err, fs.ErrNotExist):
		a.Errno = uint32(syscall.ENOENT)
	}
	a.Text = a.Text[:min(len(a.Text), 256)]
	return a
}

func (s *folderServer) do(q folderRequest, a *folderAnswer) (err error) {
	if len(q.Name) > maxName || len(q.To) > maxName {
		return syscall.ENAMETOOLONG
	}
	switch q.Op {
	case opCreate:
		a.Handle, err = s.open(q.Name, os.O_CREATE|os.O_TRUNC|os.O_WRONLY)
	case opOpen:
		a.Handle, err = s.open(q.Name, os.O_RDONLY)
	case opRead, opWrite, opSync, opClose:
		return s.file(q, a)
	case opSize:
		var st fs.FileInfo
		if st, err = s.root.Stat(q.Name); err == nil {
			a.Size = st.Size()
		}
	case opRename:
		err = s.root.Rename(q.Name, q.To)
	case opRemove:
		err = s.root.Remove(q.Name)
	case opReadDir:
		a.Names, err = s.names(q.Name)
	case opSyncDir:
		var f *os.File
		if f, err = s.root.Open(q.Name); err == nil {
			err = errors.Join(f.Sync(), f.Close())
		}
	case opMkdirAll:
		err = s.root.MkdirAll(q.Name, 0o700)
	default:
		err = fmt.Errorf("operation %d is unknown: %w", q.Op, syscall.ENOSYS)
	}
	return err
}

// open opens a regular file.
func (s *folderServer) open(name string, flags int) (uint32, error) {
	if len(s.handles) >= maxHandles {
		return 0, syscall.EMFILE
	}
	f, err := s.root.OpenFile(name, flags|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return 0, err
	}
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		f.Close()
		return 0, errors.Join(err, syscall.EINVAL)
	}
	s.last++
	s.handles[s.last] = f
	return s.last, nil
}

// file does what concerns an open file.
func (s *folderServer) file(q folderRequest, a *folderAnswer) error {
	f := s.handles[q.Handle]
	if f == nil {
		return syscall.EBADF
	}
	switch q.Op {
	case opRead:
		buf := make([]byte, min(q.N, maxChunk))
		n, err := f.Read(buf)
		a.Data = buf[:n]
		if errors.Is(err, io.EOF) {
			err = nil
		}
		return err
	case opWrite:
		_, err := f.Write(q.Data)
		return err
	case opSync:
		return f.Sync()
	}
	delete(s.handles, q.Handle)
	return f.Close()
}

func (s *folderServer) names(name string) ([]string, error) {
	f, err := s.root.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	names, err := f.Readdirnames(maxEntries)
	if errors.Is(err, io.EOF) {
		err = nil
	}
	return names, err
}
