// SPDX-License-Identifier: Apache-2.0

// Command sealift-agent is the TEEP Agent: the program that is measured into a TEE. It is started by the platform, never by hand:
// descriptor 3 is its hardware interface (package hw), /store is the folder of the REE for its sealed state, and /run is
// memory of the TEE. It has no flags, reads no environment and no other file, so that its measurement and its measured
// configuration say everything about what it does.
//
// In a confidential virtual machine it is the first and only program of the guest, /init: it finds hardware, Broker and store
// behind three virtio-serial ports (package serial), and is an ordinary user as soon as it has opened them.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"runtime/debug"

	"sealift/internal/agent"
)

// garbage is by how much the heap may grow between two collections, in percent: memory of a TEE is dear, and the Agent makes little garbage.
const garbage = 40

func main() {
	sandboxInit()
	debug.SetGCPercent(garbage)
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	if err := run(log); err != nil && !errors.Is(err, context.Canceled) {
		fmt.Fprintln(os.Stderr, "sealift-agent: error:", err)
		os.Exit(1)
	}
}

// run serves until the platform is gone.
func run(log *slog.Logger) error {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	opts, err := surroundings(ctx, log)
	if err != nil {
		return err
	}
	defer opts.TEE.Close()
	a, err := agent.New(ctx, opts)
	if err != nil {
		return err
	}
	defer a.Close()
	return a.Run(ctx)
}
