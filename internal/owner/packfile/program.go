// SPDX-License-Identifier: Apache-2.0

package packfile

import (
	"bytes"
	"debug/elf"
	"fmt"
	"io"
	"os"
)

// notRunnable says why a file cannot run in a TEE, and what to do about it.
type notRunnable struct{ what, hint string }

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64}

// checkProgram tells whether the file at path is a static ELF executable for arch. A TA runs in a root of its own that holds no
// dynamic linker and no libraries, so a program that needs them would only fail later, inside the TEE.
func checkProgram(path, arch string) *notRunnable {
	r, err := os.Open(path)
	if err != nil {
		return &notRunnable{what: err.Error()}
	}
	defer r.Close()
	return checkELF(r, path, arch)
}

func checkELF(r io.ReaderAt, path, arch string) *notRunnable {
	file, err := elf.NewFile(r)
	if err != nil {
		return notELF(r, path)
	}
	defer file.Close()
	if want, ok := machines[arch]; ok && file.Machine != want {
		return &notRunnable{fmt.Sprintf("%s is for %v, and the target is %s", path, file.Machine, arch),
			"build it for the target (Go: GOARCH=" + arch + "), or set arch"}
	}
	if file.Type != elf.ET_EXEC && file.Type != elf.ET_DYN {
		return &notRunnable{path + " is an ELF file but not a program", "link it first"}
	}
	for _, p := range file.Progs {
		if p.Type == elf.PT_INTERP {
			return &notRunnable{path + " is dynamically linked, and no libraries travel with it",
				"link it statically (Go: CGO_ENABLED=0; C: -static; Debian's busybox: the package busybox-static)"}
		}
	}
	if libs, err := file.ImportedLibraries(); err == nil && len(libs) > 0 {
		return &notRunnable{path + " is a shared library, not a program", "give a static executable"}
	}
	return nil
}

// CheckProgram says why data, which errors call name, is no static executable for arch; nil if it is one.
func CheckProgram(data []byte, name, arch string) error {
	if why := checkELF(bytes.NewReader(data), name, arch); why != nil {
		return fmt.Errorf("%s (%s)", why.what, why.hint)
	}
	return nil
}

// IsELF reports whether the file at path begins as an ELF file.
func IsELF(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 4)
	_, err = f.ReadAt(head, 0)
	return err == nil && string(head) == elf.ELFMAG
}

// IsModule reports whether the file at path is a WebAssembly module in the binary format, version 1.
func IsModule(path string) bool {
	f, err := os.Open(path)
	if err != nil {
		return false
	}
	defer f.Close()
	head := make([]byte, 8)
	_, err = f.ReadAt(head, 0)
	return err == nil && bytes.Equal(head, []byte("\x00asm\x01\x00\x00\x00"))
}

// notELF looks at the first bytes of a file that is not an ELF file, for a hint that fits.
func notELF(r io.ReaderAt, path string) *notRunnable {
	head := make([]byte, 4)
	if _, err := r.ReadAt(head, 0); err != nil {
		return &notRunnable{path + " is too short to be a program", ""}
	}
	switch {
	case bytes.HasPrefix(head, []byte("#!")):
		return &notRunnable{path + " is a script, and the TEE has no interpreter for it", "give the interpreter as binary and the script as args or PD"}
	case bytes.HasPrefix(head, []byte("MZ")):
		return &notRunnable{path + " is a Windows program", "build it for Linux (Go: GOOS=linux)"}
	case bytes.HasPrefix(head, []byte{0xcf, 0xfa, 0xed, 0xfe}), bytes.HasPrefix(head, []byte{0xca, 0xfe, 0xba, 0xbe}):
		return &notRunnable{path + " is a macOS program", "build it for Linux (Go: GOOS=linux)"}
	case bytes.HasPrefix(head, []byte("\x00asm")):
		return &notRunnable{path + " is a WebAssembly module, and a TA in a process or vm can be one", "give a static ELF executable"}
	}
	return &notRunnable{path + " is not a static ELF executable", "build the program for Linux without shared libraries"}
}
