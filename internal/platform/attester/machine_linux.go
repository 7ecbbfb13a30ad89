// SPDX-License-Identifier: Apache-2.0

package attester

import (
	"crypto/rand"
	"encoding/binary"
	"os"
	"runtime"
	"unsafe"

	"github.com/google/go-configfs-tsm/configfs/linuxtsm"
	"golang.org/x/sys/unix"
)

// This returns the machine that this program runs on.
func This() Machine {
	m := Machine{Root: "/", Open: openDevice, Rand: rand.Reader}
	if client, err := linuxtsm.MakeClient(); err == nil {
		m.TSM = client
	}
	return m
}

type device struct{ f *os.File }

func openDevice(path string) (Device, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return nil, err
	}
	return device{f}, nil
}

func (d device) Close() error { return d.f.Close() }

// Ioctl implements Device. The address of buf is in arg only while the garbage collector is held off both.
func (d device) Ioctl(request uint, arg, buf []byte) (int, error) {
	var pin runtime.Pinner
	defer pin.Unpin()
	if buf != nil {
		pin.Pin(&buf[0])
		binary.NativeEndian.PutUint64(arg, uint64(uintptr(unsafe.Pointer(&buf[0]))))
	}
	r, _, errno := unix.Syscall(unix.SYS_IOCTL, d.f.Fd(), uintptr(request), uintptr(unsafe.Pointer(&arg[0])))
	runtime.KeepAlive(buf)
	if errno != 0 {
		return 0, errno
	}
	return int(r), nil
}
