// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"
)

// Package is what an owner delivers.
type Package struct {
	Envelope []byte // SUIT envelope
	// Open opens the payload that the manifest calls uri, and tells its size. ErrNotOffered: there is none.
	Open func(uri string) (io.ReadCloser, int64, error)
}

// Deliver is the owner's end of one delivery, on a connection whose handshake has proved the pinned key. appraise judges the Evidence of
// the session; an error of it ends the session before anything has left. The error is ErrInterrupted where the connection was cut off:
// then nobody knows whether the package was installed, and delivering it again is right in either case.
func Deliver(conn *tls.Conn, appraise func(bundle, challenge []byte) error, p Package) (Outcome, error) {
	challenge, err := Challenge(conn.ConnectionState())
	if err != nil {
		return Outcome{}, err
	}
	var first fromTEE
	_ = conn.SetReadDeadline(time.Now().Add(idle))
	if err := readMessage(conn, maxFromTEE, &first); err != nil {
		return Outcome{}, err
	}
	if err := first.check(); err != nil || first.Evidence == nil {
		return Outcome{}, fmt.Errorf("%w: the session does not begin with Evidence", ErrMalformed)
	}
	if err := appraise(first.Evidence, challenge); err != nil {
		return Outcome{}, err
	}
	d := &delivering{conn: conn, said: make(chan said, 1), done: make(chan struct{})}
	defer close(d.done)
	go d.listen()
	if err := d.write(offer{p.Envelope}); err != nil {
		return d.outcome(err)
	}
	return d.serve(p)
}

// delivering is a delivery from the offer on. What the Agent says is read beside what is sent: it may end the session in the middle of a
// payload.
type delivering struct {
	conn *tls.Conn
	said chan said
	done chan struct{}

	mu   sync.Mutex
	over bool // the Agent says no more
}

// said is a message of the Agent, or why there are no more.
type said struct {
	fromTEE
	err error
}

func (d *delivering) listen() {
	for {
		var s said
		_ = d.conn.SetReadDeadline(time.Now().Add(patient))
		s.err = readMessage(d.conn, maxFromTEE, &s.fromTEE)
		if s.err == nil {
			s.err = s.check()
		}
		last := s.err != nil || s.Outcome != nil
		if last { // a write that waits for an Agent that takes nothing more ends now
			d.mu.Lock()
			d.over = true
			_ = d.conn.SetWriteDeadline(time.Now())
			d.mu.Unlock()
		}
		select {
		case d.said <- s:
		case <-d.done:
			return
		}
		if last {
			return
		}
	}
}

// extend gives the next write its time, unless the Agent has said its last word.
func (d *delivering) extend() {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.over {
		_ = d.conn.SetWriteDeadline(time.Now().Add(idle))
	}
}

func (d *delivering) write(m any) error {
	d.extend()
	return writeMessage(d.conn, m)
}

// serve answers the Agent until it tells the outcome.
func (d *delivering) serve(p Package) (Outcome, error) {
	for {
		s := <-d.said
		switch {
		case s.err != nil:
			return Outcome{}, s.err
		case s.Outcome != nil:
			return *s.Outcome, nil
		case s.Want == nil:
			return Outcome{}, fmt.Errorf("%w: Evidence that nobody has asked for", ErrMalformed)
		}
		early, err := d.send(p, *s.Want)
		if early != nil {
			return *early, nil
		}
		if err != nil {
			return d.outcome(err)
		}
	}
}

// outcome is the Agent's last word where nothing more can be sent, or the cause.
func (d *delivering) outcome(cause error) (Outcome, error) {
	if !errors.Is(cause, ErrInterrupted) {
		return Outcome{}, cause
	}
	if s := <-d.said; s.err == nil && s.Outcome != nil {
		return *s.Outcome, nil
	}
	return Outcome{}, cause
}

// send sends one payload. early is the outcome, where the Agent has told it meanwhile.
func (d *delivering) send(p Package, w want) (early *Outcome, err error) {
	r, size, err := p.Open(w.URI)
	if errors.Is(err, ErrNotOffered) || err == nil && w.Limit >= 0 && size > w.Limit {
		if err == nil {
			r.Close()
		}
		return nil, d.write(payload{Size: -1})
	}
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if err := d.write(payload{Size: size}); err != nil {
		return nil, err
	}
	buf := make([]byte, chunk)
	for size > 0 {
		select {
		case s := <-d.said:
			if s.err != nil {
				return nil, s.err
			}
			if s.Outcome == nil {
				return nil, fmt.Errorf("%w: a question in the middle of a payload", ErrMalformed)
			}
			return s.Outcome, nil
		default:
		}
		n, err := io.ReadFull(r, buf[:min(size, chunk)])
		if err != nil {
			return nil, fmt.Errorf("delivery: reading the payload: %w", notEOF(err))
		}
		d.extend()
		if _, err := d.conn.Write(buf[:n]); err != nil {
			return nil, fmt.Errorf("%w: %w", ErrInterrupted, err)
		}
		size -= int64(n)
	}
	return nil, nil
}
