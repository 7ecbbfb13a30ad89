// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"

	"golang.org/x/term"

	"sealift/internal/fault"
)

// Exit codes, stable for scripts. Those of errors are the ones that package fault gives to its codes.
const (
	exitOK          = 0
	exitFailure     = fault.ExitFailure     // any error without a code of its own
	exitUsage       = fault.ExitUsage       // the command line is wrong
	exitUnreachable = fault.ExitUnreachable // a peer (M/OC, device) does not answer
	exitAttestation = fault.ExitAttestation // Evidence is not authentic or not acceptable
	exitPolicy      = fault.ExitPolicy      // a policy, or the owner's missing consent, forbids it
	exitDrift       = fault.ExitDrift       // what runs is not what was planned
)

// app is what every verb gets: where to write, and the flags that all verbs share.
type app struct {
	stdin          io.Reader
	stdout, stderr io.Writer
	json           bool   // --json
	home           string // --home: the owner's folder
	started        bool   // a verb's own code has begun: what fails before is a usage error
}

// print writes a verb's result to stdout: v as one line of JSON with --json, else what text writes.
func (a *app) print(v any, text func(w io.Writer)) error {
	if !a.json {
		text(a.stdout)
		return nil
	}
	data, err := json.Marshal(v)
	if err != nil {
		return fmt.Errorf("encoding the result: %w", err)
	}
	_, err = a.stdout.Write(append(data, '\n'))
	return err
}

// say writes one line of talk to stderr: progress and remarks that are no result.
func (a *app) say(format string, args ...any) {
	fmt.Fprintf(a.stderr, format+"\n", args...)
}

// logger returns the log of a long-running verb: text on stderr, or JSON lines with --json.
func (a *app) logger() *slog.Logger {
	if a.json {
		return slog.New(slog.NewJSONHandler(a.stderr, nil))
	}
	return slog.New(slog.NewTextHandler(a.stderr, nil))
}

// interactive reports whether stderr is a terminal, so that progress may be drawn in place.
func (a *app) interactive() bool {
	f, ok := a.stderr.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// exitError is an error that knows its exit code and, where there is one, what the user can do about it.
type exitError struct {
	code int
	err  error
	hint string
}

func (e *exitError) Error() string { return e.err.Error() }
func (e *exitError) Unwrap() error { return e.err }

// errInterrupted is the end of a command that a signal has stopped.
var errInterrupted = errors.New("interrupted")

// usageError says that the command line is wrong.
func usageError(hint, format string, args ...any) error {
	return &exitError{code: exitUsage, err: fmt.Errorf(format, args...), hint: hint}
}

// finish prints err the way every verb prints errors and returns the exit code for it.
func (a *app) finish(err error) int {
	if err == nil {
		return exitOK
	}
	code, hint := exitFailure, ""
	if !a.started {
		code, hint = exitUsage, "see sealift --help"
	}
	if f, ok := errors.AsType[*fault.Error](err); ok {
		code, hint = f.Exit, f.Hint
		a.explainFault(f)
	}
	if e, ok := errors.AsType[*exitError](err); ok {
		code = e.code
		if e.hint != "" {
			hint = e.hint
		}
	}
	fmt.Fprintf(a.stderr, "sealift: error: %v\n", err)
	if hint != "" {
		fmt.Fprintf(a.stderr, "sealift: hint: %s\n", hint)
	}
	return code
}
