// SPDX-License-Identifier: Apache-2.0

package owner_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/delivery"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/suit"
	"sealift/usecase"
)

// teeServer is a device's relay with the end of deliveries inside the TEE.
type teeServer struct {
	moc     *fakeMOC
	key     crypto.Signer // at which sessions end
	outcome delivery.Outcome
	cut     int // break that many sessions in the middle of a payload first
	// giveEvidence makes the Evidence of a session; nil: as it should be.
	giveEvidence func(challenge []byte) ([]byte, error)

	mu       sync.Mutex
	targets  []string
	offered  int // envelopes that came
	payloads bytes.Buffer
}

func (s *teeServer) start(t *testing.T, key *cose.Key) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { l.Close() })
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	must(t, err)
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{delivery.ALPN}, ClientAuth: tls.RequireAnyClientCert,
		CurvePreferences: delivery.Curves, Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: s.key}},
		VerifyConnection: func(cs tls.ConnectionState) error {
			if got, err := cose.NewKey(cs.PeerCertificates[0].PublicKey); err != nil || !got.Equal(key) {
				return errors.New("another caller")
			}
			return nil
		}}
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			s.serve(conn, config)
		}
	}()
	s.moc.mu.Lock()
	s.moc.relayAddr = l.Addr().String()
	if s.moc.dep != nil {
		s.moc.dep.RelayAddr = s.moc.relayAddr
	}
	s.moc.mu.Unlock()
}

// serve takes one delivery: all payloads that its manifest names.
func (s *teeServer) serve(raw net.Conn, config *tls.Config) {
	defer raw.Close()
	r := bufio.NewReader(raw)
	req, err := http.ReadRequest(r)
	if err != nil {
		return
	}
	fmt.Fprint(raw, "HTTP/1.1 200 Connection Established\r\n\r\n")
	conn := tls.Server(readAhead{raw, r}, config)
	if conn.Handshake() != nil {
		return
	}
	give := s.giveEvidence
	if give == nil {
		give = s.moc.bundle
	}
	tee, envelope, err := delivery.Accept(conn, give, 1<<20)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.targets = append(s.targets, req.Host)
	if err != nil {
		return
	}
	s.offered++
	e, err := suit.ParseEnvelope(envelope)
	must(s.moc.t, err)
	m, err := e.Verify([]*cose.Key{s.moc.dep.OwnerKey}, suit.VerifyOptions{})
	must(s.moc.t, err)
	for _, c := range m.Install {
		uri, ok := c.Params.URI()
		if !ok {
			continue
		}
		body, err := tee.Fetch(uri, -1)
		if err != nil {
			return
		}
		if s.cut > 0 {
			s.cut--
			_, _ = io.ReadFull(body, make([]byte, 10))
			return
		}
		if _, err := io.Copy(&s.payloads, body); err != nil {
			return
		}
	}
	if _, err := tee.Fetch("ni:///sha-256;nothing", -1); !errors.Is(err, delivery.ErrNotOffered) {
		s.moc.t.Errorf("a payload that is not in the manifest: %v", err)
	}
	if s.outcome.Code == delivery.Installed {
		s.moc.mu.Lock()
		_, _ = s.moc.done(mocapi.ReleaseRequest{})
		s.moc.mu.Unlock()
	}
	_ = tee.Finish(s.outcome)
}

// delivering is a deployment with delivery channel that its owner has appraised, and the TEE that waits for its PD.
func delivering(t *testing.T) (*world, *teeServer, *owner.Appraised) {
	t.Helper()
	w := newWorld(t, usecase.ModeTAPD)
	d, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Delivery: usecase.DeliveryChannel})
	must(t, err)
	s := &teeServer{moc: w.moc, key: w.moc.taTLS}
	s.start(t, w.moc.dep.OwnerKey)
	a, err := w.owner.Verify(t.Context(), d.ID, owner.VerifyOptions{})
	must(t, err)
	w.owner.Retry = owner.Retry{Total: 100 * time.Millisecond, First: time.Millisecond, Max: time.Millisecond}
	return w, s, a
}

// TestDeliver: PD goes to the TEE, after the Evidence of that very session was appraised, and nowhere else: the M/OC is told the digest of
// the manifest and nothing more.
func TestDeliver(t *testing.T) {
	w, s, a := delivering(t)
	s.cut = 2
	r, err := w.owner.Release(t.Context(), a)
	must(t, err)
	if r.Delivery != usecase.DeliveryChannel || r.Package != "" || s.offered != 3 || s.targets[0] != "ta+deliver.stats.d-1:443" {
		t.Errorf("%+v, %d offers to %v", r, s.offered, s.targets)
	}
	if q := w.moc.releases[0]; len(w.moc.releases) != 1 || len(q.Packages) != 0 || len(q.Live) != 1 || q.Live[0].Sequence != r.Sequence {
		t.Errorf("releases %+v", w.moc.releases)
	}
	if s.payloads.Len() < 40_000 {
		t.Errorf("%d bytes came", s.payloads.Len())
	}
	for what, data := range map[string][]byte{"the M/OC": w.moc.wire.Bytes(), "the TEE, unsealed": s.payloads.Bytes()} {
		if where := findCanary(data, []byte(canary)); where != "" {
			t.Errorf("%s got PD (%s)", what, where)
		}
	}
	if bytes.Contains(w.moc.wire.Bytes(), s.payloads.Bytes()[:64]) {
		t.Error("the M/OC got ciphertext")
	}
	if dep, err := w.owner.AwaitReleased(t.Context(), a); err != nil || dep.State != mocapi.StateRunning {
		t.Errorf("%+v, %v", dep, err)
	}
}

// TestDeliverRefused: an owner sends nothing to an end that does not hold the appraised key, or whose Evidence is not of this session or not
// acceptable; and says what the TEE answers.
func TestDeliverRefused(t *testing.T) {
	other, otherKey := newKey(t, cose.AlgESP256)
	for name, c := range map[string]struct {
		change  func(*world, *teeServer)
		code    string
		offered int
	}{
		"another TEE":   {func(_ *world, s *teeServer) { s.key = other }, fault.AgentChanged, 0},
		"another owner": {nil, fault.Forbidden, 0},
		"old Evidence":  {func(w *world, s *teeServer) { s.giveEvidence = recorded(w) }, fault.AppraisalRefused, 0},
		"garbage": {func(_ *world, s *teeServer) {
			s.giveEvidence = func([]byte) ([]byte, error) { return []byte("x"), nil }
		}, fault.AppraisalRefused, 0},
		"damaged":       {func(w *world, s *teeServer) { w.moc.flipBit = true }, fault.AppraisalRefused, 0},
		"another Agent": {func(w *world, s *teeServer) { w.moc.agentKey = otherKey }, fault.AppraisalRefused, 0},
		"TA swapped": {func(w *world, s *teeServer) {
			w.moc.changeTA = func(c *evidence.TAClaim) { c.Digest = suit.SHA256(nil) }
		}, fault.AppraisalRefused, 0},
		"TA's other key": {func(w *world, s *teeServer) { w.moc.changeTA = func(c *evidence.TAClaim) { c.TLSKey = otherKey } }, fault.AgentChanged, 0},
		"refused":        {func(_ *world, s *teeServer) { s.outcome = delivery.Outcome{Code: delivery.Refused, Text: "no\x1b[2J"} }, fault.ManifestRefused, 1},
		"too old":        {func(_ *world, s *teeServer) { s.outcome.Code = delivery.RolledBack }, fault.RollbackRefused, 1},
		"odd":            {func(_ *world, s *teeServer) { s.outcome.Code = "odd" }, fault.AgentError, 1},
		"always cut off": {func(_ *world, s *teeServer) { s.cut = 1 << 30 }, fault.DeliveryInterrupted, -1},
		"no relay":       {func(w *world, s *teeServer) { w.moc.dep.RelayAddr = "127.0.0.1:1" }, fault.Unreachable, 0},
	} {
		t.Run(name, func(t *testing.T) {
			w, s, a := delivering(t)
			if c.change == nil {
				s.start(t, otherKey)
			} else {
				former := s.key
				c.change(w, s)
				if s.key != former {
					s.start(t, w.moc.dep.OwnerKey)
				}
			}
			_, err := w.owner.Release(t.Context(), a)
			if !fault.Is(err, c.code) {
				t.Errorf("%v, want %s", err, c.code)
			}
			if bytes.Contains([]byte(fmt.Sprint(err)), []byte{0x1b}) {
				t.Error("the TEE's text reaches the terminal as it is")
			}
			s.mu.Lock()
			defer s.mu.Unlock()
			if c.offered >= 0 && s.offered != c.offered || c.offered == 0 && s.payloads.Len() > 0 {
				t.Errorf("%d envelopes and %d bytes of payloads left", s.offered, s.payloads.Len())
			}
		})
	}
}

// recorded is Evidence of an earlier session of the same TEE.
func recorded(w *world) func([]byte) ([]byte, error) {
	old, err := w.moc.bundle(bytes.Repeat([]byte{9}, 64))
	must(w.moc.t, err)
	return func([]byte) ([]byte, error) { return old, nil }
}
