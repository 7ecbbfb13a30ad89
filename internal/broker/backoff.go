// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"math/rand/v2"
	"time"
)

// backoff is a delay that doubles with every wait, with a random part so that devices do not come back in step.
type backoff struct {
	min, max, next time.Duration
}

func (b *Broker) newBackoff() *backoff {
	return &backoff{min: b.cfg.MinDelay, max: b.cfg.MaxDelay, next: b.cfg.MinDelay}
}

func (d *backoff) reset() { d.next = d.min }

// delay returns the next delay: between half and all of it.
func (d *backoff) delay() time.Duration {
	now := d.next
	d.next = min(2*d.next, d.max)
	return now/2 + rand.N(now/2+1)
}

// wait waits for the next delay and reports whether ctx still lives.
func (d *backoff) wait(ctx context.Context) bool {
	t := time.NewTimer(d.delay())
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
