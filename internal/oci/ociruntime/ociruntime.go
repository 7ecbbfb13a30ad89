// SPDX-License-Identifier: Apache-2.0

// Package ociruntime is the part "runtime" of a container's Agent image: an OCI runtime program (runc, or gVisor's runsc) with the shared
// libraries that it needs, so that what starts containers inside a TEE is measured with the Agent, to the last library.
//
// The part is a tar file. Its first entry is the program, under its own name; the others are the dynamic loader and the
// libraries, at the paths at which the loader looks for them. The same files make the same bytes.
package ociruntime

import (
	"archive/tar"
	"bytes"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// FD is the descriptor under which the Agent of a container finds the part, a sealed memory file; GuestFile the file in which that of a
// guest does.
const (
	FD        = 4
	GuestFile = "lib/runtime"
)

// Bounds of a part.
const (
	MaxFiles = 64
	MaxBytes = 200 << 20
)

// Errors.
var (
	// ErrMalformed means that the bytes are no such part.
	ErrMalformed = errors.New("ociruntime: not a runtime program with its libraries")
	// ErrLibrary means that a library of the program was not found.
	ErrLibrary = errors.New("ociruntime: a library of the runtime program is missing")
)

// The runtime programs that the Agent can drive, by name.
const (
	Runc  = "runc"
	Runsc = "runsc" // gVisor: a kernel of its own for each container, in an ordinary process
)

// Known are their names.
var Known = []string{Runc, Runsc}

var (
	programName = regexp.MustCompile(`^[a-z][a-z0-9_.-]{0,31}$`)
	libraryPath = regexp.MustCompile(`^(usr/)?lib[a-z0-9]*(/[A-Za-z0-9_+.-]+)+$`)
)

// triplets are the names of the folders in which Debian keeps libraries.
var triplets = map[elf.Machine]string{elf.EM_X86_64: "x86_64-linux-gnu", elf.EM_AARCH64: "aarch64-linux-gnu", elf.EM_RISCV: "riscv64-linux-gnu"}

// Collect returns the part that holds the program at file and every library that it needs, as this machine has them.
func Collect(file string) ([]byte, error) {
	name := filepath.Base(file)
	if !slices.Contains(Known, name) {
		return nil, fmt.Errorf("%w: %s; the Agent drives %s", ErrMalformed, file, strings.Join(Known, ", "))
	}
	c := collector{files: map[string][]byte{}}
	program, err := c.load(file)
	if err != nil {
		return nil, err
	}
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	if err := writeEntry(w, name, program); err != nil {
		return nil, err
	}
	for _, lib := range slices.Sorted(maps.Keys(c.files)) {
		if err := writeEntry(w, lib, c.files[lib]); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return buf.Bytes(), nil
}

func writeEntry(w *tar.Writer, name string, data []byte) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil {
		return fmt.Errorf("ociruntime: %w", err)
	}
	_, err := w.Write(data)
	return err
}

type collector struct {
	files map[string][]byte // by path without the leading slash
}

// load reads an executable or a library, and collects what it needs.
func (c *collector) load(file string) ([]byte, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, fmt.Errorf("ociruntime: %w", err)
	}
	f, err := elf.NewFile(bytes.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, file, err)
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		loader, err := io.ReadAll(io.LimitReader(p.Open(), 256))
		if err != nil {
			return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, file, err)
		}
		if err := c.add(strings.TrimRight(string(loader), "\x00")); err != nil {
			return nil, err
		}
	}
	needed, err := f.ImportedLibraries()
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, file, err)
	}
	for _, name := range needed {
		at, err := find(name, f.Machine)
		if err == nil {
			err = c.add(at)
		}
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
	}
	return data, nil
}

func (c *collector) add(file string) error {
	name := strings.TrimPrefix(path.Clean(file), "/")
	if _, done := c.files[name]; done {
		return nil
	}
	if !libraryPath.MatchString(name) || len(c.files) >= MaxFiles {
		return fmt.Errorf("%w: %s", ErrLibrary, file)
	}
	c.files[name] = nil
	data, err := c.load(file)
	c.files[name] = data
	return err
}

// find looks where the dynamic loader does (ld.so(8)), as far as a program from a package needs it.
func find(name string, machine elf.Machine) (string, error) {
	triplet := triplets[machine]
	for _, dir := range []string{"/lib/" + triplet, "/usr/lib/" + triplet, "/lib64", "/usr/lib64", "/lib", "/usr/lib"} {
		file := path.Join(dir, path.Base(name))
		if st, err := os.Stat(file); err == nil && st.Mode().IsRegular() {
			return file, nil
		}
	}
	return "", fmt.Errorf("%w: %s", ErrLibrary, name)
}

// Name returns the name of the program in a part.
func Name(r io.Reader) (string, error) {
	h, err := tar.NewReader(r).Next()
	if err != nil || h.Typeflag != tar.TypeReg || !programName.MatchString(h.Name) {
		return "", fmt.Errorf("%w: it does not begin with a program: %w", ErrMalformed, err)
	}
	return h.Name, nil
}

// Unpack reads a part: it gives the program to take, and writes the libraries into the folder dir by their paths. Folders are the
// topmost of those paths.
func Unpack(r io.Reader, dir string, take func(name string, program io.Reader) error) (folders []string, err error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, fmt.Errorf("ociruntime: %w", err)
	}
	defer root.Close()
	tr := tar.NewReader(io.LimitReader(r, MaxBytes))
	for n := 0; ; n++ {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) && n > 0 {
			return folders, nil
		}
		if err != nil || h.Typeflag != tar.TypeReg || n > MaxFiles {
			return nil, fmt.Errorf("%w: entry %d: %w", ErrMalformed, n+1, err)
		}
		if n == 0 {
			if !programName.MatchString(h.Name) {
				return nil, fmt.Errorf("%w: a program called %.100q", ErrMalformed, h.Name)
			}
			program := &entry{r: tr}
			err := take(h.Name, program)
			if program.err != nil {
				return nil, fmt.Errorf("%w: %w", ErrMalformed, program.err)
			}
			if err != nil {
				return nil, err
			}
			continue
		}
		if !libraryPath.MatchString(h.Name) || path.Clean(h.Name) != h.Name {
			return nil, fmt.Errorf("%w: a library at %.100q", ErrMalformed, h.Name)
		}
		if err := writeLibrary(root, h.Name, tr); err != nil {
			return nil, err
		}
		if top, _, _ := strings.Cut(h.Name, "/"); !slices.Contains(folders, top) {
			folders = append(folders, top)
		}
	}
}

// entry notes why a part cannot be read on.
type entry struct {
	r   io.Reader
	err error
}

// Read implements io.Reader.
func (e *entry) Read(p []byte) (int, error) {
	n, err := e.r.Read(p)
	if err != nil && err != io.EOF {
		e.err = err
	}
	return n, err
}

func writeLibrary(root *os.Root, name string, r io.Reader) error {
	if err := root.MkdirAll(path.Dir(name), 0o755); err != nil {
		return fmt.Errorf("ociruntime: %w", err)
	}
	f, err := root.OpenFile(name, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o755)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	_, err = io.Copy(f, r)
	if err := errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("ociruntime: %s: %w", name, err)
	}
	return nil
}
