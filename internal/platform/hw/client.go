// SPDX-License-Identifier: Apache-2.0

package hw

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"sealift/internal/platform/packet"
)

// answerTime bounds how long the platform may take for one answer.
const answerTime = 30 * time.Second

// Open takes over descriptor fd, normally FD, as the hardware interface. The descriptor is not inherited by programs that the
// Agent starts.
func Open(fd uintptr) (TEE, error) {
	f := os.NewFile(fd, "hw")
	if f == nil {
		return nil, fmt.Errorf("hw: descriptor %d is not open", fd)
	}
	conn, err := packet.FromFile(f)
	if err != nil {
		return nil, fmt.Errorf("hw: descriptor %d is not a hardware interface: %w", fd, err)
	}
	return newClient(packetLink{conn}), nil
}

func newClient(l link) *client {
	c := &client{link: l, pending: map[uint64]chan Answer{}, channels: make(chan net.Conn, 1), gone: make(chan struct{})}
	go c.receive()
	return c
}

// link carries requests and answers between an Agent and its platform.
type link interface {
	send(Request) error
	// receive waits for the next answer. With news comes the channel. What is no message is packet.ErrMalformed; every other
	// error says that the interface is gone.
	receive(*Answer) (net.Conn, error)
	close() error
}

// packetLink is the socket pair of an Agent that shares the machine's kernel.
type packetLink struct{ conn *packet.Conn }

func (l packetLink) send(r Request) error { return l.conn.Send(r, answerTime) }
func (l packetLink) close() error         { return l.conn.Close() }

func (l packetLink) receive(a *Answer) (net.Conn, error) {
	files, err := l.conn.Receive(a, 0)
	defer closeAll(files)
	if err != nil || len(files) != 1 || a.ID != 0 {
		return nil, err
	}
	conn, err := net.FileConn(files[0])
	if err != nil {
		return nil, nil // a file that is no channel is no news
	}
	return conn, nil
}

// client is a TEE at the Agent's end of its hardware interface. One goroutine receives; each caller waits for its own answer.
type client struct {
	link     link
	channels chan net.Conn
	gone     chan struct{} // closed by receive when the platform is gone

	mu      sync.Mutex
	last    uint64
	pending map[uint64]chan Answer
	info    *Info
}

// receive hands out what the platform sends until the interface is gone.
func (c *client) receive() {
	var current net.Conn
	for {
		var a Answer
		channel, err := c.link.receive(&a)
		if errors.Is(err, packet.ErrMalformed) {
			continue // whoever waits for it runs into its time limit
		}
		if err != nil {
			break
		}
		if a.ID == 0 {
			current = c.newChannel(current, channel)
			continue
		}
		c.mu.Lock()
		waiting := c.pending[a.ID]
		delete(c.pending, a.ID)
		c.mu.Unlock()
		if waiting != nil {
			waiting <- a
		}
	}
	c.link.close()
	close(c.gone)
	close(c.channels)
}

// newChannel closes the channel before and delivers the new one. Only the newest is ever worth having.
func (c *client) newChannel(current, conn net.Conn) net.Conn {
	if conn == nil {
		return current
	}
	select {
	case stale := <-c.channels:
		stale.Close()
	default:
	}
	if current != nil {
		current.Close()
	}
	c.channels <- conn
	return conn
}

// call sends one request and waits for its answer.
func (c *client) call(ctx context.Context, r Request) (Answer, error) {
	answer := make(chan Answer, 1)
	c.mu.Lock()
	c.last++
	r.ID = c.last
	c.pending[r.ID] = answer
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.pending, r.ID)
		c.mu.Unlock()
	}()
	ctx, cancel := context.WithTimeout(ctx, answerTime)
	defer cancel()
	if err := c.link.send(r); err != nil {
		return Answer{}, fmt.Errorf("%w: %w", ErrGone, err)
	}
	select {
	case a := <-answer:
		return a, refusal(a)
	case <-c.gone:
		return Answer{}, ErrGone
	case <-ctx.Done():
		return Answer{}, fmt.Errorf("hw: waiting for the platform: %w", ctx.Err())
	}
}

// refusal turns the code of an answer into an error.
func refusal(a Answer) error {
	switch a.Code {
	case CodeOK:
		return nil
	case CodeCounter:
		return fmt.Errorf("%w: %s", ErrCounter, a.Text)
	}
	return fmt.Errorf("%w: %s", ErrRefused, a.Text)
}

var errAnswer = errors.New("hw: the platform's answer does not fit the request")

func (c *client) Info() (Info, error) {
	c.mu.Lock()
	known := c.info
	c.mu.Unlock()
	if known == nil {
		a, err := c.call(context.Background(), Request{Op: OpInfo})
		if err != nil {
			return Info{}, err
		}
		if a.Info == nil {
			return Info{}, errAnswer
		}
		known = &Info{
			Hardware: a.Info.Hardware, Instance: a.Info.Instance, UEID: a.Info.UEID, Config: a.Info.Config,
			ConfigDigest: a.Info.ConfigDigest, AgentDigest: a.Info.AgentDigest,
			ScratchBytes: a.Info.ScratchBytes, Processes: a.Info.Processes, Register: a.Info.Register,
		}
		c.mu.Lock()
		c.info = known
		c.mu.Unlock()
	}
	info := *known
	info.Config = append([]byte(nil), known.Config...)
	return info, nil
}

func (c *client) Evidence(ctx context.Context, b [64]byte) (Evidence, error) {
	a, err := c.call(ctx, Request{Op: OpEvidence, Binding: b[:]})
	if err != nil {
		return Evidence{}, err
	}
	if a.Token == nil {
		return Evidence{}, errAnswer
	}
	return Evidence{Token: a.Token.Token, MediaType: a.Token.MediaType, Chain: a.Token.Chain}, nil
}

func (c *client) SealingKey(label string) ([32]byte, error) {
	a, err := c.call(context.Background(), Request{Op: OpSealingKey, Label: label})
	if err != nil {
		return [32]byte{}, err
	}
	if len(a.Key) != 32 {
		return [32]byte{}, errAnswer
	}
	return [32]byte(a.Key), nil
}

func (c *client) Counter() (uint64, error) {
	a, err := c.call(context.Background(), Request{Op: OpCounter})
	return a.Counter, err
}

func (c *client) Increment(expect uint64) (uint64, error) {
	a, err := c.call(context.Background(), Request{Op: OpIncrement, Expect: expect})
	if err == nil && a.Counter != expect+1 {
		return 0, errAnswer
	}
	return a.Counter, err
}

func (c *client) Extend(event [48]byte) error {
	_, err := c.call(context.Background(), Request{Op: OpExtend, Event: event[:]})
	return err
}

func (c *client) Channels() <-chan net.Conn { return c.channels }

func (c *client) Close() error { return c.link.close() }

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}
