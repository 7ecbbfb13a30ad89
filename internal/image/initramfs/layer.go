// SPDX-License-Identifier: Apache-2.0

package initramfs

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strconv"
	"strings"
)

// LayerDir is the folder of a guest's root below which a guest payload lies, whole. No other archive has it.
const LayerDir = "layer"

// Bounds of a guest payload.
const (
	MaxLayerBytes   = 64 << 20 // of the archive
	MaxLayerEntries = 4096
	maxLayerName    = 1024
	maxLayerTop     = 32 // entries right below LayerDir: each is a mount of its own in the TA's sandbox
)

// Reserved are the folders that a TA's sandbox has by itself, so that a guest payload cannot bring them.
var Reserved = []string{"dev", "oci", "pd", "proc", "run", "store", "sys", "tmp"}

// ErrLayer reports an archive that is no guest payload.
var ErrLayer = errors.New("initramfs: not a guest payload")

// The permissions of a payload's files and folders.
const (
	LayerFile    = 0o644
	LayerProgram = 0o755
	layerFolder  = 0o755
)

// WriteLayer writes a guest payload: entries, whose names are relative to the payload's own root, below LayerDir. The folders above an
// entry are added where they are missing, and permissions become those of a payload.
func WriteLayer(w io.Writer, entries []Entry) error {
	list := []Entry{{Name: LayerDir, Mode: layerFolder}}
	seen := map[string]bool{LayerDir: true}
	for _, e := range entries {
		e.Name = path.Join(LayerDir, e.Name)
		switch {
		case e.Link != "":
			e.Mode = 0
		case e.folder():
			e.Mode = layerFolder
			if seen[e.Name] {
				continue
			}
		case e.Mode&0o111 != 0:
			e.Mode = LayerProgram
		default:
			e.Mode = LayerFile
		}
		list = append(list, e)
		seen[e.Name] = true
	}
	for _, e := range slices.Clone(list) {
		for dir := path.Dir(e.Name); dir != "." && !seen[dir]; dir = path.Dir(dir) {
			list = append(list, Entry{Name: dir, Mode: layerFolder})
			seen[dir] = true
		}
	}
	var out bytes.Buffer
	if err := Write(&out, list); err != nil {
		return err
	}
	if err := CheckLayer(bytes.NewReader(out.Bytes())); err != nil { // one rule, that of the reader
		return err
	}
	_, err := w.Write(out.Bytes())
	return err
}

// Header is one entry of a guest payload.
type Header struct {
	Name   string // relative to the payload's root; "." is the root itself
	Folder bool
	Link   string // where a symbolic link leads to; "" if it is none
	Mode   uint32 // permission bits of a file: LayerFile or LayerProgram
	Size   int64  // bytes of a file
}

// LayerReader reads a guest payload.
//
// There is one encoding of each payload, and everything else is refused: the headers have to be, byte for byte, those that
// WriteLayer writes. So what the kernel of a guest makes of the archive is what is read here. The names stand in their order, each below
// a folder that the archive itself has, all in LayerDir: nothing can be unpacked over the Agent, through a link, or outside. There
// are files, folders and symbolic links, no devices, hard links or set-user-ID bits.
type LayerReader struct {
	r       io.Reader
	offset  int64
	count   int
	top     int
	last    string
	folders map[string]bool
	left    int64 // of the present content
	done    bool
}

// NewLayerReader reads from r, which nothing is known of.
func NewLayerReader(r io.Reader) *LayerReader {
	return &LayerReader{r: r, folders: map[string]bool{".": true}}
}

// CheckLayer reads a whole payload.
func CheckLayer(r io.Reader) error {
	l := NewLayerReader(r)
	for {
		if _, err := l.Next(); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
	}
}

// Next returns the next entry, after skipping what is left of the content of the one before; io.EOF at the end.
func (l *LayerReader) Next() (*Header, error) {
	if l.done {
		return nil, io.EOF
	}
	if _, err := io.Copy(io.Discard, l); err != nil {
		return nil, err
	}
	if err := l.padding(); err != nil {
		return nil, err
	}
	e, size, err := l.header()
	if err != nil {
		return nil, err
	}
	if e == nil {
		l.done = true
		var more [1]byte
		if n, err := io.ReadFull(l.r, more[:]); n != 0 || !errors.Is(err, io.EOF) {
			return nil, fmt.Errorf("%w: something follows the last entry", ErrLayer)
		}
		if l.count == 0 {
			return nil, fmt.Errorf("%w: it is empty", ErrLayer)
		}
		return nil, io.EOF
	}
	name := strings.TrimPrefix(strings.TrimPrefix(e.Name, LayerDir), "/")
	if name == "" {
		name = "."
	}
	h := &Header{Name: name, Folder: e.folder(), Link: e.Link, Mode: e.Mode & 0o777}
	if e.Data != nil {
		h.Size, l.left = size, size
	}
	return h, nil
}

// Read reads the content of the present entry.
func (l *LayerReader) Read(p []byte) (int, error) {
	if l.left == 0 {
		return 0, io.EOF
	}
	n, err := l.read(p[:min(int64(len(p)), l.left)])
	l.left -= int64(n)
	return n, err
}

// read reads, and says what an early end means.
func (l *LayerReader) read(p []byte) (int, error) {
	n, err := l.r.Read(p)
	l.offset += int64(n)
	if l.offset > MaxLayerBytes {
		return n, fmt.Errorf("%w: more than %d bytes", ErrLayer, MaxLayerBytes)
	}
	if n == 0 && errors.Is(err, io.EOF) {
		err = fmt.Errorf("%w: it ends at byte %d", ErrLayer, l.offset)
	} else if errors.Is(err, io.EOF) {
		err = nil
	}
	return n, err
}

func (l *LayerReader) full(n int64) ([]byte, error) {
	out := make([]byte, n)
	for at := 0; at < len(out); {
		m, err := l.read(out[at:])
		if err != nil {
			return nil, err
		}
		at += m
	}
	return out, nil
}

func (l *LayerReader) padding() error {
	fill, err := l.full(-l.offset & 3)
	if err == nil && len(bytes.Trim(fill, "\x00")) != 0 {
		err = fmt.Errorf("%w: what fills up to byte %d is not zero", ErrLayer, l.offset)
	}
	return err
}

const headerSize = 6 + 13*8 // magic, and thirteen fields

// header reads a header with its name and, for a link, where it leads to. The entry is nil at the end; Data of a file is not nil.
func (l *LayerReader) header() (*Entry, int64, error) {
	got, err := l.full(headerSize)
	if err != nil {
		return nil, 0, err
	}
	field := func(i int) int64 {
		v, err := strconv.ParseUint(string(got[6+8*i:14+8*i]), 16, 32)
		if err != nil {
			return -1
		}
		return int64(v)
	}
	mode, size, length := field(1), field(6), field(11)
	if mode < 0 || size < 0 || length < 2 || length > maxLayerName {
		return nil, 0, fmt.Errorf("%w: the header before byte %d", ErrLayer, l.offset)
	}
	rest, err := l.full(length + -(headerSize+length)&3)
	if err != nil {
		return nil, 0, err
	}
	got = append(got, rest...)
	e := &Entry{Name: string(rest[:length-1])}
	if e.Name == trailer {
		if !bytes.Equal(got, end()) {
			return nil, 0, fmt.Errorf("%w: the last header", ErrLayer)
		}
		return nil, 0, nil
	}
	switch mode {
	case typeDir | layerFolder:
		e.Mode = layerFolder
	case typeReg | LayerFile, typeReg | LayerProgram:
		e.Mode, e.Data = uint32(mode&0o777), []byte{}
	case typeLink | 0o777:
		e.Link = "?" // for the header; what it is follows
	default:
		return nil, 0, fmt.Errorf("%w: %.200q is neither a file nor a folder nor a link, or has other permissions (%o)", ErrLayer, e.Name, mode)
	}
	if l.count++; l.count > MaxLayerEntries {
		return nil, 0, fmt.Errorf("%w: more than %d entries", ErrLayer, MaxLayerEntries)
	}
	if !bytes.Equal(got, header(l.count, *e, size)) {
		return nil, 0, fmt.Errorf("%w: the header of %.200q is not in the one form", ErrLayer, e.Name)
	}
	if err := l.place(e); err != nil {
		return nil, 0, err
	}
	return e, size, l.link(e, size)
}

// link reads where a link leads to.
func (l *LayerReader) link(e *Entry, size int64) error {
	if e.Link == "" {
		if e.folder() && size != 0 {
			return fmt.Errorf("%w: the folder %.200q has content", ErrLayer, e.Name)
		}
		return nil
	}
	if size < 1 || size >= maxLink {
		return fmt.Errorf("%w: the link %.200q", ErrLayer, e.Name)
	}
	target, err := l.full(size)
	if err != nil {
		return err
	}
	if e.Link = string(target); strings.ContainsRune(e.Link, 0) {
		return fmt.Errorf("%w: the link %.200q", ErrLayer, e.Name)
	}
	return nil
}

// place checks that an entry follows in order, below a folder of the archive, in LayerDir.
func (l *LayerReader) place(e *Entry) error {
	name, dir := e.Name, path.Dir(e.Name)
	bad := func(why string) error { return fmt.Errorf("%w: %.200q %s", ErrLayer, name, why) }
	switch {
	case strings.ContainsRune(name, 0) || path.Clean("/"+name) != "/"+name:
		return bad("is no clean name")
	case name == LayerDir && e.folder():
	case !strings.HasPrefix(name, LayerDir+"/"):
		return bad("lies outside of " + LayerDir)
	case !l.folders[dir]:
		return bad("is below no folder of the archive")
	case name <= l.last:
		return bad("is out of order, or there twice")
	}
	if dir == LayerDir {
		if l.top++; l.top > maxLayerTop {
			return bad(fmt.Sprintf("is one of more than %d entries at the top", maxLayerTop))
		}
		if base := path.Base(name); slices.Contains(Reserved, base) {
			return bad("cannot be brought: a TA has its own")
		}
		if e.Link != "" {
			return bad("is a link: at the top are files and folders")
		}
	}
	l.last = name
	l.folders[name] = e.folder()
	return nil
}
