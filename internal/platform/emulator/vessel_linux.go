// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"errors"
	"io"
	"os"
	"time"

	"sealift/internal/image"
	"sealift/internal/platform"
	"sealift/internal/platform/hw"
	"sealift/internal/platform/packet"
	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
)

// vessel is what instances of one type live in: it starts an Agent from a measured image.
type vessel interface {
	// check says why this machine cannot do it; the error is a platform.ErrUnsupported that names what is missing.
	check() error
	// start returns when the Agent executes. What is in j is checked and sealed. What ends ctx ends the Agent.
	start(ctx context.Context, j job) (life, error)
}

// job is what to start.
type job struct {
	*parts
	store  string // the instance's folder in the REE
	uid    int    // the user of the host that the instance runs as; 0 is the emulator's own
	limits platform.Limits
	log    io.Writer // gets what the Agent prints
	// kvm has a vm run under KVM; kvmFailed is told when it does not come up so.
	kvm       bool
	kvmFailed func(error)
}

// life is one running Agent with its hardware interface.
type life interface {
	// receive waits for the Agent's next request. packet.ErrMalformed says that it sent something else; every other error
	// that the interface is gone.
	receive(*hw.Request) error
	// send answers, within timeout.
	send(a hw.Answer, timeout time.Duration) error
	// attach makes channel, one end of a stream socket, the Agent's channel to its Broker, in place of the one before. The
	// caller closes channel.
	attach(channel *os.File, timeout time.Duration) error
	// kill ends the Agent and everything that it started.
	kill() error
	// wait returns when nothing is left of it. It is called once.
	wait() error
}

// vessels by instance type.
func vessels() map[string]vessel {
	return map[string]vessel{image.Process: processVessel{}, image.Container: containerVessel{}, image.VM: vmVessel{}}
}

// processVessel runs the Agent as a sandboxed process. Where the machine has control groups to make, Agent and TAs together are in one,
// as in a pod; elsewhere the limits of memory and processor time bind single processes.
type processVessel struct{}

func (processVessel) check() error { return nil }

func (processVessel) start(ctx context.Context, j job) (life, error) {
	group, err := newInstanceGroup(j)
	if errors.Is(err, cgroup.ErrUnsupported) {
		l, err := startProcess(ctx, j, nil)
		if err != nil {
			return nil, err
		}
		return l, nil
	}
	if err != nil {
		return nil, err
	}
	l, err := startProcess(ctx, j, group)
	if err != nil {
		return nil, errors.Join(err, group.Remove())
	}
	return &groupLife{processLife: *l, group: group}, nil
}

func startProcess(ctx context.Context, j job, group *cgroup.Group) (*processLife, error) {
	conn, theirs, err := hardwarePair()
	if err != nil {
		return nil, err
	}
	defer theirs.Close()
	spec := sandbox.Spec{
		Program:   j.file,
		Args:      []string{"sealift-agent"},
		Files:     []*os.File{theirs},
		Hostname:  "tee",
		ReadWrite: []sandbox.Bind{{Source: j.store, Target: "/store"}},
		Tmpfs:     []sandbox.Tmpfs{{Target: "/run", Bytes: j.limits.ScratchBytes}},
		Limits: sandbox.Limits{
			DataBytes: j.limits.MemoryBytes, Processes: j.limits.Processes, OpenFiles: j.limits.OpenFiles,
		},
		Profile: sandbox.ProfileAgent,
		HostUID: j.uid,
	}
	if group != nil {
		if err := enter(group, &spec); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	cmd := sandbox.Command(ctx, spec)
	cmd.Stdout, cmd.Stderr = j.log, j.log
	if err := cmd.Start(); err != nil {
		conn.Close()
		return nil, err
	}
	return &processLife{cmd: cmd, conn: conn}, nil
}

type processLife struct {
	cmd  *sandbox.Cmd
	conn *packet.Conn
}

func (l *processLife) receive(q *hw.Request) error {
	files, err := l.conn.Receive(q, 0)
	closeAll(files)
	return err
}

func (l *processLife) send(a hw.Answer, timeout time.Duration) error { return l.conn.Send(a, timeout) }

// attach sends the channel itself: the Agent shares the machine's kernel.
func (l *processLife) attach(channel *os.File, timeout time.Duration) error {
	return l.conn.Send(hw.Answer{}, timeout, channel)
}

func (l *processLife) kill() error { return l.cmd.Kill() }

func (l *processLife) wait() error {
	err := l.cmd.Wait()
	l.conn.Close()
	return err
}
