// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"net"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/moc/mocapi"
	"sealift/teep"
)

// garbage is CBOR that no decoder of ours may accept, whatever it decodes.
var garbage = map[string][]byte{
	"truncated":            {0x83, 0x01, 0xa1},
	"truncated string":     {0xd2, 0x84, 0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1, 2, 3},
	"too many elements":    {0x9b, 0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01},
	"duplicate key":        {0x82, 0x01, 0xa2, 0x01, 0x81, 0x00, 0x01, 0x81, 0x00},
	"indefinite length":    {0x9f, 0x01, 0xbf, 0xff, 0xff},
	"indefinite string":    {0xd2, 0x84, 0x5f, 0x41, 0xa0, 0xff, 0xa0, 0x41, 0x00, 0x41, 0x00},
	"trailing byte":        {0x82, 0x05, 0xa0, 0x00},
	"deeply nested arrays": append(bytes.Repeat([]byte{0x81}, 20000), 0x00),
	"deeply nested tags":   append(bytes.Repeat([]byte{0xd2}, 20000), 0x00),
	"deeply nested maps":   append(bytes.Repeat([]byte{0xa1, 0x01}, 20000), 0x00),
	"reserved head":        {0x1c, 0x5d, 0x7e, 0xff},
	"not CBOR":             []byte("<html>GET / HTTP/1.1\r\n\r\n"),
	"zeros":                make([]byte, 4096),
	"unknown type":         {0x82, 0x18, 0x63, 0xa0},
	"negative type":        {0x82, 0x20, 0xa0},
	"no type":              {0x80},
}

// target is a running deployment with a UA, at whose surroundings garbage is thrown.
type target struct {
	u      *user
	dev    devInfo
	client *mocapi.Client
	id     string
	was    *mocapi.Deployment
}

func newTarget(t *testing.T) *target {
	t.Helper()
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", statsPackage(t, u, "ua,ta,pd"))
	u.must("", "deploy", "--wait", "stats.sealift")
	g := &target{u: u, dev: devState(t, u), id: deployments(t, u)[0].ID}
	g.client = &mocapi.Client{BaseURL: g.dev.URL, Token: token(t, u, "owner")}
	answers(t, u, g.id)
	g.was = g.now(t)
	return g
}

func (g *target) now(t *testing.T) *mocapi.Deployment {
	t.Helper()
	d, err := g.client.Deployment(t.Context(), g.id, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// unharmed fails if a process has died or a state has changed, and shows that all still works.
func (g *target) unharmed(t *testing.T) {
	t.Helper()
	noneDied(t, g.dev, devState(t, g.u))
	if now := g.now(t); now.Version != g.was.Version || now.State != g.was.State || !now.AgentKey.Equal(g.was.AgentKey) {
		t.Errorf("the deployment has changed: version %d %s, it was %d %s", now.Version, now.State, g.was.Version, g.was.State)
	}
	if all := deployments(t, g.u); len(all) != 1 {
		t.Errorf("deployments: %+v", all)
	}
	answers(t, g.u, g.id)
	if r := g.u.must("", "remove", g.id); r.took > 10*time.Second {
		t.Errorf("removal took %s: something has waited for a caller", r.took)
	}
	stillWorks(t, g.u)
	if text := logs(g.u); strings.Contains(text, "panic") || strings.Contains(text, "goroutine ") {
		t.Errorf("something has panicked:\n%s", text)
	}
}

// The TAM learns nothing from garbage and tells nothing: what it does not believe ends the session without a word
// (204), and what is no TEEP over HTTP has the status of the transport.
func TestGarbageToTheTAM(t *testing.T) {
	g := newTarget(t)
	uri := g.dev.URL + "/tam/" + g.id
	for name, data := range garbage {
		for shape, msg := range map[string][]byte{"bare": data, "signed": sign1(t, stranger(t), nil, data)} {
			if resp, body := request(t, "POST", uri, "", teep.MediaType, string(msg)); resp.StatusCode != 204 || body != "" {
				t.Errorf("%s, %s: %s %q", name, shape, resp.Status, body)
			}
		}
	}
	for name, msg := range forged(t, g.was) {
		if resp, body := request(t, "POST", uri, "", teep.MediaType, string(msg)); resp.StatusCode != 204 || body != "" {
			t.Errorf("%s: %s %q", name, resp.Status, body)
		}
	}
	for _, c := range []struct {
		method, path, contentType, body string
		status                          int
	}{
		{"GET", uri, "", "", 405}, {"PUT", uri, teep.MediaType, "x", 405}, {"POST", uri, "text/plain", "x", 415}, {"POST", uri, "", "x", 415},
		{"POST", uri, teep.MediaType, strings.Repeat("x", 32<<20), 413},
		{"POST", uri + "/more", teep.MediaType, "x", 404}, {"POST", g.dev.URL + "/tam/dffffffffffffffff", teep.MediaType, "", 404},
	} {
		if resp, body := request(t, c.method, c.path, "", c.contentType, c.body); resp.StatusCode != c.status {
			t.Errorf("%s %s with %d bytes of %q: %s, want %d\n%.200s", c.method, c.path, len(c.body), c.contentType, resp.Status, c.status, body)
		}
	}
	g.unharmed(t)
}

// The REST interface answers whatever is wrong with a request with a problem and a status from 400 to 499.
func TestGarbageToREST(t *testing.T) {
	g := newTarget(t)
	owner, device := token(t, g.u, "owner"), token(t, g.u, "device")
	deployment := "/v1/deployments/" + g.id
	key, err := g.was.OwnerKey.MarshalText()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		method, path, token, contentType, body string
		status                                 int
	}{
		{"POST", "/v1/deployments", owner, "application/json", ``, 400},
		{"POST", "/v1/deployments", owner, "application/json", `{"app":`, 400},
		{"POST", "/v1/deployments", owner, "application/json", `{} {}`, 400},
		{"POST", "/v1/deployments", owner, "application/json", `{"colour":1}`, 400},
		{"POST", "/v1/deployments", owner, "application/json", `[1]`, 400},
		{"POST", "/v1/deployments", owner, "application/json", `{"app":7}`, 400},
		{"POST", "/v1/deployments", owner, "application/json", "\xff\xfe", 400},
		{"POST", "/v1/deployments", owner, "application/json", strings.Repeat(`[`, 500000), 400},
		{"POST", "/v1/deployments", owner, "application/json", `{"app":"` + strings.Repeat("x", 2<<20) + `"}`, 413},
		{"POST", "/v1/deployments", owner, "application/json", `{"app":"x","mode":"zz","owner_key":null,"packages":[]}`, 400},
		{"POST", "/v1/deployments", owner, "application/json", `{"app":"x","mode":"ta,pd","hardware":["none"]}`, 400},
		{"POST", "/v1/deployments", owner, "application/json", `{"app":"x","mode":"ta,pd","owner_key":"` + string(key) + `","hardware":["sev-snp"],"instances":["process"]}`, 422},
		{"POST", "/v1/deployments", owner, "text/plain", `{}`, 415},
		{"POST", "/v1/deployments", owner, "", `{}`, 415},
		{"PATCH", "/v1/deployments", owner, "", ``, 405},
		{"GET", deployment + "?wait=long", owner, "", ``, 400},
		{"GET", deployment + "?since=-1", owner, "", ``, 400},
		{"GET", "/v1/deployments/..%2f..%2fetc", owner, "", ``, 404},
		{"GET", "/v1/deployments/%00", owner, "", ``, 404},
		{"GET", "/v1/nothing", owner, "", ``, 404},
		{"POST", deployment + "/evidence-requests", owner, "application/json", `{"nonce":"AA=="}`, 400},
		{"POST", deployment + "/evidence-requests", owner, "application/json", `{"nonce":"not base64!"}`, 400},
		{"GET", deployment + "/evidence/none", owner, "", ``, 404},
		{"POST", deployment + "/appraisals", owner, "application/json", `{}`, 422},
		{"POST", deployment + "/releases", owner, "application/json", `{"packages":[{"role":"pd","repository":"owner/x/pd","digest":"sha256:00"}]}`, 409},
		{"POST", "/v1/devices/device-1/announce", device, "application/json", `{"broker_id":""}`, 400},
		{"POST", "/v1/devices/device-1/announce", device, "application/json", `{"broker_id":"somebody-else-entirely","hardware":"trustzone","capacity":1}`, 400},
		{"GET", "/v1/devices/device-1/work?broker=somebody-else", device, "", ``, 409},
	} {
		resp, body := request(t, c.method, g.dev.URL+c.path, c.token, c.contentType, c.body)
		if resp.StatusCode != c.status || resp.Header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s %s %.60q: %s, want %d\n%.300s", c.method, c.path, c.body, resp.Status, c.status, body)
		}
	}
	for _, c := range []struct {
		method, path, body string
		status             []int
	}{
		{"PUT", "/v2/owner/x/ta/manifests/sha256:" + strings.Repeat("0", 64), "not a manifest", []int{400}},
		{"PUT", "/v2/owner/x/ta/manifests/latest", strings.Repeat("x", 8<<20), []int{400, 413}},
		{"POST", "/v2/owner/x/ta/blobs/uploads/?digest=sha256:" + strings.Repeat("0", 64), "other bytes", []int{400}},
		{"POST", "/v2/owner/x/ta/blobs/uploads/?digest=md5:0", "other bytes", []int{400}},
		{"PATCH", "/v2/owner/x/ta/blobs/uploads/0000", "x", []int{404}},
		{"GET", "/v2/owner/../../../etc/passwd", "", []int{301, 404, 401, 403, 400}},
		{"GET", "/v2/owner%2f..%2f..%2fx/manifests/latest", "", []int{400, 404, 403}},
		{"GET", "/v2/owner/x/ta/blobs/sha256:../../keys", "", []int{400, 404}},
	} {
		resp, body := request(t, c.method, g.dev.URL+c.path, owner, "application/vnd.oci.image.manifest.v1+json", c.body)
		if !slices.Contains(c.status, resp.StatusCode) {
			t.Errorf("%s %s: %s, want %v\n%.300s", c.method, c.path, resp.Status, c.status, body)
		}
	}
	g.unharmed(t)
}

// Bytes that are no protocol at all, at each port that somebody listens on: the M/OC, the relay, the UA.
func TestGarbageToEveryPort(t *testing.T) {
	g := newTarget(t)
	ports := map[string]string{"moc": strings.TrimPrefix(g.dev.URL, "http://"), "relay": g.was.RelayAddr}
	for _, ua := range g.was.InstanceStatus.UAs {
		for name, port := range ua.Ports {
			ports["ua "+name] = fmt.Sprint(port)
		}
	}
	if len(ports) != 3 {
		t.Fatalf("ports: %v", ports)
	}
	random := make([]byte, 64<<10)
	_, _ = rand.Read(random)
	var wg sync.WaitGroup
	for name, addr := range ports {
		for what, data := range garbage {
			wg.Go(func() { throw(t, addr, name+": "+what, data) })
		}
		for what, data := range map[string][]byte{
			"nothing": nil, "random": random, "a TLS record that is none": append([]byte{22, 3, 1, 0xff, 0xff}, random...),
			"an endless header": []byte("GET / HTTP/1.1\r\nX: " + strings.Repeat("x", 1<<20)),
			"endless headers":   []byte("GET / HTTP/1.1\r\n" + strings.Repeat("X: y\r\n", 1<<16)),
			"chunks":            []byte("POST /tam/x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffffffffff\r\n"),
			"two lengths":       []byte("POST /tam/x HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nxx"),
			"HTTP/2":            []byte("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\x00\x00\x00\x04\x00\x00\x00\x00\x00"),
		} {
			wg.Go(func() { throw(t, addr, name+": "+what, data) })
		}
	}
	wg.Wait()
	relay := g.was.RelayAddr
	for request, status := range map[string]string{
		"GET / HTTP/1.1\r\nHost: x\r\n\r\n":                               "405",
		"CONNECT example.com:443 HTTP/1.1\r\nHost: x\r\n\r\n":             "400",
		"CONNECT ta.stats." + g.id + ":80 HTTP/1.1\r\nHost: x\r\n\r\n":    "400",
		"CONNECT ta.stats.dffff:443 HTTP/1.1\r\nHost: x\r\n\r\n":          "404",
		"CONNECT nota.stats." + g.id + ":443 HTTP/1.1\r\nHost: x\r\n\r\n": "404",
		"CONNECT ../../x:443 HTTP/1.1\r\nHost: x\r\n\r\n":                 "400",
		"CONNECT :443 HTTP/1.1\r\nHost: x\r\n\r\n":                        "400",
	} {
		if got := throw(t, relay, "relay request", []byte(request)); !strings.HasPrefix(got, "HTTP/1.1 "+status) {
			t.Errorf("relay: %q is answered by %.400q, want %s", request, got, status)
		}
	}
	for what, data := range garbage { // through the relay, to the TA's TLS
		wg.Go(func() {
			throw(t, relay, "TA: "+what, append([]byte("CONNECT ta.stats."+g.id+":443 HTTP/1.1\r\nHost: x\r\n\r\n"), data...))
		})
	}
	wg.Wait()
	g.unharmed(t)
}

// throw sends data, ends its side of the connection, and returns the start of what comes back until the other side has ended its own.
func throw(t *testing.T, addr, what string, data []byte) string {
	t.Helper()
	conn, err := net.DialTimeout("tcp", addr, 5*time.Second)
	if err != nil {
		t.Errorf("%s: nobody listens any more: %v", what, err)
		return ""
	}
	defer conn.Close()
	_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
	_, _ = conn.Write(data)                        // the other side may well close before it has read all
	if !strings.HasPrefix(what, "relay request") { // the relay stops working for a caller that has hung up
		_ = conn.(*net.TCPConn).CloseWrite()
	}
	answer, err := io.ReadAll(io.LimitReader(conn, 1<<20))
	if e, ok := err.(net.Error); ok && e.Timeout() {
		t.Errorf("%s: the connection stays open", what)
	}
	return string(answer)
}

// The emulated hardware's socket: a bad packet costs its sender the connection, or gets a refusal.
func TestGarbageToTheEmulator(t *testing.T) {
	g := newTarget(t)
	socket := emulatorSocket(t, g.u)
	requests := map[string][]byte{
		"nothing":          {},
		"unknown request":  cose.MustMarshal(map[int]any{1: 99}),
		"launch, no image": cose.MustMarshal(map[int]any{1: 2, 2: "x", 3: []byte{}}),
		"launch of ..":     cose.MustMarshal(map[int]any{1: 2, 2: "../../x", 3: []byte{}}),
		"destroy ..":       cose.MustMarshal(map[int]any{1: 4, 2: "../" + g.id}),
		"destroy /":        cose.MustMarshal(map[int]any{1: 4, 2: "/"}),
		"destroy nothing":  cose.MustMarshal(map[int]any{1: 4}),
		"attach nothing":   cose.MustMarshal(map[int]any{1: 3, 2: "d0000000000000000"}),
		"an id too long":   cose.MustMarshal(map[int]any{1: 3, 2: strings.Repeat("d", 60000)}),
		"a wrong type":     cose.MustMarshal(map[int]any{1: "launch"}),
	}
	for what, data := range garbage {
		requests[what] = data
	}
	for what, data := range requests {
		conn, err := net.Dial("unixpacket", socket)
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		defer conn.Close()
		_ = conn.SetDeadline(time.Now().Add(8 * time.Second))
		if _, err := conn.Write(data); err != nil {
			t.Errorf("%s: %v", what, err)
		}
		answer := make([]byte, 128<<10)
		n, err := conn.Read(answer)
		if e, ok := err.(net.Error); ok && e.Timeout() {
			t.Errorf("%s: the connection stays open", what)
		}
		var a struct {
			Code uint   `cbor:"1,keyasint,omitempty"`
			Text string `cbor:"2,keyasint,omitempty"`
		}
		if strings.HasPrefix(what, "destroy") && bytes.Equal(answer[:n], []byte{0xa0}) {
			continue // what is not there is gone
		}
		if n > 0 && (cose.Unmarshal(answer[:n], &a) != nil || a.Code == 0 || a.Text == "") {
			t.Errorf("%s is answered by %x", what, answer[:min(n, 100)])
		}
	}
	// Many that say nothing do not keep the Broker out for longer than their time.
	for range 40 {
		conn, err := net.Dial("unixpacket", socket)
		if err != nil {
			break
		}
		defer conn.Close()
	}
	g.unharmed(t)
}
