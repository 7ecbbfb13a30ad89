// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"strings"
	"testing"

	"sealift/internal/platform"
)

// noticing is a platform that takes a while to notice that an instance has ended.
type noticing struct {
	platform.Driver
	states [][]platform.InstanceState
}

func (n *noticing) List(context.Context) ([]platform.InstanceState, error) {
	now := n.states[0]
	if len(n.states) > 1 {
		n.states = n.states[1:]
	}
	return now, nil
}

// TestEnded: why an instance has ended is what the platform says, once it says it.
func TestEnded(t *testing.T) {
	state := func(running bool, exit string) []platform.InstanceState {
		return []platform.InstanceState{{ID: "other", Exit: "something else"}, {ID: "d1", Running: running, Exit: exit}}
	}
	for want, states := range map[string][][]platform.InstanceState{
		"the TEEP Agent has ended: QEMU was killed": {state(true, ""), state(true, ""), state(false, "QEMU was killed")},
		"the TEEP Agent has ended":                  {nil},
	} {
		r := &runner{id: "d1", ctx: t.Context(), b: &Broker{cfg: Config{Driver: &noticing{states: states}}}}
		if err := r.ended(); err == nil || err.Error() != want && !strings.HasPrefix(err.Error(), want+":") {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
