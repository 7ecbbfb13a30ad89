// SPDX-License-Identifier: Apache-2.0

// Package usecase holds the use case "confidential computing in the network"
// (draft-yang-teep-usecase-for-cc-in-network) as data: the seven package modes, the three instance types, the six
// hardware architectures, which of the eighteen pairs of instance type and hardware exist (twelve), and for each of the
// 7 x 12 = 84 deployments its load sequence with what every role gets to see at each step.
//
// A package mode says what travels together. A '+' joins components into one package, a ',' separates packages: in
// "ua,ta,pd" the UA, the TA and the PD are three packages; in "ta+pd" one package holds TA and PD. The mode fixes the
// load sequence, because PD may move only after attestation: where PD shares a package, attestation comes before that
// package; where PD is a package of its own, the TA is installed first and the attestation covers it.
//
// Nothing in this package moves a byte. The M/OC drives a deployment along [LoadPlan.Steps] and records a trace in the
// same vocabulary; a run is right when the trace equals the plan.
package usecase

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"sealift/evidence"
)

// Mode is a package mode, written as in the use case's table: '+' joins, ',' separates.
type Mode string

// The seven package modes. The name lists the components; the word Bundle stands where packages are joined.
const (
	ModeBundleUATAPD Mode = "ua+ta+pd" // draft case 1
	ModeBundleUATA   Mode = "ua+ta,pd" // draft case 2
	ModeUATAPD       Mode = "ua,ta,pd" // draft case 3
	ModeTAPD         Mode = "ta,pd"    // draft case 3 without a UA
	ModeBundleTAPDUA Mode = "ta+pd,ua" // draft case 4
	ModeBundleTAPD   Mode = "ta+pd"    // draft case 4 without a UA
	ModeBundleUAPD   Mode = "ua+pd,ta" // draft case 5
)

// Instance is an instance type: what the TEE protects.
type Instance string

// The three instance types.
const (
	Process   Instance = "process"
	Container Instance = "container"
	VM        Instance = "vm"
)

// Hardware is a hardware architecture.
type Hardware = evidence.Hardware

// The six hardware architectures.
const (
	TrustZone = evidence.TrustZone
	SGX       = evidence.SGX
	SEVSNP    = evidence.SEVSNP
	CCA       = evidence.CCA
	TDX       = evidence.TDX
	CSV       = evidence.CSV
)

// Errors of this package. An [InvalidCellError] is an ErrInvalidCell as well.
var (
	ErrUnknown     = errors.New("unknown name")
	ErrInvalidCell = errors.New("instance type and hardware do not fit")
	ErrNotRunnable = errors.New("planned, but this version does not run it")
)

// Modes returns the seven package modes in the order of the use case's table.
func Modes() []Mode {
	return []Mode{ModeBundleUATAPD, ModeBundleUATA, ModeUATAPD, ModeTAPD, ModeBundleTAPDUA, ModeBundleTAPD, ModeBundleUAPD}
}

// Instances returns the three instance types.
func Instances() []Instance { return []Instance{Process, Container, VM} }

// AllHardware returns the six hardware architectures.
func AllHardware() []Hardware { return evidence.AllHardware() }

// ParseMode returns the mode that s names, exactly as in the table; ErrUnknown otherwise, listing the seven.
func ParseMode(s string) (Mode, error) { return parseName("package mode", s, Modes()) }

// ParseInstance returns the instance type that s names; ErrUnknown otherwise.
func ParseInstance(s string) (Instance, error) { return parseName("instance type", s, Instances()) }

// ParseHardware returns the hardware architecture that s names; ErrUnknown otherwise.
func ParseHardware(s string) (Hardware, error) {
	return parseName("hardware architecture", s, AllHardware())
}

func parseName[T ~string](kind, s string, known []T) (T, error) {
	if slices.Contains(known, T(s)) {
		return T(s), nil
	}
	names := make([]string, len(known))
	for i, k := range known {
		names[i] = string(k)
	}
	return "", fmt.Errorf("%w: %s %q (one of: %s)", ErrUnknown, kind, s, strings.Join(names, "  "))
}

// Payload is a kind of thing that a step moves.
type Payload string

// The kinds of payload. Evidence travels in the steps "admit" and "attest".
const (
	UA       Payload = "ua"
	TA       Payload = "ta"
	PD       Payload = "pd"
	Evidence Payload = "evidence"
)

// Packages returns what the mode's packages hold, in the order in which the mode names them.
func (m Mode) Packages() [][]Payload {
	var out [][]Payload
	for p := range strings.SplitSeq(string(m), ",") {
		var one []Payload
		for c := range strings.SplitSeq(p, "+") {
			one = append(one, Payload(c))
		}
		out = append(out, one)
	}
	return out
}

// Has reports whether the mode has a component of kind p.
func (m Mode) Has(p Payload) bool { return m.With(p) != nil }

// With returns what travels in one package with p, p itself included; nil if the mode has no p.
func (m Mode) With(p Payload) []Payload {
	for _, one := range m.Packages() {
		if slices.Contains(one, p) {
			return one
		}
	}
	return nil
}

// Sealed reports whether p travels encrypted and waits for the owner's release, because it is PD or shares a package with PD.
func (m Mode) Sealed(p Payload) bool { return slices.Contains(m.With(p), PD) }

// Bundled reports whether PD shares a package with another component, so that attestation precedes that package.
func (m Mode) Bundled() bool { return len(m.With(PD)) > 1 }
