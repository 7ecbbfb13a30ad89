// SPDX-License-Identifier: Apache-2.0

package teephttp_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/cookiejar"
	"net/http/httptest"
	"strings"
	"testing"

	"sealift/teep"
	"sealift/teep/teephttp"
)

// script is a TAM that gives prepared messages in turn, and keeps what it was sent.
type script struct {
	answers []string
	err     error
	hints   []string
	got     []string
}

func (s *script) next(hint, msg string) ([]byte, error) {
	s.hints, s.got = append(s.hints, hint), append(s.got, msg)
	if s.err != nil || len(s.answers) == 0 {
		return nil, s.err
	}
	answer := s.answers[0]
	s.answers = s.answers[1:]
	return []byte(answer), nil
}

func (s *script) Connect(_ context.Context, hint string) ([]byte, error) { return s.next(hint, "") }
func (s *script) Message(_ context.Context, hint string, msg []byte) ([]byte, error) {
	return s.next(hint, string(msg))
}

func request(method, path, body string, header map[string]string) *http.Request {
	r := httptest.NewRequest(method, path, strings.NewReader(body))
	for k, v := range header {
		r.Header.Set(k, v)
	}
	return r
}

func TestServer(t *testing.T) {
	accept := func(more ...string) map[string]string {
		h := map[string]string{"Accept": teep.MediaType}
		for i := 0; i < len(more); i += 2 {
			h[more[i]] = more[i+1]
		}
		return h
	}
	teepBody := []string{"Content-Type", teep.MediaType}
	for _, c := range []struct {
		name string
		req  *http.Request
		err  error
		want int
	}{
		{"connect", request("POST", "/tam", "", accept()), nil, 200},
		{"connect with a Content-Type", request("POST", "/tam", "", accept("Content-Type", "text/plain")), nil, 200},
		{"connect with a hint", request("POST", "/tam/d1", "", accept()), nil, 200},
		{"message", request("POST", "/tam/", "msg", accept(teepBody...)), nil, 200},
		{"type with parameters", request("POST", "/tam", "msg", accept("Content-Type", "Application/TEEP+CBOR; x=y")), nil, 200},
		{"any type accepted", request("POST", "/tam", "", map[string]string{"Accept": "text/html, */*;q=0.1"}), nil, 200},
		{"any application accepted", request("POST", "/tam", "", map[string]string{"Accept": "application/*"}), nil, 200},
		{"body of the largest size", request("POST", "/tam", strings.Repeat("x", 100), accept(teepBody...)), nil, 200},
		{"GET", request("GET", "/tam", "", accept()), nil, 405},
		{"PUT", request("PUT", "/tam", "msg", accept(teepBody...)), nil, 405},
		{"nothing accepted", request("POST", "/tam", "", nil), nil, 406},
		{"other types accepted", request("POST", "/tam", "", map[string]string{"Accept": "text/html, application/json"}), nil, 406},
		{"type refused by weight", request("POST", "/tam", "", map[string]string{"Accept": "*/*, application/teep+cbor;q=0"}), nil, 406},
		{"garbage accepted", request("POST", "/tam", "", map[string]string{"Accept": ";;"}), nil, 406},
		{"body too large", request("POST", "/tam", strings.Repeat("x", 101), accept(teepBody...)), nil, 413},
		{"body without type", request("POST", "/tam", "msg", accept()), nil, 415},
		{"body of another type", request("POST", "/tam", "msg", accept("Content-Type", "application/cbor")), nil, 415},
		{"compressed body", request("POST", "/tam", "msg", accept("Content-Type", teep.MediaType, "Content-Encoding", "gzip")), nil, 415},
		{"outside the mount point", request("POST", "/tamper", "", accept()), nil, 404},
		{"two elements", request("POST", "/tam/a/b", "", accept()), nil, 404},
		{"hint too long", request("POST", "/tam/"+strings.Repeat("x", 257), "", accept()), nil, 404},
		{"unknown hint", request("POST", "/tam/x", "", accept()), teephttp.ErrNotFound, 404},
		{"busy", request("POST", "/tam", "", accept()), teephttp.ErrUnavailable, 503},
		{"broken", request("POST", "/tam", "", accept()), errors.New("disk full"), 500},
	} {
		t.Run(c.name, func(t *testing.T) {
			tam := &script{answers: []string{"answer"}, err: c.err}
			w := httptest.NewRecorder()
			teephttp.Handler(tam, teephttp.Options{Prefix: "/tam", MaxBody: 100, Logger: slog.New(slog.DiscardHandler)}).ServeHTTP(w, c.req)
			if w.Code != c.want {
				t.Fatalf("status %d, want %d", w.Code, c.want)
			}
			if called := len(tam.got) > 0; called != (c.want == 200 || c.err != nil) {
				t.Error("the TAM was asked, or was not")
			}
			if c.want == 200 {
				checkContent(t, w.Result())
			} else if w.Body.Len() != 0 {
				t.Errorf("refusal with content %q", w.Body)
			}
			if c.want == 405 && w.Header().Get("Allow") != "POST" {
				t.Error("no Allow")
			}
		})
	}
}

// checkContent demands the headers of the draft's section 5.2.
func checkContent(t *testing.T, r *http.Response) {
	t.Helper()
	for name, want := range map[string]string{
		"Content-Type": teep.MediaType, "Content-Length": "6", "X-Content-Type-Options": "nosniff",
		"Content-Security-Policy": "default-src 'none'", "Referrer-Policy": "no-referrer", "Cache-Control": "", "Set-Cookie": "",
	} {
		if got := r.Header.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	if body, err := io.ReadAll(r.Body); err != nil || string(body) != "answer" {
		t.Errorf("body %q, %v", body, err)
	}
}

func TestServerEndsSession(t *testing.T) {
	w := httptest.NewRecorder()
	h := map[string]string{"Accept": teep.MediaType, "Content-Type": teep.MediaType}
	teephttp.Handler(&script{}, teephttp.Options{}).ServeHTTP(w, request("POST", "/d1", "junk", h))
	if w.Code != 204 || w.Body.Len() != 0 || w.Header().Get("Content-Type") != "" {
		t.Errorf("%d %v", w.Code, w.Header())
	}
}

// endless is a body whose length is not announced.
type endless struct{}

func (endless) Read(b []byte) (int, error) { return copy(b, "xxxxxxxx"), nil }

type broken struct{}

func (broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

func TestServerBodiesOfUnknownLength(t *testing.T) {
	for want, body := range map[int]io.Reader{413: endless{}, 400: broken{}} {
		r := httptest.NewRequest("POST", "/", body)
		r.ContentLength = -1
		r.Header.Set("Accept", teep.MediaType)
		r.Header.Set("Content-Type", teep.MediaType)
		w := httptest.NewRecorder()
		teephttp.Handler(&script{}, teephttp.Options{}).ServeHTTP(w, r)
		if w.Code != want {
			t.Errorf("status %d, want %d", w.Code, want)
		}
	}
}

// agent answers with prepared messages, and keeps the errors it was told of.
type agent struct {
	answers []string
	err     error
	got     []string
	errs    []error
}

func (a *agent) ProcessTeepMessage(_ context.Context, msg []byte) ([]byte, error) {
	a.got = append(a.got, string(msg))
	if a.err != nil || len(a.answers) == 0 {
		return nil, a.err
	}
	answer := a.answers[0]
	if len(a.answers) > 1 {
		a.answers = a.answers[1:]
	}
	return []byte(answer), nil
}

func (a *agent) ProcessError(_ context.Context, err error) { a.errs = append(a.errs, err) }

func TestSession(t *testing.T) {
	tam := &script{answers: []string{"query", "update"}}
	srv := httptest.NewServer(http.StripPrefix("/tam", teephttp.Handler(tam, teephttp.Options{})))
	defer srv.Close()
	a := &agent{answers: []string{"response", "success"}}
	if err := new(teephttp.Client).Session(t.Context(), srv.URL+"/tam/d1", a, nil); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(tam.got, ","); got != ",response,success" {
		t.Errorf("TAM got %q", got)
	}
	if got := strings.Join(a.got, ","); got != "query,update" || len(a.errs) != 0 {
		t.Errorf("Agent got %q, %v", got, a.errs)
	}
	if strings.Join(tam.hints, ",") != "d1,d1,d1" {
		t.Errorf("hints %v", tam.hints)
	}
	// An opening message of the Agent, and an Agent that has nothing to say.
	tam.answers, tam.got = []string{"update"}, nil
	a = &agent{}
	if err := new(teephttp.Client).Session(t.Context(), srv.URL+"/tam", a, []byte("unsolicited")); err != nil {
		t.Fatal(err)
	}
	if tam.got[0] != "unsolicited" || len(tam.got) != 1 || a.got[0] != "update" {
		t.Errorf("%v, %v", tam.got, a.got)
	}
	// A failure of the Agent is not the transport's.
	tam.answers = []string{"query"}
	broken := errors.New("enclave lost")
	a = &agent{err: broken}
	if err := new(teephttp.Client).Session(t.Context(), srv.URL+"/tam", a, nil); !errors.Is(err, broken) || len(a.errs) != 0 {
		t.Errorf("%v, %v", err, a.errs)
	}
}

func TestSessionFailures(t *testing.T) {
	var seen *http.Request
	status := func(code int, header ...string) http.HandlerFunc {
		return func(w http.ResponseWriter, r *http.Request) {
			seen = r
			for i := 0; i < len(header); i += 2 {
				w.Header().Set(header[i], header[i+1])
			}
			w.WriteHeader(code)
			if code != 204 {
				_, _ = w.Write([]byte("hello"))
			}
		}
	}
	var want *teephttp.StatusError
	for _, c := range []struct {
		name    string
		handler http.HandlerFunc
		is      error
		status  int
	}{
		{"redirect", status(307, "Location", "/elsewhere"), nil, 307},
		{"permanent redirect", status(301, "Location", "/elsewhere"), nil, 301},
		{"not found", status(404), nil, 404},
		{"server error", status(500), nil, 500},
		{"other type", status(200, "Content-Type", "text/html"), teephttp.ErrProtocol, 0},
		{"compressed", status(200, "Content-Type", teep.MediaType, "Content-Encoding", "gzip"), teephttp.ErrProtocol, 0},
		{"too large", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", teep.MediaType)
			_, _ = w.Write(make([]byte, 1001))
		}, teephttp.ErrTooLarge, 0},
		{"cut off", func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", teep.MediaType)
			w.Header().Set("Content-Length", "10")
			_, _ = w.Write([]byte("x"))
		}, io.ErrUnexpectedEOF, 0},
		{"endless", status(200, "Content-Type", teep.MediaType), teephttp.ErrTooLong, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv := httptest.NewServer(c.handler)
			defer srv.Close()
			a := &agent{answers: []string{"more"}}
			err := (&teephttp.Client{MaxBody: 1000}).Session(t.Context(), srv.URL, a, nil)
			if c.status != 0 && (!errors.As(err, &want) || want.Status != c.status) {
				t.Errorf("got %v", err)
			}
			if c.is != nil && !errors.Is(err, c.is) {
				t.Errorf("got %v, want %v", err, c.is)
			}
			if len(a.errs) != 1 || !errors.Is(a.errs[0], err) {
				t.Errorf("the Agent was told %v", a.errs)
			}
			if seen != nil && seen.URL.Path == "/elsewhere" {
				t.Error("the redirect was followed")
			}
		})
	}
}

func TestNoAnswerIsSuccess(t *testing.T) {
	for _, code := range []int{200, 202, 204} {
		srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.ContentLength != 0 || r.Header.Get("Content-Type") != "" || r.Header.Get("Accept") != teep.MediaType || r.Method != "POST" {
				t.Errorf("opening request %v with length %d", r.Header, r.ContentLength)
			}
			w.WriteHeader(code)
		}))
		a := &agent{}
		if err := new(teephttp.Client).Session(t.Context(), srv.URL, a, nil); err != nil || len(a.got)+len(a.errs) != 0 {
			t.Error(code, err, a.errs)
		}
		srv.Close()
	}
}

func TestNoCookies(t *testing.T) {
	n := 0
	srv := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if len(r.Cookies()) > 0 {
			t.Error("a cookie came back")
		}
		http.SetCookie(w, &http.Cookie{Name: "session", Value: "1"})
		if n++; n < 3 {
			w.Header().Set("Content-Type", teep.MediaType)
			_, _ = w.Write([]byte("x"))
		}
	}))
	defer srv.Close()
	jar, err := cookiejar.New(nil)
	if err != nil {
		t.Fatal(err)
	}
	c := &teephttp.Client{HTTP: &http.Client{Jar: jar}}
	if err := c.Session(t.Context(), srv.URL, &agent{answers: []string{"more"}}, nil); err != nil || n != 3 {
		t.Error(n, err)
	}
}

func TestUnreachableAndBadURIs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	dead := "http://" + l.Addr().String()
	_ = l.Close()
	a := &agent{}
	var netErr *net.OpError
	if err := new(teephttp.Client).Session(t.Context(), dead, a, nil); !errors.As(err, &netErr) || len(a.errs) != 1 {
		t.Errorf("%v, %v", err, a.errs)
	}
	for _, uri := range []string{"", "tam", "ftp://tam.example/", "http:///tam", "http://user:secret@tam.example/", "http://user:secret@%zz/"} {
		a := &agent{}
		err := new(teephttp.Client).Session(t.Context(), uri, a, nil)
		if !errors.Is(err, teephttp.ErrProtocol) || len(a.errs) != 1 || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v", uri, err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	a = &agent{}
	if err := new(teephttp.Client).Session(ctx, dead, a, nil); !errors.Is(err, context.Canceled) || len(a.errs) != 0 {
		t.Errorf("%v, %v", err, a.errs)
	}
}

// The failures of the engine are logged, and no message is.
func TestLog(t *testing.T) {
	var log bytes.Buffer
	h := teephttp.Handler(&script{err: errors.New("disk full")}, teephttp.Options{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	h.ServeHTTP(httptest.NewRecorder(), request("POST", "/d1", "secret", map[string]string{"Accept": "*/*", "Content-Type": teep.MediaType}))
	if !strings.Contains(log.String(), "disk full") || !strings.Contains(log.String(), "hint=d1") || strings.Contains(log.String(), "secret") {
		t.Error(log.String())
	}
}

func BenchmarkHandler(b *testing.B) {
	h := teephttp.Handler(&script{}, teephttp.Options{})
	b.ReportAllocs()
	for b.Loop() {
		h.ServeHTTP(httptest.NewRecorder(), request("POST", "/d1", "msg", map[string]string{"Accept": teep.MediaType, "Content-Type": teep.MediaType}))
	}
}
