// SPDX-License-Identifier: Apache-2.0

// Package guest makes a confidential virtual machine fit for the TEEP Agent that is its first program, /init of an initramfs:
// file systems, kernel modules, and the three virtio-serial ports behind which hardware, Broker and store are (package serial).
//
// The Agent then is an ordinary user without capabilities in a guest that has no network and no disk: what it starts is bounded in the
// same way as in a confidential process (package sandbox). When it ends, the guest's kernel has lost its first program, and the guest
// ends.
//
// Further things may be there, all of them measured at launch. The initramfs has the OCI runtime program (package ociruntime), and
// the guest's control groups, of version 2, are the Agent's to divide between containers. And the guest may have been booted with a
// guest payload: then the folder LayerDir of package initramfs is there. And it may have a TPM, into which firmware and kernel have measured the boot.
package guest

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"sealift/internal/image/initramfs"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/internal/platform/serial"
)

// initName is the name under which a Linux kernel starts the first program of an initramfs.
const initName = "/init"

// guestUser is the user that the Agent becomes in a virtual machine: not root, so that TAs are bounded as they are elsewhere.
const guestUser = 1000

// portTime bounds how long the devices of a guest may take to appear.
const portTime = time.Minute

// Inside says whether this program is the first one of a virtual machine, which is then all its own.
func Inside() bool { return os.Getpid() == 1 && len(os.Args) > 0 && os.Args[0] == initName }

// ociDir is memory for images, from which can be executed.
const ociDir = "/oci"

// Guest is what the Agent finds in its virtual machine.
type Guest struct {
	TEE   hw.TEE
	Store *serial.Folder // in the REE
	// Runtime is the part with the OCI runtime program, nil in an image without it. Whoever reads it closes it: its memory is the guest's.
	Runtime *os.File
	// Payload is the folder with the guest payload that was booted, "" where there is none.
	Payload string
	TPM     hw.Quoter // nil where there is none
}

// Open does all that, once.
func Open() (*Guest, error) {
	if err := newRoot(); err != nil {
		return nil, fmt.Errorf("guest: root file system: %w", err)
	}
	if err := loadModules("/lib/modules"); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	g := &Guest{}
	if err := g.find(); err != nil {
		return nil, fmt.Errorf("guest: %w", err)
	}
	ports := map[string]*os.File{}
	for _, name := range []string{serial.PortHW, serial.PortChannel, serial.PortStore} {
		port, err := openPort(name, time.Now().Add(portTime))
		if err != nil {
			return nil, fmt.Errorf("guest: port %s: %w", name, err)
		}
		ports[name] = port
	}
	var err error
	if g.TPM, err = openTPM(); err != nil {
		return nil, fmt.Errorf("guest: the TPM: %w", err)
	}
	if err := leaveRoot(); err != nil {
		return nil, fmt.Errorf("guest: leaving root: %w", err)
	}
	if g.TEE, err = hw.OpenSerial(ports[serial.PortHW], ports[serial.PortChannel]); err != nil {
		return nil, err
	}
	g.Store = serial.NewFolder(ports[serial.PortStore])
	return g, nil
}

// find looks for what may be there beside the Agent. The control groups become the Agent's before it stops being root.
func (g *Guest) find() error {
	payload := "/" + initramfs.LayerDir
	if _, err := os.Lstat(payload); err == nil {
		g.Payload = payload
	}
	f, err := os.Open("/" + ociruntime.GuestFile)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	g.Runtime = f
	if err := os.Remove("/" + ociruntime.GuestFile); err != nil {
		return err
	}
	if err := unix.Mount("cgroup2", cgroup.MountRoot, "cgroup2", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("control groups: %w", err)
	}
	group, err := cgroup.Open()
	if err != nil {
		return err
	}
	if err := group.Delegate(guestUser); err != nil {
		return err
	}
	return os.Chmod(cgroup.MountRoot, 0o755) // the topmost group's folder can be written by nobody to begin with: root needs no leave
}

// guestMounts are the file systems of a guest.
var guestMounts = []struct {
	target, kind string
	flags        uintptr
	data         string
}{
	{"/proc", "proc", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, ""},
	{"/sys", "sysfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC | unix.MS_RDONLY, ""},
	{"/dev", "devtmpfs", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0755"},
	{"/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, "mode=1777,size=10%"},
	{"/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC, fmt.Sprintf("mode=0700,uid=%d,gid=%d,size=50%%", guestUser, guestUser)},
	{ociDir, "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, fmt.Sprintf("mode=0700,uid=%d,gid=%d,size=50%%", guestUser, guestUser)},
}

// newRoot mounts what a guest needs. The kernel's first root file system cannot be left with pivot_root(2), which sandboxes do:
// so it is mounted once more over itself, and that mount can.
func newRoot() error {
	if err := unix.Mount("/", "/mnt", "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("binding it: %w", err)
	}
	if err := errors.Join(unix.Chdir("/mnt"), unix.Mount(".", "/", "", unix.MS_MOVE, ""), unix.Chroot("."), unix.Chdir("/")); err != nil {
		return fmt.Errorf("moving it: %w", err)
	}
	for _, m := range guestMounts {
		if err := unix.Mount(m.kind, m.target, m.kind, m.flags, m.data); err != nil {
			return fmt.Errorf("mounting %s: %w", m.target, err)
		}
	}
	return nil
}

// loadModules loads the kernel modules of a folder in the order of their names.
func loadModules(dir string) error {
	files, err := filepath.Glob(filepath.Join(dir, "*.ko"))
	if err != nil {
		return err
	}
	sort.Strings(files)
	for _, path := range files {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("loading %s: %w", filepath.Base(path), err)
		}
		_ = os.Remove(path) // its memory is the guest's
	}
	return nil
}

// openPort opens a virtio-serial port once the device has it and the machine around the guest is connected to it.
func openPort(name string, deadline time.Time) (*os.File, error) {
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		path, err := findPort(name)
		if err == nil {
			var f *os.File
			if f, err = openConnected(path); err == nil {
				return f, nil
			}
		}
		if time.Now().After(deadline) {
			return nil, err
		}
		time.Sleep(pause)
	}
}

// findPort looks for the device by the name that the machine around the guest gave the port.
func findPort(name string) (string, error) {
	names, err := filepath.Glob("/sys/class/virtio-ports/*/name")
	if err != nil {
		return "", err
	}
	for _, file := range names {
		text, err := os.ReadFile(file)
		if err == nil && strings.TrimSpace(string(text)) == name {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(file))), nil
		}
	}
	return "", errors.New("no such port")
}

// openConnected opens a port. Until the other end is connected the driver says that it hung up, and that reads are at their end.
func openConnected(path string) (*os.File, error) {
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, err
	}
	poll := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN | unix.POLLOUT}}
	if _, err := unix.Poll(poll, 0); err != nil || poll[0].Revents&unix.POLLHUP != 0 {
		unix.Close(fd)
		return nil, errors.Join(err, errors.New("not connected"))
	}
	return os.NewFile(uintptr(fd), path), nil
}

// leaveRoot makes every thread of this program an ordinary user's, without capabilities. The kernel then hides the program's
// own files in /proc from it, as from a user who could trace what was root before; there is no such user here.
func leaveRoot() error {
	if err := errors.Join(unix.Setgroups(nil), unix.Setresgid(guestUser, guestUser, guestUser), unix.Setresuid(guestUser, guestUser, guestUser)); err != nil {
		return err
	}
	return unix.Prctl(unix.PR_SET_DUMPABLE, 1, 0, 0, 0)
}
