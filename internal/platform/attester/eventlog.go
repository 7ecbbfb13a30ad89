// SPDX-License-Identifier: Apache-2.0

package attester

import (
	"bytes"
	"encoding/binary"
	"io"
	"os"
	"path/filepath"
)

// ccelPath is the memory of the ACPI table CCEL: the log of what firmware and boot loader extended RTMRs by (Guest Hypervisor
// Communication Interface for TDX 1.5, section 4.3.3). Linux shows it to root.
const ccelPath = "sys/firmware/acpi/tables/data/CCEL"

// maxEventLog bounds the log that goes with Evidence. Those of today's clouds have about 30 KiB.
const maxEventLog = 256 << 10

// eventLog returns the event log of a TD without the filling behind it; nil where there is none that could be read. A verifier can
// do without: it compares the registers with reference values either way.
func (m Machine) eventLog() []byte {
	f, err := os.Open(filepath.Join(m.Root, ccelPath))
	if err != nil {
		return nil
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, 4*maxEventLog))
	if err != nil {
		return nil
	}
	if data = data[:logSize(data)]; len(data) > maxEventLog {
		return nil
	}
	return data
}

// Sizes in a log with SHA-384 as its only algorithm: of the first event without its data, and of the others (TCG PC Client Platform
// Firmware Profile 1.05, section 10.2).
const (
	logFirst = 32
	logEvent = 4 + 4 + 4 + 2 + 48 + 4
)

// logSize returns where the last event ends. What is no log that it can walk through is trimmed at its end only: the verifier says
// what is wrong with it.
func logSize(data []byte) int {
	trimmed := len(bytes.TrimRight(data, "\xff"))
	if len(data) < logFirst {
		return trimmed
	}
	end := logFirst + int(binary.LittleEndian.Uint32(data[logFirst-4:]))
	for end < trimmed {
		if end+logEvent > len(data) || len(bytes.Trim(data[end:trimmed], "\x00")) == 0 {
			return min(end, len(data))
		}
		end += logEvent + int(binary.LittleEndian.Uint32(data[end+logEvent-4:]))
	}
	if end > len(data) {
		return trimmed
	}
	return end
}
