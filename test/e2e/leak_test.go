// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bufio"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// holdings is what a stack holds of a machine.
type holdings struct {
	processes map[string]int // by program and arguments
	mounts    int            // in all mount namespaces of the stack's processes, and the machine's
	files     map[int]int    // open files and sockets, by process
	tree      []string       // under the dev folder, without what the M/OC's history is made of
	temporary []string       // in the folder for temporary files
}

// measure tells what the stack of a user holds now.
func measure(t *testing.T, u *user) holdings {
	t.Helper()
	h := holdings{processes: map[string]int{}, files: map[int]int{}}
	h.mounts = mounts(t, "self")
	for _, p := range processes(t) {
		h.processes[fmt.Sprintf("%s %s", filepath.Base(p.exe), strings.Join(p.args[1:min(3, len(p.args))], " "))]++
		h.mounts += mounts(t, fmt.Sprint(p.pid))
		if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid)); err == nil {
			h.files[p.pid] = len(entries)
		}
	}
	dev := filepath.Join(u.home, "dev")
	err := filepath.WalkDir(dev, func(path string, _ fs.DirEntry, err error) error {
		name, _ := filepath.Rel(dev, path)
		if !strings.HasPrefix(name, "moc/artifacts/") && !strings.HasPrefix(name, "moc/moc.db") && !strings.HasPrefix(name, "dev.json") {
			h.tree = append(h.tree, name)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	temporary, err := filepath.Glob(filepath.Join(os.TempDir(), "*"))
	if err != nil {
		t.Fatal(err)
	}
	h.temporary = temporary
	return h
}

func mounts(t *testing.T, pid string) (n int) {
	t.Helper()
	f, err := os.Open("/proc/" + pid + "/mountinfo")
	if err != nil {
		return 0 // it has ended meanwhile
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); n++ {
	}
	return n
}

// exceeds says what a has more than b.
func (h holdings) exceeds(before holdings) (more []string) {
	if !maps.Equal(h.processes, before.processes) {
		more = append(more, fmt.Sprintf("processes %v, before %v", h.processes, before.processes))
	}
	if h.mounts > before.mounts {
		more = append(more, fmt.Sprintf("%d mounts, before %d", h.mounts, before.mounts))
	}
	for pid, n := range h.files {
		// A few connections that are kept open for the next request come and go.
		if n > before.files[pid]+4 {
			more = append(more, fmt.Sprintf("process %d has %d open files, before %d", pid, n, before.files[pid]))
		}
	}
	for _, name := range h.tree {
		if !slices.Contains(before.tree, name) {
			more = append(more, "dev/"+name)
		}
	}
	for _, name := range h.temporary {
		if !slices.Contains(before.temporary, name) {
			more = append(more, name)
		}
	}
	return more
}

// Twenty deployments, up and down, leave no process, mount, open file or file behind, beyond the M/OC's history. The first ones
// are not counted: they open what stays open.
func TestNothingLeaks(t *testing.T) {
	// A folder for temporary files that is only ours, and whose name is short, as those of sockets must be.
	tmp, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	u := newUser(t)
	t.Setenv("TMPDIR", tmp)
	devUp(t, u)
	u.must("", "pack", statsPackage(t, u, "ua,ta,pd"))
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	round := func() {
		u.must("", "deploy", "--wait", "stats.sealift")
		u.must("mean salary by department\n", "call", "stats")
		u.must("", "remove", "stats")
		u.must("", "deploy", "--wait", "text.sealift")
		u.must("some\n", "call", "text")
		u.must("", "remove", "text")
	}
	round()
	time.Sleep(500 * time.Millisecond)
	before := measure(t, u)
	for range 10 {
		round()
	}
	var more []string
	for range 50 {
		if more = measure(t, u).exceeds(before); len(more) == 0 {
			break
		}
		time.Sleep(100 * time.Millisecond)
	}
	for _, what := range more {
		t.Errorf("left behind: %s", what)
	}
	if uploads, _ := filepath.Glob(filepath.Join(u.home, "dev", "moc", "artifacts", "uploads", "*")); len(uploads) != 0 {
		t.Errorf("uploads left behind: %v", uploads)
	}
	u.must("", "dev", "down")
	nothingLeft(t)
	if sockets, _ := filepath.Glob(filepath.Join(u.home, "dev", "*.sock")); len(sockets) != 0 {
		t.Errorf("sockets left behind: %v", sockets)
	}
}
