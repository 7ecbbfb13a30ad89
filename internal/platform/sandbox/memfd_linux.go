// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"bytes"
	"crypto/sha256"
	"debug/elf"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// contentSeals forbid every change of a memory file's content, and of its seals (fcntl(2), "File Sealing").
const contentSeals = unix.F_SEAL_SEAL | unix.F_SEAL_SHRINK | unix.F_SEAL_GROW | unix.F_SEAL_WRITE

// SealedMemfd copies r into a new executable memory file, seals it, and returns it with the digest of what it holds. The
// digest is taken after sealing, from the file itself: those bytes are the ones that Command executes.
func SealedMemfd(name string, r io.Reader) (*os.File, Digest, error) {
	f, err := createMemfd(name)
	if err != nil {
		return nil, Digest{}, err
	}
	digest, err := fillAndSeal(f, r)
	if err != nil {
		f.Close()
		return nil, Digest{}, err
	}
	return f, digest, nil
}

func createMemfd(name string) (*os.File, error) {
	fd, err := unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING|unix.MFD_EXEC)
	if errors.Is(err, unix.EINVAL) { // before Linux 6.3 every memory file was executable, and there was no flag to say so
		fd, err = unix.MemfdCreate(name, unix.MFD_CLOEXEC|unix.MFD_ALLOW_SEALING)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: executable memory file: %w", ErrUnsupported, err)
	}
	return os.NewFile(uintptr(fd), "memfd:"+name), nil
}

func fillAndSeal(f *os.File, r io.Reader) (Digest, error) {
	if _, err := io.Copy(f, r); err != nil {
		return Digest{}, fmt.Errorf("sandbox: copying into a memory file: %w", err)
	}
	seals := contentSeals | unix.F_SEAL_EXEC
	_, err := unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, seals)
	if errors.Is(err, unix.EINVAL) { // F_SEAL_EXEC came with Linux 6.3
		_, err = unix.FcntlInt(f.Fd(), unix.F_ADD_SEALS, contentSeals)
	}
	if err != nil {
		return Digest{}, fmt.Errorf("%w: sealing a memory file: %w", ErrUnsupported, err)
	}
	h := sha256.New()
	if _, err := io.Copy(h, io.NewSectionReader(f, 0, 1<<62)); err != nil {
		return Digest{}, fmt.Errorf("sandbox: measuring a memory file: %w", err)
	}
	return Digest(h.Sum(nil)), nil
}

// checkSealed refuses a program whose bytes somebody could still change.
func checkSealed(f *os.File) error {
	seals, err := unix.FcntlInt(f.Fd(), unix.F_GET_SEALS, 0)
	if err != nil || seals&contentSeals != contentSeals {
		return fmt.Errorf("%w: the program is not a sealed memory file", ErrSpec)
	}
	return nil
}

var machines = map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64, "riscv64": elf.EM_RISCV}

// CheckProgram says why a program cannot run in a sandbox: it has to be a static executable for this machine, because there
// is no dynamic linker, no interpreter and no library inside.
func CheckProgram(r io.ReaderAt) error { return checkProgram(r, false) }

func checkProgram(r io.ReaderAt, dynamic bool) error {
	var magic [4]byte
	if _, err := r.ReadAt(magic[:], 0); err != nil || !bytes.Equal(magic[:], []byte(elf.ELFMAG)) {
		return fmt.Errorf("%w: it is not an ELF executable", ErrProgram)
	}
	f, err := elf.NewFile(r)
	if err != nil {
		return fmt.Errorf("%w: damaged ELF file: %w", ErrProgram, err)
	}
	if want := machines[runtime.GOARCH]; f.Machine != want {
		return fmt.Errorf("%w: it is built for %s, this machine is %s", ErrProgram, f.Machine, want)
	}
	if f.Type != elf.ET_EXEC && f.Type != elf.ET_DYN {
		return fmt.Errorf("%w: it is an ELF file of type %s, not an executable", ErrProgram, f.Type)
	}
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP && !dynamic {
			return fmt.Errorf("%w: it is dynamically linked; build it static (Go: CGO_ENABLED=0, C: -static)", ErrProgram)
		}
	}
	return nil
}
