// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"time"

	"github.com/spf13/cobra"
)

// processCPU needs Linux's /proc: a benchmark on another system has no column for the server's CPU time.
func processCPU(int) (used time.Duration, known bool) { return 0, false }

func processRSS(int) float64 { return 0 }

// The benchmarks of devices need Linux, as devices do.

func newBenchInstallCmd(*app) *cobra.Command {
	return needsLinux("install", "MB/s and memory of installing a large TA")
}

func newBenchStartCmd(*app) *cobra.Command {
	return needsLinux("start", "time until a new TEE instance of each type has proved itself")
}
