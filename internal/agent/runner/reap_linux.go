// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"bytes"
	"context"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// reapEvery is the time between two looks at the children. It is far longer than a Wait of this program leaves a child of
// its own unreaped.
const reapEvery = 5 * time.Second

// Reap collects orphans that the kernel has given to this process because it is number 1 of its namespace. Each is left alone until it
// was a zombie at two looks in a row: until then it may be a child that somebody here is about to wait for.
func Reap(ctx context.Context) {
	tick := time.NewTicker(reapEvery)
	defer tick.Stop()
	seen := map[int]bool{}
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			seen = reapOnce(seen)
		}
	}
}

// reapOnce reaps the zombies among seen and returns those it found anew.
func reapOnce(seen map[int]bool) map[int]bool {
	found := map[int]bool{}
	for _, pid := range zombies() {
		if !seen[pid] {
			found[pid] = true
			continue
		}
		_, _ = unix.Wait4(pid, nil, unix.WNOHANG, nil)
	}
	return found
}

// zombies lists the children of this process that have ended and were not waited for.
func zombies() (pids []int) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil
	}
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		stat, err := os.ReadFile("/proc/" + e.Name() + "/stat")
		if err != nil {
			continue
		}
		// "pid (name) state ppid ...": the name may hold anything, so the fields are counted from its end.
		fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
		if len(fields) > 1 && string(fields[0]) == "Z" && string(fields[1]) == strconv.Itoa(os.Getpid()) {
			pids = append(pids, pid)
		}
	}
	return pids
}
