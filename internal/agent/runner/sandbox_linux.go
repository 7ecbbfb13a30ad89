// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"

	"sealift/internal/platform/sandbox"
)

// Sandbox launches TAs with package sandbox, each in namespaces of its own without a network.
type Sandbox struct{}

// The paths under which a TA sees its folders.
const (
	insidePD  = "/pd"
	insideRun = "/run/sealift"
)

// Seal implements Launcher.
func (Sandbox) Seal(name string, r io.Reader) (*os.File, [32]byte, error) {
	f, digest, err := sandbox.SealedMemfd(name, r)
	if err != nil {
		return nil, digest, err
	}
	if err := sandbox.CheckProgram(f); err != nil {
		return nil, digest, errors.Join(fmt.Errorf("%w: %w", ErrProgram, err), f.Close())
	}
	return f, digest, nil
}

// Inside implements Launcher.
func (Sandbox) Inside(string, string) (string, string) { return insidePD, insideRun }

// Launch implements Launcher.
func (Sandbox) Launch(ctx context.Context, j Job) (Process, error) {
	cmd := sandbox.Command(ctx, sandbox.Spec{
		Program:   j.Program,
		Args:      j.Args,
		Env:       j.Env,
		Hostname:  "ta",
		ReadOnly:  []sandbox.Bind{{Source: j.PDDir, Target: insidePD}},
		ReadWrite: []sandbox.Bind{{Source: j.RunDir, Target: insideRun}},
		Limits:    sandbox.Limits{DataBytes: j.MemoryBytes, Processes: j.MaxProcs, CPUSeconds: j.CPUSeconds},
		Profile:   sandbox.ProfileTA,
	})
	cmd.Stderr, cmd.Stdout = j.Log, j.Log
	if j.Stdout != nil {
		cmd.Stdout = j.Stdout
	}
	if j.Stdin != nil {
		cmd.Stdin = j.Stdin
	}
	if err := cmd.Start(); err != nil {
		if errors.Is(err, sandbox.ErrProgram) || errors.Is(err, sandbox.ErrSpec) {
			return nil, fmt.Errorf("%w: %w", ErrProgram, err)
		}
		return nil, fmt.Errorf("runner: %w", err)
	}
	return cmd, nil
}
