// SPDX-License-Identifier: Apache-2.0

package cgroup

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// Open returns the group that the platform has delegated to this instance, at MountRoot.
func Open() (*Group, error) { return openAt(MountRoot) }

func openAt(root string) (*Group, error) {
	g := &Group{dirs: map[string]string{}}
	_, err := os.Stat(filepath.Join(root, "cgroup.procs"))
	g.v2 = err == nil
	for _, ctrl := range Controllers {
		g.dirs[ctrl] = root
		if !g.v2 {
			g.dirs[ctrl] = filepath.Join(root, ctrl)
		}
		if _, err := os.Stat(filepath.Join(g.dirs[ctrl], "cgroup.procs")); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
		}
	}
	return g, nil
}

// Find returns the group below which this process can make groups with limits: its own, or the nearest above it that carries
// all Controllers and can be written. The error is an ErrUnsupported with a sentence about each that was tried.
func Find() (*Group, error) {
	membership, err := os.Open("/proc/self/cgroup")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	defer membership.Close()
	mounts, err := os.Open("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	defer mounts.Close()
	own, err := parseMembership(membership)
	if err != nil {
		return nil, err
	}
	trees, err := parseMounts(mounts)
	if err != nil {
		return nil, err
	}
	return find(own, trees)
}

// tree is a mounted hierarchy. Version 2 has the controller "".
type tree struct{ root, mount string }

func find(own map[string]string, trees map[string]tree) (*Group, error) {
	if t, ok := trees[""]; ok {
		g, err := findV2(t, own[""])
		if err == nil {
			return g, nil
		}
		if _, v1 := trees["memory"]; !v1 {
			return nil, err
		}
	}
	g := &Group{dirs: map[string]string{}}
	var errs []error
	for _, ctrl := range Controllers {
		t, ok := trees[ctrl]
		if !ok {
			errs = append(errs, fmt.Errorf("the controller %s is not mounted", ctrl))
			continue
		}
		dir, err := nearestWritable(t, own[ctrl])
		g.dirs[ctrl] = dir
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("%w: %w; run as root, or delegate a group to this user", ErrUnsupported, err)
	}
	return g, nil
}

// nearestWritable walks up from the own group in one hierarchy of version 1.
func nearestWritable(t tree, own string) (string, error) {
	for dir := t.locate(own); ; dir = filepath.Dir(dir) {
		if unix.Access(dir, unix.W_OK) == nil {
			return dir, nil
		}
		if dir == t.mount || len(dir) <= len(t.mount) {
			return "", fmt.Errorf("no group at or above %s can be written by user %d", t.locate(own), os.Geteuid())
		}
	}
}

// findV2 walks up from the own group: the groups below one get a controller only if that one has no processes of its own
// ("No Internal Process Constraint") or gives it already.
func findV2(t tree, own string) (*Group, error) {
	var errs []error
	for dir := t.locate(own); ; dir = filepath.Dir(dir) {
		g := &Group{v2: true, dirs: map[string]string{}}
		for _, ctrl := range Controllers {
			g.dirs[ctrl] = dir
		}
		err := g.enableControllers()
		if err == nil {
			err = unix.Access(dir, unix.W_OK)
		}
		if err == nil {
			return g, nil
		}
		errs = append(errs, fmt.Errorf("%s: %w", dir, err))
		if dir == t.mount || len(dir) <= len(t.mount) {
			return nil, fmt.Errorf("%w: %w; run as root, or delegate a group to this user (systemd-run -p Delegate=yes)",
				ErrUnsupported, errors.Join(errs...))
		}
	}
}

// locate returns the folder of a group in the mounted tree; the mount's own for one that lies outside of it.
func (t tree) locate(group string) string {
	rel, ok := strings.CutPrefix(group, t.root)
	if !ok && t.root != "/" || strings.HasPrefix(group, "/..") {
		return t.mount
	}
	dir := filepath.Join(t.mount, rel)
	if _, err := os.Stat(dir); err != nil {
		return t.mount
	}
	return dir
}

const maxTable = 4 << 20

// parseMembership reads /proc/self/cgroup (cgroups(7)): lines of ID:controllers:path.
func parseMembership(r io.Reader) (map[string]string, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTable))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	own := map[string]string{}
	for line := range strings.Lines(string(data)) {
		parts := strings.SplitN(strings.TrimSuffix(line, "\n"), ":", 3)
		if len(parts) != 3 {
			continue
		}
		for ctrl := range strings.SplitSeq(parts[1], ",") {
			own[ctrl] = parts[2]
		}
	}
	return own, nil
}

// parseMounts reads /proc/self/mountinfo (proc_pid_mountinfo(5)).
func parseMounts(r io.Reader) (map[string]tree, error) {
	data, err := io.ReadAll(io.LimitReader(r, maxTable))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	trees := map[string]tree{}
	for line := range strings.Lines(string(data)) {
		head, tail, ok := strings.Cut(line, " - ")
		f, s := strings.Fields(head), strings.Fields(tail)
		if !ok || len(f) < 6 || len(s) < 3 {
			continue
		}
		t := tree{root: f[3], mount: f[4]}
		switch s[0] {
		case "cgroup2":
			trees[""] = t
		case "cgroup":
			for option := range strings.SplitSeq(s[2], ",") {
				for _, ctrl := range Controllers {
					if option == ctrl {
						trees[ctrl] = t
					}
				}
			}
		}
	}
	return trees, nil
}

// DevicesTree returns the folder of the version 1 hierarchy "devices", or "" where there is none. runc does not start without it
// under version 1, although it is given nothing to do with it.
func DevicesTree() string {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return ""
	}
	for line := range strings.Lines(string(data)) {
		head, tail, ok := strings.Cut(line, " - ")
		f, s := strings.Fields(head), strings.Fields(tail)
		if ok && len(f) >= 6 && len(s) >= 3 && s[0] == "cgroup" && hasWord(strings.ReplaceAll(s[2], ",", " "), "devices") {
			return f[4]
		}
	}
	return ""
}

func kill(pid int) { _ = unix.Kill(pid, unix.SIGKILL) }

// removeDir is rmdir(2) and nothing else: os.Remove would try to unlink first.
func removeDir(dir string) error {
	if err := unix.Rmdir(dir); err != nil {
		return &os.PathError{Op: "rmdir", Path: dir, Err: err}
	}
	return nil
}
