// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"errors"
	"fmt"
	"os"
	"path"
	"strconv"

	"golang.org/x/sys/unix"
)

// devices are all that /dev holds, besides links.
var devices = []string{"null", "zero", "full", "random", "urandom"}

// links make /dev complete.
var links = [][2]string{
	{"/proc/self/fd", "/dev/fd"}, {"/proc/self/fd/0", "/dev/stdin"},
	{"/proc/self/fd/1", "/dev/stdout"}, {"/proc/self/fd/2", "/dev/stderr"},
}

// Options of the new mount interface that package unix does not name (linux/mount.h).
const (
	openTreeClone      = 0x1
	moveMountEmptyPath = 0x4
)

// mount is one entry of the new root: a detached mount of something outside, or a new tmpfs.
type mount struct {
	target string
	fd     int // detached mount, or -1 for a tmpfs
	dir    bool
	bytes  uint64
	exec   bool
}

// openMounts takes a detached copy of every source, while the old root is still there and with the starter's rights.
func openMounts(s setup) ([]mount, error) {
	if err := unix.Mount("", "/", "", unix.MS_PRIVATE|unix.MS_REC, ""); err != nil {
		return nil, fmt.Errorf("making the mounts private: %w", err)
	}
	var mounts []mount
	const attr = unix.MOUNT_ATTR_NOSUID
	for _, name := range devices {
		m, err := detach(Bind{Source: "/dev/" + name, Target: "/dev/" + name}, attr|unix.MOUNT_ATTR_NOEXEC)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	for _, b := range s.ReadOnly {
		m, err := detach(b, attr|b.noexec()|unix.MOUNT_ATTR_NODEV|unix.MOUNT_ATTR_RDONLY)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	for _, b := range s.ReadWrite {
		m, err := detach(b, attr|b.noexec()|unix.MOUNT_ATTR_NODEV)
		if err != nil {
			return nil, err
		}
		mounts = append(mounts, m)
	}
	for _, t := range s.Tmpfs {
		mounts = append(mounts, mount{target: t.Target, fd: -1, dir: true, bytes: t.Bytes, exec: t.Exec})
	}
	return mounts, nil
}

func (b Bind) noexec() uint64 {
	if b.Exec {
		return 0
	}
	return unix.MOUNT_ATTR_NOEXEC
}

// detach copies the mount of one source, with restrictions that cannot be taken off inside.
func detach(b Bind, attributes uint64) (mount, error) {
	var st unix.Stat_t
	if err := unix.Stat(b.Source, &st); err != nil {
		return mount{}, fmt.Errorf("bind source %s: %w", b.Source, err)
	}
	fd, err := unix.OpenTree(unix.AT_FDCWD, b.Source, openTreeClone|unix.O_CLOEXEC)
	if err != nil {
		return mount{}, fmt.Errorf("bind source %s: open_tree: %w", b.Source, err)
	}
	set := unix.MountAttr{Attr_set: attributes, Propagation: unix.MS_PRIVATE}
	if err := unix.MountSetattr(fd, "", unix.AT_EMPTY_PATH, &set); err != nil {
		return mount{}, fmt.Errorf("bind source %s: mount_setattr: %w", b.Source, err)
	}
	return mount{target: b.Target, fd: fd, dir: st.Mode&unix.S_IFMT == unix.S_IFDIR}, nil
}

// buildRoot makes the new root in memory, moves the mounts to it, and leaves the old root for good.
func buildRoot(mounts []mount, wholeProc bool) error {
	base, err := baseDir()
	if err != nil {
		return err
	}
	owner := "uid=" + strconv.Itoa(insideID) + ",gid=" + strconv.Itoa(insideID)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	if err := unix.Mount("tmpfs", base, "tmpfs", flags, owner+",mode=0755,size=1m,nr_inodes=1024"); err != nil {
		return fmt.Errorf("root file system in memory: %w", err)
	}
	for _, dir := range []string{"/proc", "/dev"} {
		if err := os.Mkdir(base+dir, 0o755); err != nil {
			return fmt.Errorf("root file system: %w", err)
		}
	}
	if err := mountProc(base+"/proc", wholeProc); err != nil {
		return err
	}
	for _, m := range mounts {
		if err := m.place(base, owner); err != nil {
			return err
		}
	}
	for _, l := range links {
		if err := os.Symlink(l[0], base+l[1]); err != nil {
			return fmt.Errorf("root file system: %w", err)
		}
	}
	if err := pivot(base); err != nil {
		return err
	}
	remount := flags | unix.MS_REMOUNT | unix.MS_BIND | unix.MS_RDONLY
	if err := unix.Mount("", "/", "", remount, ""); err != nil {
		return fmt.Errorf("making the root read-only: %w", err)
	}
	return nil
}

// baseDir finds a folder over which the new root can be mounted for a moment; what it holds does not matter.
func baseDir() (string, error) {
	for _, dir := range []string{"/tmp", "/run", "/var", "/mnt", "/home", "/dev"} {
		if st, err := os.Stat(dir); err == nil && st.IsDir() {
			return dir, nil
		}
	}
	return "", errors.New("no folder to mount the new root over")
}

// mountProc mounts /proc for the new pid namespace, without the parts that are not about processes unless the whole is wanted.
func mountProc(dir string, whole bool) error {
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC)
	options := "subset=pid"
	if whole {
		options = ""
	}
	err := unix.Mount("proc", dir, "proc", flags, options)
	if errors.Is(err, unix.EINVAL) { // subset= came with Linux 5.8
		err = unix.Mount("proc", dir, "proc", flags, "")
	}
	if err != nil {
		return fmt.Errorf("mounting /proc (a container that hides parts of its /proc does not allow it): %w", err)
	}
	return nil
}

// place puts a mount where it belongs under base.
func (m mount) place(base, owner string) error {
	target := base + m.target
	if err := os.MkdirAll(path.Dir(target), 0o755); err != nil {
		return fmt.Errorf("mount point %s: %w", m.target, err)
	}
	var err error
	if m.dir {
		err = os.MkdirAll(target, 0o755)
	} else {
		err = os.WriteFile(target, nil, 0o644)
	}
	if err != nil {
		return fmt.Errorf("mount point %s: %w", m.target, err)
	}
	if m.fd >= 0 {
		if err := unix.MoveMount(m.fd, "", unix.AT_FDCWD, target, moveMountEmptyPath); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
		return nil
	}
	data := owner + ",mode=0700,size=" + strconv.FormatUint(m.bytes, 10)
	flags := uintptr(unix.MS_NOSUID | unix.MS_NODEV)
	if !m.exec {
		flags |= unix.MS_NOEXEC
	}
	if err := unix.Mount("tmpfs", target, "tmpfs", flags, data); err != nil {
		return fmt.Errorf("file system in memory at %s: %w", m.target, err)
	}
	return nil
}

// pivot makes base the root and unmounts the old one (pivot_root(2), "pivot_root(".", ".")").
func pivot(base string) error {
	if err := unix.Chdir(base); err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	if err := unix.PivotRoot(".", "."); err != nil {
		return fmt.Errorf("changing the root: %w", err)
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return fmt.Errorf("leaving the old root: %w", err)
	}
	if err := unix.Chdir("/"); err != nil {
		return fmt.Errorf("new root: %w", err)
	}
	return nil
}
