// SPDX-License-Identifier: Apache-2.0

package runner

import "time"

// Usage is what the processes of a TA that run now take.
type Usage struct {
	Processes   int           `json:"processes"`
	MemoryBytes uint64        `json:"memory_bytes"` // resident
	CPU         time.Duration `json:"cpu_ns"`       // user and system time
}

// LogSince returns what the TA printed after the first offset bytes, as far as it is kept, and the offset for the next call. It belongs
// to the TA's owner.
func (t *TA) LogSince(offset uint64) ([]byte, uint64) { return t.log.Since(offset) }

// Done is closed when the TA is stopped for good.
func (t *TA) Done() <-chan struct{} { return t.ctx.Done() }

// PDFiles is how many files of data the TA was given, and their size.
func (t *TA) PDFiles() (n int, size int64) {
	for _, p := range t.prog.PD {
		n, size = n+1, size+p.Size()
	}
	return n, size
}

// Usage adds up the TA's processes; ok is false where the launcher or the system does not tell.
func (t *TA) Usage() (u Usage, ok bool) {
	t.mu.Lock()
	var pids []int
	for pid := range t.pids {
		pids = append(pids, pid)
	}
	t.mu.Unlock()
	return usageOf(pids)
}

// track notes a process of the TA until the function that it returns is called.
func (t *TA) track(p Process) (ended func()) {
	known, ok := p.(interface{ Pid() int })
	if !ok || known.Pid() <= 0 {
		return func() {}
	}
	pid := known.Pid()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.pids == nil {
		t.pids = map[int]bool{}
	}
	t.pids[pid] = true
	return func() {
		t.mu.Lock()
		delete(t.pids, pid)
		t.mu.Unlock()
	}
}
