// SPDX-License-Identifier: Apache-2.0

package sandbox

import (
	seccomp "github.com/elastic/go-seccomp-bpf"
	"github.com/elastic/go-seccomp-bpf/arch"
	"golang.org/x/sys/unix"
)

// newNamespaces are the flags of clone(2) that make namespaces.
const newNamespaces = cloneFlags | unix.CLONE_NEWTIME

// loadFilter installs the profile's filter for this thread; it stays across exec and for every process that follows.
func loadFilter(p Profile) error {
	policy, err := policyOf(p)
	if err != nil {
		return err
	}
	return seccomp.LoadFilter(seccomp.Filter{NoNewPrivs: true, Policy: policy})
}

// policyOf is an allow-list: a system call that is not on it fails with EPERM, and so does every call through another
// architecture's entry (32 bit on 64). clone3(2) fails with ENOSYS, because its flags lie in memory where no filter can see
// them; C libraries and the Go runtime then use clone(2).
func policyOf(p Profile) (seccomp.Policy, error) {
	table, err := arch.GetInfo("")
	if err != nil {
		return seccomp.Policy{}, err
	}
	names := known(table, allowed)
	conditions := []seccomp.NameWithConditions{
		when("socket", 0, seccomp.Equal, unix.AF_UNIX),
		when("socketpair", 0, seccomp.Equal, unix.AF_UNIX),
		when("personality", 0, seccomp.Equal, 0),
		when("personality", 0, seccomp.Equal, 0xffffffff),
		{Name: "ioctl", Conditions: seccomp.ArgumentConditions{
			{Argument: 1, Operation: seccomp.NotEqual, Value: unix.TIOCSTI},
			{Argument: 1, Operation: seccomp.NotEqual, Value: unix.TIOCLINUX},
		}},
	}
	if p == ProfileAgent {
		names = append(names, known(table, forNesting)...)
	} else {
		conditions = append(conditions, when("clone", 0, seccomp.BitsNotSet, newNamespaces))
	}
	return seccomp.Policy{
		DefaultAction: seccomp.ActionErrno,
		Syscalls: []seccomp.SyscallGroup{
			{Action: seccomp.ActionErrno | seccomp.Action(unix.ENOSYS), Names: []string{"clone3"}},
			{Action: seccomp.ActionAllow, Names: names, NamesWithCondtions: conditions},
		},
	}, nil
}

func when(name string, argument uint32, op seccomp.Operation, value uint64) seccomp.NameWithConditions {
	return seccomp.NameWithConditions{
		Name: name, Conditions: seccomp.ArgumentConditions{{Argument: argument, Operation: op, Value: value}},
	}
}

// known keeps the names that exist on this architecture.
func known(table *arch.Info, names []string) []string {
	var kept []string
	for _, name := range names {
		if _, ok := table.SyscallNames[name]; ok {
			kept = append(kept, name)
		}
	}
	return kept
}

// forNesting is what an Agent needs beyond a TA, to build the sandboxes of its TAs.
var forNesting = []string{
	"clone", "mount", "mount_setattr", "move_mount", "open_tree", "pivot_root", "sethostname", "umount2",
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
