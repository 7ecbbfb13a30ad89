// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
)

// ReadArchive reads any archive of the format newc, or one that is compressed with gzip: files, folders and symbolic links, by names relative
// to its root. It is for archives of the reader's own; what a guest is booted with is read by LayerReader.
func ReadArchive(r io.Reader) ([]Entry, error) {
	head := make([]byte, 2)
	if _, err := io.ReadFull(r, head); err != nil {
		return nil, fmt.Errorf("%w: too short for an archive", ErrEntry)
	}
	r = io.MultiReader(bytes.NewReader(head), r)
	if bytes.Equal(head, []byte{0x1f, 0x8b}) {
		z, err := gzip.NewReader(r)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrEntry, err)
		}
		r = z
	}
	data, err := io.ReadAll(io.LimitReader(r, 2*MaxLayerBytes+1))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEntry, err)
	}
	if len(data) > 2*MaxLayerBytes {
		return nil, fmt.Errorf("%w: an archive of more than %d bytes", ErrEntry, 2*MaxLayerBytes)
	}
	return parseArchive(data)
}

func parseArchive(data []byte) (entries []Entry, err error) {
	take := func(n int64) []byte {
		if n < 0 || n > int64(len(data)) {
			err = fmt.Errorf("%w: the archive ends early", ErrEntry)
			return nil
		}
		out := data[:n]
		data = data[n:]
		return out
	}
	for len(entries) <= MaxLayerEntries {
		head := take(headerSize)
		if err != nil {
			return nil, err
		}
		if string(head[:6]) != magic {
			return nil, fmt.Errorf("%w: no archive of the format newc (cpio -H newc)", ErrEntry)
		}
		field := func(i int) int64 {
			v, parseErr := strconv.ParseUint(string(head[6+8*i:14+8*i]), 16, 32)
			if parseErr != nil {
				return -1
			}
			return int64(v)
		}
		mode, size, length := field(1), field(6), field(11)
		name := strings.TrimRight(string(take(length)), "\x00")
		take(-(headerSize + length) & 3)
		content := take(size)
		take(min(-size&3, int64(len(data))))
		if err != nil {
			return nil, err
		}
		if name == trailer {
			return entries, nil
		}
		e, found, err := entryOf(name, mode, content, field(4))
		if err != nil {
			return nil, err
		}
		if found {
			entries = append(entries, e)
		}
	}
	return nil, fmt.Errorf("%w: more than %d entries", ErrEntry, MaxLayerEntries)
}

// entryOf is one entry of somebody's archive; found is false for the root itself.
func entryOf(name string, mode int64, content []byte, links int64) (e Entry, found bool, err error) {
	if e.Name = strings.TrimPrefix(path.Clean("/"+name), "/"); e.Name == "" {
		return e, false, nil
	}
	e.Mode = uint32(mode) & 0o777
	switch kind := mode &^ 0o7777; {
	case kind == typeDir:
	case kind == typeLink:
		e.Link = string(content)
	case kind == typeReg && links > 1:
		return e, false, fmt.Errorf("%w: %q is a hard link; make it a symbolic one", ErrEntry, name)
	case kind == typeReg:
		e.Data = append([]byte{}, content...)
	default:
		return e, false, fmt.Errorf("%w: %q is a device, a pipe or a socket", ErrEntry, name)
	}
	return e, true, nil
}

// ReadFolder reads what lies in a folder, in the same form.
func ReadFolder(dir string) (entries []Entry, err error) {
	total := int64(0)
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || file == dir {
			return err
		}
		rel, err := filepath.Rel(dir, file)
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		e := Entry{Name: filepath.ToSlash(rel), Mode: uint32(info.Mode().Perm())}
		switch {
		case d.IsDir():
		case d.Type()&fs.ModeSymlink != 0:
			e.Link, err = os.Readlink(file)
		case info.Mode().IsRegular():
			if total += info.Size(); total > MaxLayerBytes {
				return fmt.Errorf("%w: the files have more than %d bytes", ErrEntry, MaxLayerBytes)
			}
			if e.Data, err = os.ReadFile(file); e.Data == nil {
				e.Data = []byte{}
			}
		default:
			return fmt.Errorf("%w: %s is neither a file nor a folder nor a link", ErrEntry, file)
		}
		if entries = append(entries, e); len(entries) > MaxLayerEntries {
			return fmt.Errorf("%w: more than %d entries", ErrEntry, MaxLayerEntries)
		}
		return err
	})
	if err != nil && !errors.Is(err, ErrEntry) {
		err = fmt.Errorf("initramfs: %w", err)
	}
	return entries, err
}
