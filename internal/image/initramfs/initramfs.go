// SPDX-License-Identifier: Apache-2.0

// Package initramfs writes the archive from which a Linux kernel fills its first root file system: cpio in the format "newc"
// (kernel documentation, driver-api/early-userspace/buffer-format), uncompressed.
//
// The same entries give the same bytes: they are written in order of their names, inode numbers count upwards from one, the
// time is the epoch and everything belongs to root.
//
// A kernel unpacks archives that follow each other into one root, later over earlier. A guest payload is such a second archive, a
// [Layer] below one folder of its own: see [NewLayerReader].
package initramfs

import (
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
)

// Entry is a file, a symbolic link or, with neither Data nor Link, a folder. The folders above must be entries too.
type Entry struct {
	Name string // relative, with "/" as separator
	Mode uint32 // permission bits; a link has none
	Data []byte // of a file; nil: a folder or a link
	Link string // where a link leads to
}

func (e Entry) folder() bool { return e.Data == nil && e.Link == "" }

// ErrEntry reports an entry that has no place in an archive.
var ErrEntry = errors.New("initramfs: invalid entry")

const (
	magic      = "070701"
	trailer    = "TRAILER!!!"
	typeDir    = 0o040000
	typeReg    = 0o100000
	typeLink   = 0o120000
	maxContent = 1 << 31 // the format's sizes have 32 bits
	maxLink    = 4096    // the kernel's PATH_MAX
)

// Write writes the archive.
func Write(w io.Writer, entries []Entry) error {
	sorted := slices.Clone(entries)
	slices.SortFunc(sorted, func(a, b Entry) int { return strings.Compare(a.Name, b.Name) })
	if err := check(sorted); err != nil {
		return err
	}
	a := archive{w: w}
	for i, e := range sorted {
		a.write(header(i+1, e, size(e)))
		if e.Link != "" {
			a.write([]byte(e.Link))
		}
		a.write(e.Data)
		a.pad()
	}
	a.write(end())
	if a.err != nil {
		return fmt.Errorf("initramfs: %w", a.err)
	}
	return nil
}

// check wants each name once, clean, and below a folder of the archive.
func check(sorted []Entry) error {
	folders := map[string]bool{".": true}
	seen := map[string]bool{}
	for _, e := range sorted {
		switch {
		case e.Name == "" || e.Name == "." || path.Clean("/"+e.Name) != "/"+e.Name || e.Name == trailer || strings.ContainsRune(e.Name, 0):
			return fmt.Errorf("%w: the name %q", ErrEntry, e.Name)
		case seen[e.Name]:
			return fmt.Errorf("%w: %q is there twice", ErrEntry, e.Name)
		case !folders[path.Dir(e.Name)]:
			return fmt.Errorf("%w: %q has no folder", ErrEntry, e.Name)
		case e.Mode&^0o7777 != 0 || len(e.Data) >= maxContent || len(e.Link) >= maxLink:
			return fmt.Errorf("%w: mode or size of %q", ErrEntry, e.Name)
		case e.Link != "" && (e.Data != nil || strings.ContainsRune(e.Link, 0)):
			return fmt.Errorf("%w: the link %q", ErrEntry, e.Name)
		}
		seen[e.Name] = true
		folders[e.Name] = e.folder()
	}
	return nil
}

// archive writes, and keeps the first error.
type archive struct {
	w      io.Writer
	offset int64
	err    error
}

// header returns what stands before a content: inode, mode, user, group, links, time, size, device (two numbers), special device (two
// numbers), length of the name, and no checksum, of eight hexadecimal digits each; then the name, filled up to four bytes.
func header(inode int, e Entry, size int64) []byte {
	mode, links := uint32(0), 1
	switch {
	case inode == 0: // the trailer
	case e.Link != "":
		mode = typeLink | 0o777
	case e.folder():
		mode, links = typeDir|e.Mode, 2
	default:
		mode = typeReg | e.Mode
	}
	text := magic
	for _, field := range []int64{int64(inode), int64(mode), 0, 0, int64(links), 0, size, 0, 0, 0, 0, int64(len(e.Name)) + 1, 0} {
		text += fmt.Sprintf("%08x", field)
	}
	text += e.Name + "\x00"
	return append([]byte(text), make([]byte, -len(text)&3)...)
}

// end is the last header.
func end() []byte { return header(0, Entry{Name: trailer}, 0) }

func size(e Entry) int64 { return int64(len(e.Data) + len(e.Link)) }

func (a *archive) write(data []byte) {
	if a.err != nil {
		return
	}
	var n int
	n, a.err = a.w.Write(data)
	a.offset += int64(n)
}

// pad fills up to a multiple of four bytes.
func (a *archive) pad() { a.write(make([]byte, -a.offset&3)) }
