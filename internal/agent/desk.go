// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"

	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/launch"
	"sealift/suit"
)

// The desk is where a TA's owner, and nobody else, sees what the TA prints and what it takes, and stops it. It is reached like the TA, by its name with
// agentconfig.DeskSuffix: through the Broker, over TLS 1.3 that ends at the TA's own key inside the TEE. The caller shows the owner's
// key whatever callers the TA has. The Broker sees that its owner asks, and how many bytes go back.

// Bounds of the desk.
const (
	deskRequestBytes = 4 << 10
	deskTime         = 30 * time.Second // for an answer to be taken
	deskPoll         = 200 * time.Millisecond
)

var errDesk = errors.New("agent: the owner's request is malformed")

// desk serves one request of the owner of the TA id.
func (a *Agent) desk(ctx context.Context, id suit.ComponentID, conn net.Conn, ready func() error) error {
	s := a.state.Load()
	c := s.component(id)
	if c == nil || c.TA == nil {
		return fmt.Errorf("%w: %s", channel.ErrNotFound, id)
	}
	_, key, err := c.TA.keys()
	if err != nil {
		return err
	}
	end, err := newEndpoint(a.opts.Rand, key, id.String(), launch.CallersOwner, a.signerOf(s, c), a.opts.Now())
	if err != nil {
		return err
	}
	end.config.NextProtos = []string{agentconfig.DeskALPN}
	leave, err := a.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := ready(); err != nil {
		return err
	}
	defer conn.Close()
	tls, err := end.accept(ctx, conn)
	if err != nil {
		return err
	}
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	_ = tls.SetReadDeadline(a.opts.Now().Add(deskTime))
	line, err := bufio.NewReader(io.LimitReader(tls, deskRequestBytes)).ReadSlice('\n')
	if err != nil {
		return fmt.Errorf("%w: %w", errDesk, err)
	}
	var r agentconfig.DeskRequest
	if err := json.Unmarshal(line, &r); err != nil {
		return fmt.Errorf("%w: %w", errDesk, err)
	}
	switch r.Get {
	case agentconfig.DeskLogs:
		err = a.writeLogs(ctx, id, tls, r.Follow)
	case agentconfig.DeskUsage:
		err = json.NewEncoder(tls).Encode(a.usage(id))
	case agentconfig.DeskHold, agentconfig.DeskConsent:
		err = a.hold(ctx, id, r.Get == agentconfig.DeskHold, tls)
	default:
		err = fmt.Errorf("%w: %.40q", errDesk, r.Get)
	}
	if err != nil {
		return err
	}
	return tls.CloseWrite()
}

// writeLogs writes what the running generation of a TA has printed, and with follow what it prints until it is stopped.
func (a *Agent) writeLogs(ctx context.Context, id suit.ComponentID, w net.Conn, follow bool) error {
	t := a.loaded(id)
	if t == nil {
		return nil
	}
	tick := time.NewTicker(deskPoll)
	defer tick.Stop()
	var at uint64
	for {
		var data []byte
		data, at = t.run.LogSince(at)
		_ = w.SetWriteDeadline(time.Now().Add(deskTime))
		if _, err := w.Write(data); err != nil || !follow {
			return err
		}
		select {
		case <-tick.C:
		case <-t.run.Done():
			follow = false // what is left, and then the end
		case <-ctx.Done():
			return nil
		}
	}
}

// usage is what the owner is told of a TA.
func (a *Agent) usage(id suit.ComponentID) agentconfig.DeskReport {
	if a.state.Load().held(id) {
		return heldReport(id)
	}
	out := agentconfig.DeskReport{Component: id.String(), State: "stopped"}
	t := a.loaded(id)
	if t == nil {
		return out
	}
	st := t.run.Status()
	out.State, out.Restarts, out.LastExit = st.State, st.Restarts, st.LastExit
	out.PDFiles, out.PDBytes = t.run.PDFiles()
	if u, ok := t.run.Usage(); ok {
		out.Processes, out.MemoryBytes, out.CPU, out.Measured = u.Processes, u.MemoryBytes, u.CPU, true
	}
	return out
}

// deskOf returns the name of the TA whose desk is asked for; ok is false where the TA itself is.
func deskOf(name string) (ta string, ok bool) { return strings.CutSuffix(name, agentconfig.DeskSuffix) }
