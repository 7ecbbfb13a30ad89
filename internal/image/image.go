// SPDX-License-Identifier: Apache-2.0

// Package image is the format of Agent images: what a platform launches as a TEE instance, measures, and puts into the
// hardware's Evidence.
//
// The image of a process is the Agent's static executable itself, with the one part "agent". Other instance types need
// more than one file, so their images are containers:
//
//	"SEALIFT-IMAGE-1\n" || length of the header, 4 bytes big-endian || header || parts, one after the other
//
// The header is deterministic CBOR (RFC 8949 section 4.2): instance type, the parts with their sizes in file order, and for
// a vm its kernel command line, number of processors and memory.
//
// Everything that decides what runs is measured; see [Image.Measure].
package image

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"sealift/cose"
)

// Names of parts.
const (
	PartAgent     = "agent"     // process, container: the TEEP Agent, a static executable
	PartRuntime   = "runtime"   // container: the OCI runtime program
	PartKernel    = "kernel"    // vm: a Linux kernel that the virtual machine monitor boots directly
	PartInitramfs = "initramfs" // vm: cpio archive with the Agent in it
	PartFirmware  = "firmware"  // vm: firmware, where the image brings one
)

// Instance types, as in package usecase.
const (
	Process   = "process"
	Container = "container"
	VM        = "vm"
)

// Dir is the folder beside the programs in which images are looked for.
const Dir = "images"

// FileName is the name of the file with the image of an instance type, as `sealift image build` writes it.
func FileName(instance string) string { return instance + ".img" }

// Bounds.
const (
	maxHeader  = 64 << 10
	maxParts   = 16
	MaxCmdline = 4096 // bytes of a kernel's command line
)

const magic = "SEALIFT-IMAGE-1\n"

// ErrMalformed reports bytes that are no image.
var ErrMalformed = errors.New("image: malformed")

// Part is one file of an image.
type Part struct {
	Name string `cbor:"1,keyasint"`
	Size int64  `cbor:"2,keyasint"` // bytes

	offset int64
}

// Image is an image's header.
type Image struct {
	Instance  string `cbor:"1,keyasint"`           // the instance type that it is for
	Parts     []Part `cbor:"2,keyasint"`           // in file order
	Cmdline   string `cbor:"3,keyasint,omitempty"` // vm: of the kernel
	VCPUs     uint   `cbor:"4,keyasint,omitempty"` // vm
	MemoryMiB uint   `cbor:"5,keyasint,omitempty"` // vm
	TPM       bool   `cbor:"6,keyasint,omitempty"` // vm: it has a TPM, into which its firmware measures (see Boot)
}

// needed lists the parts that every image of an instance type has; optional ones may follow.
var needed = map[string][]string{
	Process:   {PartAgent},
	Container: {PartAgent, PartRuntime},
	VM:        {PartKernel, PartInitramfs},
}

var optional = map[string][]string{VM: {PartFirmware}}

// Read reads the header of an image of size bytes. An ELF executable is the image of a process.
func Read(r io.ReaderAt, size int64) (*Image, error) {
	head := make([]byte, len(magic)+4)
	if n, err := r.ReadAt(head, 0); n < 4 {
		return nil, fmt.Errorf("%w: %d bytes: %w", ErrMalformed, n, err)
	}
	if string(head[:4]) == "\x7fELF" {
		return &Image{Instance: Process, Parts: []Part{{Name: PartAgent, Size: size}}}, nil
	}
	if string(head[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: neither an executable nor an image", ErrMalformed)
	}
	n := int64(binary.BigEndian.Uint32(head[len(magic):]))
	if n > maxHeader || int64(len(head))+n > size {
		return nil, fmt.Errorf("%w: a header of %d bytes", ErrMalformed, n)
	}
	header := make([]byte, n)
	if _, err := io.ReadFull(io.NewSectionReader(r, int64(len(head)), n), header); err != nil {
		return nil, fmt.Errorf("image: reading the header: %w", err)
	}
	var i Image
	if err := cose.Unmarshal(header, &i); err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	if err := i.place(int64(len(head))+n, size); err != nil {
		return nil, err
	}
	return &i, nil
}

// place gives each part its offset and checks that the parts fill the file.
func (i *Image) place(offset, size int64) error {
	if err := i.validate(); err != nil {
		return err
	}
	for k := range i.Parts {
		p := &i.Parts[k]
		if p.Size > size-offset {
			return fmt.Errorf("%w: part %q does not fit into the file", ErrMalformed, p.Name)
		}
		p.offset = offset
		offset += p.Size
	}
	if offset != size {
		return fmt.Errorf("%w: %d bytes after the last part", ErrMalformed, size-offset)
	}
	return nil
}

func (i *Image) validate() error {
	want, known := needed[i.Instance]
	if !known || len(i.Parts) > maxParts || len(i.Cmdline) > MaxCmdline {
		return fmt.Errorf("%w: instance type %q with %d parts", ErrMalformed, i.Instance, len(i.Parts))
	}
	seen := map[string]bool{}
	for _, p := range i.Parts {
		if p.Size <= 0 || seen[p.Name] || !contains(want, p.Name) && !contains(optional[i.Instance], p.Name) {
			return fmt.Errorf("%w: part %q of %d bytes in an image for a %s", ErrMalformed, p.Name, p.Size, i.Instance)
		}
		seen[p.Name] = true
	}
	for _, name := range want {
		if !seen[name] {
			return fmt.Errorf("%w: an image for a %s without the part %q", ErrMalformed, i.Instance, name)
		}
	}
	if vm := i.Instance == VM; vm != (i.VCPUs > 0) || vm != (i.MemoryMiB > 0) || !vm && i.Cmdline != "" {
		return fmt.Errorf("%w: processors, memory and command line belong to a vm, and a vm has them", ErrMalformed)
	}
	if i.TPM && !seen[PartFirmware] {
		return fmt.Errorf("%w: a TPM without firmware that measures into it", ErrMalformed)
	}
	return nil
}

func contains(names []string, name string) bool {
	for _, n := range names {
		if n == name {
			return true
		}
	}
	return false
}

// Open returns the part with that name out of the image that r reads; nil if there is none.
func (i *Image) Open(r io.ReaderAt, name string) *io.SectionReader {
	for _, p := range i.Parts {
		if p.Name == name {
			return io.NewSectionReader(r, p.offset, p.Size)
		}
	}
	return nil
}

// Write writes an image. The readers of parts are read to their end; Size of each part is filled in from sizes that the
// caller states in i.
func Write(w io.Writer, i *Image, parts map[string]io.Reader) error {
	if err := i.validate(); err != nil {
		return err
	}
	if i.Instance == Process {
		return copyPart(w, i.Parts[0], parts)
	}
	header, err := cose.Marshal(i)
	if err != nil {
		return fmt.Errorf("image: %w", err)
	}
	head := binary.BigEndian.AppendUint32([]byte(magic), uint32(len(header)))
	if _, err := w.Write(append(head, header...)); err != nil {
		return fmt.Errorf("image: %w", err)
	}
	for _, p := range i.Parts {
		if err := copyPart(w, p, parts); err != nil {
			return err
		}
	}
	return nil
}

func copyPart(w io.Writer, p Part, parts map[string]io.Reader) error {
	r := parts[p.Name]
	if r == nil {
		return fmt.Errorf("image: part %q is missing", p.Name)
	}
	n, err := io.Copy(w, io.LimitReader(r, p.Size+1))
	if err != nil {
		return fmt.Errorf("image: part %q: %w", p.Name, err)
	}
	if n != p.Size {
		return fmt.Errorf("image: part %q has not %d bytes as stated", p.Name, p.Size)
	}
	return nil
}
