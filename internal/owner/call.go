// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"sync/atomic"
	"time"

	"sealift/cose"
	"sealift/internal/answer"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
	"sealift/internal/owner/manifest"
	"sealift/usecase"
)

// CallOptions bound a call.
type CallOptions struct {
	Timeout time.Duration // of the whole call; 0: none
	Port    string        // the UA's port to use; empty: its first
}

// startTime is how long Call waits for a UA or a TA that is still starting.
const startTime = 15 * time.Second

// Call sends in to the TA and writes its answer to out: through the UA where there is one, else through the Broker's relay. Neither
// can read it: TLS 1.3 ends inside the TEE, at the key that the appraised Evidence names. The end of in is passed on, so that
// the TA can answer a whole question.
func (o *Owner) Call(ctx context.Context, ref string, in io.Reader, out io.Writer, opt CallOptions) error {
	if opt.Timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, opt.Timeout)
		defer cancel()
	}
	d, ta, err := o.callee(ctx, ref)
	if err != nil {
		return err
	}
	s, err := o.connect(d.Context)
	if err != nil {
		return err
	}
	key, err := o.Home.KeyByPublic(d.Package.Owner)
	if err != nil {
		return err
	}
	config, err := clientTLS(key, ta.TLSKey)
	if err != nil {
		return err
	}
	conn, err := o.reach(ctx, s, d, opt.Port, config)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	end, err := exchange(conn, in, out)
	if err != nil {
		if ctx.Err() != nil {
			return fault.New(fault.Unavailable, "the TA did not answer in time")
		}
		if refusedByPeer(err) {
			return fault.New(fault.Forbidden, "the TA refused this caller: %w", err).WithHint("a TA with callers: owner answers the key that signed it")
		}
		return fault.Wrap(fault.Unreachable, err)
	}
	return ended(end, ref)
}

// ended returns the error of an answer that did not end well. What came of it has been written.
func ended(e answer.End, ref string) error {
	if e.Kind == answer.Whole {
		return nil
	}
	return fault.New(fault.TAEnded, "%s", e).WithDetails(e).WithHint("sealift logs %s prints what the TA said, and sealift top %s how it ended", ref, ref)
}

// refusedByPeer reports whether the other end sent a TLS alert. In TLS 1.3 a refused client certificate shows only at the first read.
func refusedByPeer(err error) bool {
	var op *net.OpError
	return errors.As(err, &op) && op.Op == "remote error"
}

// callee returns the deployment and the appraised TA. A TA that came in a bundle is appraised now, if it was not before.
func (o *Owner) callee(ctx context.Context, ref string) (*deployment, appraisedTA, error) {
	d, err := o.find(ref)
	if err != nil {
		return nil, appraisedTA{}, err
	}
	id := manifest.Component(d.Package.Name, usecase.TA, "")
	if d.Update != nil {
		if err := o.catchUp(ctx, d); err != nil {
			return nil, appraisedTA{}, err
		}
	}
	if d.Appraised == nil {
		return nil, appraisedTA{}, &fault.Error{Code: fault.ReleaseBeforeAppraisal, Exit: fault.ExitPolicy,
			Message: "the TA of this deployment was not appraised: nobody knows who would answer", Hint: "sealift verify " + ref}
	}
	if ta, ok := d.Appraised.packed(&d.Package); ok {
		return d, ta, nil
	}
	a, err := o.Verify(ctx, d.ID, VerifyOptions{Policy: d.Appraised.Policy})
	if err != nil {
		return nil, appraisedTA{}, err
	}
	ta, ok := a.state.packed(&d.Package)
	if !ok {
		return nil, appraisedTA{}, fault.New(fault.ComponentMissing, "the TEE does not run the TA %s", id)
	}
	return d, ta, nil
}

// catchUp asks whether the update that was begun is done.
func (o *Owner) catchUp(ctx context.Context, d *deployment) error {
	s, err := o.connect(d.Context)
	if err != nil {
		return err
	}
	dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	if err != nil {
		return err
	}
	return o.settle(d, dep)
}

// clientTLS pins the TA's key and shows the owner's.
func clientTLS(key *home.SigningKey, pinned *cose.Key) (*tls.Config, error) {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "data owner"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Private.Public(), key.Private)
	if err != nil {
		return nil, fmt.Errorf("making the client certificate: %w", err)
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		NextProtos:   []string{answer.ALPN, answer.Plain},
		Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key.Private}},
		// No name and no authority vouches for the TA: the key in its appraised Evidence does, and VerifyConnection demands it.
		InsecureSkipVerify: true,
		VerifyConnection:   func(state tls.ConnectionState) error { return checkPeer(state, pinned) },
	}, nil
}

// errOtherKey says that whoever answered does not hold the appraised TA's key.
var errOtherKey = errors.New("the other end does not hold the key of the appraised TA")

func checkPeer(state tls.ConnectionState, pinned *cose.Key) error {
	if len(state.PeerCertificates) == 0 || state.NegotiatedProtocol == "" { // the client offers one
		return errOtherKey
	}
	got, err := cose.NewKey(state.PeerCertificates[0].PublicKey)
	if err != nil || !got.Equal(pinned) {
		return errOtherKey
	}
	return nil
}

// reach connects to the TA and waits for it while it starts.
func (o *Owner) reach(ctx context.Context, s *session, d *deployment, port string, config *tls.Config) (*call, error) {
	deadline := time.Now().Add(startTime)
	for pause := 50 * time.Millisecond; ; pause = min(2*pause, time.Second) {
		conn, err := o.reachOnce(ctx, s, d, port, config)
		if err == nil {
			return conn, nil
		}
		if errors.Is(err, errOtherKey) {
			return nil, &fault.Error{Code: fault.AgentChanged, Exit: fault.ExitAttestation, Message: err.Error(),
				Hint: "the TA was restarted with other keys, or somebody stands between; sealift verify " + d.ID}
		}
		if ctx.Err() != nil || time.Now().After(deadline) || !away(err) {
			return nil, err
		}
		select {
		case <-ctx.Done():
			return nil, err
		case <-time.After(pause):
		}
	}
}

func (o *Owner) reachOnce(ctx context.Context, s *session, d *deployment, port string, config *tls.Config) (*call, error) {
	dep, err := persist(ctx, o, func() (*mocapi.Deployment, error) { return s.api.Deployment(ctx, d.ID, 0, 0) })
	if err != nil {
		return nil, err
	}
	switch dep.State {
	case mocapi.StateRemoving, mocapi.StateRemoved:
		return nil, fault.New(fault.DeploymentRemoved, "the deployment %s is %s", dep.ID, dep.State)
	case mocapi.StateFailed:
		return nil, problemOf(dep)
	}
	if err := resting(dep); err != nil {
		return nil, err
	}
	raw, err := dialTA(ctx, dep, d, port)
	if err != nil {
		return nil, err
	}
	ends := &endNoting{Conn: raw}
	conn := tls.Client(ends, config)
	if err := conn.HandshakeContext(ctx); err != nil {
		raw.Close()
		if errors.Is(err, errOtherKey) {
			return nil, err
		}
		if refusedByPeer(err) {
			return nil, fault.New(fault.Forbidden, "the TA refused the connection: %w", err)
		}
		return nil, fault.Wrap(fault.Unreachable, fmt.Errorf("the TA does not answer: %w", err))
	}
	return &call{conn, ends}, nil
}

// call is a TLS connection that tells a whole answer from one that was cut off. crypto/tls takes the end of the byte stream for the end
// of the answer where it falls between two records; RFC 8446 section 6.1 does not: only close_notify ends it.
type call struct {
	*tls.Conn
	ends *endNoting
}

// cutOff reports whether the byte stream ended before close_notify.
func (c *call) cutOff() bool { return c.ends.ended.Load() }

// endNoting notes whether the end of the byte stream was read. After a close_notify nothing more is read.
type endNoting struct {
	net.Conn
	ended atomic.Bool
}

func (e *endNoting) Read(p []byte) (int, error) {
	n, err := e.Conn.Read(p)
	if err != nil {
		e.ended.Store(true)
	}
	return n, err
}

// exchange copies both ways until the TA has said its last word, and returns how that ended. An answer that is cut off is an error:
// TLS says when it ends, and an Agent that knows package answer how.
func exchange(conn *call, in io.Reader, out io.Writer) (answer.End, error) {
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(conn, in)
		if closeErr := conn.CloseWrite(); err == nil {
			err = closeErr
		}
		sent <- err
	}()
	end, err := receive(conn, out)
	if err != nil || end.Kind != answer.Whole {
		return end, err
	}
	select {
	case err := <-sent:
		if err != nil && !errors.Is(err, net.ErrClosed) {
			return end, fmt.Errorf("sending to the TA: %w", err)
		}
	default: // the TA ended the conversation before the input did
	}
	return end, nil
}

// receive writes the TA's answer to out.
func receive(conn *call, out io.Writer) (answer.End, error) {
	if conn.ConnectionState().NegotiatedProtocol != answer.ALPN {
		_, err := io.Copy(out, conn)
		switch {
		case err != nil:
			return answer.End{}, fmt.Errorf("reading the TA's answer: %w", err)
		case conn.cutOff():
			return answer.End{}, errCutOff
		}
		return answer.End{}, nil
	}
	r := answer.NewReader(conn)
	_, err := io.Copy(out, r)
	switch {
	case errors.Is(err, io.ErrUnexpectedEOF):
		return answer.End{}, errCutOff
	case err != nil:
		return answer.End{}, fmt.Errorf("reading the TA's answer: %w", err)
	}
	return *r.End(), nil
}

var errCutOff = errors.New("the TA's answer was cut off on the way")
