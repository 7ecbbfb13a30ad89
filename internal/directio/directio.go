// SPDX-License-Identifier: Apache-2.0

// Package directio writes and reads large files past the page cache (open(2), O_DIRECT).
//
// A payload of a gigabyte that is written once gains nothing from the page cache, and pays for it: each page is allocated, copied to,
// tracked as dirty and written later, and what other programs had cached goes. On a virtual machine whose host takes free memory back
// the first touch of each page costs more than the encryption of it. Past the page cache the disk reads from the program's own buffer.
//
// The kernel wants addresses, lengths and offsets that are multiples of the disk's blocks. What does not fit that, such as the end
// of a file, and every file of a file system without O_DIRECT, goes through the page cache as ever; the kernel keeps both views
// of a file the same. Nothing here is durable before fsync(2).
package directio

import (
	"errors"
	"io"
	"os"
	"syscall"
	"unsafe"
)

const (
	// Align is what addresses, lengths and offsets are to be multiples of: at least the block of every common disk.
	Align = 4096
	// minDirect is the length from which a transfer is worth a turn of the disk.
	minDirect = 64 << 10
)

// Buffer returns size bytes at an address that is a multiple of Align.
func Buffer(size int) []byte {
	b := make([]byte, size+Align)
	skip := (Align - int(uintptr(unsafe.Pointer(unsafe.SliceData(b)))%Align)) % Align
	return b[skip : skip+size : skip+size]
}

// File is a file that is written, or read, by one goroutine at a time.
type File struct {
	f        *os.File
	off      int64 // of the next Write or Read
	direct   bool  // O_DIRECT is set now
	buffered bool  // O_DIRECT is not wanted here
}

// New takes over f, which is at its beginning.
func New(f *os.File) *File { return &File{f: f} }

// Write implements io.Writer: it appends.
func (f *File) Write(p []byte) (int, error) {
	n, err := f.WriteAt(p, f.off)
	f.off += int64(n)
	return n, err
}

// WriteAt implements io.WriterAt. It goes past the page cache if p, its length and off are multiples of Align.
func (f *File) WriteAt(p []byte, off int64) (int, error) {
	f.choose(p, off)
	n, err := f.f.WriteAt(p, off)
	if !f.refused(err) {
		return n, err
	}
	rest, err := f.f.WriteAt(p[n:], off+int64(n))
	return n + rest, err
}

// Read implements io.Reader. Like WriteAt it goes past the page cache if it can.
func (f *File) Read(p []byte) (int, error) {
	f.choose(p, f.off)
	n, err := f.f.ReadAt(p, f.off)
	if f.refused(err) {
		var rest int
		rest, err = f.f.ReadAt(p[n:], f.off+int64(n))
		n += rest
	}
	f.off += int64(n)
	if n > 0 && err == io.EOF {
		err = nil
	}
	return n, err
}

// Sync makes what was written durable (fsync(2)).
func (f *File) Sync() error { return f.f.Sync() }

// Close closes the file.
func (f *File) Close() error { return f.f.Close() }

// StartSync asks the kernel to begin with writing to the disk what the page cache holds of a range (sync_file_range(2)). It promises
// nothing: Sync does. Past the page cache there is nothing to ask for.
func (f *File) StartSync(offset, size int64) {
	if f.direct {
		return
	}
	if c, err := f.f.SyscallConn(); err == nil {
		_ = c.Control(func(fd uintptr) { startSync(fd, offset, size) })
	}
}

// choose sets or clears O_DIRECT for a transfer of p at off.
func (f *File) choose(p []byte, off int64) {
	address := int64(uintptr(unsafe.Pointer(unsafe.SliceData(p))))
	want := !f.buffered && len(p) >= minDirect && (address|int64(len(p))|off)%Align == 0
	if want == f.direct {
		return
	}
	if f.set(want) != nil {
		f.buffered = true
		return
	}
	f.direct = want
}

// refused reports whether the file does not take what is aligned, which happens on the first try or never. The transfer is to be repeated.
func (f *File) refused(err error) bool {
	if !f.direct || !errors.Is(err, syscall.EINVAL) {
		return false
	}
	f.buffered = true
	f.direct = f.set(false) != nil
	return true
}

// set sets or clears O_DIRECT.
func (f *File) set(on bool) error {
	c, err := f.f.SyscallConn()
	if err != nil {
		return err
	}
	var failed error
	err = c.Control(func(fd uintptr) { failed = setDirect(fd, on) })
	return errors.Join(err, failed)
}
