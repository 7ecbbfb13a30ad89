// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/internal/channel"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
)

func TestInstanceFromWishToRemoval(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	start(t, m, tee, t.TempDir())
	m.want(1, "d1")
	eventually(t, "a session", func() bool { _, n := m.state(); return n == 1 })
	eventually(t, "a running instance in the announcement", func() bool {
		a, _ := m.state()
		return len(a.Instances) == 1 && a.Instances[0].Running && a.Generation == 1 && a.Capacity == 4 && a.RelayAddr != ""
	})
	m.want(2, "d1") // a wake-up
	eventually(t, "a second session", func() bool { _, n := m.state(); return n == 2 })
	if got := tee.agent("d1").noted(); !slices.Equal(got, []string{"message query", "message query"}) {
		t.Errorf("the Agent got %q", got)
	}
	m.want(2)
	eventually(t, "the end of the instance", func() bool {
		a, _ := m.state()
		return tee.agent("d1") == nil && len(a.Instances) == 0 && a.Generation == 3
	})
	if tee.launches != 1 {
		t.Errorf("%d launches", tee.launches)
	}
}

// TestFurtherSessions: an instance that several deployments share has a session with each, when there is a reason for it, and all of them
// after it was launched again.
func TestFurtherSessions(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	start(t, m, tee, t.TempDir())
	visits := func(want string) {
		t.Helper()
		eventually(t, want, func() bool {
			m.mu.Lock()
			defer m.mu.Unlock()
			slices.Sort(m.visited)
			return strings.Join(m.visited, " ") == want
		})
	}
	m.want(1, "d1")
	visits("d1")
	m.wantFurther(1, 1, 1)
	visits("d1 d2 d3")
	m.wantFurther(1, 1, 2)
	visits("d1 d2 d3 d3")
	m.wantFurther(2, 1)
	visits("d1 d1 d2 d3 d3")
	tee.kill("d1")
	visits("d1 d1 d1 d2 d2 d3 d3")
	if tee.launches != 2 {
		t.Errorf("%d launches", tee.launches)
	}
}

// TestStopAndStart: a stopped instance is ended and kept, also by a Broker that is new, and runs again when it is wanted to.
func TestStopAndStart(t *testing.T) {
	m, tee, dir := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}, t.TempDir()
	_, end := start(t, m, tee, dir)
	m.want(1, "d1")
	eventually(t, "a session", func() bool { _, n := m.state(); return n == 1 })
	tee.mu.Lock()
	tee.refuse = errors.New("the hardware is on strike")
	tee.mu.Unlock()
	m.wantStopped(true)
	eventually(t, "the reason in the announcement", func() bool {
		a, _ := m.state()
		return len(a.Instances) == 1 && strings.Contains(a.Instances[0].LastError, "on strike") && !a.Instances[0].Stopped
	})
	tee.mu.Lock()
	tee.refuse = nil
	tee.mu.Unlock()
	stopped := func() bool {
		a, _ := m.state()
		return tee.agent("d1") == nil && len(a.Instances) == 1 && reflect.DeepEqual(a.Instances[0], mocapi.InstanceStatus{ID: "d1", Stopped: true})
	}
	eventually(t, "the stop in the announcement", stopped)
	if err := end(); err != nil {
		t.Fatal(err)
	}
	m.mu.Lock()
	m.announced.Instances = nil
	m.mu.Unlock()
	start(t, m, tee, dir)
	eventually(t, "the stop in a new Broker's announcement", stopped)
	m.wantStopped(false)
	eventually(t, "a session after the start", func() bool { a, n := m.state(); return n == 2 && a.Instances[0].Running && !a.Instances[0].Stopped })
	if tee.launches != 2 {
		t.Errorf("%d launches", tee.launches)
	}
}

func TestAgentAndMOCDie(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	start(t, m, tee, t.TempDir())
	m.want(1, "d1")
	eventually(t, "a session", func() bool { _, n := m.state(); return n == 1 })
	tee.kill("d1")
	eventually(t, "a session after the Agent was started again", func() bool { _, n := m.state(); return n == 2 })
	m.setDown(true)
	tee.kill("d1")
	eventually(t, "an Agent that was told that the TAM is down", func() bool {
		a := tee.agent("d1")
		return a != nil && slices.ContainsFunc(a.noted(), func(s string) bool { return strings.HasPrefix(s, "error ") })
	})
	m.setDown(false)
	eventually(t, "a session after the M/OC came back", func() bool { _, n := m.state(); return n == 3 })
}

func TestInstanceThatCannotBeLaunchedOrDestroyed(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}, refuse: errors.New("the hardware is on strike")}
	start(t, m, tee, t.TempDir())
	m.want(1, "d1")
	striking := func() bool {
		a, _ := m.state()
		return len(a.Instances) == 1 && strings.Contains(a.Instances[0].LastError, "on strike")
	}
	eventually(t, "the reason in the announcement", striking)
	m.want(1)
	// It is not reported gone while the hardware may still hold it.
	time.Sleep(50 * time.Millisecond)
	eventually(t, "the reason in the announcement", striking)
	tee.mu.Lock()
	tee.refuse = nil
	tee.mu.Unlock()
	eventually(t, "the end", func() bool { a, _ := m.state(); return len(a.Instances) == 0 && a.Generation == 2 })
}

func TestREEFailureIsAnnounced(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	start(t, m, tee, t.TempDir())
	m.want(1, "d1")
	eventually(t, "a session", func() bool { _, n := m.state(); return n == 1 })
	agent := tee.agent("d1")
	ua := suit.ComponentID{[]byte("ree"), []byte("app"), []byte("ua")}
	if err := agent.broker.REEStart(t.Context(), ua, nil); !errors.Is(err, channel.ErrNotFound) {
		t.Errorf("starting what is not there: %v", err)
	}
	lastError := func() string {
		a, _ := m.state()
		if len(a.Instances) != 1 {
			return ""
		}
		return a.Instances[0].LastError
	}
	eventually(t, "the reason in the announcement", func() bool { return strings.Contains(lastError(), "starting ree/app/ua") })
	w, err := agent.broker.REEInstall(t.Context(), ua)
	if err == nil {
		_, err = io.WriteString(w, "content")
	}
	if err == nil {
		err = w.Commit()
	}
	if err != nil {
		t.Fatal(err)
	}
	eventually(t, "the end of the reason", func() bool { return lastError() == "" })
	agent.mu.Lock()
	agent.refusal = "the TA ends at once"
	agent.mu.Unlock()
	m.want(2, "d1")
	eventually(t, "what the Agent says", func() bool { return lastError() == "the TEEP Agent says: the TA ends at once" })
}

func TestSecondBroker(t *testing.T) {
	m, tee, dir := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}, t.TempDir()
	first, stop := start(t, m, tee, dir)
	eventually(t, "the announcement", func() bool { a, _ := m.state(); return a.BrokerID != "" })
	if _, err := New(Config{Device: "dev1", MOC: &mocapi.Client{}, Driver: tee, Images: []string{"/bin/true"}, StateDir: dir}); !errors.Is(err, ErrLocked) {
		t.Errorf("the same state folder: %v", err)
	}
	other, stopOther := start(t, m, tee, t.TempDir())
	eventually(t, "the end of the second one", func() bool {
		lock, err := lockState(other.cfg.StateDir)
		if err == nil {
			lock.Close()
		}
		return err == nil
	})
	if err := stopOther(); !fault.Is(err, fault.DeviceInUse) {
		t.Errorf("the same device: %v", err)
	}
	if err := stop(); err != nil {
		t.Error(err)
	}
	again, _ := start(t, m, tee, dir)
	if again.id != first.id {
		t.Error("the Broker's identity has changed with a restart")
	}
	eventually(t, "the announcement", func() bool { a, _ := m.state(); return !a.Leaving })
}

func TestAbstractCalls(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	b, _ := start(t, m, tee, t.TempDir())
	ta := suit.ComponentID{[]byte("tee"), []byte("app"), []byte("ta")}
	if err := b.RequestTA(t.Context(), "d1", ta, ""); !errors.Is(err, ErrNoInstance) {
		t.Errorf("without an instance: %v", err)
	}
	m.want(1, "d1")
	eventually(t, "a session", func() bool { _, n := m.state(); return n == 1 })
	if err := b.RequestTA(t.Context(), "d1", ta, m.URL+"/tam/d1"); err != nil {
		t.Error(err)
	}
	if err := b.UnrequestTA(t.Context(), "d1", ta, ""); err != nil {
		t.Error(err)
	}
	if reply, err := b.ProcessTeepMessage(t.Context(), "d1", m.URL, []byte("x")); err != nil || string(reply) != "reply to x" {
		t.Errorf("%q, %v", reply, err)
	}
	if err := b.ProcessError(t.Context(), "d1", m.URL, errors.New("broken")); err != nil {
		t.Error(err)
	}
	agent := tee.agent("d1")
	agent.mu.Lock()
	agent.tamURI, agent.round = m.URL+"/tam/other", 0
	agent.mu.Unlock()
	if err := b.RequestPolicyCheck(t.Context(), "d1"); err != nil {
		t.Error(err)
	}
	want := []string{"message query", "request tee/app/ta", "unrequest tee/app/ta", "message x", "error broken", "message query"}
	if got := agent.noted(); !slices.Equal(got, want) {
		t.Errorf("the Agent got %q, want %q", got, want)
	}
	if m.heard[1] != "unsolicited" {
		t.Errorf("the TAM heard %q", m.heard)
	}
}

// TestConnectingAsksForTheTA: a UA that connects to a TA which is not there has asked for it, once, and gets through when it has come.
func TestConnectingAsksForTheTA(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	b, _ := start(t, m, tee, t.TempDir())
	m.want(1, "d1")
	eventually(t, "a session", func() bool { _, n := m.state(); return n == 1 })
	conn, err := b.reach(t.Context(), "d1", "app", "late")
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if conn, err = b.reach(t.Context(), "d1", "app", "ta"); err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if got := tee.agent("d1").noted(); !slices.Equal(got, []string{"message query", "request tee/app/late"}) {
		t.Errorf("the Agent got %q", got)
	}
}

func TestRelay(t *testing.T) {
	m, tee := newFakeMOC(t), &fakeTEE{instances: map[string]*fakeAgent{}}
	b, _ := start(t, m, tee, t.TempDir())
	m.want(1, "d1")
	eventually(t, "a session", func() bool { _, n := m.state(); return n == 1 })
	connect := func(request string) (string, net.Conn) {
		c, err := net.Dial("tcp", b.relay.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		_ = c.SetDeadline(time.Now().Add(10 * time.Second))
		fmt.Fprintf(c, "%s HTTP/1.1\r\nHost: x\r\n\r\n", request)
		line := make([]byte, 12)
		if _, err := io.ReadFull(c, line); err != nil {
			t.Fatal(err)
		}
		return string(line[9:]), c
	}
	for request, want := range map[string]string{
		"CONNECT ta.app.d1:80": "400", "CONNECT ta.d1:443": "400", "CONNECT ta.app.none:443": "404", "CONNECT xx.app.d1:443": "404",
		"GET /": "405", "CONNECT .app.d1:443": "400",
	} {
		if got, _ := connect(request); got != want {
			t.Errorf("%s: %s, want %s", request, got, want)
		}
	}
	status, c := connect("CONNECT ta.app.d1:443")
	if status != "200" {
		t.Fatal(status)
	}
	_, _ = io.WriteString(c, "bytes for the TEE")
	_ = c.(*net.TCPConn).CloseWrite()
	rest, err := io.ReadAll(c)
	if err != nil || !strings.HasSuffix(string(rest), "\r\n\r\nbytes for the TEE") {
		t.Errorf("%q, %v", rest, err)
	}
}

func TestFetcher(t *testing.T) {
	m := newFakeMOC(t)
	m.blobs["abc"] = "payload"
	var sawToken string
	web := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		sawToken += r.Header.Get("Authorization")
		switch r.URL.Path {
		case "/ok":
			io.WriteString(w, "payload")
		case "/elsewhere":
			http.Redirect(w, r, "/ok", http.StatusFound)
		case "/endless":
			w.(http.Flusher).Flush()
			<-r.Context().Done()
		default:
			http.NotFound(w, r)
		}
	}))
	defer web.Close()
	f := newFetcher(&mocapi.Client{BaseURL: m.URL, Token: "device-token"}, nil, nil)
	f.stall = 50 * time.Millisecond
	fetch := func(uri string, limit int64) (string, error) {
		r, err := f.fetch(t.Context(), uri, limit, nil)
		if err != nil {
			return "", err
		}
		defer r.Close()
		data, err := io.ReadAll(r)
		return string(data), err
	}
	for _, uri := range []string{"ni:///sha-256;abc", web.URL + "/ok"} {
		for _, limit := range []int64{-1, 7, 8} {
			if got, err := fetch(uri, limit); err != nil || got != "payload" {
				t.Errorf("%s limit %d: %q, %v", uri, limit, got, err)
			}
		}
		if _, err := fetch(uri, 6); !errors.Is(err, channel.ErrTooLarge) {
			t.Errorf("%s over the limit: %v", uri, err)
		}
	}
	for uri, want := range map[string]error{
		"ni:///sha-256;none": channel.ErrNotFound, web.URL + "/none": channel.ErrNotFound, "file:///etc/passwd": channel.ErrRefused,
		"/etc/passwd": channel.ErrRefused, ":": channel.ErrRefused, web.URL + "/endless": context.Canceled,
	} {
		if got, err := fetch(uri, 100); !errors.Is(err, want) {
			t.Errorf("%s: %q, %v; want %v", uri, got, err, want)
		}
	}
	if got, err := fetch(web.URL+"/elsewhere", 100); err == nil {
		t.Errorf("a redirect was followed: %q", got)
	}
	if sawToken != "" {
		t.Error("the device's token went to another server")
	}
	if len(f.slots) != 0 {
		t.Errorf("%d slots are not given back", len(f.slots))
	}
}
