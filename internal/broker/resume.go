// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"strconv"
	"strings"
	"time"

	"sealift/internal/channel"
	"sealift/internal/fault"
)

// errChanged says that a server has other bytes now than when a payload was begun.
var errChanged = errors.New("the payload was changed while it was fetched")

// answer is what a server gave of a payload.
type answer struct {
	body  io.ReadCloser
	start int64 // where the body begins: what was asked for, or 0 where the server has no ranges (RFC 9110 section 14)
	total int64 // size of the whole payload, -1 if it is not told
	etag  string
}

// opener asks for the bytes of a payload from offset on.
type opener func(ctx context.Context, offset int64) (*answer, error)

// readAnswer takes a server's answer to a request for the bytes from offset on.
func readAnswer(resp *http.Response, offset int64) (*answer, error) {
	a := &answer{body: resp.Body, total: resp.ContentLength, etag: resp.Header.Get("ETag")}
	if resp.StatusCode != http.StatusPartialContent {
		return a, nil
	}
	a.start, a.total = offset, -1
	text, ok := strings.CutPrefix(resp.Header.Get("Content-Range"), "bytes ")
	span, size, ok2 := strings.Cut(text, "/")
	first, _, ok3 := strings.Cut(span, "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if !ok || !ok2 || !ok3 || err != nil || start != offset {
		resp.Body.Close()
		return nil, fmt.Errorf("the server answered with another range than the one from byte %d on: %.100q", offset, resp.Header.Get("Content-Range"))
	}
	if n, err := strconv.ParseInt(size, 10, 64); err == nil && n >= 0 {
		a.total = n
	}
	return a, nil
}

// resuming reads a payload, and goes on where it was when the connection is cut. It gives up when no byte has come for patience. Where
// the server cannot continue, what was delivered already is read again and dropped; the Agent's digest is the judge of it.
type resuming struct {
	ctx      context.Context
	open     opener
	patience time.Duration
	retry    *backoff

	body  io.ReadCloser
	off   int64 // delivered
	total int64 // -1: not known
	etag  string
	last  time.Time // of the last byte
	timer *time.Timer
	stop  context.CancelFunc // ends the present request
}

// newResuming opens the payload at offset.
func newResuming(ctx context.Context, open opener, offset int64, patience time.Duration) (*resuming, error) {
	r := &resuming{ctx: ctx, open: open, patience: patience, off: offset, total: -1, last: time.Now(),
		retry: &backoff{min: 50 * time.Millisecond, max: 5 * time.Second, next: 50 * time.Millisecond}}
	return r, r.reopen()
}

// reopen asks for what is missing.
func (r *resuming) reopen() error {
	ctx, cancel := context.WithCancel(r.ctx)
	a, err := r.open(ctx, r.off)
	if err != nil {
		cancel()
		return err
	}
	timer := time.AfterFunc(r.patience, cancel)
	fail := func(err error) error {
		timer.Stop()
		a.body.Close()
		cancel()
		return err
	}
	if r.total >= 0 && a.total >= 0 && a.total != r.total || r.etag != "" && a.etag != "" && a.etag != r.etag {
		return fail(errChanged)
	}
	if skip := r.off - a.start; skip > 0 {
		if _, err := io.CopyN(io.Discard, a.body, skip); err != nil {
			return fail(fmt.Errorf("reading again what was there: %w", err))
		}
	}
	if r.total < 0 {
		r.total = a.total
	}
	r.body, r.etag, r.timer, r.stop = a.body, a.etag, timer, cancel
	return nil
}

// permanent are errors that asking again does not mend.
func permanent(err error) bool {
	for _, known := range []error{channel.ErrNotFound, channel.ErrRefused, channel.ErrTooLarge, errChanged} {
		if errors.Is(err, known) {
			return true
		}
	}
	f, ok := errors.AsType[*fault.Error](err)
	return ok && (f.Code == fault.Unauthorized || f.Code == fault.Forbidden || f.Code == fault.BadRequest)
}

// Read implements io.Reader.
func (r *resuming) Read(p []byte) (int, error) {
	for {
		var err error
		if r.body != nil {
			var n int
			r.timer.Reset(r.patience)
			n, err = r.body.Read(p)
			r.off += int64(n)
			if n > 0 {
				r.last = time.Now()
				r.retry.reset()
				return n, nil
			}
			switch {
			case err == nil:
				continue
			case err == io.EOF && r.off >= r.total: // all of it, or as much as a server sent that told no size
				return 0, io.EOF
			}
			r.drop()
		}
		if err == nil {
			err = r.reopen()
		}
		switch {
		case err == nil:
		case r.ctx.Err() != nil:
			return 0, r.ctx.Err()
		case permanent(err):
			return 0, err
		case time.Since(r.last) >= r.patience:
			return 0, fmt.Errorf("nothing arrived for %s: %w", r.patience, err)
		case !r.retry.wait(r.ctx):
			return 0, r.ctx.Err()
		}
	}
}

func (r *resuming) drop() {
	if r.body != nil {
		r.timer.Stop()
		r.body.Close()
		r.stop()
		r.body = nil
	}
}

// Close implements io.Closer.
func (r *resuming) Close() error {
	r.drop()
	return nil
}

// size is the size of the payload, -1 if nobody told it.
func (r *resuming) size() int64 { return min(r.total, math.MaxInt64) }
