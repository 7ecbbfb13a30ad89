// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"os"

	"github.com/landlock-lsm/go-landlock/landlock"
	ll "github.com/landlock-lsm/go-landlock/landlock/syscall"
	"golang.org/x/sys/unix"
)

// dropCapabilities gives up every capability, in the user namespace of the sandbox too, so that exec cannot bring any back.
func dropCapabilities() error {
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return fmt.Errorf("no_new_privs: %w", err)
	}
	for c := 0; c <= unix.CAP_LAST_CAP; c++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, uintptr(c), 0, 0, 0); err != nil && err != unix.EINVAL {
			return fmt.Errorf("bounding capability %d: %w", c, err)
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return fmt.Errorf("ambient capabilities: %w", err)
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return fmt.Errorf("dropping capabilities: %w", err)
	}
	return nil
}

// confine puts the process under its Landlock domain and its system call filter, for good.
func confine(s setup) error {
	if err := enterLandlock(s); err != nil {
		return fmt.Errorf("landlock: %w", err)
	}
	if err := loadFilter(s.Profile); err != nil {
		return fmt.Errorf("system call filter: %w", err)
	}
	return nil
}

// Access rights of Landlock. None includes the right to execute: a program's own memory file is on an internal mount, to which
// Landlock does not apply, and nothing else is there to be executed.
const (
	accessRead  = ll.AccessFSReadFile | ll.AccessFSReadDir
	accessFile  = ll.AccessFSReadFile | ll.AccessFSWriteFile | ll.AccessFSTruncate
	accessWrite = accessRead | accessFile | ll.AccessFSRemoveDir | ll.AccessFSRemoveFile | ll.AccessFSMakeDir |
		ll.AccessFSMakeReg | ll.AccessFSMakeSock | ll.AccessFSMakeFifo | ll.AccessFSMakeSym
)

// enterLandlock restricts what the kernel supports of version 7 of Landlock; what it does not is covered by the namespaces, and
// Probe tells.
func enterLandlock(s setup) error {
	domain := landlock.V7.BestEffort()
	if s.Profile == ProfileUA {
		return landlockUA(s)
	}
	if s.Profile != ProfileTA {
		if err := domain.RestrictNet(); err != nil {
			return err
		}
		return domain.RestrictScoped()
	}
	rules, err := fileRules(s)
	if err != nil {
		return err
	}
	return domain.Restrict(rules...)
}

// landlockUA is the domain of a UA: it executes its program and nothing else, and listens on its ports. To connect by TCP is not among
// what is handled. The filter of system calls keeps it from Multipath TCP and its kin, which Landlock does not see.
func landlockUA(s setup) error {
	domain := landlock.Config{
		HandledAccessFS: landlock.V7.HandledAccessFS, HandledAccessNet: ll.AccessNetBindTCP, Scoped: landlock.V7.Scoped,
	}.BestEffort()
	rules, err := fileRules(s)
	if err != nil {
		return err
	}
	rules = append(rules, landlock.PathAccess(ll.AccessFSReadFile|ll.AccessFSExecute, s.Path))
	for _, port := range s.Ports {
		rules = append(rules, landlock.BindTCP(port))
	}
	return domain.Restrict(rules...)
}

// fileRules allow to read all that is there, and to write what is writable.
func fileRules(s setup) ([]landlock.Rule, error) {
	rules := []landlock.Rule{
		landlock.PathAccess(accessRead, "/"),
	}
	for _, name := range devices {
		rules = append(rules, landlock.PathAccess(ll.AccessFSReadFile|ll.AccessFSWriteFile, "/dev/"+name))
	}
	writable := make([]string, 0, len(s.ReadWrite)+len(s.Tmpfs))
	for _, b := range s.ReadWrite {
		writable = append(writable, b.Target)
	}
	for _, t := range s.Tmpfs {
		writable = append(writable, t.Target)
	}
	for _, target := range writable {
		st, err := os.Stat(target)
		if err != nil {
			return nil, err
		}
		access := landlock.AccessFSSet(accessWrite)
		if !st.IsDir() {
			access = accessFile
		}
		rules = append(rules, landlock.PathAccess(access, target))
	}
	return rules, nil
}

// setLimits sets the program's limits, soft and hard alike. RLIMIT_CORE is 1 and not 0, because only 1 also stops the kernel
// from piping a core dump, with all secrets in it, to a crash handler (core(5)). Memory is bounded by RLIMIT_DATA and not by
// RLIMIT_AS, because programs in Go reserve much more address space than they use.
func setLimits(l Limits) error {
	limits := []struct {
		resource int
		value    uint64
	}{
		{unix.RLIMIT_CORE, 1},
		{unix.RLIMIT_MEMLOCK, 8 << 20},
		{unix.RLIMIT_MSGQUEUE, 0},
		{unix.RLIMIT_NOFILE, l.OpenFiles},
		{unix.RLIMIT_FSIZE, l.FileBytes},
		{unix.RLIMIT_CPU, l.CPUSeconds},
		{unix.RLIMIT_DATA, l.DataBytes},
		{unix.RLIMIT_NPROC, l.Processes},
	}
	for _, limit := range limits {
		var now unix.Rlimit
		if err := unix.Getrlimit(limit.resource, &now); err != nil {
			return fmt.Errorf("resource limit %d: %w", limit.resource, err)
		}
		if limit.value == 0 && limit.resource != unix.RLIMIT_MSGQUEUE || limit.value > now.Max {
			continue // unlimited as far as the starter is: a limit is never raised
		}
		if err := unix.Setrlimit(limit.resource, &unix.Rlimit{Cur: limit.value, Max: limit.value}); err != nil {
			return fmt.Errorf("resource limit %d: %w", limit.resource, err)
		}
	}
	return nil
}
