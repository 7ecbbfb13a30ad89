// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sealift/internal/image"
	"sealift/internal/oci/ociruntime"
	"sealift/internal/platform"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
)

// containerVessel runs the Agent as the first process of a pod sandbox: a sandbox like that of a process, in which the Agent can
// also start the OCI runtime program that its image brings. Agent and containers together are in one control group, whose limits
// stay with the emulator; the Agent makes groups below it for its containers.
type containerVessel struct{}

// check implements vessel.
func (containerVessel) check() error {
	if _, err := cgroup.Find(); err != nil {
		return fmt.Errorf("%w: containers need limits that bind: %w", platform.ErrUnsupported, err)
	}
	return nil
}

// podDir is where an Agent keeps root file systems of containers: memory of the TEE, from which can be executed.
const podDir = "/oci"

// start implements vessel.
func (containerVessel) start(ctx context.Context, j job) (life, error) {
	group, err := newInstanceGroup(j)
	if err != nil {
		return nil, err
	}
	l, err := startPod(ctx, j, group)
	if err != nil {
		return nil, errors.Join(err, group.Remove())
	}
	return l, nil
}

// newInstanceGroup makes the control group of an instance. Its limits stay with the emulator; the instance's user makes groups below it.
func newInstanceGroup(j job) (*cgroup.Group, error) {
	parent, err := deviceGroup(stateDir(j.store), true)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(filepath.Dir(j.store)) // the instance's ID
	if err := parent.At(name).Remove(); err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	group, err := parent.Child(name, cgroup.Limits{MemoryBytes: j.limits.MemoryBytes, Processes: j.limits.Processes})
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	uid := j.uid
	if uid == 0 {
		uid = os.Geteuid()
	}
	if err := group.Delegate(uid); err != nil {
		return nil, errors.Join(fmt.Errorf("emulator: %w", err), group.Remove())
	}
	return group, nil
}

func startPod(ctx context.Context, j job, group *cgroup.Group) (life, error) {
	agent, _, err := sandbox.SealedMemfd("agent", j.image.Open(j.file, image.PartAgent))
	if err != nil {
		return nil, err
	}
	defer agent.Close()
	runtime, _, err := sandbox.SealedMemfd("runtime", j.image.Open(j.file, image.PartRuntime))
	if err != nil {
		return nil, err
	}
	defer runtime.Close()
	profile := sandbox.ProfilePod
	if name, err := ociruntime.Name(j.image.Open(j.file, image.PartRuntime)); err == nil && name == ociruntime.Runsc {
		profile = sandbox.ProfileSentry // what the Agent may not do, nothing that it starts may
	}
	conn, theirs, err := hardwarePair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	spec := sandbox.Spec{
		Program:   agent,
		Args:      []string{"sealift-agent"},
		Files:     []*os.File{theirs, runtime}, // descriptors hw.FD and ociruntime.FD
		Hostname:  "tee",
		ReadWrite: []sandbox.Bind{{Source: j.store, Target: "/store"}},
		Tmpfs:     []sandbox.Tmpfs{{Target: "/run", Bytes: j.limits.ScratchBytes}, {Target: podDir, Bytes: imageBytes(j.limits), Exec: true}},
		Limits: sandbox.Limits{
			DataBytes: j.limits.MemoryBytes, Processes: 2 * j.limits.Processes, OpenFiles: j.limits.OpenFiles, // the group's limits bind
		},
		Profile: profile,
		HostUID: j.uid,
	}
	if err := enter(group, &spec); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if dir := cgroup.DevicesTree(); dir != "" { // runc does not start without it
		spec.ReadOnly = append(spec.ReadOnly, sandbox.Bind{Source: dir, Target: cgroup.MountRoot + "/devices"})
	}
	cmd := sandbox.Command(ctx, spec)
	cmd.Stdout, cmd.Stderr = j.log, j.log
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	return &groupLife{processLife: processLife{cmd: cmd, conn: conn}, group: group}, nil
}

// enter lets an Agent run in a group of its own below that of the instance, which it sees.
func enter(group *cgroup.Group, spec *sandbox.Spec) error {
	agent, err := group.Child("agent", cgroup.Limits{})
	if err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	spec.Enter = agent.Add
	for _, m := range group.Mounts() {
		spec.ReadWrite = append(spec.ReadWrite, sandbox.Bind{Source: m.Source, Target: m.Target})
	}
	return nil
}

// imageBytes is the room for root file systems of containers: half of the instance's memory, which it counts in.
func imageBytes(l platform.Limits) uint64 { return max(l.MemoryBytes/2, 64<<20) }

// groupLife is one life of an Agent in a control group.
type groupLife struct {
	processLife
	group *cgroup.Group
}

// wait implements life.
func (l *groupLife) wait() error {
	err := l.processLife.wait()
	if kills, countErr := l.group.At("agent").OOMKills(); countErr == nil && kills > 0 {
		err = fmt.Errorf("%w: %v", errMemory, err) // the signal is only how that looks
	}
	return errors.Join(err, l.group.Remove())
}

var errMemory = errors.New("the instance reached its memory limit")

// stateDir is the state folder that a store lies in.
func stateDir(store string) string { return filepath.Dir(filepath.Dir(filepath.Dir(store))) }

// groupPrefix begins the names of the control groups of all emulators on the machine.
const groupPrefix = "sealift-emulator-"

// makeGroup guards the one step that two launches must not do at the same time.
var makeGroup sync.Mutex

// deviceGroup returns the control group of the emulator whose state lies in dir. Without make it need not exist.
func deviceGroup(dir string, create bool) (*cgroup.Group, error) {
	parent, err := cgroup.Find()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", platform.ErrUnsupported, err)
	}
	name := groupPrefix + fmt.Sprintf("%x", sha256.Sum256([]byte(dir)))[:16]
	g := parent.At(name)
	makeGroup.Lock()
	defer makeGroup.Unlock()
	if !create || g.Exists() {
		return g, nil
	}
	if g, err = parent.Child(name, cgroup.Limits{}); err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	return g, nil
}

// sweepGroups removes what a killed emulator with this state folder left behind, and empty leftovers of others. The caller holds
// the folder's lock.
func sweepGroups(dir string, now time.Time) error {
	if parent, err := cgroup.Find(); err == nil {
		parent.Sweep(groupPrefix, now)
	}
	g, err := deviceGroup(dir, false)
	if err != nil {
		return nil // no control groups here, so none are left
	}
	if err := g.Remove(); err != nil {
		return fmt.Errorf("emulator: %w", err)
	}
	return nil
}
