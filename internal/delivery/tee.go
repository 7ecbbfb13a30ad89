// SPDX-License-Identifier: Apache-2.0

package delivery

import (
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"
)

// TEE is the Agent's end of one delivery. It is for one goroutine at a time.
type TEE struct {
	conn *tls.Conn
	body *body // the payload that is being read
}

// Accept begins the delivery on a connection whose handshake has proved the owner's key: it gives Evidence over the session's challenge
// and returns the SUIT envelope that the owner offers, of at most limit bytes. Nothing of it was verified. With ErrTooLarge or ErrMalformed
// there is a TEE as well, to say so.
func Accept(conn *tls.Conn, evidence func(challenge []byte) ([]byte, error), limit int) (*TEE, []byte, error) {
	t := &TEE{conn: conn}
	challenge, err := Challenge(conn.ConnectionState())
	if err != nil {
		return nil, nil, err
	}
	bundle, err := evidence(challenge)
	if err != nil {
		return nil, nil, err
	}
	if err := t.write(fromTEE{Evidence: bundle}); err != nil {
		return nil, nil, err
	}
	_ = conn.SetReadDeadline(time.Now().Add(patient)) // the owner's Verifiers may take their time
	var o offer
	err = readMessage(conn, limit+headroom, &o)
	return t, o.Envelope, err
}

func (t *TEE) write(m fromTEE) error {
	_ = t.conn.SetWriteDeadline(time.Now().Add(idle))
	return writeMessage(t.conn, m)
}

// Fetch asks the owner for the payload at uri, of at most limit bytes (negative: no bound). The reader ends with [ErrInterrupted] where the
// payload was cut off. A payload that was not read to its end is the last one of a session.
func (t *TEE) Fetch(uri string, limit int64) (io.ReadCloser, error) {
	if t.body != nil && t.body.left != 0 {
		return nil, fmt.Errorf("%w: the payload before was not read to its end", ErrMalformed)
	}
	if err := t.write(fromTEE{Want: &want{URI: uri, Limit: limit}}); err != nil {
		return nil, err
	}
	_ = t.conn.SetReadDeadline(time.Now().Add(idle))
	var p payload
	if err := readMessage(t.conn, maxFromOwner, &p); err != nil {
		return nil, err
	}
	if p.Size < 0 {
		return nil, fmt.Errorf("%w: %.200q", ErrNotOffered, uri)
	}
	t.body = &body{conn: t.conn, left: p.Size}
	if limit >= 0 && p.Size > limit {
		return nil, fmt.Errorf("%w: a payload of %d bytes, more than %d", ErrTooLarge, p.Size, limit)
	}
	return t.body, nil
}

// body is a payload on its way.
type body struct {
	conn *tls.Conn
	left int64
}

// Read implements io.Reader.
func (b *body) Read(p []byte) (int, error) {
	if b.left == 0 {
		return 0, io.EOF
	}
	_ = b.conn.SetReadDeadline(time.Now().Add(idle))
	n, err := b.conn.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	if err != nil && b.left > 0 {
		return n, fmt.Errorf("%w: %d bytes of a payload are missing: %w", ErrInterrupted, b.left, notEOF(err))
	}
	return n, nil
}

// Close implements io.Closer. The session goes on.
func (b *body) Close() error { return nil }

// notEOF keeps an end in the middle from passing for the end.
func notEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return io.ErrUnexpectedEOF
	}
	return err
}

// Abort breaks the connection off, from any goroutine.
func (t *TEE) Abort() { _ = t.conn.NetConn().Close() }

// Finish tells the outcome and ends the session. What the owner has sent meanwhile is read and dropped, so that the outcome arrives.
func (t *TEE) Finish(o Outcome) error {
	o.Text = strings.ToValidUTF8(o.Text[:min(len(o.Text), MaxText)], "")
	if err := t.write(fromTEE{Outcome: &o}); err != nil {
		return err
	}
	if err := t.conn.CloseWrite(); err != nil {
		return fmt.Errorf("%w: %w", ErrInterrupted, err)
	}
	_ = t.conn.SetReadDeadline(time.Now().Add(drain))
	_, _ = io.Copy(io.Discard, t.conn)
	return nil
}
