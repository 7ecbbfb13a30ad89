// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator

import "time"

// TryKVM lets trial boots under KVM happen wherever there is a QEMU, for one test.
func TryKVM() (restore func()) {
	was := checkKVM
	checkKVM = func(int) error { return nil }
	return func() { checkKVM = was }
}

// Impatient shortens for one test how long a guest may take to come up and how long it may be silent.
func Impatient(boot, quiet time.Duration) (restore func()) {
	wasBoot, wasSilence := bootTime, silence
	bootTime, silence = boot, quiet
	return func() { bootTime, silence = wasBoot, wasSilence }
}
