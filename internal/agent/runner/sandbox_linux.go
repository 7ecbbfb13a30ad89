// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sealift/internal/platform/sandbox"
)

// Sandbox launches TAs with package sandbox, each in namespaces of its own without a network.
type Sandbox struct{ Groups *Groups }

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
func (l Sandbox) Launch(ctx context.Context, j Job) (Process, error) {
	binds, err := rootBinds(j.Root)
	if err != nil {
		return nil, err
	}
	return l.Groups.Start(ctx, sandbox.Spec{
		Program:   j.Program,
		Args:      j.Args,
		Env:       j.Env,
		Hostname:  "ta",
		ReadOnly:  append(binds, sandbox.Bind{Source: j.PDDir, Target: insidePD}),
		ReadWrite: []sandbox.Bind{{Source: j.RunDir, Target: insideRun}},
		Limits:    sandbox.Limits{DataBytes: j.MemoryBytes, Processes: j.MaxProcs, CPUSeconds: j.CPUSeconds},
		Profile:   sandbox.ProfileTA,
	}, j)
}

// rootBinds shows each entry of dir at the root of a process. A link among them would be followed here, and lead anywhere.
func rootBinds(dir string) (binds []sandbox.Bind, err error) {
	if dir == "" {
		return nil, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("runner: %w", err)
	}
	for _, e := range entries {
		if !e.IsDir() && !e.Type().IsRegular() {
			return nil, fmt.Errorf("%w: %s is neither a file nor a folder", ErrProgram, e.Name())
		}
		binds = append(binds, sandbox.Bind{Source: filepath.Join(dir, e.Name()), Target: "/" + e.Name()})
	}
	return binds, nil
}
