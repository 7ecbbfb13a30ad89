// SPDX-License-Identifier: Apache-2.0

package agent

import "golang.org/x/sys/unix"

// ram is the memory of the machine or guest that the Agent runs on, in bytes; 0 if it is not known.
func ram() uint64 {
	var info unix.Sysinfo_t
	if unix.Sysinfo(&info) != nil {
		return 0
	}
	return uint64(info.Totalram) * uint64(info.Unit)
}
