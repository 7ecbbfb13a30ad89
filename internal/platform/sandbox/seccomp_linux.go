// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	"fmt"
	"runtime"
	"slices"
	"unsafe"

	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = cloneFlags | unix.CLONE_NEWTIME

// NamespaceFlags are the flags of clone(2) that ProfileTA denies.
const NamespaceFlags uint64 = newNamespaces

// The verdicts of a filter.
const (
	retAllow  = unix.SECCOMP_RET_ALLOW
	retDenied = unix.SECCOMP_RET_ERRNO | uint32(unix.EPERM)
	retAbsent = unix.SECCOMP_RET_ERRNO | uint32(unix.ENOSYS)
)

// Offsets in struct seccomp_data. The low half of an argument comes first on all machines that this runs on, and it is all that
// the kernel looks at for the arguments that are checked here.
const (
	offNumber   = 0
	offMachine  = 4
	offArgument = 16
)

// x32Bit marks calls of the x32 ABI, which share the machine number of amd64.
const x32Bit = 0x40000000

// rule allows a system call depending on one argument: it has to be one of only (if there are any), none of not, and have no
// bit of clear. Third is what the third argument has to be one of, if there are any.
type rule struct {
	name      string
	argument  uint32
	only, not []uint32
	clear     uint32
	third     []uint32
}

// rules are the calls whose argument decides. TAs may not make namespaces.
func rules(p Profile) []rule {
	r := []rule{
		{name: "socket", argument: 0, only: []uint32{unix.AF_UNIX}},
		{name: "socketpair", argument: 0, only: []uint32{unix.AF_UNIX}},
		{name: "personality", argument: 0, only: []uint32{0, 0xffffffff}},
		{name: "ioctl", argument: 1, not: []uint32{unix.TIOCSTI, unix.TIOCLINUX}},
	}
	if p == ProfileUA {
		// No other protocols: Landlock, which says on which ports a UA listens, knows TCP and not Multipath TCP or SCTP.
		r[0].only, r[0].third = []uint32{unix.AF_UNIX, unix.AF_INET, unix.AF_INET6}, []uint32{0, unix.IPPROTO_TCP, unix.IPPROTO_UDP}
	}
	if p == ProfileTA || p == ProfileUA {
		r = append(r, rule{name: "clone", argument: 0, clear: newNamespaces})
	}
	return r
}

// loadFilter installs the profile's filter for this thread; it stays across exec and for every process that follows.
func loadFilter(p Profile) error {
	program, err := filter(p)
	if err != nil {
		return err
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return err
	}
	code := make([]unix.SockFilter, len(raw))
	for i, r := range raw {
		code[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	prog := unix.SockFprog{Len: uint16(len(code)), Filter: &code[0]}
	_, _, e := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, 0, uintptr(unsafe.Pointer(&prog)))
	runtime.KeepAlive(code)
	if e != 0 {
		return e
	}
	return nil
}

// filter is an allow-list: a system call that is not on it fails with EPERM, and so does every call through another machine's
// entry (32 bit on 64). Calls that are newer than the table of names fail with ENOSYS, as on an older kernel, so that C
// libraries fall back to what they know; so does clone3(2), whose flags lie in memory where no filter can see them.
//
// Each entry is self-contained and ends in a verdict, so that no later comparison can see an argument in place of the number.
func filter(p Profile) ([]bpf.Instruction, error) {
	table, err := arch.GetInfo("")
	if err != nil {
		return nil, err
	}
	program := []bpf.Instruction{
		bpf.LoadAbsolute{Off: offMachine, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(table.ID), SkipTrue: 1},
		bpf.RetConstant{Val: retDenied},
		bpf.LoadAbsolute{Off: offNumber, Size: 4},
	}
	newest := 0
	for number := range table.SyscallNumbers {
		newest = max(newest, number)
	}
	program = append(program,
		bpf.JumpIf{Cond: bpf.JumpLessOrEqual, Val: uint32(newest), SkipTrue: 1},
		bpf.RetConstant{Val: retAbsent})
	if number, ok := table.SyscallNames["clone3"]; ok {
		program = append(program,
			bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(number), SkipFalse: 1},
			bpf.RetConstant{Val: retAbsent})
	}
	for _, r := range rules(p) {
		if number, ok := table.SyscallNames[r.name]; ok {
			program = append(program, r.instructions(uint32(number))...)
		}
	}
	names := allowed
	switch p {
	case ProfileAgent:
		names = slices.Concat(allowed, forNesting)
	case ProfilePod:
		names = slices.Concat(allowed, forNesting, forRuntime)
	case ProfileSentry:
		names = slices.Concat(allowed, forNesting, forRuntime, forSentry)
	}
	for _, name := range names {
		if number, ok := table.SyscallNames[name]; ok { // not every call exists on every machine
			program = append(program,
				bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(number), SkipFalse: 1},
				bpf.RetConstant{Val: retAllow})
		}
	}
	program = append(program, bpf.RetConstant{Val: retDenied})
	if newest >= x32Bit || len(program) > 4096 {
		return nil, fmt.Errorf("a filter of %d instructions, up to call %d", len(program), newest)
	}
	return program, nil
}

// instructions checks the argument if the call is number, and gives a verdict then.
func (r rule) instructions(number uint32) []bpf.Instruction {
	var block []bpf.Instruction
	if len(r.third) > 0 {
		block = append(block, bpf.LoadAbsolute{Off: offArgument + 8*2, Size: 4})
		for i, v := range r.third { // one that fits skips the others and the verdict after them
			block = append(block, bpf.JumpIf{Cond: bpf.JumpEqual, Val: v, SkipTrue: uint8(len(r.third) - i)})
		}
		block = append(block, bpf.RetConstant{Val: retDenied})
	}
	block = append(block, bpf.LoadAbsolute{Off: offArgument + 8*r.argument, Size: 4})
	if r.clear != 0 {
		block = append(block,
			bpf.JumpIf{Cond: bpf.JumpBitsNotSet, Val: r.clear, SkipTrue: 1},
			bpf.RetConstant{Val: retDenied})
	}
	for _, v := range r.not {
		block = append(block,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1},
			bpf.RetConstant{Val: retDenied})
	}
	for _, v := range r.only {
		block = append(block,
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: v, SkipTrue: 1},
			bpf.RetConstant{Val: retAllow})
	}
	verdict := uint32(retAllow)
	if len(r.only) > 0 {
		verdict = retDenied
	}
	block = append(block, bpf.RetConstant{Val: verdict})
	return append([]bpf.Instruction{bpf.JumpIf{Cond: bpf.JumpEqual, Val: number, SkipFalse: uint8(len(block))}}, block...)
}

// forNesting is what an Agent needs beyond a TA, to build the sandboxes of its TAs.
var forNesting = []string{
	"clone", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root", "sethostname", "umount2",
}

// forRuntime is what OCI runtime programs need beyond that: they make a user namespace and enter namespaces.
var forRuntime = []string{"fsconfig", "fsmount", "fsopen", "mknodat", "setns", "unshare"}

// forSentry is what gVisor needs beyond that: it traces the programs that it runs.
var forSentry = []string{"chroot", "ptrace"}

// Allowed returns the names of the system calls that ProfileTA allows, whatever their arguments: for runtime programs that
// load a filter of their own over it. clone(2) is not among them: it is allowed without the flags NamespaceFlags.
func Allowed() []string {
	names := slices.Clone(allowed)
	for _, r := range rules(ProfileTA) {
		if r.name != "clone" {
			names = append(names, r.name)
		}
	}
	return names
}

// allowed are the system calls of ordinary programs on what they already have: files, memory, processes of their own, time,
// Unix sockets. What is missing is missing on purpose: new namespaces and mounts, tracing and reading other processes (ptrace,
// process_vm_*, kcmp, pidfd_getfd), keyrings, bpf, perf, io_uring, userfaultfd, modules, kexec, clocks, quotas, swap,
// accounting, file handles, device nodes.
var allowed = []string{
	"accept", "accept4", "access", "alarm", "arch_prctl", "bind", "brk", "cachestat", "capget", "capset", "chdir", "chmod",
	"chown", "clock_getres", "clock_gettime", "clock_nanosleep", "close", "close_range", "connect", "copy_file_range", "creat",
	"dup", "dup2", "dup3", "epoll_create", "epoll_create1", "epoll_ctl", "epoll_pwait", "epoll_pwait2", "epoll_wait", "eventfd",
	"eventfd2", "execve", "execveat", "exit", "exit_group", "faccessat", "faccessat2", "fadvise64", "fallocate", "fchdir",
	"fchmod", "fchmodat", "fchmodat2", "fchown", "fchownat", "fcntl", "fdatasync", "fgetxattr", "flistxattr", "flock", "fork",
	"fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync", "ftruncate", "futex", "futex_requeue", "futex_wait", "futex_waitv",
	"futex_wake", "futimesat", "get_robust_list", "get_thread_area", "getcpu", "getcwd", "getdents", "getdents64", "getegid",
	"geteuid", "getgid", "getgroups", "getitimer", "getpeername", "getpgid", "getpgrp", "getpid", "getppid", "getpriority",
	"getrandom", "getresgid", "getresuid", "getrlimit", "getrusage", "getsid", "getsockname", "getsockopt", "gettid",
	"gettimeofday", "getuid", "getxattr", "inotify_add_watch", "inotify_init", "inotify_init1", "inotify_rm_watch",
	"ioprio_get", "kill", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "lchown", "lgetxattr",
	"link", "linkat", "listen", "listxattr", "llistxattr", "lremovexattr", "lseek", "lsetxattr", "lstat", "madvise",
	"membarrier", "memfd_create", "memfd_secret", "mincore", "mkdir", "mkdirat", "mlock", "mlock2", "mlockall", "mmap",
	"mprotect", "mremap", "mseal", "msync", "munlock", "munlockall", "munmap", "nanosleep", "newfstatat", "open", "openat",
	"openat2", "pause", "pidfd_open", "pidfd_send_signal", "pipe", "pipe2", "pkey_alloc", "pkey_free", "pkey_mprotect", "poll",
	"ppoll", "prctl", "pread64", "preadv", "preadv2", "prlimit64", "pselect6", "pwrite64", "pwritev", "pwritev2", "read",
	"readahead", "readlink", "readlinkat", "readv", "recvfrom", "recvmmsg", "recvmsg", "removexattr", "rename", "renameat",
	"renameat2", "restart_syscall", "rmdir", "rseq", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
	"rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sched_get_priority_max", "sched_get_priority_min",
	"sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler", "sched_rr_get_interval", "sched_setaffinity",
	"sched_yield", "seccomp", "select", "sendfile", "sendmmsg", "sendmsg", "sendto", "set_robust_list", "set_thread_area",
	"set_tid_address", "setgid", "setgroups", "setitimer", "setpgid", "setpriority", "setregid", "setresgid", "setresuid",
	"setreuid", "setrlimit", "setsid", "setsockopt", "setuid", "setxattr", "shutdown", "sigaltstack", "splice", "stat",
	"statfs", "statx", "symlink", "symlinkat", "sync_file_range", "sysinfo", "tee", "tgkill", "time", "timer_create",
	"timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "timerfd_create", "timerfd_gettime",
	"timerfd_settime", "times", "tkill", "truncate", "umask", "uname", "unlink", "unlinkat", "utime", "utimensat", "utimes",
	"vfork", "vmsplice", "wait4", "waitid", "write", "writev",
}
