// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"sync"
	"time"

	"sealift/internal/launch"
)

// Ender is a caller's connection that is told how the answer ended, in place of the end of its direction.
type Ender interface {
	// End gets nil for an answer that is whole, else what Serve returns. Only the first call counts.
	End(err error) error
}

// Serve relays conn, which is a caller's plaintext inside the TEE, to the TA: to its socket, or to a new process of its own. It
// returns nil when both directions have ended well, and the process, if it ended, with exit status 0; the caller of Serve closes
// conn. A StatusError means that a process of its own said all it had to say and ended with another status; every other error
// that the caller on conn may have got only part of an answer. An Ender is told.
func (t *TA) Serve(ctx context.Context, conn net.Conn) error {
	err := t.serve(ctx, conn)
	if e, ok := conn.(Ender); ok {
		_ = conn.SetWriteDeadline(time.Now().Add(endTime))
		_ = e.End(err) // a caller that is gone needs no end
	}
	return err
}

// endTime bounds how long the end of an answer may take: on its way to the caller, and until it is known.
const endTime = 5 * time.Second

func (t *TA) serve(ctx context.Context, conn net.Conn) error {
	if err := t.enter(); err != nil {
		return err
	}
	defer t.wg.Done()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.ctx, func() { cancel(ErrStopped) })()
	if t.prog.Spec.Serve == launch.ServeStdio {
		return t.request(ctx, conn)
	}
	up, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer up.Close()
	run, server := t.current(), peerPID(up)
	return relay(ctx, conn, up, t.opts.RequestTimeout, func() error { return t.died(ctx, run, server) })
}

// died says how the process that served a connection ended, once that connection has ended; nil if it goes on, or has ended well. The
// kernel marks a process as exiting before it closes its files, so that one that was killed is told from one that has hung up.
func (t *TA) died(ctx context.Context, r *life, server int) error {
	if server == 0 || !exiting(server) && !t.diesHidden(ctx, r) {
		return nil
	}
	timeout := time.NewTimer(endTime)
	defer timeout.Stop()
	if r != nil {
		select {
		case <-r.ended:
			return describe(r.err)
		case <-timeout.C:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	return ErrGone // a process that the TA's first one has started
}

// dial connects to the TA's socket; a TA that is just starting gets some time.
func (t *TA) dial(ctx context.Context) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, t.opts.ReadyTimeout)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		conn, err := dialUnix(ctx, filepath.Join(t.runDir(), listenName))
		if err == nil {
			return conn, nil
		}
		switch t.Status().State {
		case StateFailed, StateStopped:
			return nil, err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, err
		}
	}
}

// request runs one process for conn: what conn says is its stdin, and its stdout goes to conn.
func (t *TA) request(ctx context.Context, conn net.Conn) error {
	ctx, cancel := context.WithTimeoutCause(ctx, t.opts.RequestTimeout, ErrTimeout)
	defer cancel()
	inR, inW, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("runner: %w", err)
	}
	defer inW.Close()
	outR, outW, err := os.Pipe()
	if err != nil {
		inR.Close()
		return fmt.Errorf("runner: %w", err)
	}
	defer outR.Close()
	job := t.job()
	job.Stdin, job.Stdout = inR, outW
	p, err := t.loaded.Launch(ctx, job)
	inR.Close()
	outW.Close()
	if err != nil {
		t.noteStart(err)
		return err
	}
	defer t.track(p)()
	defer context.AfterFunc(ctx, func() { _ = p.Kill(); _ = conn.SetDeadline(past) })()
	var in sync.WaitGroup
	in.Go(func() {
		_, _ = io.Copy(inW, conn)
		inW.Close()
	})
	_, copyErr := io.Copy(conn, outR)
	if copyErr != nil {
		_ = p.Kill() // nobody reads the answer
	}
	err = t.note(p.Wait())
	_ = conn.SetReadDeadline(past) // the process is gone: what else the caller says has no reader
	in.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(err, copyErr)
}

// noteStart tells the owner why a process for a request did not start.
func (t *TA) noteStart(err error) {
	t.mu.Lock()
	t.status.LastExit = err.Error()
	t.mu.Unlock()
	fmt.Fprintf(t.log, "sealift: the program does not start: %v\n", err)
}

// note keeps how a request's process ended.
func (t *TA) note(err error) error {
	if err == nil {
		return nil
	}
	t.mu.Lock()
	t.status.LastExit = err.Error()
	t.mu.Unlock()
	return describe(err)
}

// hiddenTime is how long the end of an answer waits for news of a TA whose processes the machine's kernel does not know (Hidden). Its own
// kernel ends shortly after it.
const hiddenTime = 150 * time.Millisecond

// diesHidden reports whether such a TA ends with its answer.
func (t *TA) diesHidden(ctx context.Context, r *life) bool {
	if h, ok := t.loaded.(Hidden); !ok || !h.Hidden() || r == nil {
		return false
	}
	timer := time.NewTimer(hiddenTime)
	defer timer.Stop()
	select {
	case <-r.ended:
		return true
	case <-timer.C:
	case <-ctx.Done():
	}
	return false
}

var past = time.Unix(1, 0)

// relay copies both ways until both directions have ended, ctx ends, or nothing moves for idle. When b has ended its direction, died
// says whether it did so of its own will; only then a is told that the answer is whole.
func relay(ctx context.Context, a, b net.Conn, idle time.Duration, died func() error) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(ctx, func() { _ = a.SetDeadline(past); _ = b.SetDeadline(past) })()
	timer := time.AfterFunc(idle, func() { cancel(ErrTimeout) })
	defer timer.Stop()
	var wg sync.WaitGroup
	errs := make([]error, 2)
	for i, pair := range [][2]net.Conn{{a, b}, {b, a}} {
		wg.Go(func() {
			_, errs[i] = io.Copy(pair[0], moving{pair[1], func() { timer.Reset(idle) }})
			if i == 0 && ctx.Err() == nil {
				if end := died(); end != nil {
					errs[i] = end // and the failed read is only how that looks
				}
			}
			if errs[i] != nil {
				cancel(errs[i])
				return
			}
			endOf(pair[0])
		})
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(errs...)
}

// endOf ends what is said to c.
func endOf(c net.Conn) {
	if e, ok := c.(Ender); ok {
		_ = e.End(nil)
	} else if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// moving reports each read.
type moving struct {
	r    io.Reader
	move func()
}

func (m moving) Read(p []byte) (int, error) {
	n, err := m.r.Read(p)
	if n > 0 {
		m.move()
	}
	return n, err
}
