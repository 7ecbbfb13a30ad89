// SPDX-License-Identifier: Apache-2.0

//go:build linux

package container

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sealift/internal/agent/runner"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/platform/sandbox"
)

// driver is what differs between the runtime programs.
type driver struct {
	profile sandbox.Profile // of the sandbox around the program
	// flags are what stands before the command "run", and options after it, besides where log, state and bundle are.
	flags, options []string
	// overhead is what the program itself needs beside the container, on top of the container's limits.
	overheadBytes, overheadProcs uint64
	// perProc is how many processes and threads of the machine one of the container's takes.
	perProc uint64
	// ownKernel: the container's processes are not the machine's.
	ownKernel bool
	// started reports whether the container's own program executes, by the program's folder of state.
	started func(state string) bool
	// adapt changes a container's configuration into one that the program takes.
	adapt func(*spec, runner.Job)
}

var drivers = map[string]driver{
	ociruntime.Runc: {
		profile: sandbox.ProfilePod, options: []string{"--no-new-keyring"}, overheadBytes: 48 << 20, overheadProcs: 24, perProc: 1,
		started: runcStarted, adapt: func(*spec, runner.Job) {},
	},
	// Without --oci-seccomp runsc ignores the filter of the configuration. The control groups are the Agent's, and it is the only user there is.
	// Which platform it takes, systrap or ptrace, is the default of its version.
	ociruntime.Runsc: {
		profile: sandbox.ProfileSentry, flags: []string{"--rootless", "--ignore-cgroups", "--network", "none", "--oci-seccomp", "--host-uds", "all", "--overlay2", "none"},
		overheadBytes: 192 << 20, overheadProcs: 256, perProc: 10, ownKernel: true,
		started: runscStarted, adapt: forSentry,
	},
}

// processes is the limit of the control group of a container that may have n.
func (d driver) processes(n uint64) uint64 { return d.perProc*n + d.overheadProcs }

// runcStarted: runc keeps a pipe beside its state until it lets the program begin.
func runcStarted(state string) bool {
	_, created := os.Lstat(filepath.Join(state, containerID, "state.json"))
	_, waiting := os.Lstat(filepath.Join(state, containerID, "exec.fifo"))
	return created == nil && errors.Is(waiting, os.ErrNotExist)
}

// runscStarted: runsc writes down that the container runs.
func runscStarted(state string) bool {
	data, err := os.ReadFile(filepath.Join(state, containerID+"_sandbox:"+containerID+".state"))
	if err != nil {
		return false
	}
	var is struct {
		Status string `json:"status"`
	}
	return json.Unmarshal(data, &is) == nil && (is.Status == "running" || is.Status == "stopped")
}

// forSentry: runsc makes the user namespace itself, before it reads the configuration. It cannot make the root file system read-only once
// more; it is so already, around it. /dev is its own, with devices that are its own.
func forSentry(s *spec, j runner.Job) {
	s.Root.ReadOnly = false
	s.Linux.Namespaces = s.Linux.Namespaces[1:]
	s.Linux.UIDMappings, s.Linux.GIDMappings = nil, nil
	for i, m := range s.Mounts {
		if m.Destination == "/dev" {
			s.Mounts[i] = mount{"/dev/shm", "tmpfs", "tmpfs", []string{"nosuid", "noexec", "nodev", "mode=1777", fmt.Sprint("size=", j.MemoryBytes)}}
		}
	}
}
