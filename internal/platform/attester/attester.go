// SPDX-License-Identifier: Apache-2.0

// Package attester asks the real hardware under a TEEP Agent for Evidence, through the interface that each platform's kernel
// or runtime offers:
//
//	configfs-tsm  SEV-SNP, TDX, CCA  /sys/kernel/config/tsm/report (Linux, ABI/testing/configfs-tsm-report)
//	gramine       SGX                /dev/attestation, pseudo files of the Gramine library OS around an enclave
//	csv-guest     CSV                /dev/csv-guest, one ioctl
//	optee         TrustZone          /dev/tee0, the attestation PTA of OP-TEE by TEE ioctls (linux/tee.h)
//
// Each finds out by itself whether it can work here ([Attester.Probe]): what lies where it looks, and, where that costs
// nothing, by asking for Evidence. A device file alone proves little. Nothing here verifies anything; what comes back is what
// the verifiers of package evidence read.
//
// The emulator has no place in this package: it speaks package hw.
package attester

import (
	"context"
	"errors"
	"fmt"
	"io"

	"sealift/evidence"
	"sealift/internal/platform/hw"
)

// Errors of an Attester.
var (
	// ErrAbsent means that this machine does not have the interface.
	ErrAbsent = errors.New("attester: this machine does not have it")
	// ErrDevice means that the interface is there and did not do what it should; the text says what.
	ErrDevice = errors.New("attester: the device refused or misbehaved")
)

// Attester gets Evidence from one kind of interface. Implementations are safe for concurrent use.
type Attester interface {
	// Name is the interface's name, as in the package comment.
	Name() string
	// Probe says what is there. It changes nothing and returns soon.
	Probe(ctx context.Context) Probe
	// Evidence returns Evidence over the binding b (evidence.Binding). config is the SHA-256 of the measured configuration,
	// for platforms that have no field for it. The error wraps ErrAbsent or ErrDevice.
	Evidence(ctx context.Context, b [64]byte, config [32]byte) (hw.Evidence, error)
}

// Probe is what an Attester found.
type Probe struct {
	Name     string            // of the Attester
	Where    string            // path that it looked at
	Hardware evidence.Hardware // which architecture; empty if that cannot be told
	Found    bool              // the interface is there
	Usable   bool              // and it works for this user
	Why      string            // what was found, or why it cannot be used
}

// Machine is what Attesters see of the machine they run on.
type Machine struct {
	Root string // "/"; paths are looked up below it
	// Open opens a device file for ioctls.
	Open func(path string) (Device, error)
	// TSM opens the kernel's report interface.
	TSM TSMClient
	// Rand makes nonces.
	Rand io.Reader
}

// Device is an open device file.
type Device interface {
	// Ioctl makes the request with arg as its argument. Where buf is not nil, the first 8 bytes of arg are replaced by
	// buf's address for the time of the call. It returns what the call returned.
	Ioctl(request uint, arg, buf []byte) (int, error)
	Close() error
}

// All returns the attesters for every interface, in the order in which Open tries them.
func All(m Machine) []Attester {
	return []Attester{&tsmAttester{m}, &gramine{m: m}, &csvGuest{m}, &opteePTA{m}}
}

// ProbeAll asks all of them what is there.
func ProbeAll(ctx context.Context, m Machine) []Probe {
	var out []Probe
	for _, a := range All(m) {
		out = append(out, a.Probe(ctx))
	}
	return out
}

// Open returns the first Attester that is usable, or ErrAbsent with what each one found.
func Open(ctx context.Context, m Machine) (Attester, Probe, error) {
	var all []error
	for _, a := range All(m) {
		p := a.Probe(ctx)
		if p.Usable {
			return a, p, nil
		}
		all = append(all, fmt.Errorf("%s (%s): %s", p.Name, p.Where, p.Why))
	}
	return nil, Probe{}, fmt.Errorf("%w: no TEE: %w", ErrAbsent, errors.Join(all...))
}
