// SPDX-License-Identifier: Apache-2.0

package image

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"unicode/utf16"

	"sealift/evidence"
	"sealift/evidence/tpm"
	"sealift/internal/image/authenticode"
)

// ErrBoot says that what a TPM measures of an image cannot be computed from it.
var ErrBoot = errors.New("image: what its TPM will measure cannot be computed")

// Boot returns what firmware and kernel measure into the TPM of a vm that is booted from the image that r reads, under the names of
// package tpm: the kernel, its command line and the initramfs, each SHA-256. It is computed from the parts alone, as QEMU 7.2, OVMF
// 2022.11 and the EFI stub of Linux 6.1 do it; nothing was copied from a boot. An image without a TPM gives nothing.
func (i *Image) Boot(r io.ReaderAt) ([]evidence.Measurement, error) {
	if !i.TPM {
		return nil, nil
	}
	kernel, err := io.ReadAll(i.Open(r, PartKernel))
	if err != nil {
		return nil, fmt.Errorf("image: reading the kernel: %w", err)
	}
	initramfs := i.Open(r, PartInitramfs)
	archive := sha256.New()
	if _, err := io.Copy(archive, initramfs); err != nil {
		return nil, fmt.Errorf("image: reading the initramfs: %w", err)
	}
	if err := i.loadKernel(kernel, initramfs.Size()); err != nil {
		return nil, err
	}
	started, err := authenticode.Digest(kernel)
	if err != nil {
		return nil, fmt.Errorf("%w: the kernel: %w", ErrBoot, err)
	}
	line := sha256.Sum256(loadOptions(i.Cmdline))
	return []evidence.Measurement{{Name: tpm.Kernel, Value: started[:]}, {Name: tpm.Cmdline, Value: line[:]},
		{Name: tpm.Initramfs, Value: archive.Sum(nil)}}, nil
}

// loadOptions are the kernel's load options as it measures them: UTF-16 with a zero at the end. OVMF names the initramfs behind
// the command line.
func loadOptions(cmdline string) []byte {
	var out []byte
	for _, u := range append(utf16.Encode([]rune(cmdline+" initrd=initrd")), 0) {
		out = binary.LittleEndian.AppendUint16(out, u)
	}
	return out
}

// Fields of a Linux kernel's setup header (Documentation/arch/x86/boot.rst).
const (
	headerMagic    = 0x202 // "HdrS"
	headerVersion  = 0x206
	typeOfLoader   = 0x210
	loadFlags      = 0x211
	ramdiskImage   = 0x218
	ramdiskSize    = 0x21c
	heapEnd        = 0x224
	cmdlinePointer = 0x228
	xloadFlags     = 0x236
	headerEnd      = 0x238
)

// loadKernel writes into the setup header what QEMU writes there before the firmware gets the kernel (hw/i386/x86.c): it prepares for a
// start without firmware in any case, and firmware measures the outcome. So the kernel's digest depends on where the initramfs
// would go: on its size, and on the machine's memory.
func (i *Image) loadKernel(kernel []byte, archive int64) error {
	le := binary.LittleEndian
	if len(kernel) < headerEnd || string(kernel[headerMagic:headerMagic+4]) != "HdrS" || le.Uint16(kernel[headerVersion:]) < 0x20c ||
		kernel[loadFlags]&1 == 0 || le.Uint16(kernel[xloadFlags:])&2 == 0 {
		return fmt.Errorf("%w: the kernel is none for x86-64 with boot protocol 2.12", ErrBoot)
	}
	if slices.ContainsFunc(strings.Fields(i.Cmdline), func(w string) bool { return strings.HasPrefix(w, "vga=") }) {
		return fmt.Errorf("%w: vga= in its command line", ErrBoot)
	}
	const (
		realAddress, cmdlineAddress = 0x10000, 0x20000
		acpiData                    = 0x28000                // that QEMU keeps free at the end of the memory
		low, lowIfMore              = 0xb0000000, 0x80000000 // memory below 4 GiB of the machine q35
	)
	memory := int64(i.MemoryMiB) << 20
	if memory >= low {
		memory = lowIfMore
	}
	place := (memory - acpiData - 1 - archive) &^ 4095
	if place <= 0 {
		return fmt.Errorf("%w: the memory is smaller than the initramfs", ErrBoot)
	}
	kernel[typeOfLoader] = 0xb0
	kernel[loadFlags] |= 0x80
	le.PutUint16(kernel[heapEnd:], cmdlineAddress-realAddress-0x200)
	le.PutUint32(kernel[cmdlinePointer:], cmdlineAddress)
	le.PutUint32(kernel[ramdiskImage:], uint32(place))
	le.PutUint32(kernel[ramdiskSize:], uint32(archive))
	return nil
}
