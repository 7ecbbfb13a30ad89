// SPDX-License-Identifier: Apache-2.0

//go:build linux

package container

import "time"

// SetStartTime sets startTime, and returns what sets it back.
func SetStartTime(d time.Duration) (restore func()) {
	old := startTime
	startTime = d
	return func() { startTime = old }
}
