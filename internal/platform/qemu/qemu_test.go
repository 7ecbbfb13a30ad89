// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// TestArgs guards what a machine must not have, and that descriptors are counted right.
func TestArgs(t *testing.T) {
	m := Machine{Kernel: os.Stdin, Initramfs: os.Stdin, Cmdline: "quiet, -device x", VCPUs: 2, MemoryMiB: 256,
		Ports: []Port{{"a", os.Stdin}, {"b", os.Stdin}}}
	args, err := m.args()
	if err != nil {
		t.Fatal(err)
	}
	line := strings.Join(args, " ")
	for _, want := range []string{"-nodefaults", "-no-user-config", "-monitor none", "-accel tcg,tb-size=16", "-smp 2", "-m 256",
		"-sandbox on,obsolete=deny,elevateprivileges=deny,spawn=deny,resourcecontrol=deny",
		"-kernel /proc/self/fd/3", "-initrd /proc/self/fd/4", "socket,id=port0,fd=5", "socket,id=port1,fd=6"} {
		if !strings.Contains(line, want) {
			t.Errorf("%q is not in %s", want, line)
		}
	}
	for _, bad := range []string{"-net", "-drive", "-qmp", "-vnc", "-bios", "kvm"} {
		if slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, bad) }) {
			t.Errorf("%q is in %s", bad, line)
		}
	}
	if i := slices.Index(args, "-append"); i < 0 || args[i+1] != "quiet, -device x" {
		t.Error("the kernel's command line is not one argument")
	}
	m.Firmware = os.Stdin
	args, err = m.args()
	if line := strings.Join(args, " "); err != nil || !strings.Contains(line, "-bios /proc/self/fd/5") || !strings.Contains(line, "fd=7") {
		t.Errorf("%s, %v", line, err)
	}
	if got := len(m.files()); got != 5 {
		t.Errorf("%d files", got)
	}
	if strings.Contains(strings.Join(args, " "), "tpm") {
		t.Error("a machine has a TPM that nobody gave it")
	}
	m.TPM = os.Stdin
	args, err = m.args()
	if line := strings.Join(args, " "); err != nil || len(m.files()) != 6 ||
		!strings.Contains(line, "socket,id=tpm,fd=8 -tpmdev emulator,id=tpm0,chardev=tpm -device tpm-crb,tpmdev=tpm0") {
		t.Errorf("%s, %v", line, err)
	}
}

// TestArgsRefused: a machine that lacks something, or whose names would be read as something else.
func TestArgsRefused(t *testing.T) {
	good := Machine{Kernel: os.Stdin, Initramfs: os.Stdin, VCPUs: 1, MemoryMiB: 64}
	for name, change := range map[string]func(*Machine){
		"kernel": func(m *Machine) { m.Kernel = nil },
		"cpus":   func(m *Machine) { m.VCPUs = 0 },
		"memory": func(m *Machine) { m.MemoryMiB = 0 },
		"name":   func(m *Machine) { m.Ports = []Port{{"a,chardev=b", os.Stdin}} },
		"ports":  func(m *Machine) { m.Ports = make([]Port, 9) },
	} {
		m := good
		change(&m)
		if _, err := m.args(); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
}
