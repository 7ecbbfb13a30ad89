// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package cgroup

import "os"

// Open needs Linux.
func Open() (*Group, error) { return nil, ErrUnsupported }

// Find needs Linux.
func Find() (*Group, error) { return nil, ErrUnsupported }

// DevicesTree needs Linux.
func DevicesTree() string { return "" }

func kill(int) {}

func removeDir(dir string) error { return os.Remove(dir) }
