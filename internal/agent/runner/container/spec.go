// SPDX-License-Identifier: Apache-2.0

//go:build linux

package container

import (
	"fmt"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"sealift/internal/agent/runner"
	"sealift/internal/launch"
	"sealift/internal/oci"
	"sealift/internal/platform/sandbox"
)

// The parts of the OCI Runtime Specification's configuration (config.md, config-linux.md, version 1.0.2) that are used.
type spec struct {
	Version  string  `json:"ociVersion"`
	Hostname string  `json:"hostname"`
	Process  process `json:"process"`
	Root     root    `json:"root"`
	Mounts   []mount `json:"mounts"`
	Linux    linux   `json:"linux"`
}

type process struct {
	User            user     `json:"user"`
	Args            []string `json:"args"`
	Env             []string `json:"env"`
	Cwd             string   `json:"cwd"`
	NoNewPrivileges bool     `json:"noNewPrivileges"`
	Capabilities    struct{} `json:"capabilities"` // none
	OOMScoreAdj     int      `json:"oomScoreAdj"`
}

type user struct {
	UID int `json:"uid"`
	GID int `json:"gid"`
}

type root struct {
	Path     string `json:"path"`
	ReadOnly bool   `json:"readonly"`
}

type mount struct {
	Destination string   `json:"destination"`
	Type        string   `json:"type"`
	Source      string   `json:"source"`
	Options     []string `json:"options"`
}

type linux struct {
	Namespaces    []namespace `json:"namespaces"`
	UIDMappings   []mapping   `json:"uidMappings"`
	GIDMappings   []mapping   `json:"gidMappings"`
	MaskedPaths   []string    `json:"maskedPaths"`
	ReadOnlyPaths []string    `json:"readonlyPaths"`
	Seccomp       seccomp     `json:"seccomp"`
}

type namespace struct {
	Type string `json:"type"`
}

type mapping struct {
	ContainerID int `json:"containerID"`
	HostID      int `json:"hostID"`
	Size        int `json:"size"`
}

type seccomp struct {
	DefaultAction string   `json:"defaultAction"`
	DefaultErrno  uint     `json:"defaultErrnoRet"`
	Architectures []string `json:"architectures"`
	Syscalls      []calls  `json:"syscalls"`
}

type calls struct {
	Names  []string   `json:"names"`
	Action string     `json:"action"`
	Errno  *uint      `json:"errnoRet,omitempty"`
	Args   []argument `json:"args,omitempty"`
}

type argument struct {
	Index    uint   `json:"index"`
	Value    uint64 `json:"value"`
	ValueTwo uint64 `json:"valueTwo"`
	Op       string `json:"op"`
}

// Paths in the sandbox of the runtime program.
const (
	sandboxRoot   = "/rootfs"
	sandboxBundle = "/bundle"
)

// newSpec describes the container of one process of the image c.
func newSpec(c *oci.Config, volumes []string, j runner.Job) (*spec, error) {
	args, err := arguments(c, j.Spec)
	if err != nil {
		return nil, err
	}
	cwd := c.Config.WorkingDir
	if j.Spec.Dir != "" {
		cwd = j.Spec.Dir
	}
	if cwd == "" {
		cwd = "/"
	}
	return &spec{
		Version: "1.0.2", Hostname: "ta",
		Process: process{Args: args, Env: environment(c, j), Cwd: cwd, NoNewPrivileges: true, OOMScoreAdj: 500},
		Root:    root{Path: sandboxRoot, ReadOnly: true},
		Mounts:  mounts(volumes, j),
		Linux: linux{
			// The network namespace is the sandbox's own, without an interface: see package sandbox.
			Namespaces:  []namespace{{"user"}, {"mount"}, {"pid"}, {"ipc"}, {"uts"}},
			UIDMappings: []mapping{{0, sandbox.InsideID, 1}}, GIDMappings: []mapping{{0, sandbox.InsideID, 1}},
			MaskedPaths: []string{"/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats", "/proc/timer_list",
				"/proc/timer_stats", "/proc/sched_debug", "/proc/scsi", "/proc/config.gz", "/proc/cmdline", "/proc/kallsyms"},
			ReadOnlyPaths: []string{"/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"},
			Seccomp:       filter(),
		},
	}, nil
}

// arguments puts the command line together: what the owner signed goes before what the image says.
func arguments(c *oci.Config, s launch.Spec) ([]string, error) {
	entrypoint, cmd := c.Config.Entrypoint, c.Config.Cmd
	if len(s.Entrypoint) > 0 {
		entrypoint, cmd = s.Entrypoint, nil
	}
	if len(s.Args) > 0 {
		cmd = s.Args
	}
	args := slices.Concat(entrypoint, cmd)
	if len(args) == 0 {
		return nil, fmt.Errorf("%w: neither the image nor the package says what to start: give an entrypoint", runner.ErrProgram)
	}
	return args, nil
}

// environment is the image's, with the owner's over it, and the contract's over both.
func environment(c *oci.Config, j runner.Job) []string {
	env := []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}
	for _, list := range [][]string{c.Config.Env, j.Spec.Env} {
		for _, e := range list {
			name, _, ok := strings.Cut(e, "=")
			if !ok || name == "" || strings.HasPrefix(name, "SEALIFT_") {
				continue
			}
			env = slices.DeleteFunc(env, func(o string) bool { return strings.HasPrefix(o, name+"=") })
			env = append(env, e)
		}
	}
	return append(env, j.Contract...)
}

// mounts are the same for all containers but for the volumes. Binds repeat the options of their sources, which the kernel
// does not let a user namespace take away.
func mounts(volumes []string, j runner.Job) []mount {
	list := []mount{
		{"/proc", "proc", "proc", []string{"nosuid", "noexec", "nodev"}},
		{"/dev", "bind", "/dev", []string{"rbind", "ro", "nosuid", "noexec", "nodev"}},
		{"/tmp", "tmpfs", "tmpfs", []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprint("size=", j.MemoryBytes)}},
	}
	for _, v := range volumes {
		list = append(list, mount{v, "tmpfs", "tmpfs", []string{"nosuid", "noexec", "nodev", "mode=755", fmt.Sprint("size=", j.MemoryBytes)}})
	}
	return append(list,
		mount{insidePD, "bind", insidePD, []string{"bind", "ro", "nosuid", "noexec", "nodev"}},
		mount{insideRun, "bind", insideRun, []string{"bind", "rw", "nosuid", "noexec", "nodev"}})
}

// seccompArchs are libseccomp's names, by GOARCH.
var seccompArchs = map[string]string{"amd64": "SCMP_ARCH_X86_64", "arm64": "SCMP_ARCH_AARCH64", "riscv64": "SCMP_ARCH_RISCV64"}

// filter allows what a TA that is a single program may do. clone3(2) does not exist, so that C libraries use clone(2), whose
// flags a filter can see. The arguments of other calls are bounded by the filter of the sandbox, which holds here too.
func filter() seccomp {
	absent := uint(unix.ENOSYS)
	return seccomp{
		DefaultAction: "SCMP_ACT_ERRNO", DefaultErrno: uint(unix.EPERM), Architectures: []string{seccompArchs[runtime.GOARCH]},
		Syscalls: []calls{
			{Names: sandbox.Allowed(), Action: "SCMP_ACT_ALLOW"},
			{Names: []string{"clone"}, Action: "SCMP_ACT_ALLOW",
				Args: []argument{{Index: 0, Value: sandbox.NamespaceFlags, Op: "SCMP_CMP_MASKED_EQ"}}},
			{Names: []string{"clone3"}, Action: "SCMP_ACT_ERRNO", Errno: &absent},
		},
	}
}
