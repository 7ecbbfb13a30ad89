// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"crypto"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/internal/delivery"
	"sealift/suit"
)

// An owner that delivers PD itself (package delivery) reaches the Agent like a caller reaches a TA: through the Broker's relay, over TLS
// that ends here. What it brings is a SUIT envelope like any other, and goes the way of any other; but its payloads come through the
// session instead of the Broker, and nothing of it is written to the folder in the REE. So it is gone when this process ends: the next
// start drops what came live from the sealed state, and the TAM lists it as missing, until the owner delivers again.

// live is the delivery that a transaction belongs to.
type live struct {
	tee   *delivery.TEE
	owner *cose.Key        // that the session was opened with
	ta    suit.ComponentID // at whose key the session ends; nil: at the Agent's
}

var (
	errLive        = errors.New("agent: the package does not belong into this session")
	errUnrequested = errors.New("agent: the UA has not asked for its TA yet")
)

// deliver serves one delivery for an application, to the TA of that name or, without one, to the Agent.
func (a *Agent) deliver(ctx context.Context, app, name string, conn net.Conn, ready func() error) error {
	l := &live{}
	key, err := a.deliveryKey(app, name, l)
	if err != nil {
		return err
	}
	config, err := a.deliveryTLS(app, name, key)
	if err != nil {
		return err
	}
	leave, err := a.enter()
	if err != nil {
		return err
	}
	defer leave()
	if err := ready(); err != nil {
		return err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { conn.Close() })()
	c, err := (&endpoint{config}).accept(ctx, conn)
	if err != nil {
		return err
	}
	if l.owner, err = cose.NewKey(c.ConnectionState().PeerCertificates[0].PublicKey); err != nil {
		return err
	}
	var envelope []byte
	l.tee, envelope, err = delivery.Accept(c, func(challenge []byte) ([]byte, error) { return a.evidence(ctx, challenge) }, int(a.limits.ManifestBytes))
	switch {
	case errors.Is(err, delivery.ErrTooLarge), errors.Is(err, delivery.ErrMalformed) && l.tee != nil:
		return l.tee.Finish(delivery.Outcome{Code: delivery.Refused, Text: err.Error()})
	case err != nil:
		return err
	}
	return l.tee.Finish(a.take(ctx, l, envelope))
}

// deliveryKey returns the key at which a session ends. A TA that waits for its PD as a candidate is called by its listed name.
func (a *Agent) deliveryKey(app, name string, l *live) (crypto.Signer, error) {
	s := a.state.Load()
	if name == "" {
		if !slices.ContainsFunc(a.config.Owners, func(o agentconfig.Owner) bool { return o.Writes(app) }) {
			return nil, fmt.Errorf("%w: application %.64q", channel.ErrNotFound, app)
		}
		return parseKey[crypto.Signer](s.SigningKey)
	}
	name, next := strings.CutSuffix(name, "+"+agentconfig.CandidateSegment)
	l.ta = suit.NewComponentID(classTEE, app, name)
	c := s.component(l.ta)
	if next {
		c = nil
		for i := range s.Candidates {
			for k := range s.Candidates[i].Components {
				if o := &s.Candidates[i].Components[k]; o.ID.Equal(l.ta) {
					c = o
				}
			}
		}
	}
	if c == nil || c.TA == nil {
		return nil, fmt.Errorf("%w: %s", channel.ErrNotFound, l.ta)
	}
	_, key, err := c.TA.keys()
	return key, err
}

// deliveryTLS lets in who holds the key of an owner of the application. Key agreement is hybrid: see delivery.Curves.
func (a *Agent) deliveryTLS(app, name string, key crypto.Signer) (*tls.Config, error) {
	cert, err := selfSigned(a.opts.Rand, key, name, a.opts.Now())
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion: tls.VersionTLS13, NextProtos: []string{delivery.ALPN}, CurvePreferences: delivery.Curves,
		Certificates: []tls.Certificate{cert}, SessionTicketsDisabled: true, ClientAuth: tls.RequireAnyClientCert,
		VerifyConnection: func(cs tls.ConnectionState) error {
			for _, o := range a.config.Owners {
				if o.Writes(app) && isOwner(cs, o.Key) == nil {
					return nil
				}
			}
			return errCaller
		},
	}, nil
}

// take installs what an owner offers, and says what came of it.
func (a *Agent) take(ctx context.Context, l *live, envelope []byte) delivery.Outcome {
	ctx, cancel := context.WithTimeout(ctx, a.limits.UpdateTimeout())
	defer cancel()
	defer context.AfterFunc(ctx, l.tee.Abort)()
	a.awaitREE(ctx)
	unlock, err := a.lock(ctx)
	if err != nil {
		return delivery.Outcome{Code: delivery.Failed, Text: err.Error()}
	}
	defer unlock()
	rep, err := a.install(ctx, envelope, l)
	if a.vault.Broken() {
		return delivery.Outcome{Code: delivery.Failed, Text: ErrBroken.Error()}
	}
	if err == nil {
		a.setLastError("")
		return delivery.Outcome{}
	}
	a.log.Warn("a delivery was refused", "error", err)
	a.setLastError("delivery by the owner: " + clip(explain(err)))
	out := delivery.Outcome{Code: delivery.Refused, Text: explain(err)}
	switch {
	case errors.Is(err, errRollback):
		out.Code = delivery.RolledBack
	case errors.Is(err, delivery.ErrInterrupted), errors.Is(err, errUnrequested), rep == nil:
		out.Code = delivery.Failed
	}
	return out
}

// admitLive checks what a session allows beyond what the Agent allows: the owner that opened it has signed the package. Where a UA has
// its TA loaded (agentconfig.Config.TAOnRequest), a TA that was never here waits for that.
func (a *Agent) admitLive(l *live, m *suit.Verified) error {
	if l == nil {
		return nil
	}
	if !m.Signer.Equal(l.owner) {
		return fmt.Errorf("%w: another owner has signed it", errLive)
	}
	if !a.config.TAOnRequest || a.state.Load().floor(m.ComponentID) > 0 {
		return nil
	}
	for _, id := range m.Components {
		if class(id) == classTEE && !a.requested(id) {
			return fmt.Errorf("%w: %s", errUnrequested, id)
		}
	}
	return nil
}

// mayOpen checks that the session ends where the package is opened: at the key of the one TA that its PD is for, or at the Agent's.
func (l *live) mayOpen(tas []*component) error {
	switch {
	case l == nil, l.ta == nil && len(tas) == 0, l.ta != nil && len(tas) == 1 && tas[0].ID.Equal(l.ta):
		return nil
	case l.ta == nil:
		return fmt.Errorf("%w: it is for a TA, and the session ends at the Agent", errLive)
	}
	return fmt.Errorf("%w: the session ends at %s, which it is not for", errLive, l.ta)
}

// fetch gets a payload from the owner.
func (l *live) fetch(uri string, limit int64) (io.ReadCloser, error) {
	r, err := l.tee.Fetch(uri, limit)
	if errors.Is(err, delivery.ErrNotOffered) {
		return nil, fmt.Errorf("%w: %w", channel.ErrNotFound, err)
	}
	return r, err
}

// forgetLive takes out of a state that was read at the start what a former process kept in memory only, with what depends on that. UAs that
// came so are deleted in the REE when a Broker attaches. It reports whether there was anything.
func (s *state) forgetLive() bool {
	gone := map[string]bool{}
	for more := true; more; {
		more = false
		for _, m := range s.Manifests {
			lost := m.Envelope.Volatile || slices.ContainsFunc(m.Depends, func(id suit.ComponentID) bool { return gone[id.String()] })
			if lost && !gone[m.ID.String()] {
				gone[m.ID.String()], more = true, true
			}
		}
	}
	before := len(s.Manifests) + len(s.Candidates)
	s.Manifests = slices.DeleteFunc(s.Manifests, func(m manifest) bool { return gone[m.ID.String()] })
	s.Candidates = slices.DeleteFunc(s.Candidates, func(c candidate) bool { return c.Manifest.Envelope.Volatile })
	s.Components = slices.DeleteFunc(s.Components, func(c component) bool {
		users := slices.DeleteFunc(slices.Clone(c.Users), func(u string) bool { return gone[u] })
		if len(users) == len(c.Users) || len(users) > 0 {
			return false
		}
		if class(c.ID) == classREE && !slices.ContainsFunc(s.Lost, c.ID.Equal) {
			s.Lost = append(s.Lost, c.ID)
		}
		return true
	})
	return len(s.Manifests)+len(s.Candidates) != before
}

// liveRoom is how many bytes may be kept in memory only. In a small guest that is a quarter of its memory: the TA sees a copy, and needs the
// rest itself.
func (a *Agent) liveRoom() int64 {
	room := a.limits.LiveBytes
	if n := ram(); n > 0 {
		room = min(room, n/4)
	}
	return int64(room)
}

// liveBytes is the size of the components that are kept in memory only.
func (s *state) liveBytes() (n int64) {
	for _, c := range s.Components {
		if c.Blob != nil && c.Blob.Volatile {
			n += c.Size
		}
	}
	return n
}
