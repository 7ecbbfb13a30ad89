// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"errors"
	"fmt"
	"os"

	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// readable is what QEMU may read, as far as it exists: its libraries and firmware, the time zone and linker configuration,
// and /proc, through which it opens its descriptors and knows its memory.
var readable = []string{"/usr", "/lib", "/lib64", "/etc/ld.so.cache", "/dev/urandom", "/dev/null"}

const (
	accessRead = ll.AccessFSReadFile | ll.AccessFSReadDir
	accessAll  = accessRead | ll.AccessFSExecute | ll.AccessFSWriteFile | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile |
		ll.AccessFSMakeChar | ll.AccessFSMakeDir | ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo |
		ll.AccessFSMakeBlock | ll.AccessFSMakeSym
)

// confine puts the calling thread, and with it what it starts, into a Landlock domain (landlock(7)) in which nothing can be
// written but, if there is one, the folder writable. A kernel without Landlock leaves QEMU to its namespaces, its user and its own
// filter. The rights of the first version are all that is asked for: later ones are about the network, which is in a namespace, and links
// between folders.
func confine(program, writable string, kvm bool) error {
	if _, err := ll.LandlockGetABIVersion(); err != nil {
		return nil
	}
	ruleset, err := ll.LandlockCreateRuleset(&ll.RulesetAttr{HandledAccessFS: accessAll}, 0)
	if err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	defer unix.Close(ruleset)
	for _, path := range readable {
		if err := allow(ruleset, path, accessRead|ll.AccessFSExecute); err != nil {
			return err
		}
	}
	if err := allow(ruleset, program, ll.AccessFSReadFile|ll.AccessFSExecute); err != nil {
		return err
	}
	if kvm {
		if err := allow(ruleset, kvmDevice, ll.AccessFSReadFile|ll.AccessFSWriteFile); err != nil {
			return err
		}
	}
	if writable != "" {
		if err := allow(ruleset, writable, accessRead|ll.AccessFSWriteFile|ll.AccessFSRemoveFile|ll.AccessFSMakeReg); err != nil {
			return err
		}
	}
	// The starter writes the ID maps of the new user namespace there, on this thread. QEMU can write there what concerns itself.
	if err := allow(ruleset, "/proc", accessRead|ll.AccessFSWriteFile); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	if _, _, e := unix.RawSyscall(unix.SYS_LANDLOCK_RESTRICT_SELF, uintptr(ruleset), 0, 0); e != 0 {
		return fmt.Errorf("landlock: %w", e)
	}
	return nil
}

func allow(ruleset int, path string, access uint64) error {
	fd, err := unix.Open(path, unix.O_PATH|unix.O_CLOEXEC, 0)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	defer unix.Close(fd)
	var st unix.Stat_t
	if err := unix.Fstat(fd, &st); err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFDIR {
		access &= ll.AccessFSReadFile | ll.AccessFSExecute | ll.AccessFSWriteFile
	}
	rule := ll.PathBeneathAttr{AllowedAccess: access, ParentFd: fd}
	if err := ll.LandlockAddPathBeneathRule(ruleset, &rule, 0); err != nil {
		return fmt.Errorf("landlock: %s: %w", path, err)
	}
	return nil
}
