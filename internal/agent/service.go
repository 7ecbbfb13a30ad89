// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strings"

	"sealift/internal/channel"
	"sealift/internal/delivery"
	"sealift/suit"
)

// Service returns the Agent as its Broker sees it. It trusts no caller: what it says is either signed by the Agent or not secret.
func (a *Agent) Service() channel.AgentService { return service{a} }

type service struct{ a *Agent }

// ProcessTeepMessage implements channel.AgentService.
func (s service) ProcessTeepMessage(ctx context.Context, _ string, msg []byte) ([]byte, error) {
	return s.a.process(ctx, msg)
}

// ProcessError implements channel.AgentService. The Broker decides about back-off; the Agent remembers why.
func (s service) ProcessError(_ context.Context, tamURI, reason string) error {
	s.a.setUnasked(false)
	s.a.setLastError(fmt.Sprintf("session with %.200q: %.200q", tamURI, reason))
	return nil
}

// RequestTA implements channel.AgentService. The wish is kept until it is fulfilled and told to a TAM of the configuration,
// whatever the caller proposes: no other TAM could sign for this Agent.
func (s service) RequestTA(ctx context.Context, id suit.ComponentID, tamURI string) (channel.Session, error) {
	if !s.a.ownApp(id) {
		return channel.Session{}, fmt.Errorf("%w: %s belongs to no application of this instance", channel.ErrRefused, id)
	}
	if c := s.a.state.Load().component(id); c != nil && !c.Waits && !s.a.isLost(id.String()) {
		return channel.Session{}, nil
	}
	err := s.a.wish(ctx, func(st *state) *[]suit.ComponentID { return &st.Requested }, id)
	if err != nil {
		return channel.Session{}, err
	}
	return s.session(tamURI), nil
}

// UnrequestTA implements channel.AgentService.
func (s service) UnrequestTA(ctx context.Context, id suit.ComponentID, tamURI string) (channel.Session, error) {
	st := s.a.state.Load()
	c := st.component(id)
	if c == nil {
		return channel.Session{}, fmt.Errorf("%w: %s", channel.ErrNotFound, id)
	}
	m := st.manifestOf(c)
	if m == nil {
		return channel.Session{}, fmt.Errorf("%w: manifest of %s", channel.ErrNotFound, id)
	}
	err := s.a.wish(ctx, func(st *state) *[]suit.ComponentID { return &st.Unneeded }, m.ID)
	if err != nil {
		return channel.Session{}, err
	}
	return s.session(tamURI), nil
}

// wish adds id to a list of the state, once.
func (a *Agent) wish(ctx context.Context, list func(*state) *[]suit.ComponentID, id suit.ComponentID) error {
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	next := a.state.Load().clone()
	l := list(next)
	if slices.ContainsFunc(*l, id.Equal) {
		return nil
	}
	if len(*l) >= maxWishes {
		return fmt.Errorf("%w: %d components are asked for already", channel.ErrBusy, len(*l))
	}
	*l = append(*l, id)
	return a.commit(next)
}

// ownApp says whether id names a component of an application that an owner of the configuration may install.
func (a *Agent) ownApp(id suit.ComponentID) bool {
	for _, o := range a.config.Owners {
		if o.Writes(app(id)) && validID(id) {
			return true
		}
	}
	return false
}

// RequestPolicyCheck implements channel.AgentService: a round names each TAM of the configuration once.
func (s service) RequestPolicyCheck(context.Context) (channel.Session, error) {
	tams := s.a.config.TAMs()
	s.a.mu.Lock()
	defer s.a.mu.Unlock()
	if s.a.policy >= len(tams) {
		s.a.policy = 0
		return channel.Session{}, nil
	}
	s.a.policy++
	return channel.Session{TAMURI: tams[s.a.policy-1].URI}, nil
}

// session is one with the TAM that a caller proposes, if it is one of the configuration's, else with the first. Where that was the last
// to ask and it takes answers without questions, the session begins with one.
func (s service) session(proposed string) channel.Session {
	out := channel.Session{TAMURI: s.a.config.TAMURI}
	for _, t := range s.a.config.TAMs() {
		if t.URI == proposed {
			out.TAMURI = proposed
		}
	}
	if len(s.a.config.FurtherTAMs) == 0 {
		out.Message = s.a.unasked()
	}
	return out
}

// Connect implements channel.AgentService.
func (s service) Connect(ctx context.Context, app, ta string, conn net.Conn, ready func() error) error {
	if name, ok := strings.CutSuffix(ta, delivery.Suffix); ok {
		return s.a.deliver(ctx, app, name, conn, ready)
	}
	if name, ok := deskOf(ta); ok {
		return s.a.desk(ctx, suit.NewComponentID(classTEE, app, name), conn, ready)
	}
	return s.a.connect(ctx, suit.NewComponentID(classTEE, app, ta), conn, ready)
}

// Status implements channel.AgentService.
func (s service) Status(context.Context) (channel.Status, error) {
	a, st := s.a, s.a.state.Load()
	out := channel.Status{Deployment: a.config.Deployment}
	for i := range st.Components {
		c := &st.Components[i]
		var sequence uint64
		if m := st.manifestOf(c); m != nil {
			sequence = m.Sequence
		}
		out.Components = append(out.Components, channel.Component{ID: c.ID, Sequence: sequence})
		if class(c.ID) == classTEE {
			out.TAs = append(out.TAs, a.taStatus(c.ID))
		}
	}
	for _, next := range st.Candidates {
		for _, c := range next.Components {
			out.Components = append(out.Components, channel.Component{ID: candidateID(c.ID), Sequence: next.Manifest.Sequence})
			if class(c.ID) == classTEE {
				out.TAs = append(out.TAs, a.taStatus(candidateID(c.ID)))
			}
		}
	}
	a.mu.Lock()
	out.LastError = a.lastErr
	a.mu.Unlock()
	return out, nil
}

func (a *Agent) taStatus(id suit.ComponentID) channel.TAStatus {
	if c := a.state.Load().component(id); c != nil && c.Waits {
		return channel.TAStatus{ID: id, State: "waiting"}
	}
	if a.state.Load().held(id) {
		return channel.TAStatus{ID: id, State: channel.TAHeld}
	}
	t := a.loaded(id)
	if t == nil {
		return channel.TAStatus{ID: id, State: "stopped"}
	}
	st := t.run.Status()
	return channel.TAStatus{ID: id, State: st.State, Restarts: st.Restarts, LastExit: st.LastExit}
}
