// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"errors"
	"fmt"

	"sealift/internal/channel"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
	"sealift/teep/teephttp"
)

// maxPolicyChecks bounds the TAMs that one policy check visits, should an Agent never come to an end.
const maxPolicyChecks = 16

// ErrNoInstance says that the device has no such TEE instance, or its Agent is not running.
var ErrNoInstance = errors.New("no such TEE instance with a running TEEP Agent")

// RequestTA asks the Agent of an instance for a TA that an application of the REE needs (RFC 9397 section 6.2.1). If the Agent
// has it already, nothing happens; else the session that the Agent asks for is run. tamURI may be empty; the Agent's own choice
// wins over it.
func (b *Broker) RequestTA(ctx context.Context, instance string, id suit.ComponentID, tamURI string) error {
	return b.withAgent(instance, func(r *runner, agent *channel.AgentClient) error {
		s, err := agent.RequestTA(ctx, id, tamURI)
		if err != nil {
			return fmt.Errorf("requesting %s: %w", id, err)
		}
		return r.open(ctx, agent, s)
	})
}

// UnrequestTA tells the Agent of an instance that a TA is no longer needed (RFC 9397 section 6.2.1), and runs the session in
// which the TAM learns of it.
func (b *Broker) UnrequestTA(ctx context.Context, instance string, id suit.ComponentID, tamURI string) error {
	return b.withAgent(instance, func(r *runner, agent *channel.AgentClient) error {
		s, err := agent.UnrequestTA(ctx, id, tamURI)
		if err != nil {
			return fmt.Errorf("unrequesting %s: %w", id, err)
		}
		return r.open(ctx, agent, s)
	})
}

// RequestPolicyCheck lets the Agent of an instance visit all its TAMs for changes (RFC 9397 section 6.2.1).
func (b *Broker) RequestPolicyCheck(ctx context.Context, instance string) error {
	return b.withAgent(instance, func(r *runner, agent *channel.AgentClient) error {
		r.session.Lock()
		defer r.session.Unlock()
		_, err := r.policyCheck(ctx, agent)
		return errors.Join(err, r.further(ctx, agent))
	})
}

// ProcessTeepMessage hands a TEEP message of a TAM to the Agent of an instance and returns the Agent's answer, none when the
// session is done (RFC 9397 section 6.2.1).
func (b *Broker) ProcessTeepMessage(ctx context.Context, instance, tamURI string, msg []byte) (reply []byte, err error) {
	err = b.withAgent(instance, func(_ *runner, agent *channel.AgentClient) error {
		reply, err = agent.ProcessTeepMessage(ctx, tamURI, msg)
		return err
	})
	return reply, err
}

// ProcessError tells the Agent of an instance that the transport to a TAM has failed (RFC 9397 section 6.2.1).
func (b *Broker) ProcessError(ctx context.Context, instance, tamURI string, cause error) error {
	return b.withAgent(instance, func(_ *runner, agent *channel.AgentClient) error {
		return agent.ProcessError(ctx, tamURI, cause.Error())
	})
}

func (b *Broker) withAgent(instance string, do func(*runner, *channel.AgentClient) error) error {
	r := b.runner(instance)
	if r == nil {
		return fmt.Errorf("%w: %s", ErrNoInstance, instance)
	}
	agent := r.attached()
	if agent == nil {
		return fmt.Errorf("%w: %s", ErrNoInstance, instance)
	}
	return do(r, agent)
}

// converse serves wake-ups, and notes each that was served to the end.
func (r *runner) converse(ctx context.Context, agent *channel.AgentClient, due []mocapi.WantedSession) error {
	r.session.Lock()
	defer r.session.Unlock()
	var errs []error
	for _, s := range due {
		err := r.visit(ctx, agent, s.TAMURI)
		errs = append(errs, err)
		if err == nil {
			r.mu.Lock()
			r.served[s.TAMURI] = s.Wake
			r.mu.Unlock()
		}
	}
	return errors.Join(errs...)
}

// visit runs a session. For the TAM that the instance's configuration names it is a policy check over all of the Agent's TAMs, and that TAM
// if the Agent named none.
func (r *runner) visit(ctx context.Context, agent *channel.AgentClient, tamURI string) error {
	r.mu.Lock()
	first := r.wanted.TAMURI == tamURI
	r.mu.Unlock()
	if first {
		visited, err := r.policyCheck(ctx, agent)
		if err != nil || visited > 0 {
			return err
		}
	}
	return r.talk(ctx, agent, channel.Session{TAMURI: tamURI})
}

// policyCheck asks the Agent for TAM URIs, one by one, until there are no more, and runs a session with each.
func (r *runner) policyCheck(ctx context.Context, agent *channel.AgentClient) (visited int, err error) {
	for range maxPolicyChecks {
		s, err := agent.RequestPolicyCheck(ctx)
		if err != nil {
			return visited, fmt.Errorf("asking the TEEP Agent for its TAMs: %w", err)
		}
		if s.TAMURI == "" {
			return visited, nil
		}
		if err := r.talk(ctx, agent, s); err != nil {
			return visited, err
		}
		visited++
	}
	return visited, nil
}

// open runs the session that an Agent has asked for, if any. Which of several deployments it is for, their TAMs find out.
func (r *runner) open(ctx context.Context, agent *channel.AgentClient, s channel.Session) error {
	if s.TAMURI == "" {
		return nil
	}
	r.session.Lock()
	defer r.session.Unlock()
	return errors.Join(r.talk(ctx, agent, s), r.further(ctx, agent))
}

// further runs the sessions of the further deployments that an instance serves. The caller holds the session lock.
func (r *runner) further(ctx context.Context, agent *channel.AgentClient) error {
	r.mu.Lock()
	list := r.wanted.Further
	r.mu.Unlock()
	var errs []error
	for _, f := range list {
		errs = append(errs, r.talk(ctx, agent, channel.Session{TAMURI: f.TAMURI}))
	}
	return errors.Join(errs...)
}

// talk runs one TEEP session over HTTP. The caller holds the session lock.
func (r *runner) talk(ctx context.Context, agent *channel.AgentClient, s channel.Session) error {
	err := r.b.teep.Session(ctx, s.TAMURI, agentEnd{agent, s.TAMURI}, s.Message)
	if err != nil {
		return fmt.Errorf("TEEP session with %s: %w", s.TAMURI, err)
	}
	return nil
}

// agentEnd is an Agent as the HTTP transport sees it.
type agentEnd struct {
	agent  *channel.AgentClient
	tamURI string
}

var _ teephttp.Agent = agentEnd{}

// ProcessTeepMessage implements teephttp.Agent.
func (e agentEnd) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	return e.agent.ProcessTeepMessage(ctx, e.tamURI, msg)
}

// ProcessError implements teephttp.Agent.
func (e agentEnd) ProcessError(ctx context.Context, cause error) {
	_ = e.agent.ProcessError(context.WithoutCancel(ctx), e.tamURI, cause.Error())
}
