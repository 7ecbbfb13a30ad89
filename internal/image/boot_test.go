// SPDX-License-Identifier: Apache-2.0

package image_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/evidence/tpm"
	"sealift/internal/image"
	"sealift/internal/image/authenticode"
	"sealift/internal/sharedtest"
)

// measuredVM is an image with a TPM.
func measuredVM(t *testing.T, kernel, archive []byte, cmdline string, memory uint) ([]byte, *image.Image) {
	t.Helper()
	i := &image.Image{Instance: image.VM, Cmdline: cmdline, VCPUs: 1, MemoryMiB: memory, TPM: true, Parts: []image.Part{
		{Name: image.PartKernel, Size: int64(len(kernel))}, {Name: image.PartInitramfs, Size: int64(len(archive))}, {Name: image.PartFirmware, Size: 4}}}
	var out bytes.Buffer
	if err := image.Write(&out, i, map[string]io.Reader{image.PartKernel: bytes.NewReader(kernel), image.PartInitramfs: bytes.NewReader(archive),
		image.PartFirmware: strings.NewReader("ovmf")}); err != nil {
		t.Fatal(err)
	}
	back, err := image.Read(bytes.NewReader(out.Bytes()), int64(out.Len()))
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes(), back
}

func booted(t *testing.T, kernel, archive []byte, cmdline string, memory uint) map[string]string {
	t.Helper()
	data, i := measuredVM(t, kernel, archive, cmdline, memory)
	list, err := i.Boot(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, m := range list {
		out[m.Name] = hex.EncodeToString(m.Value)
	}
	return out
}

// What was seen in a boot, whose quote is in the test data of package tpm.
const (
	seenCmdline = "console=ttyS0 quiet panic=-1 no_timer_check"
	seenLine    = "32e3b46477fdfae8f5c73c8be43f9cdbe5f52a595787fa8bac534c2a246ff9b9"
	seenKernel  = "bd7517a965926f05ad0ec883f04a5d541e40c44bd2adaf3f10a065a138378286" // of the kernel, in 256 MiB
	seenFile    = "5f21ff2c0d5d899842b28a8b19901ba72cf7a7ab93c02a77fadc6ff72be85b31" // with this digest
	seenArchive = 3560176                                                            // and an initramfs of this size
)

// TestBoot compares what is computed with what was seen, and wants each input in what a TPM has of it.
func TestBoot(t *testing.T) {
	kernel, err := os.ReadFile(filepath.Join(sharedtest.Root(t), ".cache", "kernel", "vmlinuz"))
	if err != nil {
		sharedtest.Missing(t, "scripts/setup.sh was not run: %v", err)
	}
	archive := make([]byte, seenArchive)
	good := booted(t, kernel, archive, seenCmdline, 256)
	sum := sha256.Sum256(archive)
	if good[tpm.Cmdline] != seenLine || good[tpm.Initramfs] != hex.EncodeToString(sum[:]) || len(good) != 3 {
		t.Errorf("%v", good)
	}
	if file, err := authenticode.Digest(kernel); err != nil || hex.EncodeToString(file[:]) == seenFile && good[tpm.Kernel] != seenKernel {
		t.Errorf("the kernel: %s, %v", good[tpm.Kernel], err)
	}
	other := bytes.Clone(archive)
	other[7] = 1
	changed := bytes.Clone(kernel)
	changed[len(kernel)/2] ^= 1
	for name, c := range map[string]struct {
		now     map[string]string
		changes []string
	}{
		"a byte of the kernel":     {booted(t, changed, archive, seenCmdline, 256), []string{tpm.Kernel}},
		"a byte of the initramfs":  {booted(t, kernel, other, seenCmdline, 256), []string{tpm.Initramfs}},
		"a larger initramfs":       {booted(t, kernel, append(other, 0), seenCmdline, 256), []string{tpm.Initramfs, tpm.Kernel}},
		"a command line":           {booted(t, kernel, archive, seenCmdline+" ", 256), []string{tpm.Cmdline}},
		"a line beyond the BMP":    {booted(t, kernel, archive, "\U0001f600", 256), []string{tpm.Cmdline}},
		"memory":                   {booted(t, kernel, archive, seenCmdline, 512), []string{tpm.Kernel}},
		"memory above the low one": {booted(t, kernel, archive, seenCmdline, 4096), []string{tpm.Kernel}},
	} {
		differ := 0
		for n, v := range c.now {
			if v != good[n] {
				differ++
				if !strings.Contains(strings.Join(c.changes, " "), n) {
					t.Errorf("%s changes %s", name, n)
				}
			}
		}
		if differ != len(c.changes) {
			t.Errorf("%s changes %d digests, want %v", name, differ, c.changes)
		}
	}
}

// TestBootRefused: what cannot be computed is said, and a TPM without firmware that would measure into it is no image.
func TestBootRefused(t *testing.T) {
	kernel := make([]byte, 0x1000)
	for name, cmdline := range map[string]string{"no kernel": "quiet", "screen": "vga=ask"} {
		data, i := measuredVM(t, kernel, []byte("archive"), cmdline, 64)
		if _, err := i.Boot(bytes.NewReader(data)); !errors.Is(err, image.ErrBoot) {
			t.Errorf("%s: %v", name, err)
		}
		copy(kernel[0x202:], "HdrS\x0f\x02")
		kernel[0x211], kernel[0x236] = 1, 2
	}
	data, i := measuredVM(t, kernel, make([]byte, 1<<20), "quiet", 1)
	if _, err := i.Boot(bytes.NewReader(data)); !errors.Is(err, image.ErrBoot) || !strings.Contains(err.Error(), "memory") {
		t.Errorf("little memory: %v", err)
	}
	data = vm(t, nil)
	plain, err := image.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	if list, err := plain.Boot(bytes.NewReader(data)); err != nil || list != nil {
		t.Errorf("without a TPM: %v, %v", list, err)
	}
	i.Parts = i.Parts[:2]
	if err := image.Write(io.Discard, i, nil); !errors.Is(err, image.ErrMalformed) {
		t.Errorf("a TPM without firmware: %v", err)
	}
}

// TestTPMIsMeasured guards that a machine with a TPM cannot be launched without it.
func TestTPMIsMeasured(t *testing.T) {
	data, i := measuredVM(t, []byte("kernel"), []byte("archive"), "quiet", 64)
	with, err := i.Measure(bytes.NewReader(data), sha256.New)
	if err != nil {
		t.Fatal(err)
	}
	i.TPM = false
	without, err := i.Measure(bytes.NewReader(data), sha256.New)
	if err != nil || bytes.Equal(with, without) {
		t.Errorf("%x with, %x without, %v", with, without, err)
	}
}
