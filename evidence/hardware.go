// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"slices"
	"strings"
)

// Hardware names a hardware architecture, in lower case, as in every flag, file and message.
type Hardware string

// The six hardware architectures. The names stand inside the binding (see [Binding]), so they never change.
const (
	TrustZone Hardware = "trustzone"
	SGX       Hardware = "sgx"
	SEVSNP    Hardware = "sev-snp"
	CCA       Hardware = "cca"
	TDX       Hardware = "tdx"
	CSV       Hardware = "csv"
)

// AllHardware returns the six hardware architectures.
func AllHardware() []Hardware { return []Hardware{TrustZone, SGX, SEVSNP, CCA, TDX, CSV} }

// Known reports whether h is one of the six.
func (h Hardware) Known() bool { return slices.Contains(AllHardware(), h) }

// EmulatedPrefix precedes the hardware's name inside the binding where an emulator plays the hardware.
const EmulatedPrefix = "emu:"

// BindingName returns the name of the hardware as it stands inside the binding: "trustzone", or "emu:trustzone".
func (h Hardware) BindingName(emulated bool) string {
	if emulated {
		return EmulatedPrefix + string(h)
	}
	return string(h)
}

// ParseBindingName splits the name that stands inside the binding into the hardware and whether it is emulated.
func ParseBindingName(s string) (h Hardware, emulated bool) {
	rest, emulated := strings.CutPrefix(s, EmulatedPrefix)
	return Hardware(rest), emulated
}
