// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ErrLocked says that another Broker uses the same state folder.
var ErrLocked = errors.New("another Broker is running on this state folder")

// lockState takes the state folder for this process, until the returned file is closed or the process ends, however that
// happens: the lock is the kernel's (flock), so a killed Broker leaves none behind.
func lockState(dir string) (*os.File, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the state folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, "lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the state folder's lock: %w", err)
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if errors.Is(err, syscall.EWOULDBLOCK) {
		f.Close()
		return nil, fmt.Errorf("%w: %s", ErrLocked, dir)
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("locking the state folder: %w", err)
	}
	return f, nil
}

// identity returns the Broker's id, a new random one the first time. It is kept with the state: a Broker that was killed and
// starts again is the same one for the M/OC and need not wait until its own lease has run out.
func identity(dir string) (string, error) {
	path := filepath.Join(dir, "id")
	data, err := os.ReadFile(path)
	if err == nil && len(strings.TrimSpace(string(data))) >= 16 {
		return strings.TrimSpace(string(data)), nil
	}
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return "", fmt.Errorf("reading the Broker's identity: %w", err)
	}
	id := rand.Text()
	tmp := path + ".new"
	if err := os.WriteFile(tmp, []byte(id+"\n"), 0o600); err != nil {
		return "", fmt.Errorf("writing the Broker's identity: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return "", fmt.Errorf("writing the Broker's identity: %w", err)
	}
	return id, nil
}
