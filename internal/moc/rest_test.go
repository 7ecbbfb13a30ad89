// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"bytes"
	"encoding/json"
	"flag"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc"
	"sealift/internal/moc/load"
	"sealift/internal/moc/mocapi"
	"sealift/suit"
)

var update = flag.Bool("update", false, "write the golden files")

// TestBadRequests sends what no client should send: each gets a problem with the right code, and nothing is stored.
func TestBadRequests(t *testing.T) {
	w := newWorld(t)
	d, _ := w.deploy()
	nobody := &mocapi.Client{BaseURL: w.owner.BaseURL}
	forged := &mocapi.Client{BaseURL: w.owner.BaseURL, Token: "AAAA"}
	const js = "application/json"
	at := "/v1/deployments/" + d.ID
	for name, c := range map[string]struct {
		client   *mocapi.Client
		path     string
		mediaTyp string
		body     string
		code     string
	}{
		"no token":              {nobody, "/v1/deployments", js, `{}`, fault.Unauthorized},
		"forged token":          {forged, "/v1/deployments", js, `{}`, fault.Unauthorized},
		"wrong role":            {w.device, "/v1/deployments", js, `{}`, fault.Forbidden},
		"operator appraises":    {w.operator, at + "/appraisals", js, `{}`, fault.Forbidden},
		"operator releases":     {w.operator, at + "/releases", js, `{}`, fault.Forbidden},
		"owner announces":       {w.owner, "/v1/devices/d1/announce", js, `{}`, fault.Forbidden},
		"another device":        {w.device, "/v1/devices/d2/announce", js, `{}`, fault.Forbidden},
		"content type":          {w.owner, "/v1/deployments", "text/plain", `{}`, fault.UnsupportedMedia},
		"no content type":       {w.owner, "/v1/deployments", "", `{}`, fault.UnsupportedMedia},
		"not JSON":              {w.owner, "/v1/deployments", js, `{`, fault.BadRequest},
		"unknown member":        {w.owner, "/v1/deployments", js, `{"app":"app","surprise":1}`, fault.BadRequest},
		"two values":            {w.owner, "/v1/deployments", js, `{} {}`, fault.BadRequest},
		"array":                 {w.owner, "/v1/deployments", js, `[]`, fault.BadRequest},
		"oversized":             {w.owner, "/v1/deployments", js, `{"app":"` + strings.Repeat("a", 2<<20) + `"}`, fault.TooLarge},
		"no app":                {w.owner, "/v1/deployments", js, `{}`, fault.BadRequest},
		"path as app":           {w.owner, "/v1/deployments", js, `{"app":"../x"}`, fault.BadRequest},
		"no key":                {w.owner, "/v1/deployments", js, `{"app":"app","mode":"ta,pd"}`, fault.BadRequest},
		"bad key":               {w.owner, "/v1/deployments", js, `{"app":"app","owner_key":"AAAA"}`, fault.BadRequest},
		"short nonce":           {w.owner, at + "/evidence-requests", js, `{"nonce":"AAAA"}`, fault.BadRequest},
		"zero nonce":            {w.owner, at + "/evidence-requests", js, `{"nonce":"` + strings.Repeat("A", 43) + `="}`, fault.BadRequest},
		"another's deployment":  {w.other, at + "/evidence-requests", js, `{"nonce":"` + strings.Repeat("B", 43) + `="}`, fault.NotFound},
		"no such deployment":    {w.owner, "/v1/deployments/d0/releases", js, `{}`, fault.NotFound},
		"unknown Evidence":      {w.owner, at + "/appraisals", js, `{"evidence":"e0","result":"AAAA"}`, fault.BadAppraisal},
		"release too early":     {w.owner, at + "/releases", js, `{"appraisal":""}`, fault.ReleaseBeforeAppraisal},
		"no broker":             {w.device, "/v1/devices/d1/announce", js, `{}`, fault.BadRequest},
		"unknown hardware":      {w.device, "/v1/devices/d1/announce", js, `{"broker_id":"b1","hardware":"abacus"}`, fault.BadRequest},
		"fingerprint":           {w.device, "/v1/devices/d1/announce", js, `{"broker_id":"b1","hardware":"sgx","root_fingerprint":"00"}`, fault.BadRequest},
		"method":                {w.owner, "/v1/whoami", js, `{}`, fault.MethodNotAllowed},
		"no endpoint":           {w.owner, "/v1/nothing", js, `{}`, fault.NotFound},
		"payload by POST":       {w.device, "/.well-known/ni/sha-256/AAAA", js, `{}`, fault.MethodNotAllowed},
		"trailing after number": {w.owner, "/v1/deployments", js, `1e999`, fault.BadRequest},
	} {
		t.Run(name, func(t *testing.T) {
			resp := w.post(c.client, c.path, c.mediaTyp, []byte(c.body))
			problem := new(fault.Error)
			if err := json.NewDecoder(resp.Body).Decode(problem); err != nil {
				t.Fatalf("status %s, no problem details: %v", resp.Status, err)
			}
			if problem.Code != c.code || resp.StatusCode != fault.Status(c.code) || problem.Message == "" {
				t.Errorf("status %s, code %s (%s), want %s", resp.Status, problem.Code, problem.Message, c.code)
			}
			if got := resp.Header.Get("Content-Type"); got != "application/problem+json" {
				t.Errorf("content type %q", got)
			}
		})
	}
	if got := w.get(d.ID).Version; got != d.Version {
		t.Errorf("version %d after bad requests, was %d", got, d.Version)
	}
}

// TestQueries sends bad query parameters, and looks at others' things.
func TestQueries(t *testing.T) {
	w := newWorld(t)
	d, _ := w.deploy()
	for _, path := range []string{"?since=x", "?wait=x", "?wait=-1s", "?since=-1"} {
		resp := w.fetch(w.owner, "/v1/deployments/"+d.ID+path)
		if resp.StatusCode != http.StatusBadRequest {
			t.Errorf("%s: status %s", path, resp.Status)
		}
	}
	if list, err := w.other.Deployments(w.ctx); err != nil || len(list) != 0 {
		t.Errorf("another owner sees %v, %v", list, err)
	}
	_, err := w.other.Deployment(w.ctx, d.ID, 0, 0)
	wantCode(t, err, fault.NotFound)
	_, err = w.other.DeleteDeployment(w.ctx, d.ID)
	wantCode(t, err, fault.NotFound)
	if list, err := w.operator.Deployments(w.ctx); err != nil || len(list) != 1 {
		t.Errorf("the operator sees %v, %v", list, err)
	}
	devices, err := w.owner.Devices(w.ctx)
	if err != nil || len(devices) != 1 || !devices[0].Live || devices[0].Used != 1 || !devices[0].Emulated {
		t.Errorf("devices %+v, %v", devices, err)
	}
	if id, err := w.owner.WhoAmI(w.ctx); err != nil || id != (mocapi.Identity{Role: mocapi.RoleOwner, Name: "alpha"}) {
		t.Errorf("who am I: %+v, %v", id, err)
	}
	for _, path := range []string{"/healthz", "/v1/openapi.json"} {
		if resp := w.fetch(&mocapi.Client{BaseURL: w.owner.BaseURL}, path); resp.StatusCode != http.StatusOK {
			t.Errorf("%s without a token: %s", path, resp.Status)
		}
	}
}

func (w *world) fetch(c *mocapi.Client, path string) *http.Response {
	w.t.Helper()
	req, err := http.NewRequestWithContext(w.ctx, http.MethodGet, c.BaseURL+path, nil)
	must(w.t, err)
	if c.Token != "" {
		req.Header.Set("Authorization", "Bearer "+c.Token)
	}
	resp, err := http.DefaultClient.Do(req)
	must(w.t, err)
	w.t.Cleanup(func() { resp.Body.Close() })
	return resp
}

// TestBadPackages asks for deployments with packages that are not acceptable.
func TestBadPackages(t *testing.T) {
	w := newWorld(t)
	w.announce()
	good := w.request()
	with := func(change func(*mocapi.DeploymentRequest)) mocapi.DeploymentRequest {
		r := good
		r.Packages = append([]mocapi.PackageRef{}, good.Packages...)
		change(&r)
		return r
	}
	envelope := func(role string, id suit.ComponentID) []byte {
		data, err := load.Manifest(w.signer, "app", role, id, 1, []byte("x"))
		must(t, err)
		return data
	}
	push := func(data []byte, payloads ...[]byte) mocapi.PackageRef {
		ref, err := load.Push(w.ctx, w.owner, "ta", "alpha/app/ta", data, payloads...)
		must(t, err)
		return ref
	}
	ta := suit.NewComponentID("tee", "app", "ta")
	flipped := bytes.Clone(envelope("ta", ta))
	flipped[len(flipped)-3] ^= 1
	for name, c := range map[string]struct {
		request mocapi.DeploymentRequest
		code    string
	}{
		"none":            {with(func(r *mocapi.DeploymentRequest) { r.Packages = nil }), fault.BadPackage},
		"PD too early":    {with(func(r *mocapi.DeploymentRequest) { r.Packages[0].Role = "pd" }), fault.BadPackage},
		"twice":           {with(func(r *mocapi.DeploymentRequest) { r.Packages = append(r.Packages, r.Packages[0]) }), fault.BadPackage},
		"another's":       {with(func(r *mocapi.DeploymentRequest) { r.Packages[0].Repository = "beta/app/ta" }), fault.BadPackage},
		"escape":          {with(func(r *mocapi.DeploymentRequest) { r.Packages[0].Repository = "alpha/../../x" }), fault.BadPackage},
		"unknown":         {with(func(r *mocapi.DeploymentRequest) { r.Packages[0].Digest = "sha256:" + strings.Repeat("0", 64) }), fault.BadPackage},
		"not a digest":    {with(func(r *mocapi.DeploymentRequest) { r.Packages[0].Digest = "latest" }), fault.BadPackage},
		"another app":     {with(func(r *mocapi.DeploymentRequest) { r.App = "else" }), fault.BadPackage},
		"bit flipped":     {with(func(r *mocapi.DeploymentRequest) { r.Packages[0] = push(flipped, []byte("x")) }), fault.BadPackage},
		"payload missing": {with(func(r *mocapi.DeploymentRequest) { r.Packages[0] = push(envelope("ta", ta)) }), fault.BadPackage},
		"another role":    {with(func(r *mocapi.DeploymentRequest) { r.Packages[0] = push(envelope("ua", ta), []byte("x")) }), fault.BadPackage},
		"component elsewhere": {with(func(r *mocapi.DeploymentRequest) {
			r.Packages[0] = push(envelope("ta", suit.NewComponentID("ree", "app", "ua")), []byte("x"))
		}), fault.BadPackage},
		"unknown mode":     {with(func(r *mocapi.DeploymentRequest) { r.Mode = "pd" }), fault.BadRequest},
		"unknown hardware": {with(func(r *mocapi.DeploymentRequest) { r.Hardware = []string{"abacus"} }), fault.BadRequest},
		"no such cell":     {with(func(r *mocapi.DeploymentRequest) { r.Hardware, r.Instances = []string{"sgx"}, []string{"vm"} }), fault.InvalidCell},
		"another device":   {with(func(r *mocapi.DeploymentRequest) { r.Device = "d2" }), fault.NoDevice},
	} {
		_, err := w.owner.CreateDeployment(w.ctx, c.request)
		if !fault.Is(err, c.code) {
			t.Errorf("%s: got %v, want the fault %s", name, err, c.code)
		}
	}
	if list, err := w.owner.Deployments(w.ctx); err != nil || len(list) != 0 {
		t.Errorf("bad requests left %v, %v", list, err)
	}
}

// TestPlacementSaysWhy fills a device and lets another one die: each refusal names device and constraint.
func TestPlacementSaysWhy(t *testing.T) {
	w := newWorld(t)
	r := w.request()
	_, err := w.owner.CreateDeployment(w.ctx, r)
	wantCode(t, err, fault.NoDevice)
	w.announce()
	for range 4 {
		_, err := w.owner.CreateDeployment(w.ctx, r)
		must(t, err)
	}
	_, err = w.owner.CreateDeployment(w.ctx, r)
	wantCode(t, err, fault.NoDevice)
	if got := fault.From(err); !strings.Contains(got.Message, "capacity") || !strings.Contains(got.Message, "d1") {
		t.Errorf("refusal: %v", got.Message)
	}
	var why []mocapi.Exclusion
	if raw, ok := fault.From(err).Details.(json.RawMessage); !ok || json.Unmarshal(raw, &why) != nil || len(why) != 1 || why[0].Constraint != "capacity" {
		t.Errorf("details: %+v", why)
	}
	leaving := announcementOf(w)
	leaving.Leaving = true
	must(t, w.device.Announce(w.ctx, "d1", leaving))
	_, err = w.owner.CreateDeployment(w.ctx, r)
	if got := fault.From(err); got.Code != fault.NoDevice || !strings.Contains(got.Message, "live") {
		t.Errorf("refusal: %+v", got)
	}
}

// TestTwoBrokers lets two Brokers claim one device.
func TestTwoBrokers(t *testing.T) {
	w := newWorld(t)
	w.announce()
	second := announcementOf(w)
	second.BrokerID = "b2"
	wantCode(t, w.device.Announce(w.ctx, "d1", second), fault.DeviceInUse)
	_, err := w.device.Work(w.ctx, "d1", "b2", 0, 0)
	wantCode(t, err, fault.DeviceInUse)
	w.restart()
	wantCode(t, w.device.Announce(w.ctx, "d1", second), fault.DeviceInUse)
	first := announcementOf(w)
	first.Leaving = true
	must(t, w.device.Announce(w.ctx, "d1", first))
	must(t, w.device.Announce(w.ctx, "d1", second))
	_, err = w.device.Work(w.ctx, "d1", "b1", 0, 0)
	wantCode(t, err, fault.DeviceInUse)
}

// TestWakeUp checks that a long poll returns when there is something, long before its time.
func TestWakeUp(t *testing.T) {
	w := newWorld(t)
	w.announce()
	idle, err := w.device.Work(w.ctx, "d1", "b1", 0, 0)
	must(t, err)
	got := make(chan mocapi.Work, 1)
	go func() {
		work, _ := w.device.Work(w.ctx, "d1", "b1", idle.Generation, mocapi.MaxWait)
		got <- work
	}()
	d, err := w.owner.CreateDeployment(w.ctx, w.request())
	must(t, err)
	select {
	case work := <-got:
		if len(work.Instances) != 1 || work.Instances[0].ID != d.ID || len(work.Instances[0].Config) == 0 {
			t.Errorf("work %+v", work)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("the poll was not woken")
	}
	// A poll that waits does not hold up the end of the server.
	go func() { _, _ = w.device.Work(w.ctx, "d1", "b1", idle.Generation+1, mocapi.MaxWait) }()
	begun := time.Now()
	w.restart()
	if took := time.Since(begun); took > 4*time.Second {
		t.Errorf("stopping took %s", took)
	}
}

// TestPayload fetches a payload by its name: the device of the deployment gets it, nobody else does.
func TestPayload(t *testing.T) {
	w := newWorld(t)
	w.deploy()
	ni := "ni:///sha-256;" + b64("a TA")
	for offset, want := range map[int64]string{0: "a TA", 2: "TA"} {
		resp, err := w.device.OpenPayload(w.ctx, ni, offset)
		must(t, err)
		defer resp.Body.Close()
		data, err := io.ReadAll(resp.Body)
		if err != nil || string(data) != want || resp.ContentLength != int64(len(want)) {
			t.Errorf("from %d: got %q (%d), %v", offset, data, resp.ContentLength, err)
		}
	}
	_, err := w.owner.OpenPayload(w.ctx, ni, 0)
	wantCode(t, err, fault.Forbidden)
	w.push("pd", 1, suit.NewComponentID("pd", "app", "x"), "not deployed")
	_, err = w.device.OpenPayload(w.ctx, "ni:///sha-256;"+b64("not deployed"), 0)
	wantCode(t, err, fault.NotFound)
}

// TestDescription keeps the OpenAPI document and the endpoints equal: every operation in it is served, and the golden file
// shows every change of it.
func TestDescription(t *testing.T) {
	got, err := json.MarshalIndent(moc.Description(), "", "  ")
	must(t, err)
	got = append(got, '\n')
	golden := filepath.Join("testdata", "openapi.golden.json")
	if *update {
		must(t, os.MkdirAll("testdata", 0o755))
		must(t, os.WriteFile(golden, got, 0o644))
	}
	want, err := os.ReadFile(golden)
	must(t, err)
	if !bytes.Equal(got, want) {
		t.Errorf("the OpenAPI document has changed; go test -update writes %s", golden)
	}
	w := newWorld(t)
	var doc struct {
		Paths map[string]map[string]struct {
			OperationID string `json:"operationId"`
		} `json:"paths"`
	}
	must(t, json.Unmarshal(got, &doc))
	for path, methods := range doc.Paths {
		for method := range methods {
			concrete := strings.NewReplacer("{id}", "x", "{request}", "x", "{value}", "x").Replace(path)
			req, err := http.NewRequestWithContext(w.ctx, strings.ToUpper(method), w.owner.BaseURL+concrete, nil)
			must(t, err)
			resp, err := http.DefaultClient.Do(req)
			must(t, err)
			resp.Body.Close()
			if resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusMethodNotAllowed {
				t.Errorf("%s %s is described and not served: %s", method, path, resp.Status)
			}
		}
	}
}

// TestSecondServer refuses a second M/OC on the same state.
func TestSecondServer(t *testing.T) {
	w := newWorld(t)
	if _, err := moc.Open(moc.Config{Dir: w.dir, URL: "http://127.0.0.1:1"}); err == nil || !strings.Contains(err.Error(), "another M/OC") {
		t.Errorf("a second M/OC: %v", err)
	}
}
