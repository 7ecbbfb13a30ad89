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
	"sealift/internal/agent/vault"
	"sealift/internal/platform/guest"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/serial"
)

// The folders that the platform gives to an Agent.
const (
	storeDir = "/store"  // of the REE
	runDir   = "/run/ta" // memory of the TEE
)

func sandboxInit() { sandbox.Init() }

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
	tee, store, err := platform()
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
		Runner: runner.Options{Launcher: runner.Sandbox{}, Dir: runDir},
	}, nil
}

// folder is the store of a guest as the vault wants it.
type folder struct{ *serial.Folder }

func (f folder) Create(name string) (vault.File, error)  { return f.Folder.Create(name) }
func (f folder) Open(name string) (io.ReadCloser, error) { return f.Folder.Open(name) }
