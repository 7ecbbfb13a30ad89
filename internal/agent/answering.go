// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"crypto/tls"
	"errors"
	"io"

	"sealift/internal/agent/runner"
	"sealift/internal/answer"
)

// answering is a caller's connection on which the answer is framed (package answer).
type answering struct {
	*tls.Conn
	w *answer.Writer
}

var _ runner.Ender = answering{}

// Write implements net.Conn.
func (c answering) Write(p []byte) (int, error) { return c.w.Write(p) }

// ReadFrom implements io.ReaderFrom.
func (c answering) ReadFrom(r io.Reader) (int64, error) { return c.w.ReadFrom(r) }

// End implements runner.Ender.
func (c answering) End(err error) error { return c.w.End(endOf(err)) }

// endOf is what a caller is told of how its answer ended: what happened, and no text of a TA's.
func endOf(err error) answer.End {
	if err == nil {
		return answer.End{}
	}
	if status, ok := errors.AsType[runner.StatusError](err); ok && status.Code > 0 {
		return answer.End{Kind: answer.Exited, Code: uint32(status.Code)}
	}
	if killed, ok := errors.AsType[runner.SignalError](err); ok && killed.Signal > 0 {
		return answer.End{Kind: answer.Signaled, Code: uint32(killed.Signal)}
	}
	for _, k := range []struct {
		err  error
		kind answer.Kind
	}{
		{runner.ErrMemory, answer.Memory}, {runner.ErrTimeout, answer.TimedOut}, {runner.ErrStopped, answer.Stopped},
		{runner.ErrProgram, answer.Unstarted}, {runner.ErrRuntime, answer.Unstarted}, {runner.ErrNotReady, answer.Unstarted},
	} {
		if errors.Is(err, k.err) {
			return answer.End{Kind: k.kind}
		}
	}
	return answer.End{Kind: answer.Gone}
}
