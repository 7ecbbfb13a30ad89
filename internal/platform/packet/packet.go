// SPDX-License-Identifier: Apache-2.0

// Package packet carries small CBOR messages, with open files attached, over a Unix socket that keeps message boundaries
// (SOCK_SEQPACKET, unix(7)). The platform speaks it with the Broker and with the Agents.
//
// Both ends bound what they read: a message is at most MaxBytes of strict CBOR (package cose), and carries at most MaxFiles
// descriptors. What does not fit is an error of that connection, never of the process; descriptors that came with a bad
// message are closed.
package packet

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"sealift/cose"
)

// Bounds of one message.
const (
	MaxBytes = 128 << 10
	MaxFiles = 4
)

// ErrMalformed means that the peer sent something that is no message.
var ErrMalformed = errors.New("packet: malformed message")

// Conn is one end of a connection. Sending is safe for concurrent use, receiving is for one goroutine.
type Conn struct {
	conn *net.UnixConn
	send sync.Mutex
	buf  []byte
}

// New makes a Conn of a connected socket, which it takes over.
func New(conn *net.UnixConn) *Conn { return &Conn{conn: conn} }

// FromFile makes a Conn of an open descriptor. It closes f in any case.
func FromFile(f *os.File) (*Conn, error) {
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		return nil, fmt.Errorf("packet: %w", err)
	}
	conn, ok := c.(*net.UnixConn)
	if !ok || conn.LocalAddr().Network() != "unixpacket" {
		c.Close()
		return nil, errors.New("packet: the descriptor is no Unix socket with message boundaries")
	}
	return New(conn), nil
}

// Send encodes v and sends it with copies of the descriptors of files, which the caller keeps. A timeout of zero waits for
// ever.
func (c *Conn) Send(v any, timeout time.Duration, files ...*os.File) error {
	data, err := cose.Marshal(v)
	if err != nil {
		return fmt.Errorf("packet: %w", err)
	}
	if len(data) > MaxBytes || len(files) > MaxFiles {
		return fmt.Errorf("packet: message of %d bytes and %d files is too large", len(data), len(files))
	}
	var rights []byte
	if len(files) > 0 {
		fds := make([]int, len(files))
		for i, f := range files {
			fds[i] = int(f.Fd())
		}
		rights = syscall.UnixRights(fds...)
	}
	c.send.Lock()
	defer c.send.Unlock()
	if err := c.conn.SetWriteDeadline(deadline(timeout)); err != nil {
		return fmt.Errorf("packet: %w", err)
	}
	if _, _, err := c.conn.WriteMsgUnix(data, rights, nil); err != nil {
		return fmt.Errorf("packet: sending: %w", err)
	}
	runtime.KeepAlive(files) // they must stay open until the kernel has taken them
	return nil
}

// Receive reads one message into v and returns the files that came with it, which are the caller's to close. The error is
// io.EOF when the peer has closed the connection, and wraps ErrMalformed when the message was bad; the connection can be
// used further then.
func (c *Conn) Receive(v any, timeout time.Duration) ([]*os.File, error) {
	if err := c.conn.SetReadDeadline(deadline(timeout)); err != nil {
		return nil, fmt.Errorf("packet: %w", err)
	}
	if c.buf == nil {
		c.buf = make([]byte, MaxBytes)
	}
	oob := make([]byte, syscall.CmsgSpace(MaxFiles*4))
	n, oobn, flags, _, err := c.conn.ReadMsgUnix(c.buf, oob)
	files, fileErr := parseFiles(oob[:oobn])
	switch {
	case err != nil:
		closeAll(files)
		return nil, fmt.Errorf("packet: receiving: %w", err)
	case n == 0 && len(files) == 0:
		return nil, io.EOF // no message is empty, so this is the end
	case flags&(syscall.MSG_TRUNC|syscall.MSG_CTRUNC) != 0 || fileErr != nil:
		closeAll(files)
		return nil, fmt.Errorf("%w: too large", ErrMalformed)
	}
	if err := cose.Unmarshal(c.buf[:n], v); err != nil {
		closeAll(files)
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return files, nil
}

// parseFiles takes the descriptors out of the control messages.
func parseFiles(oob []byte) ([]*os.File, error) {
	if len(oob) == 0 {
		return nil, nil
	}
	messages, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return nil, err
	}
	var files []*os.File
	for i := range messages {
		fds, err := syscall.ParseUnixRights(&messages[i])
		if err != nil {
			continue // some other kind of control message
		}
		for _, fd := range fds {
			files = append(files, os.NewFile(uintptr(fd), "received"))
		}
	}
	return files, nil
}

func closeAll(files []*os.File) {
	for _, f := range files {
		f.Close()
	}
}

// Interrupt makes the pending and all further calls fail as soon as ctx ends. The function that it returns undoes that.
func (c *Conn) Interrupt(ctx context.Context) (stop func() bool) {
	return context.AfterFunc(ctx, func() { c.conn.Close() })
}

// Close closes the connection. A pending Receive at either end returns.
func (c *Conn) Close() error { return c.conn.Close() }

// Raw gives access to the socket, for socket options.
func (c *Conn) Raw() *net.UnixConn { return c.conn }

func deadline(timeout time.Duration) time.Time {
	if timeout <= 0 {
		return time.Time{}
	}
	return time.Now().Add(timeout)
}
