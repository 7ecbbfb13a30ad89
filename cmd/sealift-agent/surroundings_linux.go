// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"sealift/internal/agent"
	"sealift/internal/agent/runner"
	"sealift/internal/agent/vault"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/sandbox"
)

// The folders that the platform gives to an Agent.
const (
	storeDir = "/store"  // of the REE
	runDir   = "/run/ta" // memory of the TEE
)

func sandboxInit() { sandbox.Init() }

// surroundings opens what the platform has prepared.
func surroundings(ctx context.Context, log *slog.Logger) (agent.Options, error) {
	tee, err := hw.Open(hw.FD)
	if err != nil {
		return agent.Options{}, fmt.Errorf("this program is started by a TEE platform only: %w", err)
	}
	store, err := vault.Dir(storeDir)
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
