// SPDX-License-Identifier: Apache-2.0

package channel_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/iotest"
	"time"

	"sealift/internal/channel"
	"sealift/suit"
)

var uaID = suit.ComponentID{[]byte("ree"), []byte("app"), []byte("ua")}

// agentSvc is an Agent for tests.
type agentSvc struct{ errs []string }

func (a *agentSvc) ProcessTeepMessage(_ context.Context, uri string, msg []byte) ([]byte, error) {
	if uri == "slow" {
		time.Sleep(time.Second)
	}
	return append([]byte(uri), msg...), nil
}
func (a *agentSvc) ProcessError(_ context.Context, uri, reason string) error {
	a.errs = append(a.errs, uri+" "+reason)
	return nil
}
func (a *agentSvc) RequestTA(_ context.Context, id suit.ComponentID, uri string) (channel.Session, error) {
	return channel.Session{TAMURI: uri, Message: id[2]}, nil
}
func (a *agentSvc) UnrequestTA(context.Context, suit.ComponentID, string) (channel.Session, error) {
	return channel.Session{}, fmt.Errorf("no: %w", channel.ErrNotFound)
}
func (a *agentSvc) RequestPolicyCheck(context.Context) (channel.Session, error) {
	return channel.Session{TAMURI: "http://tam"}, nil
}
func (a *agentSvc) Connect(_ context.Context, app, ta string, conn net.Conn, ready func() error) error {
	if app != "app" {
		return channel.ErrNotFound
	}
	if err := ready(); err != nil {
		return err
	}
	_, err := io.Copy(conn, conn) // until the other end's half-close
	return err
}
func (a *agentSvc) Status(context.Context) (channel.Status, error) {
	return channel.Status{Deployment: "d", TAs: []channel.TAStatus{{ID: uaID, State: "ready"}}}, nil
}

// brokerSvc is a Broker for tests.
type brokerSvc struct {
	mu                 sync.Mutex
	payloads           map[string]io.Reader
	installed, aborted map[string][]byte
	started            []string
	space              int
}

func (b *brokerSvc) Fetch(_ context.Context, uri string, _ int64) (io.ReadCloser, error) {
	r, ok := b.payloads[uri]
	if !ok {
		return nil, channel.ErrNotFound
	}
	return io.NopCloser(r), nil
}

type stage struct {
	bytes.Buffer
	b  *brokerSvc
	id string
}

func (s *stage) Write(p []byte) (int, error) {
	if s.Len()+len(p) > s.b.space {
		return 0, channel.ErrNoSpace
	}
	return s.Buffer.Write(p)
}
func (s *stage) Commit() error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.installed[s.id] = s.Bytes()
	return nil
}
func (s *stage) Abort() error {
	s.b.mu.Lock()
	defer s.b.mu.Unlock()
	s.b.aborted[s.id] = s.Bytes()
	return nil
}
func (b *brokerSvc) REEInstall(_ context.Context, id suit.ComponentID) (channel.REEWriter, error) {
	return &stage{b: b, id: id.String()}, nil
}
func (b *brokerSvc) REERemove(context.Context, suit.ComponentID) error { return nil }
func (b *brokerSvc) REEStart(_ context.Context, id suit.ComponentID, spec []byte) error {
	b.started = append(b.started, id.String()+" "+string(spec))
	return nil
}
func (b *brokerSvc) REEStop(context.Context, suit.ComponentID) error { return channel.ErrNotReady }

func pair(t *testing.T) (*channel.AgentClient, *channel.BrokerClient, *agentSvc, *brokerSvc) {
	t.Helper()
	a, b := &agentSvc{}, &brokerSvc{
		payloads: map[string]io.Reader{}, installed: map[string][]byte{}, aborted: map[string][]byte{}, space: 1 << 20,
	}
	ca, cb := net.Pipe()
	toBroker, err := channel.ServeAgent(ca, a)
	if err != nil {
		t.Fatal(err)
	}
	toAgent, err := channel.ServeBroker(cb, b)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { toAgent.Close(); toBroker.Close() })
	return toAgent, toBroker, a, b
}

func TestCallsOnTheAgent(t *testing.T) {
	ag, _, svc, _ := pair(t)
	ctx := t.Context()
	big := bytes.Repeat([]byte("m"), 3<<20)
	if got, err := ag.ProcessTeepMessage(ctx, "u", big); err != nil || len(got) != len(big)+1 {
		t.Fatalf("%d, %v", len(got), err)
	}
	if err := ag.ProcessError(ctx, "u", "503"); err != nil || svc.errs[0] != "u 503" {
		t.Fatal(err, svc.errs)
	}
	if s, err := ag.RequestTA(ctx, uaID, "x"); err != nil || s.TAMURI != "x" || string(s.Message) != "ua" {
		t.Fatal(s, err)
	}
	if _, err := ag.UnrequestTA(ctx, uaID, ""); !errors.Is(err, channel.ErrNotFound) || !errors.Is(err, channel.ErrRemote) {
		t.Fatal(err)
	}
	if s, err := ag.RequestPolicyCheck(ctx); err != nil || s.TAMURI != "http://tam" {
		t.Fatal(s, err)
	}
	if s, err := ag.Status(ctx); err != nil || s.Deployment != "d" || !channel.IsREE(s.TAs[0].ID) {
		t.Fatal(s, err)
	}
	if _, err := ag.ProcessTeepMessage(ctx, "u", make([]byte, channel.MaxMessage)); !errors.Is(err, channel.ErrTooLarge) {
		t.Fatal(err)
	}
}

func TestConnect(t *testing.T) {
	ag, _, _, _ := pair(t)
	if _, err := ag.Connect(t.Context(), "other", "ta"); !errors.Is(err, channel.ErrNotFound) {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	conn, err := ag.Connect(ctx, "app", "ta")
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	cancel() // bounds the opening only
	msg := bytes.Repeat([]byte("0123456789"), 1<<16)
	go func() {
		conn.Write(msg)
		conn.(interface{ CloseWrite() error }).CloseWrite()
	}()
	got, err := io.ReadAll(conn)
	if err != nil || !bytes.Equal(got, msg) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

func TestFetch(t *testing.T) {
	_, br, _, svc := pair(t)
	payload := bytes.Repeat([]byte("p"), 300_000)
	svc.payloads["whole"] = bytes.NewReader(payload)
	svc.payloads["long"] = bytes.NewReader(payload)
	svc.payloads["broken"] = io.MultiReader(strings.NewReader("half"), iotest.ErrReader(errors.New("disk")))
	fetch := func(uri string, limit int64) ([]byte, error) {
		r, err := br.Fetch(t.Context(), uri, limit)
		if err != nil {
			return nil, err
		}
		defer r.Close()
		return io.ReadAll(r)
	}
	if got, err := fetch("whole", 300_000); err != nil || !bytes.Equal(got, payload) {
		t.Fatalf("%d, %v", len(got), err)
	}
	if _, err := fetch("long", 299_999); !errors.Is(err, channel.ErrTooLarge) {
		t.Fatal(err)
	}
	if got, err := fetch("broken", -1); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Fatalf("%q %v: a body that was cut short looks whole", got, err)
	}
	if _, err := fetch("none", -1); !errors.Is(err, channel.ErrNotFound) {
		t.Fatal(err)
	}
}

func TestREE(t *testing.T) {
	_, br, _, svc := pair(t)
	ctx := t.Context()
	write := func(n int) channel.REEWriter {
		w, err := br.REEInstall(ctx, uaID)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = w.Write(make([]byte, n))
		return w
	}
	if err := write(1000).Commit(); err != nil || len(svc.installed["ree/app/ua"]) != 1000 {
		t.Fatal(err)
	}
	if err := write(2 << 20).Commit(); !errors.Is(err, channel.ErrNoSpace) {
		t.Fatal(err)
	}
	if len(svc.installed["ree/app/ua"]) != 1000 {
		t.Fatal("a failed install replaced the component")
	}
	if err := write(10).Abort(); err != nil {
		t.Fatal(err)
	}
	for _, id := range []string{"tee", "pd", "enc", "manifest"} {
		c := suit.ComponentID{[]byte(id), []byte("app"), []byte("x")}
		if _, err := br.REEInstall(ctx, c); !errors.Is(err, channel.ErrRefused) {
			t.Fatalf("%s went out: %v", id, err)
		}
	}
	if err := br.REEStart(ctx, uaID, []byte("spec")); err != nil || svc.started[0] != "ree/app/ua spec" {
		t.Fatal(err)
	}
	if err := br.REEStop(ctx, uaID); !errors.Is(err, channel.ErrNotReady) {
		t.Fatal(err)
	}
}

func TestClosedAndCancelled(t *testing.T) {
	ag, br, _, _ := pair(t)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := ag.ProcessTeepMessage(ctx, "slow", nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatal(err)
	}
	br.Close()
	<-ag.Done()
	if _, err := ag.Status(t.Context()); !errors.Is(err, channel.ErrClosed) {
		t.Fatal(err)
	}
}

func TestGarbageOnTheWire(t *testing.T) {
	a, b := net.Pipe()
	c, err := channel.ServeAgent(a, &agentSvc{})
	if err != nil {
		t.Fatal(err)
	}
	go io.Copy(io.Discard, b)
	b.Write(bytes.Repeat([]byte{0xff}, 4096))
	select {
	case <-c.Done():
	case <-time.After(10 * time.Second):
		t.Fatal("garbage did not end the channel")
	}
}
