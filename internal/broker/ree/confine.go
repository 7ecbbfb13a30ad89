// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ree

import (
	"cmp"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"sealift/internal/launch"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/internal/supervise"
)

// What a UA sees of its own.
const (
	insideProgram = "/ua"
	insideWork    = "/work"
	insideTA      = "/run/sealift/ta.sock"
	insideAsk     = "/run/sealift/ask.sock"
)

// hostFiles are what a UA sees of the host's files, as far as they are there: what a program needs to speak to others by name.
var hostFiles = []string{
	"/etc/resolv.conf", "/etc/hosts", "/etc/nsswitch.conf", "/etc/ssl/certs", "/usr/share/ca-certificates", "/etc/localtime",
	"/usr/share/zoneinfo",
}

// Limits of a UA as a whole, unless its owner has asked for lower ones.
const (
	maxMemory    = 4 << 30
	maxProcesses = 512
	openFiles    = 4096
)

func bounded(asked, limit uint64) uint64 {
	if asked == 0 || asked > limit {
		return limit
	}
	return asked
}

// groupPrefix begins the names of the control groups of all Brokers on the machine.
const groupPrefix = "sealift-broker-"

// groupOf is the control group of the UAs of the Broker whose state lies in dir, whether it is there or not, and the group that it is in.
func groupOf(dir string) (parent *cgroup.Group, name string, err error) {
	if parent, err = cgroup.Find(); err != nil {
		return nil, "", err
	}
	if dir, err = filepath.Abs(dir); err != nil {
		return nil, "", err
	}
	return parent, groupPrefix + fmt.Sprintf("%x", sha256.Sum256([]byte(dir)))[:16], nil
}

// sweepGroups removes what a killed Broker with this state folder has left, and empty leftovers of others. The error says why there is
// nothing to limit UAs by.
func (h *Host) sweepGroups() error {
	parent, name, err := groupOf(h.cfg.Dir)
	if err != nil {
		return err
	}
	parent.Sweep(groupPrefix, time.Now())
	return parent.At(name).Remove()
}

// makeGroup makes the group of one process of a UA, and that of all UAs if need be.
func (h *Host) makeGroup(l cgroup.Limits) (*cgroup.Group, error) {
	parent, name, err := groupOf(h.cfg.Dir)
	if err != nil {
		return nil, err
	}
	h.groups.Lock()
	defer h.groups.Unlock()
	all := parent.At(name)
	if !all.Exists() {
		if all, err = parent.Child(name, cgroup.Limits{}); err != nil {
			return nil, err
		}
	}
	return all.Child("ua-"+strconv.FormatUint(h.number.Add(1), 10), l)
}

// user returns the user of the host that the UA k runs as: the same for as long as it is installed, and no other UA's here. It is 0,
// which stands for the Broker's own, where the Broker cannot start programs as others.
func (h *Host) user(k key) (int, error) {
	if !sandbox.CanMapUID(sandbox.FirstHostUID) {
		return 0, nil
	}
	h.users.Lock()
	defer h.users.Unlock()
	taken := map[int]bool{}
	keys, err := h.store.keys()
	if err != nil {
		return 0, err
	}
	for _, other := range keys {
		uid := h.storedUser(other)
		if other == k && uid != 0 {
			return uid, nil
		}
		taken[uid] = true
	}
	sum := fnv.New32a()
	sum.Write([]byte(h.cfg.Dir + "\x00" + k.instance + "\x00" + k.app + "\x00" + k.name))
	const size = sandbox.LastHostUID - sandbox.FirstHostUID + 1
	for i := range uint32(size) {
		uid := sandbox.FirstHostUID + int((sum.Sum32()%size+i)%size)
		if !taken[uid] {
			return uid, h.store.put(k, userFile, []byte(strconv.Itoa(uid)))
		}
	}
	return 0, errors.New("there are more UAs than users for them")
}

// storedUser reads the user of a UA; 0 if it has none yet.
func (h *Host) storedUser(k key) int {
	data, err := os.ReadFile(h.store.path(k, userFile))
	uid, parseErr := strconv.Atoi(string(data))
	if err != nil || parseErr != nil || uid < sandbox.FirstHostUID || uid > sandbox.LastHostUID {
		return 0
	}
	return uid
}

// own gives the UA's folder to its user. Links are not followed: what is in there a UA has written. None runs now.
func own(dir string, uid int) error {
	if uid == 0 {
		uid = os.Geteuid()
	}
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return os.Lchown(path, uid, -1)
	})
}

// confined is how a UA is started: under a user and in a sandbox of its own. The ports are those it may listen on.
func (u *ua) confined(s launch.Spec, args []string, env []string, ports map[string]int) (func(io.Writer) (supervise.Child, error), error) {
	uid, err := u.host.user(u.key)
	if err != nil {
		return nil, err
	}
	work, program := u.host.store.path(u.key, workDir), u.host.store.path(u.key, programFile)
	if err := errors.Join(os.MkdirAll(work, 0o700), own(work, uid), os.Chmod(program, 0o755)); err != nil {
		return nil, classify(err)
	}
	spec := sandbox.Spec{
		Args: append([]string{cmp.Or(s.Name, "ua")}, args...), Env: env, Hostname: "ua", Path: insideProgram, Dir: insideWork,
		Profile: sandbox.ProfileUA, HostUID: uid,
		ReadWrite: []sandbox.Bind{{Source: work, Target: insideWork}},
		ReadOnly: []sandbox.Bind{{Source: program, Target: insideProgram, Exec: true}, {Source: u.relay.path, Target: insideTA},
			{Source: u.ask.path, Target: insideAsk}},
		Limits: sandbox.Limits{
			DataBytes: bounded(s.MemoryBytes, maxMemory), Processes: bounded(uint64(s.MaxProcs), maxProcesses), OpenFiles: openFiles,
			CPUSeconds: s.CPUSeconds,
		},
	}
	for _, file := range hostFiles {
		if _, err := os.Stat(file); err == nil {
			spec.ReadOnly = append(spec.ReadOnly, sandbox.Bind{Source: file, Target: file})
		}
	}
	for _, port := range ports {
		spec.Ports = append(spec.Ports, uint16(port))
	}
	limits := cgroup.Limits{MemoryBytes: spec.Limits.DataBytes, Processes: spec.Limits.Processes, CPUMillis: uint64(s.CPUMillis)}
	return func(output io.Writer) (supervise.Child, error) {
		return u.host.startConfined(program, spec, limits, output)
	}, nil
}

// startConfined starts one process of a UA.
func (h *Host) startConfined(program string, spec sandbox.Spec, limits cgroup.Limits, output io.Writer) (_ supervise.Child, err error) {
	file, err := os.Open(program)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	spec.Program = file
	c := &child{limit: limits.MemoryBytes}
	if h.noGroups == nil {
		if c.group, err = h.makeGroup(limits); err != nil {
			return nil, err
		}
		spec.Enter = c.group.Add
		spec.Limits.DataBytes += 1 << 30 // the group's limit is the one that binds, and has a name when it is reached
	}
	c.Cmd = sandbox.Command(context.Background(), spec)
	c.Stdout, c.Stderr = output, output
	if err := c.Start(); err != nil {
		if c.group != nil {
			err = errors.Join(err, c.group.Remove())
		}
		return nil, err
	}
	return c, nil
}

// child is one process of a UA with its control group.
type child struct {
	*sandbox.Cmd
	group *cgroup.Group // nil where the machine has none to make
	limit uint64
}

// errMemory says that the kernel has ended a UA that wanted more memory than it may have.
var errMemory = errors.New("it reached its memory limit")

// Wait implements supervise.Child.
func (c *child) Wait() error {
	err := c.Cmd.Wait()
	if c.group == nil {
		return err
	}
	if kills, countErr := c.group.OOMKills(); err != nil && countErr == nil && kills > 0 {
		err = fmt.Errorf("%w of %d MiB", errMemory, c.limit>>20) // the signal is only how that looks
	}
	if removeErr := c.group.Remove(); err == nil {
		err = removeErr
	}
	return err
}

// Missing says, in words, what the machine or the Broker's rights do not give to keep UAs apart; nil if all is there.
func (h *Host) Missing() (missing []string) {
	if !sandbox.CanMapUID(sandbox.FirstHostUID) {
		missing = append(missing, "UAs run as the Broker's own user, apart by namespaces: run it as root to give each its own")
	}
	if h.noGroups != nil {
		missing = append(missing, "UAs as a whole have no limits of memory, processes and processor time: "+h.noGroups.Error())
	}
	return missing
}
