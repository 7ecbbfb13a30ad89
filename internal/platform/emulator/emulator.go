// SPDX-License-Identifier: Apache-2.0

// Package emulator plays the secure hardware of a device.
package emulator

import (
	"context"
	"io"
	"log/slog"
	"time"

	"sealift/evidence"
	"sealift/internal/platform"
)

// Options of Serve. The zero value is good.
type Options struct {
	// Hardware is the hardware that is played; trustzone unless set.
	Hardware evidence.Hardware
	// Capacity is how many instances it holds; 16 unless set.
	Capacity int
	// Log gets what happens, and what the Agents write to stderr.
	Log *slog.Logger
	// Rand and Now are crypto/rand.Reader and time.Now unless set.
	Rand io.Reader
	Now  func() time.Time
	// Ready is called once the socket serves.
	Ready func(platform.Info)
}

// Serve plays the hardware whose state lies in dir, for Brokers that connect to socket, until ctx ends.
func Serve(ctx context.Context, dir, socket string, o Options) error { panic("declared only") }

// Dial returns the driver for the emulator that serves socket. It does not connect yet: each call does.
func Dial(socket string) platform.Driver { panic("declared only") }
