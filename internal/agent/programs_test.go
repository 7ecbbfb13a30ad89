// SPDX-License-Identifier: Apache-2.0

package agent_test

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sys/unix"

	"sealift/internal/agent/runner"
)

// programs launches TAs inside the test: the content of a "program" says what it does.
//
//	echo V      a socket TA that answers with its data, V and the question
//	crash       a TA that ends at once
//	picky V     like echo, and ends at once when it finds no data
//	garbage     no program
//	(stdio TAs answer the same way, by echo V)
type programs struct {
	mu   sync.Mutex
	runs []string // what was launched
	live int
}

func newPrograms() *programs { return &programs{} }

// Seal implements runner.Launcher.
func (p *programs) Seal(_ string, r io.Reader) (*os.File, [32]byte, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, [32]byte{}, err
	}
	f, err := os.CreateTemp("", "program")
	if err != nil {
		return nil, [32]byte{}, err
	}
	defer os.Remove(f.Name())
	_, err = f.Write(data)
	return f, sha256.Sum256(data), err
}

// Inside implements runner.Launcher.
func (p *programs) Inside(pdDir, runDir string) (string, string) { return pdDir, runDir }

// Launch implements runner.Launcher.
func (p *programs) Launch(ctx context.Context, j runner.Job) (runner.Process, error) {
	data, err := io.ReadAll(io.NewSectionReader(j.Program, 0, 1<<20))
	if err != nil {
		return nil, err
	}
	what, _, _ := strings.Cut(string(data), " ")
	if what == "garbage" {
		return nil, runner.ErrProgram
	}
	p.mu.Lock()
	p.runs = append(p.runs, string(data))
	p.live++
	p.mu.Unlock()
	ctx, cancel := context.WithCancel(ctx)
	run := &process{cancel: cancel, done: make(chan struct{})}
	stdio := j.Stdout != nil
	in, out := dup(j.Stdin), dup(j.Stdout)
	go func() {
		defer close(run.done)
		defer func() { p.mu.Lock(); p.live--; p.mu.Unlock() }()
		switch {
		case what == "crash", what == "picky" && contents(j.PDDir) == "":
			run.err = errors.New("exit status 3")
		case stdio:
			question, _ := io.ReadAll(in)
			fmt.Fprintf(out, "%s|%s|%s", contents(j.PDDir), data, question)
			in.Close()
			out.Close()
		default:
			run.err = serve(ctx, j, string(data))
		}
	}()
	return run, nil
}

func dup(f *os.File) *os.File {
	if f == nil {
		return nil
	}
	fd, err := unix.Dup(int(f.Fd()))
	if err != nil {
		panic(err)
	}
	return os.NewFile(uintptr(fd), f.Name())
}

type process struct {
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

func (p *process) Wait() error { <-p.done; return p.err }
func (p *process) Kill() error { p.cancel(); return nil }

func serve(ctx context.Context, j runner.Job, program string) error {
	ln, err := net.Listen("unix", filepath.Join(j.RunDir, "listen.sock"))
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { ln.Close() })()
	fmt.Fprintln(j.Log, "serving", program, contents(j.PDDir))
	for {
		conn, err := ln.Accept()
		if err != nil {
			return errors.New("signal: killed")
		}
		go func() {
			defer conn.Close()
			question, _ := io.ReadAll(conn)
			fmt.Fprintf(conn, "%s|%s|%s", contents(j.PDDir), program, question)
		}()
	}
}

// contents returns the files in dir as "name=content,...".
func contents(dir string) string {
	entries, _ := os.ReadDir(dir)
	var out []string
	for _, e := range entries {
		data, _ := os.ReadFile(filepath.Join(dir, e.Name()))
		out = append(out, e.Name()+"="+string(data))
	}
	slices.Sort(out)
	return strings.Join(out, ",")
}

// launched returns how often a program was started.
func (p *programs) launched(program string) (n int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, run := range p.runs {
		if run == program {
			n++
		}
	}
	return n
}
