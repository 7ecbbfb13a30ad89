// SPDX-License-Identifier: Apache-2.0

package serial

import (
	"encoding/binary"
	"fmt"
	"io"
	"net"
	"sync"
)

// Kinds of frames on a Line. A frame is the kind, one byte, the channel's number and the length of what follows, four bytes
// each, big-endian.
const (
	frameData  = 0
	frameOpen  = 1 // the channel of this number begins, and every one before has ended
	frameClose = 2 // the channel of this number has ended
)

const (
	headSize = 9
	maxData  = 32 << 10
)

// Line is one end of a port on which one byte channel follows another. Channels are numbered upwards; only the newest is
// alive, and bytes of others are dropped. The machine around the guest opens channels, the guest accepts them.
type Line struct {
	port io.ReadWriteCloser
	send sync.Mutex

	mu     sync.Mutex
	number uint32   // of the newest channel
	conn   net.Conn // its other side; nil when it has ended
	gone   bool

	accept func(net.Conn)
}

// NewLine takes over a port on which this end opens channels.
func NewLine(port io.ReadWriteCloser) *Line { return newLine(port, nil) }

// AcceptLine takes over a port on which the other end opens channels. accept gets each new one, after the one before was
// closed; it must not wait.
func AcceptLine(port io.ReadWriteCloser, accept func(net.Conn)) *Line { return newLine(port, accept) }

func newLine(port io.ReadWriteCloser, accept func(net.Conn)) *Line {
	l := &Line{port: port, accept: accept}
	go l.receive()
	return l
}

// Open makes conn the channel, in place of the one before. The line closes conn when the channel ends.
func (l *Line) Open(conn net.Conn) error {
	l.mu.Lock()
	if l.gone {
		l.mu.Unlock()
		conn.Close()
		return fmt.Errorf("serial: %w", net.ErrClosed)
	}
	if l.conn != nil {
		l.conn.Close() // whoever waits for room in it lets go of the line
	}
	l.number, l.conn = l.number+1, conn
	number := l.number
	l.mu.Unlock()
	if err := l.write(frameOpen, number, nil); err != nil {
		conn.Close()
		return err
	}
	go l.pump(number, conn)
	return nil
}

// pump sends what conn's other side writes, and then that it has ended.
func (l *Line) pump(number uint32, conn net.Conn) {
	buf := make([]byte, maxData)
	for {
		n, err := conn.Read(buf)
		if n > 0 && l.write(frameData, number, buf[:n]) != nil {
			break
		}
		if err != nil {
			break
		}
	}
	l.end(number)
	_ = l.write(frameClose, number, nil)
}

// write sends one frame, unless its channel is an old one by now.
func (l *Line) write(kind byte, number uint32, data []byte) error {
	l.send.Lock()
	defer l.send.Unlock()
	l.mu.Lock()
	newest := l.number
	l.mu.Unlock()
	if number != newest {
		return fmt.Errorf("serial: the channel was superseded: %w", net.ErrClosed)
	}
	frame := make([]byte, headSize, headSize+len(data))
	frame[0] = kind
	binary.BigEndian.PutUint32(frame[1:], number)
	binary.BigEndian.PutUint32(frame[5:], uint32(len(data)))
	if _, err := l.port.Write(append(frame, data...)); err != nil {
		return fmt.Errorf("serial: sending: %w", err)
	}
	return nil
}

// end closes the channel if it is still that one.
func (l *Line) end(number uint32) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.number == number && l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
}

// receive delivers what comes until the port ends.
func (l *Line) receive() {
	for l.receiveFrame() == nil {
	}
	l.Close()
}

func (l *Line) receiveFrame() error {
	var head [headSize]byte
	if _, err := io.ReadFull(l.port, head[:]); err != nil {
		return err
	}
	kind, number, n := head[0], binary.BigEndian.Uint32(head[1:]), binary.BigEndian.Uint32(head[5:])
	if kind > frameClose || n > maxData || kind != frameData && n != 0 {
		return fmt.Errorf("%w: kind %d, %d bytes", ErrMalformed, kind, n)
	}
	data := make([]byte, n)
	if _, err := io.ReadFull(l.port, data); err != nil {
		return err
	}
	switch kind {
	case frameOpen:
		return l.opened(number)
	case frameClose:
		l.end(number)
	case frameData:
		l.mu.Lock()
		conn := l.conn
		if number != l.number {
			conn = nil
		}
		l.mu.Unlock()
		if conn == nil {
			return nil // of a channel that has ended
		}
		if _, err := conn.Write(data); err != nil {
			l.end(number)
		}
	}
	return nil
}

// opened accepts a new channel.
func (l *Line) opened(number uint32) error {
	if l.accept == nil {
		return fmt.Errorf("%w: this end opens the channels", ErrMalformed)
	}
	theirs, ours := net.Pipe()
	l.mu.Lock()
	if l.gone || number <= l.number {
		l.mu.Unlock()
		theirs.Close()
		ours.Close()
		return fmt.Errorf("%w: channel %d after channel %d", ErrMalformed, number, l.number)
	}
	if l.conn != nil {
		l.conn.Close()
	}
	l.number, l.conn = number, ours
	l.mu.Unlock()
	go l.pump(number, ours)
	l.accept(theirs)
	return nil
}

// Close ends the port and the channel on it.
func (l *Line) Close() error {
	l.mu.Lock()
	l.gone = true
	if l.conn != nil {
		l.conn.Close()
		l.conn = nil
	}
	l.mu.Unlock()
	return l.port.Close()
}
