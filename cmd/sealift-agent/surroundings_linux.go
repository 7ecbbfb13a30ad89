// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"sealift/internal/agent"
	"sealift/internal/agent/runner"
	"sealift/internal/agent/runner/container"
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

// platform opens the hardware interface and the folder in the REE.
func platform() (hw.TEE, vault.FS, error) {
	if guest.Inside() {
		tee, store, err := guest.Open()
		return tee, folder{store}, err
	}
	tee, err := hw.Open(hw.FD)
	if err != nil {
		return nil, nil, fmt.Errorf("this program is started by a TEE platform only: %w", err)
	}
	store, err := vault.Dir(storeDir)
	if err != nil {
		return nil, nil, errors.Join(err, tee.Close())
	}
	return tee, store, nil
}

// surroundings opens what the platform has prepared.
func surroundings(ctx context.Context, log *slog.Logger) (agent.Options, error) {
	part := container.Inherited() // first, before anything else takes its descriptor
	tee, store, err := platform()
	if err != nil {
		return agent.Options{}, err
	}
	loaders, err := loaders(part, log)
	if err != nil {
		return agent.Options{}, err
	}
	if err := os.MkdirAll(runDir, 0o700); err != nil {
		return agent.Options{}, err
	}
	if os.Getpid() == 1 {
		go runner.Reap(ctx)
	}
	return agent.Options{
		TEE: tee, Store: store, Log: log,
		Runner: runner.Options{Launcher: runner.Sandbox{}, Loaders: loaders, Dir: runDir},
	}, nil
}

// loaders are for what this instance type runs beside single programs: WebAssembly modules, and containers in a pod sandbox.
func loaders(part *os.File, log *slog.Logger) (map[string]runner.Loader, error) {
	all := map[string]runner.Loader{launch.KindWASM: wasm.Loader{Dir: runDir}}
	if part == nil {
		return all, nil
	}
	defer part.Close()
	group, err := cgroup.Open()
	if err != nil {
		return nil, err
	}
	l, err := container.New(io.NewSectionReader(part, 0, ociruntime.MaxBytes), container.Options{Dir: podDir, Group: group, Log: log})
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
