// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// Bounds of one path.
const (
	maxPath  = 4096
	maxDepth = 128
	maxLinks = 40 // resolved on the way to one path, as the kernel has it
)

// applier puts layers on top of each other.
type applier struct {
	root    *os.Root
	left    int64 // bytes that files may still have
	files   int   // entries that may still come
	inflate int64 // bytes that layers may still unpack to
	fresh   map[string]bool
	parents map[string]string // what resolve made of folders' names, until anything is removed or linked
}

// Names with a meaning of their own (layer.md, "Whiteouts").
const (
	whiteout = ".wh."
	opaque   = ".wh..wh..opq"
)

// apply applies one layer. fresh holds what it has brought, to which its own whiteouts do not apply.
func (a *applier) apply(tr *tar.Reader) error {
	a.fresh = map[string]bool{}
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if h.Typeflag == tar.TypeXGlobalHeader {
			continue
		}
		if a.files--; a.files < 0 {
			return fmt.Errorf("%w: too many files", ErrLimit)
		}
		if err := a.entry(h, tr); err != nil {
			return err
		}
	}
}

func (a *applier) entry(h *tar.Header, content io.Reader) error {
	name, err := cleanName(h.Name)
	if err != nil {
		return err
	}
	if name == "." {
		if h.Typeflag != tar.TypeDir {
			return fmt.Errorf("%w: the root is a %q", ErrEntry, h.Typeflag)
		}
		return nil
	}
	parent, err := a.parent(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if h.Typeflag != tar.TypeReg && h.Typeflag != tar.TypeDir || strings.HasPrefix(base, whiteout) {
		a.parents = nil
	}
	switch at := path.Join(parent, base); {
	case base == opaque:
		return a.hide(parent)
	case strings.HasPrefix(base, opaque[:8]):
		return nil // other notes of a storage driver to itself
	case strings.HasPrefix(base, whiteout):
		hidden := strings.TrimPrefix(base, whiteout)
		if hidden == "" || hidden == "." || hidden == ".." {
			return fmt.Errorf("%w: whiteout %.200q", ErrEntry, h.Name)
		}
		return a.hideOne(path.Join(parent, hidden))
	default:
		if err := a.put(at, h, content); err != nil {
			return err
		}
		for ; at != "." && !a.fresh[at]; at = path.Dir(at) {
			a.fresh[at] = true
		}
		return nil
	}
}

// parent resolves the name of a folder, and remembers it: the entries of a folder mostly follow each other.
func (a *applier) parent(name string) (string, error) {
	if at, known := a.parents[name]; known {
		return at, nil
	}
	at, err := a.resolve(name, true)
	if err == nil {
		if a.parents == nil {
			a.parents = map[string]string{}
		}
		a.parents[name] = at
	}
	return at, err
}

// cleanName returns a path of a layer relative to the root; "." for the root itself.
func cleanName(name string) (string, error) {
	if name == "" || len(name) > maxPath || strings.ContainsRune(name, 0) || strings.Count(name, "/") > maxDepth {
		return "", fmt.Errorf("%w: the path %.200q", ErrEntry, name)
	}
	for part := range strings.SplitSeq(name, "/") {
		if part == ".." {
			return "", fmt.Errorf("%w: the path %.200q leads out of the root", ErrEntry, name)
		}
	}
	return path.Clean(strings.TrimLeft(name, "/")), nil // of nothing it makes "."
}

// resolve follows the links in name as a process would whose root this is: an absolute link begins at the root, and ".." ends
// there. The result has no links in it. With make, folders that are missing are made.
func (a *applier) resolve(name string, make bool) (string, error) {
	done, rest := ".", strings.Split(name, "/")
	for links := 0; len(rest) > 0; {
		part := rest[0]
		rest = rest[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			done = path.Dir(done)
			continue
		}
		at := path.Join(done, part)
		if len(at) > maxPath || strings.Count(at, "/") > maxDepth {
			return "", fmt.Errorf("%w: the path %.200q is too deep", ErrEntry, name)
		}
		st, err := a.root.Lstat(at)
		switch {
		case errors.Is(err, fs.ErrNotExist) && make:
			if err := a.mkdir(at); err != nil {
				return "", err
			}
		case err != nil:
			return "", err
		case st.Mode()&fs.ModeSymlink != 0:
			if links++; links > maxLinks {
				return "", fmt.Errorf("%w: too many links in %.200q", ErrEntry, name)
			}
			target, err := a.root.Readlink(at)
			if err != nil {
				return "", err
			}
			if path.IsAbs(target) {
				done = "."
			}
			rest = append(strings.Split(target, "/"), rest...)
			continue
		case !st.IsDir():
			return "", fmt.Errorf("%w: %.200q goes through a file", ErrEntry, name)
		}
		done = at
	}
	return done, nil
}

// mkdir makes a folder that no entry of its own asked for.
func (a *applier) mkdir(at string) error {
	if a.files--; a.files < 0 {
		return fmt.Errorf("%w: too many files", ErrLimit)
	}
	return a.root.Mkdir(at, 0o755)
}

// put makes one entry at a path without links, in the place of what a lower layer has there.
func (a *applier) put(at string, h *tar.Header, content io.Reader) error {
	st, err := a.root.Lstat(at)
	exists := err == nil
	if exists && st.IsDir() && h.Typeflag == tar.TypeDir {
		return a.root.Chmod(at, dirMode(h))
	}
	target := ""
	if h.Typeflag == tar.TypeLink { // found before anything is removed: a link to itself is refused
		if target, err = a.linkTarget(h.Linkname); err != nil {
			return err
		}
		if target == at {
			return fmt.Errorf("%w: %.200q is a hard link to itself", ErrEntry, h.Name)
		}
	}
	if exists {
		a.parents = nil
		if err := a.root.RemoveAll(at); err != nil {
			return err
		}
	}
	switch h.Typeflag {
	case tar.TypeDir:
		return errors.Join(a.root.Mkdir(at, 0o755), a.root.Chmod(at, dirMode(h)))
	case tar.TypeReg, tar.TypeGNUSparse:
		return a.file(at, h, content)
	case tar.TypeSymlink:
		if h.Linkname == "" || len(h.Linkname) > maxPath || strings.ContainsRune(h.Linkname, 0) {
			return fmt.Errorf("%w: the link %.200q", ErrEntry, h.Name)
		}
		return a.root.Symlink(h.Linkname, at) // followed by nobody but the container, and by resolve
	case tar.TypeLink:
		return a.root.Link(target, at)
	}
	return fmt.Errorf("%w: %.200q is a device node or of another type (%q) that is not unpacked", ErrEntry, h.Name, h.Typeflag)
}

// linkTarget finds the file that a hard link is to, within the root.
func (a *applier) linkTarget(name string) (string, error) {
	clean, err := cleanName(name)
	if err != nil {
		return "", err
	}
	parent, err := a.resolve(path.Dir(clean), false)
	if err != nil {
		return "", fmt.Errorf("%w: a hard link to %.200q: %w", ErrEntry, name, err)
	}
	at := path.Join(parent, path.Base(clean))
	if st, err := a.root.Lstat(at); err != nil || !st.Mode().IsRegular() && st.Mode()&fs.ModeSymlink == 0 {
		return "", fmt.Errorf("%w: a hard link to %.200q, which is no file: %w", ErrEntry, name, err)
	}
	return at, nil
}

// The container's user owns everything and has no capabilities, so it must not be locked out by bits that mean nothing to the
// superuser that the image's maker had in mind.
func dirMode(h *tar.Header) fs.FileMode  { return fs.FileMode(h.Mode)&0o777 | 0o700 }
func fileMode(h *tar.Header) fs.FileMode { return fs.FileMode(h.Mode)&0o777 | 0o400 }

func (a *applier) file(at string, h *tar.Header, content io.Reader) error {
	if h.Size > a.left {
		return fmt.Errorf("%w: its files have too many bytes", ErrLimit)
	}
	f, err := a.root.OpenFile(at, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	n, err := io.Copy(f, io.LimitReader(content, a.left+1))
	a.left -= n
	if err == nil && a.left < 0 {
		err = fmt.Errorf("%w: its files have too many bytes", ErrLimit)
	}
	if err == nil {
		err = f.Chmod(fileMode(h))
	}
	if err := errors.Join(err, f.Close()); err != nil {
		return err
	}
	return a.root.Chtimes(at, h.ModTime, h.ModTime)
}

// hide removes from a folder what lower layers brought.
func (a *applier) hide(dir string) error {
	f, err := a.root.Open(dir)
	if err != nil {
		return err
	}
	names, err := f.Readdirnames(-1)
	f.Close()
	if err != nil {
		return err
	}
	for _, name := range names {
		if err := a.hideOne(path.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// hideOne removes one path as far as lower layers brought it.
func (a *applier) hideOne(at string) error {
	if !a.fresh[at] {
		return a.root.RemoveAll(at)
	}
	if st, err := a.root.Lstat(at); err != nil || !st.IsDir() {
		return err
	}
	return a.hide(at)
}
