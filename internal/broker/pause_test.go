// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"testing"
	"time"

	"sealift/internal/moc/mocapi"
)

// TestPause guards that a newer reason for a session, a removal for instance, does not wait for the end of a long delay, and that
// the same reason does.
func TestPause(t *testing.T) {
	r := &runner{kick: make(chan struct{}, 1), wanted: mocapi.WantedInstance{Wake: 7}}
	long := func() *backoff { return &backoff{min: time.Hour, max: time.Hour, next: time.Hour} }
	ended := make(chan bool)
	reason := func(wake uint64) []mocapi.WantedSession { return []mocapi.WantedSession{{Wake: wake}} }
	go func() { ended <- r.pause(t.Context(), long(), reason(7)) }()
	r.want(mocapi.WantedInstance{Wake: 7})
	r.want(mocapi.WantedInstance{Wake: 8})
	if !<-ended {
		t.Error("it says that the context has ended")
	}
	ctx, cancel := context.WithCancel(t.Context())
	go func() { ended <- r.pause(ctx, long(), reason(8)) }()
	r.want(mocapi.WantedInstance{Wake: 8})
	select {
	case <-ended:
		t.Error("the same reason ends the pause")
	case <-time.After(20 * time.Millisecond):
	}
	cancel()
	if <-ended {
		t.Error("it goes on without a context")
	}
}
