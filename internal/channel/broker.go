// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"

	"sealift/suit"
)

// BrokerClient is the Agent's handle on its Broker. It implements BrokerService and may be called from several goroutines.
type BrokerClient struct{ s *session }

var _ BrokerService = (*BrokerClient)(nil)

// ServeAgent is the Agent's end of conn: it serves svc to the Broker until conn closes, and returns the calls on the Broker.
func ServeAgent(conn net.Conn, svc AgentService) (*BrokerClient, error) {
	s, err := newSession(conn, false, agentHandler{svc}.handle)
	if err != nil {
		return nil, err
	}
	return &BrokerClient{s}, nil
}

// Done is closed when the channel is.
func (c *BrokerClient) Done() <-chan struct{} { return c.s.Done() }

// Close ends the channel.
func (c *BrokerClient) Close() error { return c.s.Close() }

// Fetch: see BrokerService. The reader ends with io.ErrUnexpectedEOF when the body was cut short, and with ErrTooLarge when it
// is longer than limit.
func (c *BrokerClient) Fetch(ctx context.Context, uri string, limit int64) (io.ReadCloser, error) {
	st, _, err := c.s.call(ctx, request{Kind: kindFetch, URI: uri, Limit: limit})
	if err != nil {
		return nil, err
	}
	return &fetched{body: bodyReader{r: st}, s: st, left: limit}, nil
}

type fetched struct {
	body bodyReader
	s    *stream
	left int64 // bytes that may still come; negative: no bound
}

func (f *fetched) Read(p []byte) (int, error) {
	n, err := f.body.Read(p)
	if f.left >= 0 {
		if f.left -= int64(n); f.left < 0 {
			f.left = 0
			return 0, fmt.Errorf("%w: the payload is longer than announced", ErrTooLarge)
		}
	}
	return n, err
}

func (f *fetched) Close() error { return f.s.Close() }

// REEInstall: see BrokerService.
func (c *BrokerClient) REEInstall(ctx context.Context, id suit.ComponentID) (REEWriter, error) {
	st, _, err := c.s.call(ctx, request{Kind: kindInstall, ID: id})
	if err != nil {
		return nil, err
	}
	return &installer{newBodyWriter(st), st}, nil
}

type installer struct {
	*bodyWriter
	s *stream
}

func (i *installer) Commit() error {
	defer i.s.Close()
	if err := i.end(); err != nil {
		return fmt.Errorf("%s: %w: %w", kindInstall, ErrClosed, err)
	}
	var rep reply
	if err := readValue(i.s, &rep); err != nil {
		return fmt.Errorf("%s: %w: %w", kindInstall, ErrClosed, err)
	}
	return rep.err()
}

func (i *installer) Abort() error { return i.s.Close() }

// REERemove: see BrokerService.
func (c *BrokerClient) REERemove(ctx context.Context, id suit.ComponentID) error {
	_, err := c.s.simple(ctx, request{Kind: kindRemove, ID: id})
	return err
}

// REEStart: see BrokerService.
func (c *BrokerClient) REEStart(ctx context.Context, id suit.ComponentID, spec []byte) error {
	_, err := c.s.simple(ctx, request{Kind: kindStart, ID: id, Data: spec})
	return err
}

// REEStop: see BrokerService.
func (c *BrokerClient) REEStop(ctx context.Context, id suit.ComponentID) error {
	_, err := c.s.simple(ctx, request{Kind: kindStop, ID: id})
	return err
}

// brokerHandler serves a BrokerService. Whatever the Agent's end asks for, only components of the REE can be named here.
type brokerHandler struct{ svc BrokerService }

func (h brokerHandler) handle(ctx context.Context, req request, s *stream) {
	switch req.Kind {
	case kindFetch:
		h.fetch(ctx, req, s)
		return
	case kindInstall, kindRemove, kindStart, kindStop:
	default:
		answer(s, reply{}, fmt.Errorf("%w: call %q", ErrRefused, req.Kind))
		return
	}
	if !IsREE(req.ID) {
		answer(s, reply{}, fmt.Errorf("%w: the component is not addressed to the REE", ErrRefused))
		return
	}
	switch req.Kind {
	case kindInstall:
		h.install(ctx, req, s)
	case kindRemove:
		answer(s, reply{}, h.svc.REERemove(ctx, req.ID))
	case kindStart:
		answer(s, reply{}, h.svc.REEStart(ctx, req.ID, req.Data))
	case kindStop:
		answer(s, reply{}, h.svc.REEStop(ctx, req.ID))
	}
}

// IsREE says whether id is addressed to the REE: ["ree", app, name].
func IsREE(id suit.ComponentID) bool { return len(id) == 3 && string(id[0]) == "ree" }

func (h brokerHandler) fetch(ctx context.Context, req request, s *stream) {
	body, err := h.svc.Fetch(ctx, req.URI, req.Limit)
	if err != nil {
		answer(s, reply{}, err)
		return
	}
	defer body.Close()
	if writeValue(s, reply{}) != nil {
		return
	}
	w := newBodyWriter(s)
	if _, err := w.ReadFrom(body); err == nil {
		_ = w.end()
	}
}

// onlyWriter hides a ReadFrom, so that every byte goes through Write.
type onlyWriter struct{ io.Writer }

func (h brokerHandler) install(ctx context.Context, req request, s *stream) {
	w, err := h.svc.REEInstall(ctx, req.ID)
	if err != nil {
		answer(s, reply{}, err)
		return
	}
	if err := writeValue(s, reply{}); err != nil {
		_ = w.Abort()
		return
	}
	if _, err := io.CopyBuffer(onlyWriter{w}, &bodyReader{r: s}, make([]byte, chunkSize)); err != nil {
		// The Agent learns of a full disk when it commits; until then it may still be writing.
		abort := w.Abort()
		if !errors.Is(err, io.ErrUnexpectedEOF) {
			_, _ = io.Copy(io.Discard, &bodyReader{r: s})
			answer(s, reply{}, errors.Join(err, abort))
		}
		return
	}
	answer(s, reply{}, w.Commit())
}
