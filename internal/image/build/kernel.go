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

// Kernel is a distribution's kernel, as scripts/setup.sh unpacks it: a folder with the files vmlinuz, NAME.ko for each of
// Modules, and package, one line with the package's name, its version and the SHA-256 of its file.
type Kernel struct {
	Image   []byte
	Modules map[string][]byte // by name, without .ko
	Package Package
}

// Package names where a kernel comes from.
type Package struct {
	Name    string `json:"name"`
	Version string `json:"version"`
	Digest  string `json:"digest"` // "sha256:<hex>" of the package's file
}

// maxFile bounds a kernel and each of its modules.
const maxFile = 64 << 20

// ReadKernel reads the folder.
func ReadKernel(dir string) (*Kernel, error) {
	line, err := readFile(filepath.Join(dir, "package"))
	if err != nil {
		return nil, err
	}
	fields := strings.Fields(string(line))
	if len(fields) != 3 {
		return nil, fmt.Errorf("%w: the file package in %s does not name a package, its version and its digest", ErrNoKernel, dir)
	}
	if sum, err := hex.DecodeString(fields[2]); err != nil || len(sum) != sha256.Size {
		return nil, fmt.Errorf("%w: the file package in %s has no SHA-256", ErrNoKernel, dir)
	}
	k := &Kernel{Modules: map[string][]byte{}, Package: Package{fields[0], fields[1], "sha256:" + fields[2]}}
	if k.Image, err = readFile(filepath.Join(dir, "vmlinuz")); err != nil {
		return nil, err
	}
	for _, name := range Modules {
		if k.Modules[name], err = readFile(filepath.Join(dir, name+".ko")); err != nil {
			return nil, err
		}
	}
	return k, nil
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
