// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
)

// The verbs of a device, where there cannot be one.

func newBrokerCmd(*app) *cobra.Command { return needsLinux("broker", "the TEEP Broker of a device") }
func newDevCmd(*app) *cobra.Command    { return needsLinux("dev", "a local M/OC with an emulated device") }
func (*app) attest(context.Context, string, string) error {
	return usageError("", "there is no TEE that this version knows on %s", runtime.GOOS)
}

func newDemoCmd(*app) *cobra.Command {
	return needsLinux("demo", "the worked example, on an emulated device")
}

func newImageCmd(*app) *cobra.Command {
	return needsLinux("image", "Agent images and their reference values")
}

func newEmulatorCmd(*app) *cobra.Command {
	cmd := needsLinux("emulator", "emulated secure hardware")
	cmd.Hidden = true
	return cmd
}

// needsLinux is a verb that only says that it needs Linux, whatever its arguments are.
func needsLinux(name, short string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Short:              short + " (Linux only)",
		DisableFlagParsing: true,
		RunE: func(*cobra.Command, []string) error {
			return &exitError{code: exitFailure, err: fmt.Errorf("%s needs Linux, and this is %s", name, runtime.GOOS),
				hint: "run it on a Linux machine; the verbs of the owner and the M/OC work here"}
		},
	}
}

// deviceChecks says that there can be no device here.
func deviceChecks() []check {
	return []check{{Name: "device", Detail: "devices, also emulated ones, need Linux, and this is " + runtime.GOOS,
		Hint: "the verbs of the owner and the M/OC work here"}}
}

// initProcess runs before the command line is read.
func initProcess() {}
