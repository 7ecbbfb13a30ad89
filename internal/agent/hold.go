// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"

	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/suit"
)

// An owner stops its TA at the desk, and what the Agent holds is sealed: the TA does not run, under whatever version it is installed by then, and
// sees no PD, until the same owner consents at the desk (docs/design/0018). Neither a restart of the instance nor anything that a TAM sends
// changes that. The list names TAs rather than marking what is installed, so that an update that was withheld does not get around it.

// held says whether the owner of the TA id has stopped it.
func (s *state) held(id suit.ComponentID) bool { return slices.ContainsFunc(s.Held, id.Equal) }

// consent ends what an owner holds of an application. One that delivers PD itself, to the Agent or TA that it has appraised in the same
// session, consents by that.
func (s *state) consent(name string) {
	s.Held = slices.DeleteFunc(s.Held, func(id suit.ComponentID) bool { return app(id) == name })
}

// hold stops the TA id at its owner's wish and answers once that is sealed; consent takes it back and starts the TA.
func (a *Agent) hold(ctx context.Context, id suit.ComponentID, hold bool, w io.Writer) error {
	if err := a.setHeld(ctx, id, hold); err != nil {
		return err
	}
	return json.NewEncoder(w).Encode(a.usage(id))
}

func (a *Agent) setHeld(ctx context.Context, id suit.ComponentID, hold bool) error {
	unlock, err := a.lock(ctx)
	if err != nil {
		return err
	}
	defer unlock()
	s := a.state.Load()
	if s.component(id) == nil {
		return fmt.Errorf("%w: %s", channel.ErrNotFound, id)
	}
	if s.held(id) != hold {
		next := s.clone()
		if next.Held = slices.DeleteFunc(next.Held, id.Equal); hold {
			next.Held = append(next.Held, id)
		}
		if len(next.Held) > maxFloors {
			return fmt.Errorf("%w: more than %d TAs are held", errLimit, maxFloors)
		}
		if err := a.commit(next); err != nil {
			return err
		}
		a.log.Info("the owner has spoken", "ta", id.String(), "held", hold)
	}
	if hold {
		a.replace(id, nil)
		a.replace(candidateID(id), nil)
		return nil
	}
	for _, m := range a.state.Load().Manifests {
		if err := a.startManifest(ctx, &m); err != nil {
			a.setLastError("start of " + m.ID.String() + ": " + clip(err.Error()))
			a.log.Warn("an installed manifest was not started", "manifest", m.ID.String(), "error", err)
		}
	}
	a.startCandidates(ctx)
	return nil
}

// heldReport is what the owner is told of a TA that it has stopped.
func heldReport(id suit.ComponentID) agentconfig.DeskReport {
	return agentconfig.DeskReport{Component: id.String(), State: channel.TAHeld}
}
