// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"slices"
	"time"

	"sealift/internal/channel"
	"sealift/suit"
)

// reeTimeout bounds the calls that bring the REE into line after a Broker has attached.
const reeTimeout = 30 * time.Second

// attached is the Broker that is served now.
type attached struct {
	*channel.BrokerClient
	ready chan struct{} // closed when the REE was asked to run what is installed
}

// brokerNow returns the attached Broker.
func (a *Agent) brokerNow() (channel.BrokerService, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.broker == nil {
		return nil, errNoBroker
	}
	return a.broker, nil
}

// startREE has a new Broker start the UAs that are installed. One that the REE has lost is no longer told to the TAM as
// installed, so that the TAM sends it again.
func (a *Agent) startREE(b *attached) {
	defer close(b.ready)
	ctx, cancel := context.WithTimeout(context.Background(), reeTimeout)
	defer cancel()
	unlock, err := a.lock(ctx)
	if err != nil {
		return
	}
	defer unlock()
	a.clearLost(ctx, b)
	for _, c := range a.state.Load().Components {
		if class(c.ID) != classREE || c.Args == nil || a.isLost(c.ID.String()) {
			continue
		}
		err := b.REEStart(ctx, c.ID, c.Args)
		if errors.Is(err, channel.ErrNotFound) {
			a.setLost(c.ID.String(), true)
		}
		if err != nil {
			a.log.Warn("an UA was not started", "component", c.ID.String(), "error", err)
		}
	}
}

// clearLost removes from the REE what was going out when the power failed. What belongs to an installed manifest stays lost until that
// is installed again; the rest is forgotten. The caller holds the right to change the state.
func (a *Agent) clearLost(ctx context.Context, b channel.BrokerService) {
	next := a.state.Load().clone()
	for _, id := range a.state.Load().Lost {
		if err := b.REERemove(ctx, id); err != nil {
			a.log.Warn("a component of an interrupted installation may be left in the REE", "component", id.String(), "error", err)
		} else if next.component(id) == nil {
			next.Lost = slices.DeleteFunc(next.Lost, id.Equal)
		}
	}
	if len(next.Lost) == len(a.state.Load().Lost) {
		return
	}
	if err := a.commit(next); err != nil {
		a.log.Error("the sealed state could not be committed", "error", err)
	}
}

// awaitREE waits until the attached Broker has been asked for what is installed in the REE.
func (a *Agent) awaitREE(ctx context.Context) {
	a.mu.Lock()
	b := a.broker
	a.mu.Unlock()
	if b == nil {
		return
	}
	select {
	case <-b.ready:
	case <-ctx.Done():
	}
}

func (a *Agent) setLost(id string, lost bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if lost {
		a.lost[id] = true
	} else {
		delete(a.lost, id)
	}
}

// removedFromREE says that the attached Broker's REE does not have the component, as far as it tells.
func (a *Agent) removedFromREE(id suit.ComponentID) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost[id.String()]
}

// isLost says whether the REE no longer has an installed component, or nobody knows which version of it.
func (a *Agent) isLost(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost[id] || slices.ContainsFunc(a.state.Load().Lost, func(l suit.ComponentID) bool { return l.String() == id })
}
