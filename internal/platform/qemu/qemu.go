// SPDX-License-Identifier: Apache-2.0

// Package qemu runs one virtual machine in QEMU, as a program: it builds the command line, starts and confines the process,
// and kills it.
//
// The machine boots a Linux kernel directly (QEMU's -kernel), from memory files that the caller has sealed and measured, so
// that what runs is what was measured. It has a serial console for its log, virtio-serial ports, perhaps a TPM, and nothing else: no
// network, no disk, no display, no default device, no configuration file, and no monitor that could change it.
//
// QEMU itself parses what a hostile guest writes to its devices, so it is confined in turn: a user of its own where the
// starter can give it one, namespaces of its own (user, mount, pid, net, ipc, uts, cgroup), a Landlock domain in which it can read
// programs and libraries and write nothing, its own seccomp filter (-sandbox), resource limits, and death with its starter.
//
// The processor is emulated too (TCG), unless the caller asks for KVM. A /dev/kvm that can be opened says nothing about whether a kernel boots
// under it: what does is a trial boot ([Trials]). Which of them it is, is not measured: it changes the speed, and nothing that a guest is.
package qemu

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
)

// ErrUnsupported means that this machine lacks what a virtual machine needs; the text says what.
var ErrUnsupported = errors.New("qemu: not supported on this machine")

// Program is the emulator that is run: that of the architecture that the images are for.
const Program = "qemu-system-x86_64"

// maxPorts bounds the virtio-serial ports.
const maxPorts = 8

// Port is a virtio-serial port.
type Port struct {
	Name string   // as the guest finds it: /sys/class/virtio-ports/*/name
	File *os.File // one end of a stream socket; the caller keeps and closes it
}

// Machine is a virtual machine to start.
type Machine struct {
	// Kernel and Initramfs are sealed memory files; Firmware too, and may be nil: QEMU's own then. The caller keeps and
	// closes them; QEMU reads them when it starts.
	Kernel, Initramfs, Firmware *os.File
	Cmdline                     string
	VCPUs, MemoryMiB            uint
	Ports                       []Port
	TPM                         *os.File  // control channel of a TPM ([TPM.Control]); nil: none. The caller keeps and closes it
	Console                     io.Writer // gets what the guest writes to its serial console, and what QEMU says
	UID                         int       // the user of the host that QEMU runs as; 0 is the starter's own
	KVM                         bool      // run the guest's processors on the machine's own
}

// files are what QEMU inherits, as descriptors 3, 4, ...
func (m Machine) files() []*os.File {
	files := []*os.File{m.Kernel, m.Initramfs}
	if m.Firmware != nil {
		files = append(files, m.Firmware)
	}
	for _, p := range m.Ports {
		files = append(files, p.File)
	}
	if m.TPM != nil {
		files = append(files, m.TPM)
	}
	return files
}

const firstFD = 3

func (m Machine) accel() string {
	if m.KVM {
		return "kvm"
	}
	return "tcg,tb-size=16" // a larger buffer for translated code costs memory and gains nothing
}

// args is QEMU's command line, with the descriptors that files has.
func (m Machine) args() ([]string, error) {
	if m.Kernel == nil || m.Initramfs == nil || m.VCPUs == 0 || m.MemoryMiB == 0 || len(m.Ports) > maxPorts {
		return nil, errors.New("qemu: a machine needs a kernel, an initramfs, processors and memory, and has at most 8 ports")
	}
	fd := firstFD
	next := func() string { fd++; return strconv.Itoa(fd - 1) }
	args := []string{
		Program, "-name", "tee", "-no-user-config", "-nodefaults", "-nographic", "-no-reboot",
		"-machine", "q35", "-accel", m.accel(), "-cpu", "max", "-smp", strconv.FormatUint(uint64(m.VCPUs), 10),
		"-m", strconv.FormatUint(uint64(m.MemoryMiB), 10),
		// Neither more privileges, nor other programs, nor other limits for itself.
		"-sandbox", "on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-chardev", "stdio,id=console,signal=off", "-serial", "chardev:console", "-monitor", "none",
		"-kernel", "/proc/self/fd/" + next(), "-initrd", "/proc/self/fd/" + next(), "-append", m.Cmdline,
	}
	if m.Firmware != nil {
		args = append(args, "-bios", "/proc/self/fd/"+next())
	}
	args = append(args, "-device", "virtio-serial-pci,max_ports="+strconv.Itoa(maxPorts+1))
	for i, p := range m.Ports {
		if p.Name == "" || strings.ContainsAny(p.Name, ",=\x00") {
			return nil, fmt.Errorf("qemu: a port cannot be called %q", p.Name)
		}
		id := "port" + strconv.Itoa(i)
		args = append(args, "-chardev", "socket,id="+id+",fd="+next(),
			"-device", "virtserialport,chardev="+id+",name="+p.Name)
	}
	if m.TPM != nil {
		args = append(args, "-chardev", "socket,id=tpm,fd="+next(), "-tpmdev", "emulator,id=tpm0,chardev=tpm", "-device", "tpm-crb,tpmdev=tpm0")
	}
	return args, nil
}
