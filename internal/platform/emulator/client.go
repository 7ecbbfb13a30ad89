// SPDX-License-Identifier: Apache-2.0

package emulator

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"time"

	"sealift/evidence"
	"sealift/internal/platform"
	"sealift/internal/platform/packet"
)

// callTime bounds a call whose context has no deadline; launchTime one that launches, since a virtual machine has to boot.
const (
	callTime   = time.Minute
	launchTime = 4 * time.Minute
)

// Dial returns the driver for the emulator that serves socket. It does not connect yet: each call does, so the driver
// outlives restarts of the emulator.
func Dial(socket string) platform.Driver { return driver(socket) }

type driver string

// call makes one request and returns the answer and the files that came with it.
func (d driver) call(ctx context.Context, r request, files ...*os.File) (answer, []*os.File, error) {
	limit := callTime
	if r.Op == opLaunch {
		limit = launchTime
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	conn, err := packet.Dial(ctx, string(d))
	if err != nil {
		return answer{}, nil, fmt.Errorf("%w: %w", platform.ErrUnreachable, err)
	}
	defer conn.Close()
	defer conn.Interrupt(ctx)()
	if err := conn.Send(r, 0, files...); err != nil {
		return answer{}, nil, broken(ctx, err)
	}
	var a answer
	got, err := conn.Receive(&a, 0)
	if err != nil {
		return answer{}, nil, broken(ctx, err)
	}
	if err := a.err(); err != nil {
		closeAll(got)
		return answer{}, nil, err
	}
	return a, got, nil
}

// broken explains the end of a connection in the middle of a call.
func broken(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return fmt.Errorf("emulator: waiting for an answer: %w", ctx.Err())
	}
	if errors.Is(err, packet.ErrMalformed) {
		return fmt.Errorf("emulator: %w", err)
	}
	return fmt.Errorf("%w: it ended during the call: %w", platform.ErrUnreachable, err)
}

func (d driver) Info(ctx context.Context) (platform.Info, error) {
	a, files, err := d.call(ctx, request{Op: opInfo})
	closeAll(files)
	if err != nil {
		return platform.Info{}, err
	}
	if a.Info == nil {
		return platform.Info{}, errAnswer
	}
	return platform.Info{
		Hardware: evidence.Hardware(a.Info.Hardware), Emulated: true, InstanceTypes: a.Info.InstanceTypes,
		Lacks: a.Info.Lacks, Capacity: a.Info.Capacity, RootFingerprint: a.Info.Root,
	}, nil
}

var errAnswer = errors.New("emulator: the answer does not fit the request")

func (d driver) Launch(ctx context.Context, s platform.Spec) error {
	if s.Agent == nil || len(s.Config) > platform.MaxConfigBytes {
		return fmt.Errorf("%w: an image is needed, and a configuration of at most %d bytes", platform.ErrInvalid, platform.MaxConfigBytes)
	}
	launch := []*os.File{s.Agent}
	if s.Layer != nil {
		launch = append(launch, s.Layer)
	}
	_, files, err := d.call(ctx, request{Op: opLaunch, ID: s.ID, Config: s.Config, Limits: wireLimits(s.Limits)}, launch...)
	closeAll(files)
	return err
}

func (d driver) Attach(ctx context.Context, id string) (net.Conn, error) {
	_, files, err := d.call(ctx, request{Op: opAttach, ID: id})
	defer closeAll(files)
	if err != nil {
		return nil, err
	}
	if len(files) != 1 {
		return nil, errAnswer
	}
	conn, err := net.FileConn(files[0])
	if err != nil {
		return nil, fmt.Errorf("emulator: %w", err)
	}
	return conn, nil
}

func (d driver) Stop(ctx context.Context, id string) error {
	_, files, err := d.call(ctx, request{Op: opStop, ID: id})
	closeAll(files)
	return err
}

func (d driver) Destroy(ctx context.Context, id string) error {
	_, files, err := d.call(ctx, request{Op: opDestroy, ID: id})
	closeAll(files)
	return err
}

func (d driver) List(ctx context.Context) ([]platform.InstanceState, error) {
	a, files, err := d.call(ctx, request{Op: opList})
	closeAll(files)
	if err != nil {
		return nil, err
	}
	states := make([]platform.InstanceState, len(a.Instances))
	for i, w := range a.Instances {
		states[i] = platform.InstanceState{ID: w.ID, Running: w.Running, AgentDigest: w.Agent, ConfigDigest: w.Config, Exit: w.Exit}
	}
	return states, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
