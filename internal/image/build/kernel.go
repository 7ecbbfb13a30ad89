// SPDX-License-Identifier: Apache-2.0

package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Modules are the kernel modules that a guest needs for its virtio-serial ports, in the order in which they are loaded.
var Modules = []string{"virtio_ring", "virtio", "virtio_pci_modern_dev", "virtio_pci_legacy_dev", "virtio_pci", "virtio_console"}

// ErrNoKernel says that there is no kernel to build the image of a vm from.
var ErrNoKernel = errors.New("build: no kernel")

// Kernel is a distribution's kernel with the firmware that starts it, as scripts/setup.sh unpacks them: a folder with the files
// vmlinuz, NAME.ko for each of Modules, firmware, perhaps ovmf (firmware that measures into a TPM), and packages: a line for the
// kernel's package, one for that of firmware, and one for that of ovmf, each with its name, its version and the SHA-256 of its file.
type Kernel struct {
	Image    []byte
	Modules  map[string][]byte // by name, without .ko
	Firmware []byte
	UEFI     []byte    // the file ovmf; nil where there is none
	Packages []Package // in the order of the file
}

// Sources returns the packages that the image of a vm is made from: the kernel's, and that of its firmware.
func (k *Kernel) Sources(vm VM) []Package {
	firmware := 1
	if vm.TPM {
		firmware = 2
	}
	if len(k.Packages) <= firmware {
		return k.Packages
	}
	return []Package{k.Packages[0], k.Packages[firmware]}
}

// Package names where something comes from.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // "sha256:<hex>" of the package's file
}

// maxFile bounds a kernel and each of its modules.
const maxFile = 64 << 20

// ReadKernel reads the folder.
func ReadKernel(dir string) (*Kernel, error) {
	text, err := readFile(filepath.Join(dir, "packages"))
	if err != nil {
		return nil, err
	}
	k := &Kernel{Modules: map[string][]byte{}}
	for line := range strings.Lines(string(text)) {
		p, err := parsePackage(line)
		if err != nil {
			return nil, fmt.Errorf("%w: the file packages in %s: %w", ErrNoKernel, dir, err)
		}
		k.Packages = append(k.Packages, p)
	}
	if k.Image, err = readFile(filepath.Join(dir, "vmlinuz")); err != nil {
		return nil, err
	}
	if k.Firmware, err = readFile(filepath.Join(dir, "firmware")); err != nil {
		return nil, err
	}
	if k.UEFI, err = readFile(filepath.Join(dir, "ovmf")); err != nil && !errors.Is(err, ErrNoKernel) {
		return nil, err
	}
	for _, name := range Modules {
		if k.Modules[name], err = readFile(filepath.Join(dir, name+".ko")); err != nil {
			return nil, err
		}
	}
	return k, nil
}

func parsePackage(line string) (Package, error) {
	fields := strings.Fields(line)
	if len(fields) != 3 {
		return Package{}, fmt.Errorf("%q is not a name, a version and a digest", line)
	}
	if sum, err := hex.DecodeString(fields[2]); err != nil || len(sum) != sha256.Size {
		return Package{}, fmt.Errorf("%q is no SHA-256", fields[2])
	}
	return Package{fields[0], fields[1], "sha256:" + fields[2]}, nil
}

func readFile(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %w", ErrNoKernel, err)
	}
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	if !st.Mode().IsRegular() || st.Size() > maxFile {
		return nil, fmt.Errorf("%w: %s is no file, or has more than %d bytes", ErrNoKernel, path, maxFile)
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("build: %w", err)
	}
	return data, nil
}
