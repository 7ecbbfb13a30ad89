// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"time"

	"sealift/internal/channel"
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
	for _, c := range a.state.Load().Components {
		if class(c.ID) != classREE || c.Args == nil {
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

func (a *Agent) isLost(id string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.lost[id]
}
