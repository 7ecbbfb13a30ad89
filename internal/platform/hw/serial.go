// SPDX-License-Identifier: Apache-2.0

package hw

import (
	"errors"
	"fmt"
	"io"
	"net"
	"time"

	"sealift/internal/platform/serial"
)

// AliveInterval is how often an Agent in a virtual machine gives a sign of life. Its platform ends a guest that has given
// none for a multiple of it: a process that ends is noticed without that, a guest whose kernel hangs is not.
const AliveInterval = 5 * time.Second

// OpenSerial takes over the two ports of an Agent that is in a virtual machine: its hardware interface and its channel to the
// Broker. The first sign of life says that the guest has come up.
func OpenSerial(port, channel io.ReadWriteCloser) (TEE, error) {
	l := &serialLink{messages: serial.NewMessages(port), news: make(chan net.Conn, 1), answers: make(chan received), gone: make(chan struct{})}
	if err := l.messages.Alive(); err != nil {
		return nil, fmt.Errorf("hw: %w", err)
	}
	l.line = serial.AcceptLine(channel, l.accept)
	go l.read()
	go l.beat()
	return newClient(l), nil
}

// serialLink joins what comes over the two ports: a new channel becomes news.
type serialLink struct {
	messages *serial.Messages
	line     *serial.Line
	news     chan net.Conn
	answers  chan received
	gone     chan struct{} // closed by read when the port has ended
}

type received struct {
	answer Answer
	err    error
}

// accept keeps the newest channel until receive takes it.
func (l *serialLink) accept(conn net.Conn) {
	for {
		select {
		case l.news <- conn:
			return
		case stale := <-l.news:
			stale.Close()
		}
	}
}

func (l *serialLink) read() {
	defer close(l.gone)
	for {
		var r received
		alive, err := l.messages.Receive(&r.answer)
		if alive {
			continue
		}
		r.err = err
		l.answers <- r
		if err != nil { // also what is no message: nobody knows where the next one would begin
			return
		}
	}
}

// beat gives signs of life until the port has ended.
func (l *serialLink) beat() {
	tick := time.NewTicker(AliveInterval)
	defer tick.Stop()
	for {
		select {
		case <-tick.C:
			if l.messages.Alive() != nil {
				return
			}
		case <-l.gone:
			return
		}
	}
}

func (l *serialLink) send(r Request) error { return l.messages.Send(r) }

func (l *serialLink) receive(a *Answer) (net.Conn, error) {
	select {
	case conn := <-l.news:
		*a = Answer{}
		return conn, nil
	case r := <-l.answers:
		*a = r.answer
		return nil, r.err
	}
}

func (l *serialLink) close() error { return errors.Join(l.messages.Close(), l.line.Close()) }
