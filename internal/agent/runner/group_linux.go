// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"sync/atomic"

	"sealift/internal/platform/sandbox"
	"sealift/internal/platform/sandbox/cgroup"
)

// Groups makes a control group for each process of a TA, below the instance's, so that a TA's limits bind all that it starts together. The
// nil Groups makes none: where the machine has none to make, limits bind single processes, as resource limits do.
type Groups struct {
	instance *cgroup.Group
	number   atomic.Uint64
}

// NewGroups makes groups below the instance's own; nil gives nil.
func NewGroups(instance *cgroup.Group) *Groups {
	if instance == nil {
		return nil
	}
	return &Groups{instance: instance}
}

// What the first stage of a sandbox (package sandbox) takes for a moment, before it becomes the program.
const (
	stageBytes = 16 << 20
	stageProcs = 16
)

// Start starts the process of j in the sandbox s, whose limits are those of the group. Errors are those of Launcher.Launch.
func (g *Groups) Start(ctx context.Context, s sandbox.Spec, j Job) (_ Process, err error) {
	p := &grouped{memory: j.MemoryBytes}
	if g != nil {
		p.group, err = g.instance.Child("p-"+strconv.FormatUint(g.number.Add(1), 10), cgroup.Limits{
			MemoryBytes: max(s.Limits.DataBytes, stageBytes), Processes: s.Limits.Processes + stageProcs, CPUMillis: uint64(j.Spec.CPUMillis),
		})
		if err != nil {
			return nil, fmt.Errorf("runner: %w", err)
		}
		s.Enter = p.group.Add
		s.Limits.DataBytes += 1 << 30 // the group's limit is the one that binds, and has a name when it is reached
	}
	p.Cmd = sandbox.Command(ctx, s)
	p.Stderr, p.Stdout = j.Log, j.Log
	if j.Stdout != nil {
		p.Stdout = j.Stdout
	}
	if j.Stdin != nil {
		p.Stdin = j.Stdin
	}
	if err := p.Cmd.Start(); err != nil {
		err = errors.Join(err, p.leave())
		if errors.Is(err, sandbox.ErrProgram) || errors.Is(err, sandbox.ErrSpec) {
			return nil, fmt.Errorf("%w: %w", ErrProgram, err)
		}
		return nil, fmt.Errorf("runner: %w", err)
	}
	return p, nil
}

// grouped is a process with its control group.
type grouped struct {
	*sandbox.Cmd
	group  *cgroup.Group // nil: none
	memory uint64
}

// Wait implements Process.
func (p *grouped) Wait() error {
	err := p.Cmd.Wait()
	if p.group != nil && err != nil {
		if kills, countErr := p.group.OOMKills(); countErr == nil && kills > 0 {
			err = fmt.Errorf("%w (%d MiB)", ErrMemory, p.memory>>20) // the signal is only how that looks
		}
	}
	return errors.Join(err, p.leave())
}

func (p *grouped) leave() error {
	if p.group == nil {
		return nil
	}
	return p.group.Remove()
}
