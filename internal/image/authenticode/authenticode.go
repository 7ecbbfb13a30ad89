// SPDX-License-Identifier: Apache-2.0

// Package authenticode computes the digest of a PE image by which UEFI firmware measures and verifies programs (Windows Authenticode
// Portable Executable Signature Format, 1.0, "Calculating the PE Image Hash"): over the headers without the checksum and the entry of
// the certificate table, over the sections in the order of their place in the file, and over what follows them, without the
// certificates at the end.
package authenticode

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
)

// ErrImage reports a file that is no PE image with a well-defined digest.
var ErrImage = errors.New("authenticode: no PE image")

// Places in a PE image (Microsoft PE Format).
const (
	offsetOfPE      = 0x3c
	fileHeader      = 24 // "PE\0\0" and the COFF header
	sectionHeader   = 40
	maxSections     = 96
	checksum        = 64 // in the optional header
	sizeOfHeaders   = 60
	directories32   = 96
	directories64   = 112
	certificateItem = 4 * 8 // the fifth data directory
)

// Digest returns the SHA-256 digest of an image.
func Digest(image []byte) ([sha256.Size]byte, error) {
	l, err := read(image)
	if err != nil {
		return [sha256.Size]byte{}, fmt.Errorf("%w: %w", ErrImage, err)
	}
	h := sha256.New()
	h.Write(image[:l.checksum])
	h.Write(image[l.checksum+4 : l.certificates])
	h.Write(image[l.certificates+8 : l.headers])
	hashed := l.headers
	for _, s := range l.sections {
		h.Write(image[s.from:s.to])
		hashed += s.to - s.from
	}
	if end := len(image) - l.certificateSize; hashed < end {
		h.Write(image[hashed:end])
	}
	return [sha256.Size]byte(h.Sum(nil)), nil
}

// layout is where things are in an image, all of them within it.
type layout struct {
	checksum, certificates int // offsets of the two fields that are left out
	headers                int // bytes
	certificateSize        int
	sections               []section
}

type section struct{ from, to int }

func read(image []byte) (*layout, error) {
	u16 := func(at int) int { return int(binary.LittleEndian.Uint16(image[at:])) }
	u32 := func(at int) int { return int(binary.LittleEndian.Uint32(image[at:])) }
	if len(image) < offsetOfPE+4 || string(image[:2]) != "MZ" {
		return nil, errors.New("it does not begin as one")
	}
	pe := u32(offsetOfPE)
	if pe > len(image)-fileHeader-directories64-certificateItem-8 || string(image[pe:pe+4]) != "PE\x00\x00" {
		return nil, errors.New("no PE header")
	}
	optional := pe + fileHeader
	l := &layout{checksum: optional + checksum, headers: u32(optional + sizeOfHeaders)}
	directories := directories32
	switch u16(optional) {
	case 0x10b:
	case 0x20b:
		directories = directories64
	default:
		return nil, fmt.Errorf("an optional header of kind 0x%x", u16(optional))
	}
	if u32(optional+directories-4) < 5 {
		return nil, errors.New("no entry for certificates")
	}
	l.certificates = optional + directories + certificateItem
	place, size := u32(l.certificates), u32(l.certificates+4)
	if size > len(image) || size > 0 && place != len(image)-size {
		return nil, errors.New("certificates that are not at its end")
	}
	l.certificateSize = size
	count, table := u16(pe+6), optional+u16(pe+20)
	if count > maxSections || table+count*sectionHeader > l.headers || l.certificates+8 > l.headers || l.headers > len(image)-size {
		return nil, errors.New("headers that are larger than stated, or larger than the file")
	}
	for i := range count {
		at := table + i*sectionHeader
		s := section{from: u32(at + 20)}
		s.to = s.from + u32(at+16)
		if s.to > s.from {
			l.sections = append(l.sections, s)
		}
	}
	slices.SortFunc(l.sections, func(a, b section) int { return cmp.Compare(a.from, b.from) })
	end := l.headers
	for _, s := range l.sections {
		if s.from < end || s.to > len(image)-size {
			return nil, errors.New("sections that overlap, or that are not in the file")
		}
		end = s.to
	}
	return l, nil
}
