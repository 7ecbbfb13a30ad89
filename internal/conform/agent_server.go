// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net"
	"net/http"
	"strings"
	"sync"
	"time"

	"sealift/teep"
)

// Peer is an Agent that can be spoken to. Exchange hands it one message of the TAM and gives its answer; nil if it gives none.
// The Agent may have several messages in a row, also ones that end sessions.
type Peer interface {
	Exchange(ctx context.Context, msg []byte) (answer []byte, err error)
}

// Server is a Peer on the far side of HTTP: it serves a TAM URI and hands the next message to whoever asks. It is meant for one
// Agent that runs one session at a time.
type Server struct {
	server   *http.Server
	uri      string
	patience time.Duration

	// wake makes the Broker come again, where it does so only when told to (Operator); nil: it comes by itself.
	wake func()

	out  chan []byte   // the next message to the Agent
	in   chan []byte   // its answer
	done chan struct{} // closed at the end
	turn chan struct{} // held by the request that is served

	mu       sync.Mutex
	awaiting bool // a message was handed out and its answer is to come
	redirect bool // the next request is to be sent elsewhere
	rounds   int  // messages with content in this session
	requests []request
}

// request is what the HTTP probes want to know of a request of the Agent's Broker.
type request struct {
	method, path, accept, contentType, cookie string
	empty                                     bool
}

// Paths of the server. Nobody has business at elsewhere.
const (
	tamPath       = "/tam"
	elsewherePath = "/elsewhere"
	maxAgentBody  = 8 << 20
)

// sessionRounds is when a session with a Broker that is woken is ended: Brokers may give up sessions that have no end.
const sessionRounds = 48

// Listen serves a TAM URI at the address. base is the address as the Agent's Broker reaches it, empty for the address itself; patience is
// how long to wait for the Agent's next request.
func Listen(address, base string, patience time.Duration) (*Server, error) {
	s, ln, err := newServer(address, base, patience)
	if err != nil {
		return nil, err
	}
	s.start(ln, http.HandlerFunc(s.serve))
	return s, nil
}

// newServer opens the listener.
func newServer(address, base string, patience time.Duration) (*Server, net.Listener, error) {
	ln, err := net.Listen("tcp", address)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrPeer, err)
	}
	if base == "" {
		base = "http://" + ln.Addr().String()
	}
	return &Server{uri: strings.TrimSuffix(base, "/") + tamPath, patience: patience, out: make(chan []byte), in: make(chan []byte),
		done: make(chan struct{}), turn: make(chan struct{}, 1)}, ln, nil
}

func (s *Server) start(ln net.Listener, h http.Handler) {
	s.server = &http.Server{Handler: h, ReadHeaderTimeout: requestTimeout}
	go func() { _ = s.server.Serve(ln) }() // ends with Close
}

// URI is the TAM URI to point the Agent at.
func (s *Server) URI() string { return s.uri }

// Close ends the server; the session under way gets an empty answer.
func (s *Server) Close() error {
	close(s.done)
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return errors.Join(s.server.Shutdown(ctx), s.server.Close())
}

func (s *Server) serve(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxAgentBody))
	if err != nil {
		w.WriteHeader(http.StatusRequestEntityTooLarge)
		return
	}
	s.mu.Lock()
	s.requests = append(s.requests, request{r.Method, r.URL.Path, r.Header.Get("Accept"), r.Header.Get("Content-Type"),
		r.Header.Get("Cookie"), len(body) == 0})
	s.mu.Unlock()
	if r.URL.Path != tamPath {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	select {
	case s.turn <- struct{}{}:
		defer func() { <-s.turn }()
	case <-r.Context().Done():
		return
	}
	if s.settle() {
		select {
		case s.in <- body: // an empty one says that the Agent has no answer
		case <-s.done:
		}
		if s.endsSession(len(body) == 0) {
			w.WriteHeader(http.StatusNoContent)
			s.wake()
			return
		}
	}
	s.reply(w, r)
}

// endsSession says that the session is to end well here and another one to begin: a Broker pauses longer and longer after sessions
// that broke, as they do where its Agent has no answer, and starts anew after one that did not.
func (s *Server) endsSession(silence bool) bool {
	if s.wake == nil {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.rounds++; silence || s.rounds >= sessionRounds {
		s.rounds = 0
		return true
	}
	return false
}

// settle reports whether somebody waits for an answer, who then no longer does.
func (s *Server) settle() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.awaiting
	s.awaiting = false
	return was
}

func (s *Server) reply(w http.ResponseWriter, r *http.Request) {
	select {
	case msg := <-s.out:
		s.mu.Lock()
		redirect := s.redirect
		s.redirect, s.awaiting = false, !redirect
		s.mu.Unlock()
		h := w.Header()
		if redirect {
			h.Set("Location", elsewherePath)
			w.WriteHeader(http.StatusTemporaryRedirect)
			return
		}
		h.Set("Content-Type", teep.MediaType)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'")
		h.Set("Referrer-Policy", "no-referrer")
		h.Set("Set-Cookie", "conform=1") // which nobody may send back
		_, _ = w.Write(msg)              // a broken connection is the Broker's to notice
	case <-s.done:
		w.WriteHeader(http.StatusNoContent)
	case <-r.Context().Done():
	}
}

// Exchange implements Peer.
func (s *Server) Exchange(ctx context.Context, msg []byte) ([]byte, error) {
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	select {
	case s.out <- msg:
	case <-timer.C:
		return nil, fmt.Errorf("%w: no request of the Agent's Broker for %v", ErrPeer, s.patience)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	timer.Reset(s.patience)
	select {
	case answer := <-s.in:
		return answer, nil
	case <-timer.C:
		if s.settle() {
			return nil, nil
		}
		return <-s.in, nil // it came just now
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// httpRequests looks at what the Broker has sent so far (teep-over-http section 4).
func (s *Server) httpRequests() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, q := range s.requests {
		accept, _, _ := mime.ParseMediaType(q.accept)
		content, _, _ := mime.ParseMediaType(q.contentType)
		switch {
		case q.method != http.MethodPost:
			return fmt.Errorf("request %d is a %q", i+1, q.method)
		case accept != teep.MediaType:
			return fmt.Errorf("request %d: Accept is %q", i+1, q.accept)
		case !q.empty && content != teep.MediaType:
			return fmt.Errorf("request %d: Content-Type is %q", i+1, q.contentType)
		case q.cookie != "":
			return fmt.Errorf("request %d brings a cookie", i+1)
		}
	}
	return nil
}

// followsRedirect answers the next request with a redirect and reports whether the Broker goes there.
func (s *Server) followsRedirect(ctx context.Context) (bool, error) {
	s.mu.Lock()
	s.redirect = true
	s.mu.Unlock()
	select {
	case s.out <- nil:
	case <-time.After(s.patience):
		return false, na("no request of the Agent's Broker for %v", s.patience)
	case <-ctx.Done():
		return false, ctx.Err()
	}
	// A Broker that follows does so at once. There is no sign of one that does not.
	const moment = time.Second
	deadline := time.After(moment)
	tick := time.NewTicker(moment / 40)
	defer tick.Stop()
	for {
		s.mu.Lock()
		for _, q := range s.requests {
			if q.path == elsewherePath {
				s.mu.Unlock()
				return true, nil
			}
		}
		s.mu.Unlock()
		select {
		case <-tick.C:
		case <-deadline:
			return false, nil
		case <-ctx.Done():
			return false, ctx.Err()
		}
	}
}
