// SPDX-License-Identifier: Apache-2.0

package build_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"sealift/evidence"
	"sealift/internal/image"
	"sealift/internal/image/build"
	"sealift/internal/platform/sandbox"
)

// agent is the head of a static executable of this machine, and no more.
func agent() []byte {
	var head [64]byte
	copy(head[:], "\x7fELF\x02\x01\x01")
	machine := map[string]uint16{"amd64": 62, "arm64": 183, "riscv64": 243}[runtime.GOARCH]
	for offset, v := range map[int]uint16{16: 2, 18: machine, 52: 64, 54: 56, 58: 64} { // type, machine, sizes of headers
		binary.LittleEndian.PutUint16(head[offset:], v)
	}
	head[20] = 1
	return head[:]
}

// kernelDir makes what scripts/setup.sh makes, with other content.
func kernelDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	files := map[string]string{"vmlinuz": "the kernel", "firmware": "the firmware",
		"packages": "linux-image-1 6.1 " + strings.Repeat("ab", 32) + "\nseabios 1.16 " + strings.Repeat("cd", 32) + "\n" +
			"ovmf 2022 " + strings.Repeat("ef", 32) + "\n", "ovmf": "the other firmware"}
	for _, name := range build.Modules {
		files[name+".ko"] = "module " + name
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func guest(t *testing.T, k *build.Kernel, program []byte, vm build.VM) []byte {
	t.Helper()
	var out bytes.Buffer
	if _, err := build.Guest(&out, program, []byte("the runtime"), k, vm); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

var vm = build.VM{Cmdline: build.DefaultCmdline, VCPUs: 1, MemoryMiB: 128}

// TestGuest: the same inputs give the same bytes, and each byte of an input changes what every architecture measures.
func TestGuest(t *testing.T) {
	k, err := build.ReadKernel(kernelDir(t))
	if err != nil {
		t.Fatal(err)
	}
	again, err := build.ReadKernel(kernelDir(t))
	if err != nil {
		t.Fatal(err)
	}
	good := guest(t, k, agent(), vm)
	if !bytes.Equal(good, guest(t, again, agent(), vm)) {
		t.Error("two builds differ")
	}
	changed := map[string][]byte{"nothing": good}
	alter := func(name string, f func(k *build.Kernel, program []byte, vm *build.VM)) {
		other, err := build.ReadKernel(kernelDir(t))
		if err != nil {
			t.Fatal(err)
		}
		program, v := append(agent(), 0), vm
		f(other, program, &v)
		changed[name] = guest(t, other, program, v)
	}
	alter("agent", func(_ *build.Kernel, program []byte, _ *build.VM) { program[64] ^= 1 })
	alter("kernel", func(k *build.Kernel, _ []byte, _ *build.VM) { k.Image[3] ^= 1 })
	alter("firmware", func(k *build.Kernel, _ []byte, _ *build.VM) { k.Firmware[3] ^= 1 })
	alter("module", func(k *build.Kernel, _ []byte, _ *build.VM) { k.Modules["virtio"][3] ^= 1 })
	alter("command line", func(_ *build.Kernel, _ []byte, v *build.VM) { v.Cmdline += " " })
	alter("processors", func(_ *build.Kernel, _ []byte, v *build.VM) { v.VCPUs++ })
	alter("memory", func(_ *build.Kernel, _ []byte, v *build.VM) { v.MemoryMiB++ })
	seen := map[string]string{}
	for name, data := range changed {
		ref, err := build.NewReference(data, k.Packages, "the test")
		if err != nil {
			t.Fatal(err)
		}
		for _, v := range ref.ReferenceValues {
			value := string(v.Hardware) + " " + v.Digests[0].String()
			if other, found := seen[value]; found {
				t.Errorf("%s: %s measures like %s", v.Hardware, name, other)
			}
			seen[value] = name
		}
	}
}

// TestReference: what the file for policies says is what the platform measures.
func TestReference(t *testing.T) {
	k, err := build.ReadKernel(kernelDir(t))
	if err != nil {
		t.Fatal(err)
	}
	data := guest(t, k, agent(), vm)
	ref, err := build.NewReference(data, k.Packages, "the test")
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	names := map[evidence.Hardware]string{evidence.SEVSNP: "MEASUREMENT", evidence.CCA: "RIM", evidence.TDX: "MRTD", evidence.CSV: "MEASURE"}
	for _, v := range ref.ReferenceValues {
		sum, err := img.Measure(bytes.NewReader(data), image.Hash(v.Hardware))
		if err != nil || !strings.HasSuffix(v.Digests[0].String(), ":"+hex.EncodeToString(sum)) || names[v.Hardware] != v.Name {
			t.Errorf("%s: %s %s, measured %x, %v", v.Hardware, v.Name, v.Digests[0], sum, err)
		}
		delete(names, v.Hardware)
	}
	if len(names) != 0 {
		t.Errorf("no reference values for %v", names)
	}
	withTPM := vm
	withTPM.TPM = true
	if s, with := k.Sources(vm), k.Sources(withTPM); len(s) != 2 || s[1].Name != "seabios" || len(with) != 2 || with[0] != s[0] || with[1].Name != "ovmf" {
		t.Errorf("made from %v, with a TPM from %v", s, with)
	}
	// What a TPM measures is computed from a kernel, and this is none.
	if _, err := build.NewReference(guest(t, k, agent(), withTPM), k.Packages, "the test"); !errors.Is(err, image.ErrBoot) {
		t.Errorf("with a TPM: %v", err)
	}
	k.UEFI = nil
	if _, err := build.Guest(&bytes.Buffer{}, agent(), []byte("the runtime"), k, withTPM); !errors.Is(err, build.ErrNoKernel) {
		t.Errorf("without firmware for a TPM: %v", err)
	}
	text, err := build.References{Version: 1, Images: []build.Reference{*ref}}.Marshal()
	var back build.References
	if err != nil || json.Unmarshal(text, &back) != nil || back.Images[0].Packages[1].Name != "seabios" || back.Images[0].Parts[0].Name != "kernel" {
		t.Errorf("%v\n%s", err, text)
	}
}

// TestKernelRefused: a folder that is not whole, and what is no Agent.
func TestKernelRefused(t *testing.T) {
	for _, name := range []string{"vmlinuz", "firmware", "packages", "virtio.ko"} {
		dir := kernelDir(t)
		if err := os.Remove(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
		if _, err := build.ReadKernel(dir); !errors.Is(err, build.ErrNoKernel) || !strings.Contains(err.Error(), name) {
			t.Errorf("without %s: %v", name, err)
		}
	}
	for _, text := range []string{"linux 6.1\n", "linux 6.1 xyz\n", "linux 6.1 abcd\n"} {
		dir := kernelDir(t)
		if err := os.WriteFile(filepath.Join(dir, "packages"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := build.ReadKernel(dir); !errors.Is(err, build.ErrNoKernel) {
			t.Errorf("%q: %v", text, err)
		}
	}
	k, err := build.ReadKernel(kernelDir(t))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := build.Guest(&bytes.Buffer{}, []byte("#!/bin/sh\n"), []byte("r"), k, vm); !errors.Is(err, sandbox.ErrProgram) {
		t.Error(err)
	}
}
