// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package container runs TAs that are OCI images, inside a pod sandbox of which the TEEP Agent is the first process.
//
// [Loader.Load] unpacks an image into the TEE's memory (package oci) and keeps the root file system for as long as the TA is
// loaded; the operator can neither read nor change it there. Each process that is started is a container of its own over that root,
// made by the OCI runtime program that the Agent was measured with (package ociruntime). Around a container stand, from the
// outside in:
//
//   - a control group with the TA's limits of memory, processes and processor time (package cgroup), below that of the instance;
//   - a sandbox (package sandbox) in which the runtime program is process 1: its own namespaces, no network, a root that
//     holds nothing but the program, its libraries and what the container gets, no capabilities, an allow-list of system
//     calls. Whatever becomes of the runtime program, the kernel ends the container with it;
//   - the container that the runtime program makes inside, in a further user namespace: the image's root file system,
//     read-only, one user without capabilities, no_new_privs, the system calls of a TA, masked paths, five device nodes.
//
// The container's user has number 0 inside, and is the Agent's unprivileged user outside: an Agent without capabilities can map
// one user only, so the User of an image is not looked at.
package container

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"

	"golang.org/x/sys/unix"

	"sealift/internal/agent/runner"
	"sealift/internal/oci"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
)

// Options are the surroundings of all containers.
type Options struct {
	Dir    string        // in TEE memory, on a file system that allows to execute
	Group  *cgroup.Group // the instance's; each container gets one below it
	Limits oci.Limits    // of one image; without Bytes as many as the file system of Dir has
	Log    *slog.Logger
}

// Loader implements runner.Loader for launch.KindOCI.
type Loader struct {
	opts    Options
	name    string   // of the runtime program
	driver  driver   // of that
	program *os.File // the runtime program, sealed
	folders []string // of its libraries, below Dir/runtime
	number  atomic.Uint64

	mu     sync.Mutex
	images map[[32]byte]*image // those that are loaded
}

// Inherited returns the runtime part that the platform gave to this Agent, or nil in an instance that is no pod sandbox. It has to be
// called before anything opens a file: descriptor numbers are reused.
func Inherited() *os.File {
	if seals, err := unix.FcntlInt(ociruntime.FD, unix.F_GET_SEALS, 0); err != nil || seals&unix.F_SEAL_WRITE == 0 {
		return nil
	}
	unix.CloseOnExec(ociruntime.FD)
	return os.NewFile(ociruntime.FD, "runtime")
}

// New unpacks the runtime part of the Agent's image that r reads.
func New(r io.Reader, o Options) (*Loader, error) {
	l := &Loader{opts: o, images: map[[32]byte]*image{}}
	if o.Log == nil {
		l.opts.Log = slog.New(slog.DiscardHandler)
	}
	if o.Limits.Bytes == 0 {
		var st unix.Statfs_t
		if err := unix.Statfs(o.Dir, &st); err != nil {
			return nil, fmt.Errorf("container: %w", err)
		}
		l.opts.Limits.Bytes = int64(st.Blocks) * st.Bsize
	}
	if err := os.Mkdir(l.runtimeDir(), 0o700); err != nil {
		return nil, fmt.Errorf("container: %w", err)
	}
	var err error
	if l.folders, err = ociruntime.Unpack(r, l.runtimeDir(), l.take); err != nil {
		if l.program != nil {
			_ = l.program.Close()
		}
		return nil, err
	}
	return l, nil
}

// take seals the runtime program. It has tens of megabytes, which never lie in the Agent's own memory.
func (l *Loader) take(name string, program io.Reader) (err error) {
	var known bool
	if l.driver, known = drivers[name]; !known {
		return fmt.Errorf("%w: this Agent does not drive %s", ociruntime.ErrMalformed, name)
	}
	l.name = name
	l.program, _, err = sandbox.SealedMemfd(name, program)
	return err
}

func (l *Loader) runtimeDir() string { return filepath.Join(l.opts.Dir, "runtime") }

// Close frees the runtime program. Nothing that was loaded may be used after it.
func (l *Loader) Close() error { return l.program.Close() }

// Load implements runner.Loader: open gives the payload that package oci describes.
func (l *Loader) Load(ctx context.Context, open func() (io.ReadCloser, error)) (runner.Loaded, [32]byte, error) {
	i := &image{loader: l, dir: filepath.Join(l.opts.Dir, fmt.Sprint("image-", l.number.Add(1)))}
	digest, err := i.unpack(ctx, open)
	if errors.Is(err, syscall.ENOSPC) { // in the TEE's memory, not on a disk
		err = fmt.Errorf("%w: %v", oci.ErrLimit, err)
	}
	if err != nil {
		for _, kind := range []error{oci.ErrMalformed, oci.ErrDigest, oci.ErrPlatform, oci.ErrEntry, oci.ErrLimit} {
			if errors.Is(err, kind) {
				err = fmt.Errorf("%w: %w", runner.ErrProgram, err)
				break
			}
		}
		return nil, digest, errors.Join(err, i.remove())
	}
	i.digest = digest
	l.mu.Lock()
	defer l.mu.Unlock()
	i.users = 1
	if l.images[digest] == nil {
		l.images[digest] = i
	}
	return i, digest, nil
}

// Again implements runner.Sharer: a TA that is started anew, with other data, gets the root file system that is there.
func (l *Loader) Again(digest [32]byte) (runner.Loaded, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.images[digest]
	if i == nil {
		return nil, false
	}
	i.users++
	return i, true
}

// image is an unpacked image.
type image struct {
	loader *Loader
	digest [32]byte
	users  int // that have not closed it; guarded by the loader
	dir    string
	config *oci.Config
	mounts []string // where its volumes are, absolute
}

func (i *image) rootfs() string { return filepath.Join(i.dir, "rootfs") }

func (i *image) unpack(ctx context.Context, open func() (io.ReadCloser, error)) ([32]byte, error) {
	if err := os.MkdirAll(i.rootfs(), 0o700); err != nil {
		return [32]byte{}, fmt.Errorf("container: %w", err)
	}
	root, err := os.OpenRoot(i.rootfs())
	if err != nil {
		return [32]byte{}, fmt.Errorf("container: %w", err)
	}
	defer root.Close()
	config, digest, err := oci.Unpack(ctx, open, root, runtime.GOARCH, i.loader.opts.Limits)
	if err != nil {
		return digest, err
	}
	i.config = config
	if i.mounts, err = volumes(config.Config.Volumes); err != nil {
		return digest, err
	}
	for _, target := range append([]string{"/proc", "/dev", "/tmp", insidePD, insideRun}, i.mounts...) {
		if err := mountPoint(root, target); err != nil {
			return digest, fmt.Errorf("container: making the folder %s: %w", target, err)
		}
	}
	return digest, nil
}

// Paths that a container sees.
const (
	insidePD  = "/pd"
	insideRun = "/run/sealift"
)

// maxVolumes bounds the writable folders that an image asks for.
const maxVolumes = 32

// volumes returns the paths that an image wants to write to (config.md, "Volumes"). Those that the container has anyway are left
// out.
func volumes(asked map[string]struct{}) ([]string, error) {
	var list []string
	for v := range asked {
		clean := path.Clean(v)
		top, _, _ := strings.Cut(strings.TrimPrefix(clean, "/"), "/")
		switch {
		case !path.IsAbs(v) || strings.ContainsRune(v, 0) || clean == "/" || len(clean) > 1024 || len(list) >= maxVolumes:
			return nil, fmt.Errorf("%w: a volume at %.200q", oci.ErrMalformed, v)
		case clean == "/tmp" || top == "proc" || top == "dev" || top == "pd" || clean == "/run" || strings.HasPrefix(clean, insideRun):
			continue
		}
		list = append(list, clean)
	}
	slices.Sort(list) // a folder before those in it
	return list, nil
}

// mountPoint makes the folder target of the image; what is in its way and no folder gives way.
func mountPoint(root *os.Root, target string) error {
	at := "."
	for part := range strings.SplitSeq(strings.TrimPrefix(target, "/"), "/") {
		at = path.Join(at, part)
		st, err := root.Lstat(at)
		if err == nil && st.IsDir() {
			continue
		}
		if err == nil {
			if err := root.Remove(at); err != nil {
				return err
			}
		}
		if err := root.Mkdir(at, 0o755); err != nil {
			return err
		}
	}
	return nil
}

// Inside implements runner.Loaded.
func (*image) Inside(string, string) (string, string) { return insidePD, insideRun }

// Hidden implements runner.Hidden.
func (i *image) Hidden() bool { return i.loader.driver.ownKernel }

// Close implements runner.Loaded.
func (i *image) Close() error {
	l := i.loader
	l.mu.Lock()
	i.users--
	last := i.users == 0
	if last && l.images[i.digest] == i {
		delete(l.images, i.digest)
	}
	l.mu.Unlock()
	if !last {
		return nil
	}
	return i.remove()
}

func (i *image) remove() error {
	if err := os.RemoveAll(i.dir); err != nil {
		return fmt.Errorf("container: %w", err)
	}
	return nil
}
