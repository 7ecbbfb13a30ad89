// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator

import "time"

// TryKVM lets trial boots under KVM happen wherever there is a QEMU, for one test, which does not wait for them as long.
func TryKVM() (restore func()) {
	was, wasTime := checkKVM, trialTime
	checkKVM, trialTime = func(int) error { return nil }, 8*time.Second
	return func() { checkKVM, trialTime = was, wasTime }
}

// Impatient shortens for one test how long a guest may take to come up and how long it may be silent.
func Impatient(boot, quiet time.Duration) (restore func()) {
	wasBoot, wasSilence := bootTime, silence
	bootTime, silence = boot, quiet
	return func() { bootTime, silence = wasBoot, wasSilence }
}
