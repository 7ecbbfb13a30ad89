// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package sandbox

import (
	"fmt"
	"io"
	"os"
	"runtime"
)

type sysCmd struct{}

var errLinux = fmt.Errorf("%w: it needs Linux, this is %s", ErrUnsupported, runtime.GOOS)

// Init does nothing on this system.
func Init() {}

// SealedMemfd needs Linux.
func SealedMemfd(string, io.Reader) (*os.File, Digest, error) { return nil, Digest{}, errLinux }

// CheckProgram needs Linux.
func CheckProgram(io.ReaderAt) error { return errLinux }

// CanMapUID is always false on this system.
func CanMapUID(int) bool { return false }

// Start needs Linux.
func (c *Cmd) Start() error {
	if _, err := c.spec.withDefaults(); err != nil {
		return err
	}
	return errLinux
}

// Wait needs Linux.
func (c *Cmd) Wait() error { return errLinux }

// Kill needs Linux.
func (c *Cmd) Kill() error { return errLinux }

// Pid is 0 on this system.
func (c *Cmd) Pid() int { return 0 }

// Probe says that Linux is needed.
func Probe() []Feature {
	return []Feature{{Name: "Linux", Required: true, Detail: "the device needs Linux, this is " + runtime.GOOS}}
}
