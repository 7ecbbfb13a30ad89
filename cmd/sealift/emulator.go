// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"encoding/hex"

	"github.com/spf13/cobra"

	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
	"sealift/usecase"
)

func newEmulatorCmd(a *app) *cobra.Command {
	var state, socket, ready, hardware string
	var capacity int
	run := &cobra.Command{
		Use:   "run",
		Short: "play the secure hardware of a device (EMULATED)",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log := a.logger()
			hw, err := usecase.ParseHardware(hardware)
			if err != nil {
				return usageError("", "--hardware: %w", err)
			}
			return emulator.Serve(cmd.Context(), state, socket, emulator.Options{
				Hardware: hw,
				Capacity: capacity,
				Log:      log,
				Ready: func(info platform.Info) {
					fingerprint := hex.EncodeToString(info.RootFingerprint[:])
					log.Info("EMULATED hardware is ready", "hardware", info.Hardware, "root", fingerprint)
					if err := writeReady(ready, "root "+fingerprint+"\n"); err != nil {
						log.Error("writing the ready file", "error", err)
					}
				},
			})
		},
	}
	flags := run.Flags()
	flags.StringVar(&state, "state", "", "folder of the emulated hardware: its vendor keys, counters, instances")
	flags.StringVar(&hardware, "hardware", string(usecase.TrustZone), "what is played: trustzone|sgx|sev-snp|cca|tdx|csv; a state folder stays what it was made for")
	flags.StringVar(&socket, "socket", "", "Unix socket to serve")
	flags.IntVar(&capacity, "capacity", 0, "how many TEE instances the hardware holds")
	flags.StringVar(&ready, "ready-file", "", "write a file when the socket serves")
	_ = run.MarkFlagRequired("state")
	_ = run.MarkFlagRequired("socket")
	cmd := newGroupCmd("emulator", "emulated secure hardware", run)
	cmd.Hidden = true
	return cmd
}
