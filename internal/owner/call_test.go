// SPDX-License-Identifier: Apache-2.0

package owner_test

import (
	"bufio"
	"bytes"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/answer"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/usecase"
)

// taServer is the TLS endpoint of a TA. As a relay it wants a CONNECT first; as a UA it does not.
type taServer struct {
	net.Listener
	key      crypto.Signer
	owner    *cose.Key // the only client key; nil: any
	relay    bool
	target   string // what CONNECT must name
	cutShort bool   // end the answer without TLS's close_notify
	notReady int    // refuse that many CONNECTs first
	end      answer.End
}

func (s *taServer) start(t *testing.T) string {
	t.Helper()
	var err error
	s.Listener, err = net.Listen("tcp", "127.0.0.1:0")
	must(t, err)
	t.Cleanup(func() { s.Close() })
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, s.key.Public(), s.key)
	must(t, err)
	config := &tls.Config{MinVersion: tls.VersionTLS13, NextProtos: []string{answer.ALPN}, ClientAuth: tls.RequireAnyClientCert,
		Certificates:     []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: s.key}},
		VerifyConnection: s.checkClient}
	go func() {
		for {
			conn, err := s.Accept()
			if err != nil {
				return
			}
			s.serve(conn, config)
		}
	}()
	return s.Addr().String()
}

func (s *taServer) checkClient(state tls.ConnectionState) error {
	got, err := cose.NewKey(state.PeerCertificates[0].PublicKey)
	if err != nil || (s.owner != nil && !got.Equal(s.owner)) {
		return fmt.Errorf("another caller")
	}
	return nil
}

// serve answers one question: its bytes in upper case.
func (s *taServer) serve(conn net.Conn, config *tls.Config) {
	defer conn.Close()
	r := bufio.NewReader(conn)
	if s.relay {
		req, err := http.ReadRequest(r)
		if err != nil || req.Method != http.MethodConnect || req.Host != s.target {
			fmt.Fprint(conn, "HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n")
			return
		}
		if s.notReady > 0 {
			s.notReady--
			fmt.Fprint(conn, "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n")
			return
		}
		fmt.Fprint(conn, "HTTP/1.1 200 Connection Established\r\n\r\n")
	}
	inner := tls.Server(readAhead{conn, r}, config)
	question, err := io.ReadAll(inner)
	if err != nil {
		return
	}
	w := answer.NewWriter(inner)
	_, _ = w.Write(bytes.ToUpper(question))
	if !s.cutShort {
		_ = w.End(s.end)
		inner.Close()
	}
}

type readAhead struct {
	net.Conn
	r io.Reader
}

func (r readAhead) Read(p []byte) (int, error) { return r.r.Read(p) }

func (w *world) run(t *testing.T) {
	t.Helper()
	_, err := w.owner.Deploy(t.Context(), owner.DeployRequest{Package: w.pkg, Wait: true})
	must(t, err)
}

func (w *world) call(t *testing.T) (string, error) {
	t.Helper()
	var out bytes.Buffer
	err := w.owner.Call(t.Context(), "stats", strings.NewReader("a question"), &out, owner.CallOptions{Timeout: 5 * time.Second})
	return out.String(), err
}

func TestCallThroughRelay(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	ta := &taServer{key: w.moc.taTLS, owner: w.packed.Description.Owner, relay: true, target: "ta.stats.d-1:443", notReady: 2}
	w.moc.relayAddr = ta.start(t)
	w.run(t)
	if got, err := w.call(t); err != nil || got != "A QUESTION" {
		t.Errorf("got %q, %v", got, err)
	}
	must(t, w.owner.Remove(t.Context(), "stats"))
	if _, err := w.call(t); err == nil {
		t.Error("a call after the removal succeeded")
	}
}

func TestCallThroughUA(t *testing.T) {
	w := newWorld(t, usecase.ModeUATAPD)
	ta := &taServer{key: w.moc.taTLS, owner: w.packed.Description.Owner}
	addr := ta.start(t)
	w.run(t)
	w.moc.dep.InstanceStatus = &mocapi.InstanceStatus{Running: true, UAs: []mocapi.UAStatus{{Component: "ree/stats/ua", Running: true,
		Ports: map[string]string{"http": addr}}}}
	if got, err := w.call(t); err != nil || got != "A QUESTION" {
		t.Errorf("got %q, %v", got, err)
	}
}

// TestCallToldHowItEnded: an answer of which the Agent says that the TA failed is printed, and is an error.
func TestCallToldHowItEnded(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	ta := &taServer{key: w.moc.taTLS, relay: true, target: "ta.stats.d-1:443", end: answer.End{Kind: answer.Exited, Code: 3}}
	w.moc.relayAddr = ta.start(t)
	w.run(t)
	got, err := w.call(t)
	f := fault.From(err)
	if got != "A QUESTION" || f == nil || f.Code != fault.TAEnded || f.Message != "the TA ended with exit code 3" || f.Details != ta.end {
		t.Errorf("got %q, %+v", got, f)
	}
}

// TestCallPinsTheKey: whoever holds another key than the appraised TA's gets not a byte of the question.
func TestCallPinsTheKey(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	other, _ := newKey(t, cose.AlgEd25519)
	ta := &taServer{key: other, relay: true, target: "ta.stats.d-1:443"}
	w.moc.relayAddr = ta.start(t)
	w.run(t)
	got, err := w.call(t)
	if f := fault.From(err); got != "" || f.Exit != fault.ExitAttestation {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCallNoticesACutAnswer(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	ta := &taServer{key: w.moc.taTLS, relay: true, target: "ta.stats.d-1:443", cutShort: true}
	w.moc.relayAddr = ta.start(t)
	w.run(t)
	if got, err := w.call(t); err == nil {
		t.Errorf("a cut answer passed for a whole one: %q", got)
	}
}

func TestCallByAnotherOwner(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	_, stranger := newKey(t, cose.AlgESP256)
	ta := &taServer{key: w.moc.taTLS, owner: stranger, relay: true, target: "ta.stats.d-1:443"}
	w.moc.relayAddr = ta.start(t)
	w.run(t)
	if got, err := w.call(t); !fault.Is(err, fault.Forbidden) {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestCallNeedsAnAppraisal(t *testing.T) {
	w := newWorld(t, usecase.ModeTAPD)
	w.deploy(t)
	if _, err := w.call(t); fault.From(err).Exit != fault.ExitPolicy {
		t.Errorf("got %v", err)
	}
}
