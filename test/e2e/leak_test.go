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
	"strconv"
	"strings"
	"testing"
	"time"
)

// holdings is what a stack holds of a machine.
type holdings struct {
	processes map[string]int // by program and arguments
	mounts    int            // in all mount namespaces of the stack's processes, and the machine's
	files     map[int]int    // open files and sockets, by process
	resident  map[int]int    // resident memory in KiB, by process
	groups    []string       // control groups of the emulators, and below them
	tree      []string       // under the owner's folder, without what the histories are made of
	temporary []string       // in the folder for temporary files
}

// measure tells what the stack of a user holds now.
func measure(t *testing.T, u *user) holdings {
	t.Helper()
	h := holdings{processes: map[string]int{}, files: map[int]int{}, resident: map[int]int{}}
	h.mounts = mounts(t, "self")
	for _, p := range processes(t) {
		h.processes[fmt.Sprintf("%s %s", filepath.Base(p.exe), strings.Join(p.args[1:min(3, len(p.args))], " "))]++
		h.mounts += mounts(t, fmt.Sprint(p.pid))
		if entries, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", p.pid)); err == nil {
			h.files[p.pid] = len(entries)
		}
		h.resident[p.pid] = resident(p.pid)
	}
	for _, g := range emulatorGroups(u) {
		_ = filepath.WalkDir(g, func(path string, d fs.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				h.groups = append(h.groups, path)
			}
			return nil
		})
	}
	history := []string{"dev/moc/artifacts/", "dev/moc/moc.db", "dev/dev.json", "removals/"}
	err := filepath.WalkDir(u.home, func(path string, _ fs.DirEntry, err error) error {
		name, _ := filepath.Rel(u.home, path)
		if !slices.ContainsFunc(history, func(prefix string) bool { return strings.HasPrefix(name, prefix) }) {
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

// resident is what a process holds of the machine's memory, in KiB; 0 when it has ended.
func resident(pid int) (kib int) {
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0
	}
	for line := range strings.Lines(string(status)) {
		if strings.HasPrefix(line, "VmRSS:") {
			_, _ = fmt.Sscanf(line, "VmRSS: %d kB", &kib)
		}
	}
	return kib
}

// exceeds says what h holds more than before. Of memory it says nothing: how much there is of it depends on when it was tidied up.
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
			more = append(more, name)
		}
	}
	for _, group := range h.groups {
		if !slices.Contains(before.groups, group) {
			more = append(more, group)
		}
	}
	for _, name := range h.temporary {
		if !slices.Contains(before.temporary, name) {
			more = append(more, name)
		}
	}
	return more
}

// shortTmp gives the test a folder for temporary files that is only ours, and whose name is short, as those of sockets must be.
func shortTmp(t *testing.T) {
	t.Helper()
	tmp, err := os.MkdirTemp("", "sl")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(tmp) })
	t.Setenv("TMPDIR", tmp)
}

// nothingMore fails if the stack of a user holds more than it did, and goes on to.
func nothingMore(t *testing.T, u *user, before holdings) {
	t.Helper()
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
}

// upAndDown is one kind of deployment that the leak test makes, and how often it does in each round.
type upAndDown struct {
	name, mode, hardware, instance string
	times                          int
}

// Deployments up and down in each instance type leave no process, mount, control group, socket, open file or file behind, beyond
// the M/OC's history and the owner's, and the servers' memory does not grow with them. The first ones are not counted: they open
// what stays open.
// SEALIFT_LEAK_ROUNDS says how often nine of them are made; 22 make 203 deployments and take some minutes. A vm is started in each
// fifth round.
func TestNothingLeaks(t *testing.T) {
	rounds := 6
	if n, err := strconv.Atoi(os.Getenv("SEALIFT_LEAK_ROUNDS")); err == nil {
		rounds = n
	}
	u := newUser(t)
	images := filepath.Join(bin, "images")
	vmImage(t, u, images)
	containerImage(t, u, images)
	shortTmp(t)
	devUp(t, u, "--hardware", "trustzone", "--hardware", "sgx", "--hardware", "cca")
	kinds := []upAndDown{
		{"all", "ua,ta,pd", "trustzone", "process", 2}, {"two", "ta,pd", "sgx", "process", 2}, {"both", "ta+pd", "trustzone", "process", 1},
		{"box", "ta,pd", "trustzone", "container", 2}, {"boxes", "ua,ta,pd", "cca", "container", 1}, {"wide", "ua+ta+pd", "cca", "container", 1},
	}
	vm := upAndDown{"guest", "ta,pd", "cca", "vm", 1}
	for _, k := range append(kinds, vm) {
		text := strings.NewReplacer("name: stats", "name: "+k.name, "[trustzone]", "["+k.hardware+"]", "[process]", "["+k.instance+"]").
			Replace(mustRead(t, u, statsPackage(t, u, k.mode)))
		u.must("", "pack", u.write(k.name+".yaml", text))
	}
	made, slowest := 0, map[string]time.Duration{}
	run := func(k upAndDown) {
		for range k.times {
			for _, args := range [][]string{{"deploy", "--wait", k.name + ".sealift"}, {"call", k.name}, {"remove", k.name}} {
				r := u.must("mean salary by department\n", args...)
				what := args[0] + " " + k.instance
				slowest[what] = max(slowest[what], r.took)
			}
			made++
		}
	}
	round := func(number int) {
		for _, k := range kinds {
			run(k)
		}
		if number%5 == 0 {
			run(vm)
		}
	}
	round(0)
	time.Sleep(500 * time.Millisecond)
	before := measure(t, u)
	made = 0
	for number := range rounds {
		round(number)
	}
	nothingMore(t, u, before)
	t.Logf("%d deployments; the slowest: %v", made, slowest)
	after := measure(t, u)
	for pid, kib := range before.resident {
		t.Logf("process %d: %d KiB, before %d", pid, after.resident[pid], kib)
		if after.resident[pid] > kib+memoryGrowth {
			t.Errorf("process %d has grown from %d to %d KiB", pid, kib, after.resident[pid])
		}
	}
	u.must("", "dev", "down")
	nothingLeft(t)
	if sockets, _ := filepath.Glob(filepath.Join(u.home, "dev", "*.sock")); len(sockets) != 0 {
		t.Errorf("sockets left behind: %v", sockets)
	}
	if groups := emulatorGroups(u); len(groups) != 0 {
		t.Errorf("control groups left behind: %v", groups)
	}
}

// memoryGrowth is what a server's resident memory may differ by from one moment to another, in KiB, however many deployments
// there were between: the garbage of one, and caches that fill up.
const memoryGrowth = 48 << 10
