// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package guest runs TAs that are guest payloads (launch.KindGuest): a static program with the files that belong to it.
//
// Where a mode has the TA before the attestation, the guest was booted with the payload: the kernel unpacked it from an archive that the
// hardware measured at launch (package initramfs), and the payload that comes with the TA's manifest is not unpacked again. It is compared,
// entry by entry, with what the kernel made of the archive. They are the same, or the TA does not start: so the owner's signature,
// the launch measurement and the program that runs are about the same bytes. Where the TA comes after the attestation there was
// nothing to boot with, and the payload is unpacked into TEE memory.
//
// A process of the TA runs in the sandbox that every TA gets. Beside that sandbox's own folders it sees the payload's, read-only, at its root.
package guest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"syscall"

	"sealift/internal/agent/runner"
	"sealift/internal/image/initramfs"
)

// ErrBooted means that the guest was booted with something else than the payload that the owner signed.
var ErrBooted = errors.New("guest: this guest was booted with another payload than the signed one")

// Loader implements runner.Loader.
type Loader struct {
	Booted   string // the folder with the payload that the guest was booted with; empty: with none
	Dir      string // in TEE memory, for payloads that come later
	Launcher runner.Launcher
}

// Load implements runner.Loader.
func (l Loader) Load(_ context.Context, open func() (io.ReadCloser, error)) (_ runner.Loaded, digest [32]byte, err error) {
	r, err := open()
	if err != nil {
		return nil, digest, err
	}
	defer r.Close()
	h := sha256.New()
	p := &payload{launcher: l.Launcher, dir: l.Booted}
	if l.Booted != "" {
		err = compare(initramfs.NewLayerReader(io.TeeReader(r, h)), l.Booted)
	} else {
		if p.dir, err = os.MkdirTemp(l.Dir, "guest-"); err != nil {
			return nil, digest, fmt.Errorf("guest: %w", err)
		}
		p.own = true
		err = unpack(initramfs.NewLayerReader(io.TeeReader(r, h)), p.dir)
	}
	if errors.Is(err, initramfs.ErrLayer) || errors.Is(err, ErrBooted) || errors.Is(err, syscall.ENOSPC) {
		err = fmt.Errorf("%w: %w", runner.ErrProgram, err)
	}
	if err != nil {
		return nil, digest, errors.Join(err, p.Close())
	}
	return p, [32]byte(h.Sum(nil)), nil
}

// compare reports the first difference between a payload and a folder.
func compare(l *initramfs.LayerReader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer root.Close()
	count := 0
	for {
		h, err := l.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
		count++
		if err := same(root, h, l); err != nil {
			return fmt.Errorf("%w: %s: %w", ErrBooted, h.Name, err)
		}
	}
	return fs.WalkDir(root.FS(), ".", func(name string, _ fs.DirEntry, err error) error {
		if err != nil {
			return fmt.Errorf("guest: %w", err)
		}
		if count--; count < 0 {
			return fmt.Errorf("%w: it had further files, one of them at or before %s", ErrBooted, name)
		}
		return nil
	})
}

var errDiffers = errors.New("it differs")

func same(root *os.Root, h *initramfs.Header, content io.Reader) error {
	st, err := root.Lstat(h.Name)
	if err != nil {
		return err
	}
	switch {
	case h.Folder:
		if !st.IsDir() {
			return errDiffers
		}
		return nil
	case h.Link != "":
		if target, err := root.Readlink(h.Name); err != nil || target != h.Link {
			return errors.Join(errDiffers, err)
		}
		return nil
	case !st.Mode().IsRegular() || st.Size() != h.Size || uint32(st.Mode().Perm()) != h.Mode:
		return errDiffers
	}
	f, err := root.Open(h.Name)
	if err != nil {
		return err
	}
	defer f.Close()
	return equal(f, content)
}

// equal compares what two readers give, to the end of both.
func equal(a, b io.Reader) error {
	x, y := make([]byte, 64<<10), make([]byte, 64<<10)
	for {
		n, errX := io.ReadFull(a, x)
		m, errY := io.ReadFull(b, y)
		for _, err := range []error{errX, errY} {
			if err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
				return err
			}
		}
		if n != m || !bytes.Equal(x[:n], y[:m]) {
			return errDiffers
		}
		if errX != nil || errY != nil {
			return nil
		}
	}
}

// unpack writes a payload into an empty folder.
func unpack(l *initramfs.LayerReader, dir string) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return fmt.Errorf("guest: %w", err)
	}
	defer root.Close()
	for {
		h, err := l.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		switch {
		case h.Name == ".":
		case h.Folder:
			err = root.Mkdir(h.Name, 0o755)
		case h.Link != "":
			err = root.Symlink(h.Link, h.Name)
		default:
			err = write(root, h, l)
		}
		if err != nil {
			return fmt.Errorf("guest: unpacking %s: %w", h.Name, err)
		}
	}
}

func write(root *os.Root, h *initramfs.Header, content io.Reader) error {
	f, err := root.OpenFile(h.Name, os.O_WRONLY|os.O_CREATE|os.O_EXCL, fs.FileMode(h.Mode))
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	return errors.Join(err, f.Close())
}

// payload implements runner.Loaded.
type payload struct {
	launcher runner.Launcher
	dir      string
	own      bool // dir goes with it

	mu      sync.Mutex
	program *os.File // sealed; nil before the first start
	path    string   // of the program
}

// Inside implements runner.Loaded.
func (p *payload) Inside(pdDir, runDir string) (pd, run string) {
	return p.launcher.Inside(pdDir, runDir)
}

// Launch implements runner.Loaded.
func (p *payload) Launch(ctx context.Context, j runner.Job) (runner.Process, error) {
	program, err := p.seal(j.Spec.Entrypoint)
	if err != nil {
		return nil, err
	}
	args := append([]string{path.Base(j.Spec.Entrypoint[0])}, j.Spec.Entrypoint[1:]...)
	j.Program, j.Root, j.Args = program, p.dir, append(args, j.Spec.Args...)
	return p.launcher.Launch(ctx, j)
}

// seal copies the program into a sealed memory file, once. Links are followed as far as they stay in the payload.
func (p *payload) seal(entrypoint []string) (*os.File, error) {
	if len(entrypoint) == 0 {
		return nil, fmt.Errorf("%w: the package does not say which program of the payload to start: give an entrypoint", runner.ErrProgram)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.program != nil && p.path == entrypoint[0] {
		return p.program, nil
	}
	root, err := os.OpenRoot(p.dir)
	if err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	defer root.Close()
	f, err := root.Open(strings.TrimPrefix(filepath.Clean(entrypoint[0]), "/"))
	if err != nil {
		return nil, fmt.Errorf("%w: the program %s of the payload: %w", runner.ErrProgram, entrypoint[0], err)
	}
	defer f.Close()
	if st, err := f.Stat(); err != nil || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("%w: %s of the payload is no file", runner.ErrProgram, entrypoint[0])
	}
	program, _, err := p.launcher.Seal("ta", f)
	if err != nil {
		return nil, err
	}
	if p.program != nil {
		p.program.Close()
	}
	p.program, p.path = program, entrypoint[0]
	return program, nil
}

// Close implements runner.Loaded.
func (p *payload) Close() error {
	var errs []error
	if p.program != nil {
		errs = append(errs, p.program.Close())
	}
	if p.own {
		errs = append(errs, os.RemoveAll(p.dir))
	}
	return errors.Join(errs...)
}
