// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"sealift/teep"
)

// request makes one request and returns status and body.
func request(t *testing.T, method, url, bearer, contentType, body string) (*http.Response, string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if bearer != "" {
		req.Header.Set("Authorization", "Bearer "+bearer)
	}
	if contentType != "" {
		req.Header.Set("Content-Type", contentType)
	}
	if strings.Contains(url, "/tam/") {
		req.Header.Set("Accept", teep.MediaType) // without it, the answer is 406
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp, string(data)
}

// Without a token, or with an unknown one, every endpoint of the M/OC's REST interface and of its registry answers 401; with
// one of another role, 403; and an owner sees nothing of another.
func TestWrongTokens(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	base := devState(t, u).URL
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	u.must("", "deploy", "--wait", "text.sealift")
	id := deployments(t, u)[0].ID
	other := strings.TrimSpace(u.must("", "moc", "token", "--state", filepath.Join(u.home, "dev", "moc"), "--role", "owner", "--name", "other").stdout)
	operator, device, owner := token(t, u, "operator"), token(t, u, "device"), token(t, u, "owner")

	var doc struct {
		Paths map[string]map[string]struct {
			Security []any `json:"security"`
		} `json:"paths"`
	}
	_, text := request(t, "GET", base+"/v1/openapi.json", "", "", "")
	decode(t, text, &doc)
	tried := 0
	for path, methods := range doc.Paths {
		for method, about := range methods {
			if len(about.Security) == 0 {
				continue
			}
			tried++
			url := base + strings.NewReplacer("{id}", id, "{request}", "x", "{value}", "x").Replace(path)
			for _, wrong := range []string{"", "x", owner[1:], owner + "x", strings.ToLower(owner)} {
				resp, body := request(t, strings.ToUpper(method), url, wrong, "application/json", "{}")
				if resp.StatusCode != 401 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), "Bearer") || !isProblem(resp, body, "unauthorized") {
					t.Errorf("%s %s with the token %q: %s\n%s", method, path, wrong, resp.Status, body)
				}
			}
		}
	}
	if tried < 10 {
		t.Errorf("%d endpoints need a token: the description is not what was meant", tried)
	}

	for _, c := range []struct {
		method, path, token string
		status              int
		code                string
	}{
		{"POST", "/v1/devices/device-1/announce", owner, 403, "forbidden"},
		{"POST", "/v1/devices/device-2/announce", device, 403, "forbidden"},
		{"GET", "/v1/devices/device-2/work", device, 403, "forbidden"},
		{"GET", "/v1/devices", device, 403, "forbidden"},
		{"POST", "/v1/deployments", operator, 403, "forbidden"},
		{"POST", "/v1/deployments", device, 403, "forbidden"},
		{"POST", "/v1/deployments/" + id + "/releases", operator, 403, "forbidden"},
		{"POST", "/v1/deployments/" + id + "/releases", other, 404, "not-found"},
		{"GET", "/v1/deployments/" + id, other, 404, "not-found"},
		{"GET", "/v1/deployments/" + id + "/events", other, 404, "not-found"},
		{"DELETE", "/v1/deployments/" + id, other, 404, "not-found"},
		{"DELETE", "/v1/deployments/" + id, device, 403, "forbidden"},
	} {
		resp, body := request(t, c.method, base+c.path, c.token, "application/json", `{}`)
		if c.status == 403 && resp.StatusCode == 400 {
			// A body is read before a device's name is compared: give it one that is well-formed.
			resp, body = request(t, c.method, base+c.path, c.token, "application/json", `{"broker_id":"x"}`)
		}
		if resp.StatusCode != c.status || !isProblem(resp, body, c.code) {
			t.Errorf("%s %s: %s\n%s", c.method, c.path, resp.Status, body)
		}
	}

	for _, c := range []struct {
		method, path, token string
		status              int
	}{
		{"GET", "/v2/", "", 401}, {"GET", "/v2/", "x", 401}, {"GET", "/v2/owner/text/ta/tags/list", "", 401},
		{"POST", "/v2/owner/text/ta/blobs/uploads/", other, 403}, {"POST", "/v2/owner/text/ta/blobs/uploads/", operator, 403},
		{"POST", "/v2/owner/text/ta/blobs/uploads/", device, 403}, {"POST", "/v2/ownerx/text/ta/blobs/uploads/", owner, 403},
	} {
		if resp, body := request(t, c.method, base+c.path, c.token, "", ""); resp.StatusCode != c.status {
			t.Errorf("%s %s: %s\n%s", c.method, c.path, resp.Status, body)
		}
	}

	u.refused(1, []string{"the bearer token is not known"}, "context", "set", base, "--token", "wrong", "--name", "wrong")
	if r := u.must("some\n", "call", "text"); r.stdout != "some text\n" {
		t.Errorf("the TA answers %q", r.stdout)
	}
	u.must("", "remove", "text")
	stillWorks(t, u)
}

// isProblem reports whether an answer is a problem object (RFC 9457) with the code.
func isProblem(resp *http.Response, body, code string) bool {
	var p struct {
		Code   string `json:"code"`
		Status int    `json:"status"`
		Detail string `json:"detail"`
	}
	return resp.Header.Get("Content-Type") == "application/problem+json" && json.Unmarshal([]byte(body), &p) == nil &&
		p.Code == code && p.Status == resp.StatusCode && p.Detail != ""
}
