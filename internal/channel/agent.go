// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"context"
	"fmt"
	"net"

	"sealift/suit"
)

// AgentClient is the Broker's handle on an Agent. Its methods are those of AgentService, and may be called from several goroutines.
type AgentClient struct{ s *session }

// ServeBroker is the Broker's end of conn: it serves svc to the Agent until conn closes, and returns the calls on the Agent.
func ServeBroker(conn net.Conn, svc BrokerService) (*AgentClient, error) {
	s, err := newSession(conn, true, brokerHandler{svc}.handle)
	if err != nil {
		return nil, err
	}
	return &AgentClient{s}, nil
}

// Done is closed when the channel is.
func (c *AgentClient) Done() <-chan struct{} { return c.s.Done() }

// Close ends the channel, and with it every call and relay on it.
func (c *AgentClient) Close() error { return c.s.Close() }

// ProcessTeepMessage: see AgentService.
func (c *AgentClient) ProcessTeepMessage(ctx context.Context, tamURI string, msg []byte) ([]byte, error) {
	rep, err := c.s.simple(ctx, request{Kind: kindMessage, URI: tamURI, Data: msg})
	return rep.Data, err
}

// ProcessError: see AgentService.
func (c *AgentClient) ProcessError(ctx context.Context, tamURI, reason string) error {
	_, err := c.s.simple(ctx, request{Kind: kindError, URI: tamURI, Text: truncate(reason, 1024)})
	return err
}

// RequestTA: see AgentService.
func (c *AgentClient) RequestTA(ctx context.Context, id suit.ComponentID, tamURI string) (Session, error) {
	return c.session(ctx, request{Kind: kindRequest, ID: id, URI: tamURI})
}

// UnrequestTA: see AgentService.
func (c *AgentClient) UnrequestTA(ctx context.Context, id suit.ComponentID, tamURI string) (Session, error) {
	return c.session(ctx, request{Kind: kindUnrequest, ID: id, URI: tamURI})
}

// RequestPolicyCheck: see AgentService.
func (c *AgentClient) RequestPolicyCheck(ctx context.Context) (Session, error) {
	return c.session(ctx, request{Kind: kindPolicy})
}

func (c *AgentClient) session(ctx context.Context, req request) (Session, error) {
	rep, err := c.s.simple(ctx, req)
	if err != nil || rep.Session == nil {
		return Session{}, err
	}
	return *rep.Session, nil
}

// Connect opens a relay to the TLS 1.3 endpoint of the TA ["tee", app, ta]. ctx bounds the opening only. The connection has a
// CloseWrite method. ErrNotFound and ErrNotReady say that there is no such TA, or not now.
func (c *AgentClient) Connect(ctx context.Context, app, ta string) (net.Conn, error) {
	st, _, err := c.s.call(ctx, request{Kind: kindConnect, App: app, TA: ta})
	if err != nil {
		return nil, err
	}
	if !st.stop() {
		st.Close()
		return nil, ctx.Err()
	}
	return st, nil
}

// Status: see AgentService.
func (c *AgentClient) Status(ctx context.Context) (Status, error) {
	rep, err := c.s.simple(ctx, request{Kind: kindStatus})
	if err != nil || rep.Status == nil {
		return Status{}, err
	}
	return *rep.Status, nil
}

// agentHandler serves an AgentService.
type agentHandler struct{ svc AgentService }

func (h agentHandler) handle(ctx context.Context, req request, s *stream) {
	switch req.Kind {
	case kindMessage:
		data, err := h.svc.ProcessTeepMessage(ctx, req.URI, req.Data)
		answer(s, reply{Data: data}, err)
	case kindError:
		answer(s, reply{}, h.svc.ProcessError(ctx, req.URI, req.Text))
	case kindRequest:
		ses, err := h.svc.RequestTA(ctx, req.ID, req.URI)
		answer(s, reply{Session: &ses}, err)
	case kindUnrequest:
		ses, err := h.svc.UnrequestTA(ctx, req.ID, req.URI)
		answer(s, reply{Session: &ses}, err)
	case kindPolicy:
		ses, err := h.svc.RequestPolicyCheck(ctx)
		answer(s, reply{Session: &ses}, err)
	case kindStatus:
		st, err := h.svc.Status(ctx)
		answer(s, reply{Status: &st}, err)
	case kindConnect:
		h.connect(ctx, req, s)
	default:
		answer(s, reply{}, fmt.Errorf("%w: call %q", ErrRefused, req.Kind))
	}
}

func (h agentHandler) connect(ctx context.Context, req request, s *stream) {
	opened := false
	err := h.svc.Connect(ctx, req.App, req.TA, s, func() error {
		opened = true
		return writeValue(s, reply{})
	})
	if !opened {
		if err == nil {
			err = ErrNotReady
		}
		answer(s, reply{}, err)
	}
}
