// SPDX-License-Identifier: Apache-2.0

//go:build linux

package wasm

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/tetratelabs/wazero"
	"github.com/tetratelabs/wazero/api"
	"github.com/tetratelabs/wazero/imports/wasi_snapshot_preview1"
	"github.com/tetratelabs/wazero/sys"

	"sealift/internal/launch"
)

const (
	moduleFD     = 3
	exportHandle = "sealift_handle"
	pageBytes    = 64 << 10
	maxPages     = 65536
)

// Host is the host of a module if this process was started as one; then it does not return. Otherwise it does nothing. Every
// program that uses a Loader calls it first in main, after sandbox.Init (tests: in TestMain).
func Host() {
	if os.Args[0] != HostName || len(os.Args) < 2 {
		return
	}
	code, err := host(context.Background(), os.Args[1], os.Args[2:])
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = max(code, 1)
	}
	os.Exit(code)
}

// host returns the exit code of a command; an error is the host's own, or a trap.
func host(ctx context.Context, mode string, args []string) (int, error) {
	binary, err := io.ReadAll(io.NewSectionReader(os.NewFile(moduleFD, "module"), 0, maxModule))
	if err != nil {
		return 1, fmt.Errorf("reading the module: %w", err)
	}
	pages := uint64(maxPages)
	if mode != modeCompile {
		if len(args) < 2 {
			return 1, errors.New("arguments are missing")
		}
		memory, err := strconv.ParseUint(args[0], 10, 64)
		if err != nil {
			return 1, fmt.Errorf("the module's memory: %w", err)
		}
		pages, args = min(max(memory/pageBytes, 1), maxPages), args[1:]
	}
	cache, err := wazero.NewCompilationCacheWithDir(insideCache)
	if err != nil {
		return 1, fmt.Errorf("the folder of compiled code: %w", err)
	}
	r := wazero.NewRuntimeWithConfig(ctx, wazero.NewRuntimeConfig().WithMemoryLimitPages(uint32(pages)).WithCompilationCache(cache))
	m, err := compile(ctx, r, binary)
	if err != nil || mode == modeCompile {
		return 0, err
	}
	if mode == modeCommand {
		return command(ctx, r, m, args)
	}
	return 0, reactor(ctx, r, m, args)
}

// compile compiles and checks that everything that the module imports is there.
func compile(ctx context.Context, r wazero.Runtime, binary []byte) (wazero.CompiledModule, error) {
	if _, err := wasi_snapshot_preview1.Instantiate(ctx, r); err != nil {
		return nil, err
	}
	if err := hostFunctions(ctx, r); err != nil {
		return nil, err
	}
	m, err := r.CompileModule(ctx, binary)
	if err != nil {
		return nil, err
	}
	var missing []string
	for _, f := range m.ImportedFunctions() {
		from, name, _ := f.Import()
		host := r.Module(from)
		if host == nil || host.ExportedFunctionDefinitions()[name] == nil {
			missing = append(missing, from+"."+name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("it imports what is not offered here: %s", strings.Join(missing, ", "))
	}
	if m.ExportedFunctions()["_start"] == nil && m.ExportedFunctions()[exportHandle] == nil {
		return nil, errors.New("it exports neither _start (a command) nor " + exportHandle + " (a reactor)")
	}
	return m, nil
}

// config is what a module sees: its arguments, its variables, the released data, and a folder of its own in memory.
func config(args []string) wazero.ModuleConfig {
	c := wazero.NewModuleConfig().WithArgs(args...).WithStderr(os.Stderr).WithSysWalltime().WithSysNanotime().WithSysNanosleep().
		WithRandSource(randReader).
		WithFSConfig(wazero.NewFSConfig().WithReadOnlyDirMount(insidePD, insidePD).WithDirMount("/tmp", "/tmp"))
	for _, e := range os.Environ() {
		if name, value, ok := strings.Cut(e, "="); ok && name != "PATH" {
			c = c.WithEnv(name, value)
		}
	}
	return c
}

// command runs _start once, with this process's stdin and stdout.
func command(ctx context.Context, r wazero.Runtime, m wazero.CompiledModule, args []string) (int, error) {
	if m.ExportedFunctions()["_start"] == nil {
		return 1, errors.New("the module exports no _start: it is a reactor, and serves on a socket")
	}
	_, err := r.InstantiateModule(ctx, m, config(args).WithStdin(os.Stdin).WithStdout(os.Stdout))
	var exit *sys.ExitError
	if errors.As(err, &exit) {
		return int(exit.ExitCode()), nil
	}
	return 0, err
}

// reactor instantiates the module and calls it for each connection.
func reactor(ctx context.Context, r wazero.Runtime, m wazero.CompiledModule, args []string) error {
	switch exports := m.ExportedFunctions(); {
	case exports["_start"] != nil:
		return errors.New("the module exports _start: it is a command, and serves on stdin and stdout")
	case exports[exportHandle] == nil:
		return errors.New("the module exports no " + exportHandle)
	}
	l, err := net.Listen("unix", os.Getenv(launch.EnvListen))
	if err != nil {
		return err
	}
	defer l.Close()
	s := &stream{}
	in, err := r.InstantiateModule(ctx, m, config(args).WithStdin(s).WithStdout(s).WithStartFunctions("_initialize"))
	if err != nil {
		return err
	}
	handle := in.ExportedFunction(exportHandle)
	for {
		conn, err := l.Accept()
		if err != nil {
			return err
		}
		if err := s.serve(ctx, handle, conn); err != nil {
			return err
		}
	}
}

// stream is stdin and stdout of a reactor: the connection of the present call.
type stream struct {
	conn net.Conn
	in   *bufio.Reader
}

// serve makes one call. Who only looks whether the socket is there, as the Agent does, sends nothing.
func (s *stream) serve(ctx context.Context, handle api.Function, conn net.Conn) error {
	defer conn.Close()
	in := bufio.NewReader(conn)
	if _, err := in.Peek(1); err != nil {
		return nil
	}
	s.conn, s.in = conn, in
	defer func() { s.conn = nil }()
	results, err := handle.Call(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", exportHandle, err)
	}
	if len(results) == 1 && uint32(results[0]) != 0 {
		fmt.Fprintf(os.Stderr, "%s returned %d\n", exportHandle, int32(results[0]))
	}
	return nil
}

func (s *stream) Read(p []byte) (int, error) {
	if s.conn == nil {
		return 0, io.EOF
	}
	return s.in.Read(p)
}

// Write accepts what is written between calls, as a program's start message, and drops it.
func (s *stream) Write(p []byte) (int, error) {
	if s.conn == nil {
		return len(p), nil
	}
	return s.conn.Write(p)
}
