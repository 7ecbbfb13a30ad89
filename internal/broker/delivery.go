// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"errors"
	"net"
	"reflect"
	"sync"
	"time"

	"sealift/internal/channel"
)

// An owner that delivers PD itself (package delivery) goes past the M/OC: the Broker relays bytes that end in the TEE. What it does beside
// that is to run the instance's TEEP sessions afterwards, if the Agent has other components than before, so that the TAM learns of them.
// A Broker that is killed before that runs one when it attaches to the Agent again.

// statusTime bounds a question to the Agent beside a delivery.
const statusTime = 10 * time.Second

// connectDelivery opens the relay of a delivery.
func (b *Broker) connectDelivery(ctx context.Context, r *runner, agent *channel.AgentClient, app, ta string) (net.Conn, error) {
	before, err := agent.Status(ctx)
	if err != nil {
		return nil, err
	}
	conn, err := agent.Connect(ctx, app, ta)
	if err != nil {
		return nil, err
	}
	return &deliveryConn{Conn: conn, ended: func() { b.delivered(r, before) }}, nil
}

// delivered has the TAM look at what has changed, until it has.
func (b *Broker) delivered(r *runner, before channel.Status) {
	for retry := b.newBackoff(); ; {
		err := b.withAgent(r.id, func(r *runner, agent *channel.AgentClient) error {
			ctx, cancel := context.WithTimeout(r.ctx, statusTime)
			now, err := agent.Status(ctx)
			cancel()
			if err != nil || reflect.DeepEqual(now.Components, before.Components) {
				return err
			}
			r.mu.Lock()
			all := sessions(r.wanted)
			r.mu.Unlock()
			return r.converse(r.ctx, agent, all)
		})
		if err == nil || errors.Is(err, ErrNoInstance) || r.ctx.Err() != nil {
			return // an Agent that is attached again gets a session anyway
		}
		r.log.Warn("the TAM is told of a delivery once more", "error", err)
		if !retry.wait(r.ctx) {
			return
		}
	}
}

// deliveryConn tells when the relay of a delivery is over.
type deliveryConn struct {
	net.Conn
	once  sync.Once
	ended func()
}

// CloseWrite passes the end of one direction on.
func (c *deliveryConn) CloseWrite() error { return closeWrite(c.Conn) }

// Close implements net.Conn.
func (c *deliveryConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(func() { go c.ended() })
	return err
}
