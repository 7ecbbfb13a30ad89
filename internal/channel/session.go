// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"github.com/hashicorp/yamux"
)

// maxStreams bounds what one end serves at one time.
const maxStreams = 512

// How much a peer may send on a stream before it was read. Payloads come to the Agent, and wait less with more on its way; what fills the
// Agent's memory is its Broker's doing and hurts its own instance only. A Broker serves many Agents and trusts none.
const (
	windowAgent  = 4 << 20
	windowBroker = 1 << 20
)

// openTimeout bounds how long a peer may take to send its request.
const openTimeout = 30 * time.Second

// session is one end of the channel: it opens streams, and serves those of the other end with handle.
type session struct {
	mux    *yamux.Session
	handle func(ctx context.Context, req request, s *stream)
	ctx    context.Context
	cancel context.CancelFunc
	slots  chan struct{}
	served sync.WaitGroup
}

func newSession(conn net.Conn, client bool, handle func(context.Context, request, *stream)) (*session, error) {
	cfg := yamux.DefaultConfig()
	cfg.LogOutput = io.Discard
	cfg.MaxStreamWindowSize = windowAgent
	cfg.ConnectionWriteTimeout = 30 * time.Second
	open := yamux.Server
	if client { // the Broker's end
		open, cfg.MaxStreamWindowSize = yamux.Client, windowBroker
	}
	mux, err := open(&joining{Conn: conn}, cfg)
	if err != nil {
		return nil, fmt.Errorf("channel: %w", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	s := &session{mux: mux, handle: handle, ctx: ctx, cancel: cancel, slots: make(chan struct{}, maxStreams)}
	go s.accept()
	return s, nil
}

// accept serves streams until the channel closes, then ends the context of those that still run.
func (s *session) accept() {
	defer s.cancel()
	for {
		ys, err := s.mux.AcceptStream()
		if err != nil {
			s.mux.Close()
			return
		}
		select {
		case s.slots <- struct{}{}:
		default:
			ys.Close()
			continue
		}
		s.served.Add(1)
		go func() {
			defer func() { <-s.slots; s.served.Done() }()
			s.serve(&stream{Stream: ys})
		}()
	}
}

func (s *session) serve(st *stream) {
	defer st.Close()
	var req request
	_ = st.SetReadDeadline(time.Now().Add(openTimeout))
	if err := readValue(st, &req); err != nil {
		_ = writeValue(st, failure(err))
		return
	}
	_ = st.SetReadDeadline(time.Time{})
	s.handle(s.ctx, req, st)
}

// Done is closed when the channel is.
func (s *session) Done() <-chan struct{} { return s.ctx.Done() }

// Close ends the channel and waits until nothing of it is served any more.
func (s *session) Close() error {
	err := s.mux.Close()
	s.cancel()
	s.served.Wait()
	return err
}

// call opens a stream, sends req, and returns the stream with the reply read from it. ctx bounds the whole life of the stream: when it
// ends, reads and writes fail. The caller closes the stream.
func (s *session) call(ctx context.Context, req request) (*stream, reply, error) {
	if err := ctx.Err(); err != nil {
		return nil, reply{}, err
	}
	ys, err := s.mux.OpenStream()
	if err != nil {
		return nil, reply{}, fmt.Errorf("%w: %w", ErrClosed, err)
	}
	st := &stream{Stream: ys}
	st.stop = context.AfterFunc(ctx, func() { _ = st.SetDeadline(time.Unix(1, 0)) })
	var rep reply
	err = writeValue(st, req)
	if err == nil {
		err = readValue(st, &rep)
	}
	switch {
	case err == nil:
		err = rep.err()
	case ctx.Err() != nil:
		err = ctx.Err()
	case errors.Is(err, io.EOF), errors.Is(err, yamux.ErrSessionShutdown), errors.Is(err, yamux.ErrStreamClosed):
		err = fmt.Errorf("%w: %w", ErrClosed, err)
	}
	if err != nil {
		st.Close()
		return nil, reply{}, fmt.Errorf("%s: %w", req.Kind, err)
	}
	return st, rep, nil
}

// simple is a call that ends with its reply.
func (s *session) simple(ctx context.Context, req request) (reply, error) {
	st, rep, err := s.call(ctx, req)
	if err != nil {
		return reply{}, err
	}
	return rep, st.Close()
}

// stream is a yamux stream whose Close also wakes the stream's own readers, and whose CloseWrite is a half-close.
type stream struct {
	*yamux.Stream
	stop func() bool // detaches the stream from the context of its call
}

// Close ends both directions.
func (s *stream) Close() error {
	if s.stop != nil {
		s.stop()
	}
	err := s.Stream.Close()
	_ = s.SetDeadline(time.Unix(1, 0))
	return err
}

// CloseWrite says that no more bytes will be written; reading goes on.
func (s *stream) CloseWrite() error { return s.Stream.Close() }

// answer writes the reply of a call that has no body.
func answer(s *stream, rep reply, err error) {
	if err != nil {
		rep = failure(err)
	}
	_ = writeValue(s, rep)
}
