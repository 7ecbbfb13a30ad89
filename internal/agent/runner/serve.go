// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"time"

	"sealift/internal/launch"
)

// Serve relays conn, which is a caller's plaintext inside the TEE, to the TA: to its socket, or to a new process of its own. It
// returns nil when both directions have ended well; the caller of Serve closes conn. An error means that the caller on
// conn may have got only part of an answer.
func (t *TA) Serve(ctx context.Context, conn net.Conn) error {
	if err := t.enter(); err != nil {
		return err
	}
	defer t.wg.Done()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(t.ctx, cancel)()
	if t.prog.Spec.Serve == launch.ServeStdio {
		return t.request(ctx, conn)
	}
	up, err := t.dial(ctx)
	if err != nil {
		return err
	}
	defer up.Close()
	return relay(ctx, conn, up, t.opts.RequestTimeout)
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
	err = t.result(p.Wait())
	_ = conn.SetReadDeadline(past) // the process is gone: what else the caller says has no reader
	in.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(err, copyErr)
}

// result passes an exit status on as success: it is the program's answer to its caller (grep says 1 for "no lines"). An
// end by a signal, or at a limit, is not.
func (t *TA) result(err error) error {
	if err == nil {
		return nil
	}
	t.mu.Lock()
	t.status.LastExit = err.Error()
	t.mu.Unlock()
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.Exited() {
		return nil
	}
	return err
}

var past = time.Unix(1, 0)

// relay copies both ways until both directions have ended, ctx ends, or nothing moves for idle.
func relay(ctx context.Context, a, b net.Conn, idle time.Duration) error {
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
			if errs[i] != nil {
				cancel(errs[i])
			} else if half, ok := pair[0].(interface{ CloseWrite() error }); ok {
				_ = half.CloseWrite()
			}
		})
	}
	wg.Wait()
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return errors.Join(errs...)
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
