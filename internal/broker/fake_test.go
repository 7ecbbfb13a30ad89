// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"sealift/internal/channel"
	"sealift/internal/delivery"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/platform"
	"sealift/suit"
)

// fakeMOC is an M/OC with one device, a TAM that greets once per session, and an artifact store with one payload.
type fakeMOC struct {
	*httptest.Server
	mu        sync.Mutex
	work      mocapi.Work
	announced mocapi.Announcement
	holder    string // BrokerID that holds the device
	down      bool
	sessions  int
	visited   []string // the deployments whose sessions those were
	heard     []string // what Agents sent to the TAM
	blobs     map[string]string
	changed   chan struct{}
}

func newFakeMOC(t *testing.T) *fakeMOC {
	m := &fakeMOC{changed: make(chan struct{}), blobs: map[string]string{}}
	mux := http.NewServeMux()
	mux.HandleFunc("POST /v1/devices/{id}/announce", m.announce)
	mux.HandleFunc("GET /v1/devices/{id}/work", m.getWork)
	mux.HandleFunc("GET /.well-known/ni/sha-256/{digest}", m.blob)
	mux.HandleFunc("POST /tam/{id}", m.tam)
	m.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		m.mu.Lock()
		down := m.down
		m.mu.Unlock()
		if down {
			http.Error(w, "down", http.StatusServiceUnavailable)
			return
		}
		mux.ServeHTTP(w, r)
	}))
	t.Cleanup(func() { m.CloseClientConnections(); m.Close() })
	return m
}

func problem(w http.ResponseWriter, err *fault.Error) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(err.Status())
	_ = json.NewEncoder(w).Encode(err)
}

func (m *fakeMOC) announce(w http.ResponseWriter, r *http.Request) {
	var a mocapi.Announcement
	if err := json.NewDecoder(r.Body).Decode(&a); err != nil {
		problem(w, fault.New(fault.BadRequest, "%v", err))
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.holder != "" && m.holder != a.BrokerID {
		problem(w, fault.New(fault.DeviceInUse, "held by %s", m.holder))
		return
	}
	m.holder, m.announced = a.BrokerID, a
	if a.Leaving {
		m.holder = ""
	}
	w.WriteHeader(http.StatusNoContent)
}

func (m *fakeMOC) getWork(w http.ResponseWriter, r *http.Request) {
	m.mu.Lock()
	work, changed := m.work, m.changed
	m.mu.Unlock()
	if r.URL.Query().Get("since") == fmt.Sprint(work.Generation) {
		select {
		case <-changed:
		case <-time.After(200 * time.Millisecond):
		case <-r.Context().Done():
		}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	_ = json.NewEncoder(w).Encode(m.work)
}

func (m *fakeMOC) blob(w http.ResponseWriter, r *http.Request) {
	if r.Header.Get("Authorization") != "Bearer device-token" {
		problem(w, fault.New(fault.Unauthorized, "no token"))
		return
	}
	text, ok := m.blobs[r.PathValue("digest")]
	if !ok {
		problem(w, fault.New(fault.NotFound, "no such blob"))
		return
	}
	_, _ = io.WriteString(w, text)
}

// tam greets at the empty message and ends the session at any other.
func (m *fakeMOC) tam(w http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(body) == 0 {
		w.Header().Set("Content-Type", "application/teep+cbor")
		_, _ = io.WriteString(w, "query")
		return
	}
	m.sessions++
	m.visited = append(m.visited, r.PathValue("id"))
	m.heard = append(m.heard, string(body))
	w.WriteHeader(http.StatusNoContent)
}

// want replaces the device's work.
func (m *fakeMOC) want(wake uint64, ids ...string) { m.wantInstance("process", wake, ids...) }

func (m *fakeMOC) wantInstance(instance string, wake uint64, ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.work.Generation++
	m.work.Instances = nil
	for _, id := range ids {
		m.work.Instances = append(m.work.Instances,
			mocapi.WantedInstance{ID: id, Instance: instance, Config: []byte("config of " + id), TAMURI: m.URL + "/tam/" + id, Wake: wake, App: "app"})
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

func (m *fakeMOC) setDown(down bool) {
	m.mu.Lock()
	m.down = down
	m.mu.Unlock()
}

func (m *fakeMOC) state() (a mocapi.Announcement, sessions int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.announced, m.sessions
}

// wantFurther wants an instance d1 that serves two more deployments, with these reasons for their sessions.
func (m *fakeMOC) wantFurther(wakes ...uint64) {
	m.want(wakes[0], "d1")
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, wake := range wakes[1:] {
		m.work.Instances[0].Further = append(m.work.Instances[0].Further, mocapi.WantedSession{TAMURI: fmt.Sprintf("%s/tam/d%d", m.URL, i+2), Wake: wake})
	}
	m.work.Generation++
	close(m.changed)
	m.changed = make(chan struct{})
}

// wantStopped wants the instances that are wanted stopped, or running again.
func (m *fakeMOC) wantStopped(stopped bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.work.Generation++
	m.work.Instances = slices.Clone(m.work.Instances)
	for i := range m.work.Instances {
		m.work.Instances[i].Stopped = stopped
	}
	close(m.changed)
	m.changed = make(chan struct{})
}

// fakeTEE is a platform whose instances are goroutines.
type fakeTEE struct {
	mu        sync.Mutex
	instances map[string]*fakeAgent
	launches  int
	refuse    error // of Launch and Destroy
}

// fakeAgent is the Agent of one instance.
type fakeAgent struct {
	tamURI  string
	mu      sync.Mutex
	calls   []string
	round   int
	refusal string
	// delivered are the components that came through sessions for an owner.
	delivered []channel.Component
	broker    *channel.BrokerClient
	conn      net.Conn
}

func (f *fakeTEE) Info(context.Context) (platform.Info, error) {
	return platform.Info{Hardware: "trustzone", Emulated: true, InstanceTypes: []string{"process"}, Capacity: 4}, nil
}

func (f *fakeTEE) Launch(_ context.Context, s platform.Spec) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	if f.instances[s.ID] == nil {
		f.launches++
		f.instances[s.ID] = &fakeAgent{}
	}
	return nil
}

func (f *fakeTEE) Attach(_ context.Context, id string) (net.Conn, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	a := f.instances[id]
	if a == nil {
		return nil, platform.ErrNoInstance
	}
	ours, theirs := net.Pipe()
	broker, err := channel.ServeAgent(theirs, a)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	a.broker, a.conn = broker, theirs
	a.mu.Unlock()
	return ours, nil
}

func (f *fakeTEE) Stop(_ context.Context, id string) error {
	f.mu.Lock()
	refuse, a := f.refuse, f.instances[id]
	f.mu.Unlock()
	if refuse == nil && a != nil {
		f.kill(id)
	}
	return refuse
}

func (f *fakeTEE) Destroy(_ context.Context, id string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.refuse != nil {
		return f.refuse
	}
	delete(f.instances, id)
	return nil
}

func (f *fakeTEE) List(context.Context) ([]platform.InstanceState, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []platform.InstanceState
	for id := range f.instances {
		out = append(out, platform.InstanceState{ID: id, Running: true})
	}
	return out, nil
}

func (f *fakeTEE) agent(id string) *fakeAgent {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.instances[id]
}

// kill ends an Agent as a crash would.
func (f *fakeTEE) kill(id string) {
	f.mu.Lock()
	a := f.instances[id]
	delete(f.instances, id)
	f.mu.Unlock()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.conn.Close()
}

func (a *fakeAgent) note(format string, args ...any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.calls = append(a.calls, fmt.Sprintf(format, args...))
}

func (a *fakeAgent) noted() []string {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]string(nil), a.calls...)
}

func (a *fakeAgent) ProcessTeepMessage(_ context.Context, _ string, msg []byte) ([]byte, error) {
	a.note("message %s", msg)
	return []byte("reply to " + string(msg)), nil
}

func (a *fakeAgent) ProcessError(_ context.Context, _, reason string) error {
	a.note("error %s", reason)
	return nil
}

func (a *fakeAgent) RequestTA(_ context.Context, id suit.ComponentID, tamURI string) (channel.Session, error) {
	a.note("request %s", id)
	return channel.Session{TAMURI: tamURI, Message: []byte("unsolicited")}, nil
}

func (a *fakeAgent) UnrequestTA(_ context.Context, id suit.ComponentID, _ string) (channel.Session, error) {
	a.note("unrequest %s", id)
	return channel.Session{}, nil
}

// RequestPolicyCheck names the TAM once per round if one is set, else none: the Broker then takes the one that woke it.
func (a *fakeAgent) RequestPolicyCheck(context.Context) (channel.Session, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.round++; a.tamURI == "" || a.round%2 == 0 {
		return channel.Session{}, nil
	}
	return channel.Session{TAMURI: a.tamURI}, nil
}

func (a *fakeAgent) Connect(_ context.Context, app, ta string, conn net.Conn, ready func() error) error {
	asked := slices.Contains(a.noted(), "request tee/app/late") // a TA that is there once it was asked for
	if app != "app" || ta != "ta" && ta != delivery.Suffix && (ta != "late" || !asked) {
		return fmt.Errorf("%w: %s/%s", channel.ErrNotFound, app, ta)
	}
	if err := ready(); err != nil {
		return err
	}
	n, err := io.Copy(conn, conn)
	if ta == delivery.Suffix && n > 0 { // else nothing was delivered
		a.mu.Lock()
		a.delivered = append(a.delivered, channel.Component{ID: suit.NewComponentID("pd", "app", "rows"), Sequence: uint64(n)})
		a.mu.Unlock()
	}
	_ = closeWrite(conn)
	return err
}

func (a *fakeAgent) Status(context.Context) (channel.Status, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return channel.Status{LastError: a.refusal, Components: slices.Clone(a.delivered)}, nil
}

// start runs a Broker against the fakes and returns it with what stops it.
func start(t *testing.T, m *fakeMOC, tee platform.Driver, dir string, images ...string) (*Broker, func() error) {
	t.Helper()
	image := filepath.Join(t.TempDir(), "agent")
	if err := os.WriteFile(image, []byte("\x7fELF, the image"), 0o700); err != nil {
		t.Fatal(err)
	}
	b, err := New(Config{
		Device: "dev1", MOC: &mocapi.Client{BaseURL: m.URL, Token: "device-token"}, Driver: tee, Images: append(images, image), StateDir: dir,
		Log: slog.New(slog.DiscardHandler), MinDelay: 5 * time.Millisecond, MaxDelay: 50 * time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- b.Run(ctx) }()
	stop := sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() { _ = stop() })
	return b, stop
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if f() {
			return
		}
	}
	t.Fatalf("%s: not in 10 s", what)
}
