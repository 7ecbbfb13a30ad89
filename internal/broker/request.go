// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"errors"
	"net"
	"time"

	"sealift/internal/channel"
	"sealift/suit"
)

// A UA may ask for its TA (RFC 9397 section 6.2.1): on the socket SEALIFT_REQUEST_TA, or just by connecting to SEALIFT_TA while the TA is
// not there. The request becomes a RequestTA to the Agent, and a TEEP session in which the TAM learns of it. Where the plan has the TA
// wait for its UA (SGX), the TAM sends it then; elsewhere it comes by itself, and the request changes nothing.

// openingTime bounds how long a connection of a UA waits for its TA.
const openingTime = 20 * time.Second

// noteRequest passes a request on in the background, once at a time for each TA, until the Agent and its TAM have taken it or the UA has
// ended.
func (b *Broker) noteRequest(ctx context.Context, instance, app, ta string) {
	key := instance + "/" + app + "/" + ta
	b.mu.Lock()
	busy := b.asking[key]
	b.asking[key] = true
	b.mu.Unlock()
	if busy {
		return
	}
	go func() {
		defer func() {
			b.mu.Lock()
			delete(b.asking, key)
			b.mu.Unlock()
		}()
		for retry := b.newBackoff(); ; {
			err := b.RequestTA(ctx, instance, suit.NewComponentID("tee", app, ta), "")
			if err == nil || errors.Is(err, channel.ErrRefused) || ctx.Err() != nil {
				return
			}
			b.cfg.Log.Warn("a UA's request for its TA is tried again", "instance", instance, "app", app, "error", err)
			if !retry.wait(ctx) {
				return
			}
		}
	}()
}

// reach opens a relay from a UA to its TA. Where the TA is not there, connecting counts as asking for it, and it has some time to come.
func (b *Broker) reach(ctx context.Context, instance, app, ta string) (net.Conn, error) {
	opening, cancel := context.WithTimeout(ctx, openingTime)
	defer cancel()
	asked := false
	for retry := b.newBackoff(); ; {
		conn, err := b.connect(opening, instance, app, ta)
		if !errors.Is(err, channel.ErrNotFound) {
			return conn, err
		}
		if !asked {
			b.noteRequest(ctx, instance, app, ta)
			asked = true
		}
		if !retry.wait(opening) {
			return nil, err
		}
	}
}
