// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"os"
	"strings"
)

// ScanProcess looks through all readable memory of a process. It returns how many bytes it read.
func (s *Secret) ScanProcess(pid int) (found []Hit, size int64, err error) {
	maps, err := os.Open(fmt.Sprintf("/proc/%d/maps", pid))
	if err != nil {
		return nil, 0, err
	}
	defer maps.Close()
	mem, err := os.Open(fmt.Sprintf("/proc/%d/mem", pid))
	if err != nil {
		return nil, 0, err
	}
	defer mem.Close()
	lines := bufio.NewScanner(maps)
	for lines.Scan() {
		var from, to uint64
		var perms string
		if _, err := fmt.Sscanf(lines.Text(), "%x-%x %s", &from, &to, &perms); err != nil {
			return found, size, fmt.Errorf("canary: reading the map of process %d: %w", pid, err)
		}
		if !strings.HasPrefix(perms, "r") || to > math.MaxInt64 {
			continue // not readable, or the kernel's own page at the top of the address space
		}
		region := &counter{r: io.NewSectionReader(mem, int64(from), int64(to-from))}
		// A region can vanish or refuse while we read: what was read of it has been looked at.
		h, _ := s.ScanReader(fmt.Sprintf("pid %d: %x", pid, from), region)
		found, size = append(found, h...), size+region.n
	}
	return found, size, lines.Err()
}

type counter struct {
	r io.Reader
	n int64
}

func (c *counter) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}
