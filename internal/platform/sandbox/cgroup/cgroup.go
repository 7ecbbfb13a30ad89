// SPDX-License-Identifier: Apache-2.0

// Package cgroup bounds what a group of processes uses together, by the kernel's control groups: version 2
// (cgroup-v2.rst), or the version 1 hierarchies memory, pids and cpu (cgroup-v1/), whichever of them carries the controllers.
//
// The package is used on both sides of a TEE instance. The platform makes one [Group] for an instance, with the limits of the
// instance as a whole, and delegates it: the instance may make groups below it and move its own processes between them, and
// cannot change the group's own limits, whose files stay with the platform. Inside, the TEEP Agent opens the delegated group
// ([Open]) and makes one group for each TA.
//
// A limit is set or the call fails; it is never left out because the machine cannot enforce it.
package cgroup

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// ErrUnsupported means that this process cannot make control groups with limits here; the text says what is missing.
var ErrUnsupported = errors.New("cgroup: no control groups to make here")

// Controllers are those that a Group needs, by their names in version 1 and 2.
var Controllers = []string{"cpu", "memory", "pids"}

// Limits of a Group, for all its processes and groups together. Zero means no limit of its own.
type Limits struct {
	MemoryBytes uint64 // anonymous memory, page cache and files in memory; swap is not given at all
	Processes   uint64 // processes and threads
	CPUMillis   uint64 // thousandths of a processor
}

// cpuPeriod is the time in microseconds over which the CPU limit is kept (cgroup-v2.rst, cpu.max; cgroup-v1 cpu.cfs_period_us).
const cpuPeriod = 100_000

// Group is one control group. It has one folder for each controller in version 1, and one in version 2.
type Group struct {
	dirs map[string]string // by controller; in version 2 all are the same
	v2   bool
}

var nameRule = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// Child makes the group name below g and sets its limits. It fails if there is one.
func (g *Group) Child(name string, l Limits) (*Group, error) {
	if !nameRule.MatchString(name) {
		return nil, fmt.Errorf("cgroup: %q cannot name a group", name)
	}
	c := &Group{dirs: map[string]string{}, v2: g.v2}
	if g.v2 {
		if err := g.enableControllers(); err != nil {
			return nil, err
		}
	}
	for ctrl, dir := range g.dirs {
		c.dirs[ctrl] = filepath.Join(dir, name)
	}
	for i, dir := range c.folders() {
		if err := os.Mkdir(dir, 0o755); err != nil {
			for _, made := range c.folders()[:i] {
				_ = os.Remove(made)
			}
			return nil, fmt.Errorf("cgroup: %w", err)
		}
	}
	if err := c.limit(l); err != nil {
		return nil, errors.Join(err, c.Remove())
	}
	return c, nil
}

// At names the group name below g, whether it is there or not.
func (g *Group) At(name string) *Group {
	c := &Group{dirs: map[string]string{}, v2: g.v2}
	for ctrl, dir := range g.dirs {
		c.dirs[ctrl] = filepath.Join(dir, name)
	}
	return c
}

// Exists reports whether all of the group's folders are there.
func (g *Group) Exists() bool {
	for _, dir := range g.folders() {
		if _, err := os.Stat(dir); err != nil {
			return false
		}
	}
	return true
}

// folders lists the group's folders, each once.
func (g *Group) folders() []string {
	if g.v2 {
		return []string{g.dirs[Controllers[0]]}
	}
	list := make([]string, 0, len(Controllers))
	for _, ctrl := range Controllers {
		list = append(list, g.dirs[ctrl])
	}
	return list
}

// enableControllers gives the controllers to the groups below.
func (g *Group) enableControllers() error {
	file := filepath.Join(g.folders()[0], "cgroup.subtree_control")
	have, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	var want []string
	for _, ctrl := range Controllers {
		if !hasWord(string(have), ctrl) {
			want = append(want, "+"+ctrl)
		}
	}
	if len(want) == 0 {
		return nil
	}
	if err := write(file, strings.Join(want, " ")); err != nil {
		return fmt.Errorf("%w: giving %s to groups below %s: %w", ErrUnsupported, strings.Join(want, " "), g.folders()[0], err)
	}
	return nil
}

func (g *Group) limit(l Limits) error {
	type setting struct{ ctrl, file, value string }
	var list []setting
	if l.MemoryBytes > 0 {
		n := strconv.FormatUint(l.MemoryBytes, 10)
		if g.v2 {
			list = append(list, setting{"memory", "memory.max", n}, setting{"memory", "?memory.swap.max", "0"},
				setting{"memory", "?memory.oom.group", "1"})
		} else {
			list = append(list, setting{"memory", "memory.limit_in_bytes", n}, setting{"memory", "?memory.memsw.limit_in_bytes", n})
		}
	}
	if l.Processes > 0 {
		list = append(list, setting{"pids", "pids.max", strconv.FormatUint(l.Processes, 10)})
	}
	if l.CPUMillis > 0 {
		quota := strconv.FormatUint(l.CPUMillis*cpuPeriod/1000, 10)
		if g.v2 {
			list = append(list, setting{"cpu", "cpu.max", quota + " " + strconv.Itoa(cpuPeriod)})
		} else {
			list = append(list, setting{"cpu", "cpu.cfs_period_us", strconv.Itoa(cpuPeriod)}, setting{"cpu", "cpu.cfs_quota_us", quota})
		}
	}
	for _, s := range list {
		name, optional := strings.CutPrefix(s.file, "?") // kernels without swap accounting do not have these
		err := write(filepath.Join(g.dirs[s.ctrl], name), s.value)
		if optional && errors.Is(err, os.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("cgroup: setting %s to %s: %w", name, s.value, err)
		}
	}
	return nil
}

// Add moves the process pid into the group; what it starts later is in it from the beginning.
func (g *Group) Add(pid int) error {
	for _, dir := range g.folders() {
		if err := write(filepath.Join(dir, "cgroup.procs"), strconv.Itoa(pid)); err != nil {
			return fmt.Errorf("cgroup: moving process %d into %s: %w", pid, dir, err)
		}
	}
	return nil
}

// Delegate lets the user make groups below g and move processes into them, as cgroup-v2.rst "Delegation Containment" has it.
// The limits of g stay with its maker.
func (g *Group) Delegate(uid int) error {
	if g.v2 {
		if err := g.enableControllers(); err != nil {
			return err
		}
	}
	names := []string{".", "cgroup.procs"}
	if g.v2 {
		names = append(names, "cgroup.subtree_control", "cgroup.threads")
	}
	for _, dir := range g.folders() {
		for _, name := range names {
			if err := os.Chown(filepath.Join(dir, name), uid, uid); err != nil {
				return fmt.Errorf("cgroup: delegating %s: %w", dir, err)
			}
		}
	}
	return nil
}

// Mount is a folder of a group and the path at which another mount namespace shows it.
type Mount struct{ Source, Target string }

// MountRoot is where the delegated group is in an instance: see [Open].
const MountRoot = "/sys/fs/cgroup"

// Mounts lists what an instance has to see for Open to find g.
func (g *Group) Mounts() []Mount {
	if g.v2 {
		return []Mount{{g.folders()[0], MountRoot}}
	}
	list := make([]Mount, 0, len(Controllers))
	for _, ctrl := range Controllers {
		list = append(list, Mount{g.dirs[ctrl], MountRoot + "/" + ctrl})
	}
	return list
}

// OOMKills returns how many processes of the group the kernel has killed because the memory limit was reached.
func (g *Group) OOMKills() (uint64, error) {
	file := "memory.oom_control" // cgroup-v1/memory.rst section 10
	if g.v2 {
		file = "memory.events"
	}
	return counter(filepath.Join(g.dirs["memory"], file), "oom_kill")
}

// ForksDenied returns how often a process could not be started because there were as many as the limit allows.
func (g *Group) ForksDenied() (uint64, error) {
	return counter(filepath.Join(g.dirs["pids"], "pids.events"), "max")
}

func counter(file, name string) (uint64, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return 0, fmt.Errorf("cgroup: %w", err)
	}
	for line := range strings.Lines(string(data)) {
		if f := strings.Fields(line); len(f) == 2 && f[0] == name {
			return strconv.ParseUint(f[1], 10, 64)
		}
	}
	return 0, fmt.Errorf("cgroup: %s counts no %s", file, name)
}

// removeTime bounds how long Remove waits for killed processes to be gone.
const removeTime = 5 * time.Second

// Remove kills what is left in the group and in those below it, and removes them all. What does not exist is no error.
func (g *Group) Remove() error {
	deadline := time.Now().Add(removeTime)
	for pause := time.Millisecond; ; pause = min(2*pause, 50*time.Millisecond) {
		var errs []error
		for _, dir := range g.folders() {
			errs = append(errs, removeTree(dir))
		}
		err := errors.Join(errs...)
		if err == nil || time.Now().After(deadline) {
			return err
		}
		time.Sleep(pause) // a killed process leaves its group only when it has ended
	}
}

// removeTree kills and removes one folder with all below it.
func removeTree(dir string) error {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("cgroup: %w", err)
	}
	for _, e := range entries {
		if e.IsDir() {
			if err := removeTree(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	if err := killAll(filepath.Join(dir, "cgroup.procs")); err != nil {
		return err
	}
	if err := removeDir(dir); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("cgroup: %w", err)
	}
	return nil
}

func killAll(file string) error {
	data, err := os.ReadFile(file)
	if err != nil {
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		return fmt.Errorf("cgroup: %w", err)
	}
	for _, field := range strings.Fields(string(data)) {
		if pid, err := strconv.Atoi(field); err == nil && pid > 1 {
			kill(pid)
		}
	}
	return nil
}

// Sweep removes the groups below g whose names begin with prefix, which nobody has touched for an hour and in which nothing
// runs: leftovers of programs that were killed and never started again.
func (g *Group) Sweep(prefix string, now time.Time) {
	for _, dir := range g.folders() {
		entries, err := os.ReadDir(dir)
		if err != nil {
			continue
		}
		for _, e := range entries {
			st, err := e.Info()
			if err == nil && e.IsDir() && strings.HasPrefix(e.Name(), prefix) && now.Sub(st.ModTime()) > time.Hour {
				removeEmpty(filepath.Join(dir, e.Name()))
			}
		}
	}
}

// removeEmpty removes a folder and those below it as far as nothing runs in them.
func removeEmpty(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			removeEmpty(filepath.Join(dir, e.Name()))
		}
	}
	_ = removeDir(dir)
}

// write writes a control file, which has to exist.
func write(file, value string) error {
	f, err := os.OpenFile(file, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(value)
	return errors.Join(err, f.Close())
}

func hasWord(list, word string) bool {
	for _, w := range strings.Fields(list) {
		if w == word {
			return true
		}
	}
	return false
}
