// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"sealift/internal/launch"
)

// supervise keeps a socket TA running. first gets nil when the first process listens, or the error with which it could not start
// or ended before.
func (t *TA) supervise(first chan<- error) {
	report := func(err error) {
		select {
		case first <- err:
		default:
		}
	}
	ends := 0
	for t.ctx.Err() == nil {
		begin := time.Now()
		err := t.runOnce(func() { report(nil) })
		if t.ctx.Err() != nil {
			return
		}
		t.noteExit(err)
		report(exitError(err))
		if time.Since(begin) >= t.opts.StableAfter {
			ends = 0
		}
		ends++
		if !t.again(err, ends) {
			return
		}
	}
}

// again waits before the next start. It returns false when there is to be none.
func (t *TA) again(err error, ends int) bool {
	restart := t.prog.Spec.Restart
	switch {
	case errors.Is(err, ErrProgram), ends >= t.opts.MaxEnds:
		t.setState(StateFailed)
		return false
	case restart == launch.RestartNever, restart == launch.RestartOnFailure && err == nil:
		t.setState(StateStopped)
		return false
	}
	t.setState(StateBackingOff)
	delay := min(t.opts.MinBackOff<<min(ends-1, 16), t.opts.MaxBackOff)
	timer := time.NewTimer(delay)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-t.ctx.Done():
		return false
	}
}

// runOnce starts the process and waits for its end, which is an error unless it exits with 0. listens is called when it serves.
func (t *TA) runOnce(listens func()) error {
	_ = os.Remove(filepath.Join(t.runDir(), listenName))
	t.setState(StateStarting)
	p, err := t.loaded.Launch(t.ctx, t.job())
	if err != nil {
		return err
	}
	defer t.track(p)()
	r := &life{ended: make(chan struct{})}
	t.mu.Lock()
	t.run = r
	t.mu.Unlock()
	watched := make(chan struct{})
	go func() {
		defer close(watched)
		if t.awaitSocket(r.ended) {
			t.setState(StateRunning)
			listens()
		}
	}()
	stop := context.AfterFunc(t.ctx, func() { _ = p.Kill() })
	r.err = p.Wait()
	stop()
	close(r.ended)
	<-watched
	return r.err
}

// awaitSocket returns true when the TA listens, and false when its process has ended before.
func (t *TA) awaitSocket(ended <-chan struct{}) bool {
	pause := time.Millisecond
	timer := time.NewTimer(pause)
	defer timer.Stop()
	for {
		if conn, err := dialUnix(t.ctx, filepath.Join(t.runDir(), listenName)); err == nil {
			conn.Close()
			return true
		}
		select {
		case <-timer.C:
			pause = min(2*pause, 50*time.Millisecond)
			timer.Reset(pause)
		case <-ended:
			return false
		}
	}
}

// awaitFirst waits until the TA listens, its first process ends, or it takes too long, which is no error.
func (t *TA) awaitFirst(ctx context.Context, first <-chan error) error {
	timeout := time.NewTimer(t.opts.ReadyTimeout)
	defer timeout.Stop()
	select {
	case err := <-first:
		if err == nil || t.prog.Patient && !errors.Is(err, ErrProgram) {
			return nil
		}
		return fmt.Errorf("%s: %w", t.prog.Name, err)
	case <-ctx.Done():
		return ctx.Err()
	case <-timeout.C:
		return nil
	}
}

func exitError(err error) error {
	if err == nil {
		return fmt.Errorf("%w: exit status 0", ErrExited)
	}
	if errors.Is(err, ErrProgram) {
		return err
	}
	return fmt.Errorf("%w: %w", ErrExited, err)
}

func (t *TA) noteExit(err error) {
	text := "exit status 0"
	if err != nil {
		text = err.Error()
	}
	t.mu.Lock()
	t.status.Restarts++
	t.status.LastExit = text
	t.mu.Unlock()
	t.opts.Log.Warn("a TA ended", "ta", t.prog.Name, "exit", text)
}
