// SPDX-License-Identifier: Apache-2.0

// Package build makes Agent images (package image) and says what hardware will measure of them.
//
// An image depends on its inputs only: the same Agent, kernel, runtime and parameters give the same bytes, wherever and
// whenever it is built. So whoever wants to accept an image can build it, instead of believing who runs it.
//
// The image of a vm is firmware, a kernel, and an initramfs with the Agent as its first program (/init), and beside it the kernel
// modules that it loads in the order of their names, and the OCI runtime program.
package build

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"

	"sealift/internal/image"
	"sealift/internal/image/initramfs"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/platform/sandbox"
)

// VM are the parameters of a virtual machine. They are measured.
type VM struct {
	Cmdline   string
	VCPUs     uint
	MemoryMiB uint
	TPM       bool // with a TPM, and UEFI firmware that measures into it what it boots
}

// Defaults of VM. A guest that fails ends, and its console tells why. The kernel is not to check that its timer ticks: on a machine
// that is overloaded an emulated one ticks too late, and the kernel gives up.
const (
	DefaultCmdline   = "console=ttyS0 quiet panic=-1 no_timer_check"
	DefaultVCPUs     = 1
	DefaultMemoryMiB = 384
)

// ModuleDir is the folder of the initramfs with the kernel modules. They are loaded in the order of their names.
const ModuleDir = "lib/modules"

// folders are what a guest mounts file systems on.
var folders = map[string]uint32{
	"dev": 0o755, "lib": 0o755, ModuleDir: 0o755, "mnt": 0o755, "oci": 0o755, "proc": 0o555, "run": 0o755, "sys": 0o555, "tmp": 0o1777,
}

// Process writes the image of a process: the Agent itself.
func Process(w io.Writer, agent []byte) (*image.Image, error) {
	return write(w, &image.Image{Instance: image.Process}, []part{{image.PartAgent, agent}})
}

// Container writes the image of a container: the Agent and the OCI runtime program that it starts TAs with.
func Container(w io.Writer, agent, runtime []byte) (*image.Image, error) {
	return write(w, &image.Image{Instance: image.Container}, []part{{image.PartAgent, agent}, {image.PartRuntime, runtime}})
}

// Guest writes the image of a vm. runtime is the OCI runtime program that the Agent starts containers with.
func Guest(w io.Writer, agent, runtime []byte, k *Kernel, vm VM) (*image.Image, error) {
	archive, err := Initramfs(agent, runtime, k)
	if err != nil {
		return nil, err
	}
	firmware := k.Firmware
	if vm.TPM {
		firmware = k.UEFI
	}
	if len(firmware) == 0 {
		return nil, fmt.Errorf("%w with firmware that measures into a TPM: the file ovmf is missing beside it", ErrNoKernel)
	}
	img := &image.Image{Instance: image.VM, Cmdline: vm.Cmdline, VCPUs: vm.VCPUs, MemoryMiB: vm.MemoryMiB, TPM: vm.TPM}
	return write(w, img, []part{{image.PartKernel, k.Image}, {image.PartInitramfs, archive}, {image.PartFirmware, firmware}})
}

// Initramfs returns the archive with the Agent, the OCI runtime program and the modules of k.
func Initramfs(agent, runtime []byte, k *Kernel) ([]byte, error) {
	if err := sandbox.CheckProgram(bytes.NewReader(agent)); err != nil {
		return nil, fmt.Errorf("build: the Agent: %w", err)
	}
	entries := []initramfs.Entry{{Name: "init", Mode: 0o755, Data: agent}, {Name: ociruntime.GuestFile, Mode: 0o444, Data: runtime}}
	for name, mode := range folders {
		entries = append(entries, initramfs.Entry{Name: name, Mode: mode})
	}
	for i, name := range Modules {
		entries = append(entries, initramfs.Entry{Name: fmt.Sprintf("%s/%02d-%s.ko", ModuleDir, i, name), Mode: 0o444, Data: k.Modules[name]})
	}
	var out bytes.Buffer
	if err := initramfs.Write(&out, entries); err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	return out.Bytes(), nil
}

type part struct {
	name string
	data []byte
}

func write(w io.Writer, img *image.Image, parts []part) (*image.Image, error) {
	readers := map[string]io.Reader{}
	for _, p := range parts {
		if len(p.data) == 0 {
			return nil, errors.New("build: the part " + p.name + " is empty")
		}
		img.Parts = append(img.Parts, image.Part{Name: p.name, Size: int64(len(p.data))})
		readers[p.name] = bytes.NewReader(p.data)
	}
	if err := image.Write(w, img, readers); err != nil {
		return nil, err
	}
	return img, nil
}

// digest is how digests are written for people and files.
func digest(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
