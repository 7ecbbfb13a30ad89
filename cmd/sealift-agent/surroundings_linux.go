// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/sys/unix"

	"sealift/internal/agent"
	"sealift/internal/agent/runner"
	"sealift/internal/agent/runner/container"
	runnerguest "sealift/internal/agent/runner/guest"
	"sealift/internal/agent/runner/wasm"
	"sealift/internal/agent/vault"
	"sealift/internal/launch"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/platform/guest"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/internal/platform/serial"
)

// The folders that the platform gives to an Agent.
const (
	storeDir = "/store"  // of the REE
	runDir   = "/run/ta" // memory of the TEE
	podDir   = "/oci"    // likewise, and executable: of a pod sandbox
)

func sandboxInit() {
	sandbox.Init()
	wasm.Host()
}

// base is what an Agent is given: the hardware interface, the folder in the REE, and, where it can start containers, the OCI runtime program.
type base struct {
	tee     hw.TEE
	tpm     hw.Quoter // nil: none
	store   vault.FS
	runtime *os.File            // nil: no containers here
	guest   *runnerguest.Loader // nil: no guest
}

// platform opens what the platform has prepared.
func platform() (base, error) {
	if guest.Inside() {
		g, err := guest.Open()
		if err != nil {
			return base{}, err
		}
		return base{g.TEE, g.TPM, folder{g.Store}, g.Runtime, &runnerguest.Loader{Booted: g.Payload, Dir: runDir}}, nil
	}
	part := container.Inherited() // first, before anything else takes its descriptor
	tee, err := hw.Open(hw.FD)
	if err != nil {
		return base{}, fmt.Errorf("this program is started by a TEE platform only: %w", err)
	}
	store, err := vault.Dir(storeDir)
	if err != nil {
		return base{}, errors.Join(err, tee.Close())
	}
	return base{tee: tee, store: store, runtime: part}, nil
}

// surroundings opens what the platform has prepared.
func surroundings(ctx context.Context, log *slog.Logger) (agent.Options, error) {
	b, err := platform()
	if err != nil {
		return agent.Options{}, err
	}
	group, err := cgroup.Open()
	if err != nil && b.runtime != nil {
		return agent.Options{}, err // containers have limits that bind, or there are none
	}
	groups := runner.NewGroups(group)
	if b.guest != nil {
		b.guest.Launcher = runner.Sandbox{Groups: groups}
	}
	loaders, err := b.loaders(log, group, groups)
	if err != nil {
		return agent.Options{}, err
	}
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return agent.Options{}, err
	}
	if os.Getpid() == 1 {
		go runner.Reap(ctx)
	}
	var memory unix.Sysinfo_t
	if b.guest != nil { // what the kernel has is the instance's
		if err := unix.Sysinfo(&memory); err != nil {
			return agent.Options{}, fmt.Errorf("asking for the guest's memory: %w", err)
		}
	}
	return agent.Options{
		Memory: memory.Totalram * uint64(memory.Unit), TEE: b.tee, TPM: b.tpm, Store: b.store, Log: log,
		Runner: runner.Options{Launcher: runner.Sandbox{Groups: groups}, Loaders: loaders, Dir: runDir},
	}, nil
}

// loaders are for what this instance type runs beside single programs: WebAssembly modules; containers in a pod sandbox and in a guest; guest
// payloads in a guest.
func (b base) loaders(log *slog.Logger, group *cgroup.Group, groups *runner.Groups) (map[string]runner.Loader, error) {
	all := map[string]runner.Loader{launch.KindWASM: wasm.Loader{Dir: runDir, Groups: groups}}
	if b.guest != nil {
		all[launch.KindGuest] = *b.guest
	}
	if b.runtime == nil {
		return all, nil
	}
	defer b.runtime.Close()
	l, err := container.New(io.NewSectionReader(b.runtime, 0, ociruntime.MaxBytes), container.Options{Dir: podDir, Group: group, Log: log})
	if err != nil {
		return nil, err
	}
	all[launch.KindOCI] = l
	return all, nil
}

// folder is the store of a guest as the vault wants it.
type folder struct{ *serial.Folder }

func (f folder) Create(name string) (vault.File, error)  { return f.Folder.Create(name) }
func (f folder) Open(name string) (io.ReadCloser, error) { return f.Folder.Open(name) }
