// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// FirstHostUID and LastHostUID bound the users that belong to nobody: those that system managers hand out to services for
// the time they run. A root that has them gives each sandbox one of its own.
const (
	FirstHostUID = 61184
	LastHostUID  = 65519
)

// CanMapUID reports whether this process may start programs under the user and group uid (Spec.HostUID): it needs
// CAP_SETUID and CAP_SETGID, and the ID has to exist in its own user namespace (user_namespaces(7)).
func CanMapUID(uid int) bool {
	return uid > 0 && hasCap(unix.CAP_SETUID) && hasCap(unix.CAP_SETGID) &&
		idExists("/proc/self/uid_map", uid) && idExists("/proc/self/gid_map", uid)
}

// hasCap reports whether capability c is effective in this process.
func hasCap(c int) bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return false
	}
	return data[c/32].Effective&(1<<(c%32)) != 0
}

// idExists reports whether the ID map in file covers id.
func idExists(file string, id int) bool {
	data, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(data)) {
		var inside, outside, size uint64
		if _, err := fmt.Sscan(line, &inside, &outside, &size); err == nil && uint64(id) >= inside && uint64(id) < inside+size {
			return true
		}
	}
	return false
}
