// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"fmt"
	"os"
	"strings"
	"time"
)

// clockTick is the unit of the times in /proc/PID/stat; Linux has 100 a second on every architecture that Go knows.
const clockTick = time.Second / 100

// processCPU returns the CPU time that a running process has used (proc(5), fields 14 and 15 of stat).
func processCPU(pid int) (used time.Duration, known bool) {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, false
	}
	// The name in field 2 may hold anything, also spaces: count from its closing parenthesis.
	fields := strings.Fields(string(data[bytes.LastIndexByte(data, ')')+1:]))
	var user, system int64
	if len(fields) < 13 {
		return 0, false
	}
	if _, err := fmt.Sscan(fields[11]+" "+fields[12], &user, &system); err != nil {
		return 0, false
	}
	return time.Duration(user+system) * clockTick, true
}

// processRSS returns the resident memory of a running process in MiB, 0 if it is not known.
func processRSS(pid int) float64 { return statusMiB(pid, "VmRSS:") }

// statusMiB reads one line of /proc/PID/status that is in kB.
func statusMiB(pid int, name string) float64 {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(data)) {
		var kib float64
		if n, _ := fmt.Sscanf(line, name+" %f kB", &kib); n == 1 {
			return kib / 1024
		}
	}
	return 0
}
