// SPDX-License-Identifier: Apache-2.0

//go:build linux

// Package wasm runs TAs that are WebAssembly modules for WASI preview 1, under wazero.
//
// A module does not run in the Agent's process, which holds the owner's keys, but in a process of its own, in the same
// sandbox as a native TA: the Agent's own program, started again under the name [HostName]. Inside it stands wazero's
// compiler and, inside that, the module, which reaches nothing but what WASI and the host functions below give it. So the
// module has two walls around it, and limits of memory, time and processes are the sandbox's.
//
// Taking a module in compiles it, once, in a sandbox as well; the compiled code lies in TEE memory, and each start maps it.
//
// # How a module serves
//
// With launch.ServeStdio it is a command: each request starts it, its _start reads the request from stdin and writes the
// answer to stdout.
//
// With launch.ServeSocket it is a reactor: it is started once, its _initialize is called, and for each connection its export
//
//	sealift_handle() -> i32
//
// with the connection as stdin and stdout. What it keeps in its memory stays from call to call. Calls do not overlap; a
// module has one thread. A connection that ends before its first byte is no call. A result other than 0 is logged and closes
// the connection; a trap ends the process, which is started again with a new memory.
//
// # Host functions
//
// Cryptography in a module is 30 to 100 times slower than in the host, so the import module "sealift" has it as host
// functions; see hostfuncs.go, and examples/wasm for bindings in Go.
package wasm

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"sealift/internal/agent/runner"
	"sealift/internal/launch"
	"sealift/internal/platform/sandbox"
)

// HostName is the name under which the Agent's program is a host of modules.
const HostName = "sealift-wasm"

// The paths under which the host, and a module, see their folders.
const (
	insidePD    = "/pd"
	insideRun   = "/run/sealift"
	insideCache = "/cache"
)

// What the host does, its first argument.
const (
	modeCompile = "compile"
	modeCommand = "command"
	modeReactor = "reactor"
)

const (
	maxModule     = 64 << 20
	compileTime   = 2 * time.Minute
	compileMemory = 1 << 30
	hostMemory    = 192 << 20 // what the host itself needs beside the module's memory
)

// Loader takes in modules. The zero value is ready.
type Loader struct {
	Dir string // in TEE memory: compiled code lies there
	// Program is the static program that calls Host, this one if empty.
	Program string
	Groups  *runner.Groups
}

// Load implements runner.Loader.
func (l Loader) Load(ctx context.Context, open func() (io.ReadCloser, error)) (runner.Loaded, [32]byte, error) {
	r, err := open()
	if err != nil {
		return nil, [32]byte{}, err
	}
	defer r.Close()
	module, digest, err := sandbox.SealedMemfd("module", io.LimitReader(r, maxModule+1))
	if err != nil {
		return nil, digest, err
	}
	m := &loaded{module: module, groups: l.Groups}
	if err := m.compile(ctx, l); err != nil {
		return nil, digest, errors.Join(err, m.Close())
	}
	return m, digest, nil
}

// loaded is a compiled module.
type loaded struct {
	module *os.File // sealed
	host   *os.File // this program, sealed
	cache  string
	groups *runner.Groups
}

func (m *loaded) Close() error {
	err := m.module.Close()
	if m.host != nil {
		err = errors.Join(err, m.host.Close())
	}
	if m.cache != "" {
		err = errors.Join(err, os.RemoveAll(m.cache))
	}
	return err
}

// Inside implements runner.Loaded.
func (m *loaded) Inside(string, string) (string, string) { return insidePD, insideRun }

// compile checks the module and fills the cache, in a sandbox: a compiler is a parser of hostile bytes.
func (m *loaded) compile(ctx context.Context, l Loader) error {
	magic := make([]byte, 8)
	if _, err := m.module.ReadAt(magic, 0); err != nil || !bytes.Equal(magic, []byte("\x00asm\x01\x00\x00\x00")) {
		return fmt.Errorf("%w: it is not a WebAssembly module of version 1", runner.ErrProgram)
	}
	if st, err := m.module.Stat(); err != nil || st.Size() > maxModule {
		return fmt.Errorf("%w: a module of more than %d MiB", runner.ErrProgram, maxModule>>20)
	}
	self, err := os.Open(cmp.Or(l.Program, "/proc/self/exe"))
	if err != nil {
		return fmt.Errorf("wasm: %w", err)
	}
	m.host, _, err = sandbox.SealedMemfd("host", self)
	self.Close()
	if err != nil {
		return err
	}
	if m.cache, err = os.MkdirTemp(l.Dir, "wasm-"); err != nil {
		return fmt.Errorf("wasm: %w", err)
	}
	ctx, cancel := context.WithTimeoutCause(ctx, compileTime, runner.ErrTimeout)
	defer cancel()
	var said bytes.Buffer
	cmd := sandbox.Command(ctx, sandbox.Spec{
		Program: m.host, Args: []string{HostName, modeCompile}, Files: []*os.File{m.module}, Hostname: "ta",
		ReadWrite: []sandbox.Bind{{Source: m.cache, Target: insideCache}},
		Limits:    sandbox.Limits{DataBytes: compileMemory, CPUSeconds: uint64(compileTime / time.Second)},
		Profile:   sandbox.ProfileTA,
	})
	cmd.Stderr = &limited{w: &said, n: 4096}
	if err := cmd.Run(); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			return fmt.Errorf("wasm: compiling the module: %w", cause)
		}
		return fmt.Errorf("%w: the module does not compile: %s (%w)", runner.ErrProgram, strings.TrimSpace(said.String()), err)
	}
	return nil
}

// Launch implements runner.Loaded.
func (m *loaded) Launch(ctx context.Context, j runner.Job) (runner.Process, error) {
	mode := modeReactor
	if j.Spec.Serve == launch.ServeStdio {
		mode = modeCommand
	}
	return m.groups.Start(ctx, sandbox.Spec{
		Program:   m.host,
		Args:      append([]string{HostName, mode, strconv.FormatUint(j.MemoryBytes, 10)}, j.Args...),
		Env:       j.Env,
		Files:     []*os.File{m.module},
		Hostname:  "ta",
		ReadOnly:  []sandbox.Bind{{Source: j.PDDir, Target: insidePD}, {Source: m.cache, Target: insideCache}},
		ReadWrite: []sandbox.Bind{{Source: j.RunDir, Target: insideRun}},
		Limits:    sandbox.Limits{DataBytes: j.MemoryBytes + hostMemory, Processes: j.MaxProcs, CPUSeconds: j.CPUSeconds},
		Profile:   sandbox.ProfileTA,
	}, j)
}

// limited passes on the first n bytes.
type limited struct {
	w io.Writer
	n int
}

func (l *limited) Write(p []byte) (int, error) {
	take := min(l.n, len(p))
	l.n -= take
	if _, err := l.w.Write(p[:take]); err != nil {
		return 0, err
	}
	return len(p), nil
}
