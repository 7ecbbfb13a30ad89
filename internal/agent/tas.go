// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"

	"sealift/cose"
	"sealift/internal/agent/runner"
	"sealift/internal/answer"
	"sealift/internal/channel"
	"sealift/internal/launch"
	"sealift/internal/pd"
	"sealift/suit"
)

// loadedTA is a TA that runs, with its endpoint.
type loadedTA struct {
	id    suit.ComponentID
	run   *runner.TA
	end   *endpoint
	print string // of what it was started from
}

func (t *loadedTA) stop() { t.run.Stop() }

// alive says whether the TA serves, or will do so without being started anew.
func (t *loadedTA) alive() bool {
	state := t.run.Status().State
	return state != runner.StateFailed && state != runner.StateStopped
}

// fingerprint stands for everything that a generation of a TA is started from: a TA whose fingerprint changes is started anew.
func (a *Agent) fingerprint(s *state, c *component, args []byte) string {
	h := sha256.New()
	part := func(b []byte) {
		_ = binary.Write(h, binary.BigEndian, uint64(len(b)))
		h.Write(b)
	}
	part(c.Digest.Bytes)
	if c.TA != nil {
		part(c.TA.TLSKey)
	}
	part(args)
	if owner := a.signerOf(s, c); owner != nil {
		part(owner.KID())
	}
	for _, data := range s.dataFor(c) {
		part(data.ID[2])
		part([]byte(data.Blob.ID))
	}
	return string(h.Sum(nil))
}

// startTA starts a generation of the TA c as it stands in s, with the data in s that is bound to it.
func (a *Agent) startTA(ctx context.Context, s *state, c *component, args []byte) (*loadedTA, error) {
	if c.Blob == nil || c.TA == nil || c.Digest.Alg != suit.AlgSHA256 || len(c.Digest.Bytes) != 32 {
		return nil, fmt.Errorf("agent: %s is not an installed TA", c.ID)
	}
	spec, err := launch.Parse(args)
	if err != nil {
		return nil, err
	}
	_, tlsKey, err := c.TA.keys()
	if err != nil {
		return nil, err
	}
	end, err := newEndpoint(a.opts.Rand, tlsKey, c.ID.String(), spec.Callers, a.signerOf(s, c), a.opts.Now())
	if err != nil {
		return nil, err
	}
	if err := a.record(c, sequenceOf(s, c)); err != nil {
		return nil, err
	}
	blob, plains := *c.Blob, a.plains(s.dataFor(c))
	run, err := runner.Start(ctx, runner.Program{
		Name:    c.ID.String(),
		Binary:  func() (io.ReadCloser, error) { return a.vault.Open(blob) },
		Digest:  [32]byte(c.Digest.Bytes),
		Spec:    spec,
		PD:      plains,
		Patient: len(plains) == 0,
		Attest:  func(ctx context.Context, nonce []byte) ([]byte, error) { return a.attestFor(ctx, c.ID, nonce) },
	}, a.opts.Runner)
	if err != nil {
		return nil, err
	}
	return &loadedTA{id: c.ID, run: run, end: end, print: a.fingerprint(s, c, args)}, nil
}

// dataFor returns the PD that the TA may see now: none while its owner holds it.
func (s *state) dataFor(ta *component) []component {
	if s.held(ta.ID) {
		return nil
	}
	return s.released(ta)
}

// released returns the PD that was released to the TA: of its application, and bound to this very program.
func (s *state) released(ta *component) (data []component) {
	for _, c := range s.Components {
		if class(c.ID) == classPD && app(c.ID) == app(ta.ID) && c.Blob != nil && bytes.Equal(c.BoundTo, ta.Digest.Bytes) {
			data = append(data, c)
		}
	}
	return data
}

// plains makes components of PD readable.
func (a *Agent) plains(data []component) (plains []pd.Plain) {
	for _, c := range data {
		blob := *c.Blob
		open := func() (io.ReadCloser, error) { return a.vault.Open(blob) }
		plains = append(plains, pd.FromOpener(string(c.ID[2]), c.Size, open))
	}
	return plains
}

// signerOf returns the owner's key that signed the manifest of c.
func (a *Agent) signerOf(s *state, c *component) *cose.Key {
	m := s.manifestOf(c)
	if m == nil {
		return nil
	}
	i := slices.IndexFunc(a.owners, func(k *cose.Key) bool { return string(k.KID()) == string(m.Signer) })
	if i < 0 {
		return nil
	}
	return a.owners[i]
}

// loaded returns the running generation of a TA, or nil.
func (a *Agent) loaded(id suit.ComponentID) *loadedTA {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.tas[id.String()]
}

// replace puts t in the place of the running generation of its TA, which is stopped; nil only stops it.
func (a *Agent) replace(id suit.ComponentID, t *loadedTA) {
	a.mu.Lock()
	old := a.tas[id.String()]
	if t == nil {
		delete(a.tas, id.String())
	} else {
		a.tas[id.String()] = t
	}
	a.mu.Unlock()
	if old != nil {
		old.stop()
	}
}

// enter takes a place among the connections that are served at one time, which leave gives back.
func (a *Agent) enter() (leave func(), err error) {
	select {
	case a.conns <- struct{}{}:
		return func() { <-a.conns }, nil
	default:
		return nil, channel.ErrBusy
	}
}

// connect relays conn to a TA's endpoint: see channel.AgentService.
func (a *Agent) connect(ctx context.Context, id suit.ComponentID, conn net.Conn, ready func() error) error {
	if c := a.state.Load().component(id); c == nil || c.Waits {
		return fmt.Errorf("%w: %s", channel.ErrNotFound, id)
	}
	t := a.loaded(id)
	if t == nil || a.state.Load().held(id) {
		return fmt.Errorf("%w: %s", channel.ErrNotReady, id)
	}
	leave, err := a.enter()
	if err != nil {
		return err
	}
	defer leave()
	switch t.run.Status().State {
	case runner.StateFailed, runner.StateStopped:
		return fmt.Errorf("%w: %s", channel.ErrNotReady, id)
	}
	if err := ready(); err != nil {
		return err
	}
	return t.serve(ctx, conn)
}

// serve runs the handshake and one conversation. A caller that knows package answer is told how the answer ended. For others one
// that may be incomplete ends without TLS's close_notify, so that they can tell it from a whole one.
func (t *loadedTA) serve(ctx context.Context, conn net.Conn) error {
	defer conn.Close()
	c, err := t.end.accept(ctx, conn)
	if err != nil {
		return err
	}
	if c.ConnectionState().NegotiatedProtocol == answer.ALPN {
		err := t.run.Serve(ctx, answering{c, answer.NewWriter(c)})
		return errors.Join(err, c.CloseWrite())
	}
	if err := t.run.Serve(ctx, c); err != nil {
		if _, whole := errors.AsType[runner.StatusError](err); !whole || t.run.Spec().Serve != launch.ServeStdio {
			return err
		}
	}
	return c.CloseWrite()
}

// attestFor answers a TA that asks for Evidence. Its nonce does not become the challenge itself: the component's name goes in
// as well, so that no TA can make Evidence that passes for an answer to a TAM.
func (a *Agent) attestFor(ctx context.Context, id suit.ComponentID, nonce []byte) ([]byte, error) {
	challenge := TAChallenge(id, nonce)
	return a.evidence(ctx, challenge[:])
}

// TAChallenge is the challenge of the Evidence that the TA id gets for a nonce: SHA-512 over deterministic CBOR
// ["sealift-ta-challenge-v1", component identifier, nonce].
func TAChallenge(id suit.ComponentID, nonce []byte) [64]byte {
	return sha512.Sum512(cose.MustMarshal([]any{"sealift-ta-challenge-v1", [][]byte(id), nonce}))
}

// errNotStarted wraps why a TA that was to be installed does not run.
var errNotStarted = errors.New("agent: the TA cannot be started")
