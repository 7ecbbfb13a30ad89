// SPDX-License-Identifier: Apache-2.0

// Package emulator plays the secure hardware of a device: a process of its own that launches TEE instances, measures what it
// launches, signs Evidence about it, derives sealing keys from the measurement, and keeps monotonic counters. Everything that
// rests on it is EMULATED, and its Evidence says so through the root under which it verifies (package emuroot).
//
// # What it promises
//
// An instance is launched from an image that the emulator has copied into a sealed memory file of its own; that file is
// measured and executed (package sandbox). The Broker, which brings the image, can never make the emulator sign anything
// about other bytes: Evidence, keys and counters can be had only over the socket pair whose other end is descriptor 3 of the
// Agent that was so launched (package hw), and the emulator fills in the measurements from its own record. The Broker's
// socket has no request for them.
//
// A sealing key is HKDF-SHA256 (RFC 5869) over the device's secret, with the instance's random salt, and with the digests of
// the Agent and of the measured configuration and the label as info. Other bytes have other keys and another counter, also under
// the same instance ID; another instance has another salt; and once Destroy has wiped the salt there is no way back.
//
// # What it does not promise
//
// It is software. Whoever is root on the host, or is the user that runs the emulator, can read its memory, its state and its
// instances. A real TEE stands behind the same interface (package platform); the emulator is for development and tests.
//
// # State
//
//	DIR/lock                        one emulator at a time
//	DIR/pki/                        the emulated vendor
//	DIR/device.cbor                 the device's secret and its attestation key
//	DIR/instances/ID/record.cbor    salt and counters
//	DIR/instances/ID/store/         the instance's folder in the REE; the Agent sees it as /store and trusts nothing in it
//	DIR/trash/                      what is being wiped
//
// Every file is replaced as a whole (written, synced, renamed, folder synced), an instance appears and disappears by a rename
// of its folder, so that a kill at any moment leaves either the old or the new state. Instances die with the emulator;
// a new one knows them and waits for the Broker to launch them again.
package emulator

import (
	"crypto/rand"
	"io"
	"log/slog"
	"time"

	"sealift/evidence"
	"sealift/internal/platform"
)

// Options of Serve. The zero value is good.
type Options struct {
	// Hardware is the hardware that is played; trustzone unless set. A state folder stays what it was made for.
	Hardware evidence.Hardware
	// Capacity is how many instances it holds that are not stopped; 16 unless set, at most MaxCapacity.
	Capacity int
	// Log gets what happens, and what the Agents write to stdout and stderr.
	Log *slog.Logger
	// Rand and Now are crypto/rand.Reader and time.Now unless set.
	Rand io.Reader
	Now  func() time.Time
	// Trials is the file in which outcomes of boots under KVM are kept (qemu.Trials); the user's own unless set.
	Trials string
	// Ready is called once the socket serves.
	Ready func(platform.Info)
}

// MaxCapacity bounds Options.Capacity.
const MaxCapacity = 256

const defaultCapacity = 16

// maxKept bounds the instances that a device keeps on its disk, those that are stopped included.
const maxKept = 1024

func (o Options) withDefaults() Options {
	if o.Hardware == "" {
		o.Hardware = evidence.TrustZone
	}
	if o.Capacity <= 0 {
		o.Capacity = defaultCapacity
	}
	o.Capacity = min(o.Capacity, MaxCapacity)
	if o.Log == nil {
		o.Log = slog.New(slog.DiscardHandler)
	}
	if o.Rand == nil {
		o.Rand = rand.Reader
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	return o
}
