// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"strconv"
	"time"
)

// ticks is the unit of the times in /proc/PID/stat: USER_HZ is 100 on every architecture that Go knows (proc_pid_stat(5)).
const ticks = time.Second / 100

// usageOf adds up processes and their descendants.
func usageOf(roots []int) (u Usage, ok bool) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return u, false
	}
	type process struct {
		parent int
		cpu    time.Duration
		memory uint64
	}
	all := map[int]process{}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		data, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			continue
		}
		fields := bytes.Fields(data[bytes.LastIndexByte(data, ')')+1:]) // the first is field 3, the state
		if len(fields) < 22 {
			continue
		}
		number := func(field int) uint64 { n, _ := strconv.ParseUint(string(fields[field-3]), 10, 64); return n }
		all[pid] = process{int(number(4)), time.Duration(number(14)+number(15)) * ticks, number(24) * uint64(os.Getpagesize())}
	}
	for pid := range all {
		for at, hops := pid, 0; at > 1 && hops < 64; at, hops = all[at].parent, hops+1 {
			if slices.Contains(roots, at) {
				u.Processes, u.CPU, u.MemoryBytes = u.Processes+1, u.CPU+all[pid].cpu, u.MemoryBytes+all[pid].memory
				break
			}
		}
	}
	return u, len(all) > 0
}
