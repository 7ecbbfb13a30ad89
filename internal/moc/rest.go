// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"

	"sealift/internal/artifact"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
)

// maxBody bounds a JSON request.
const maxBody = 1 << 20

// call is one request with who makes it.
type call struct {
	*http.Request
	w  http.ResponseWriter
	id mocapi.Identity
}

// answered is returned by a handler that has written its answer itself.
type answered struct{}

// mountREST registers every route, and for every path an answer to the methods that it does not have.
func (s *Server) mountREST(mux *http.ServeMux) {
	methods := map[string][]string{}
	for _, rt := range routes {
		methods[rt.pattern] = append(methods[rt.pattern], rt.method)
		mux.HandleFunc(rt.method+" "+rt.pattern, func(w http.ResponseWriter, r *http.Request) { s.serveRoute(rt, w, r) })
	}
	for pattern, allowed := range methods {
		mux.HandleFunc(pattern, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Allow", strings.Join(allowed, ", "))
			problem(w, fault.New(fault.MethodNotAllowed, "%s is not allowed here", r.Method))
		})
	}
	mux.HandleFunc("/", func(w http.ResponseWriter, _ *http.Request) {
		problem(w, fault.New(fault.NotFound, "there is no such endpoint"))
	})
}

func (s *Server) serveRoute(rt route, w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cache-Control", "no-store")
	c := &call{Request: r, w: w}
	if rt.roles != nil {
		id, err := s.identify(r)
		if err != nil {
			h.Set("WWW-Authenticate", `Bearer realm="sealift"`)
			problem(w, err)
			return
		}
		if !slices.Contains(rt.roles, id.Role) {
			problem(w, fault.New(fault.Forbidden, "a token of role %s may not do this", id.Role))
			return
		}
		c.id = id
	}
	v, err := rt.serve(s, c)
	if err != nil {
		s.fail(c, err)
		return
	}
	if _, done := v.(answered); done {
		return
	}
	if rt.status == http.StatusNoContent {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	data, err := json.Marshal(v)
	if err != nil {
		s.fail(c, fmt.Errorf("encoding the answer: %w", err))
		return
	}
	h.Set("Content-Type", "application/json")
	h.Set("Content-Length", strconv.Itoa(len(data)+1))
	w.WriteHeader(rt.status)
	_, _ = w.Write(append(data, '\n'))
}

// fail answers with the fault that err is. What is not one is logged and told as an internal error without its text.
func (s *Server) fail(c *call, err error) {
	if errors.Is(err, context.Canceled) && c.Context().Err() != nil {
		return // nobody listens
	}
	if known, ok := errors.AsType[*fault.Error](err); ok {
		problem(c.w, known)
		return
	}
	switch {
	case errors.Is(err, store.ErrNotFound):
		problem(c.w, fault.New(fault.NotFound, "there is no such thing, or it is not yours"))
	case errors.Is(err, store.ErrFull):
		s.cfg.Log.Error("the disk is full", "method", c.Method, "path", c.URL.Path, "error", err)
		problem(c.w, fault.New(fault.StorageFull, "the M/OC's disk is full: nothing was changed"))
	case errors.Is(err, store.ErrClosed):
		problem(c.w, fault.New(fault.Unavailable, "the M/OC is stopping"))
	default:
		s.cfg.Log.Error("request failed", "method", c.Method, "path", c.URL.Path, "error", err)
		problem(c.w, fault.New(fault.Internal, "an internal error; the M/OC's log says more"))
	}
}

// problem writes an error as RFC 9457 has it.
func problem(w http.ResponseWriter, err *fault.Error) {
	data, encodeErr := json.Marshal(err)
	if encodeErr != nil {
		data = []byte(`{"type":"about:blank","status":500,"code":"internal"}`)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(err.Status())
	_, _ = w.Write(append(data, '\n'))
}

// decode reads a JSON request strictly: the right media type, within the limit, no member that this version does not
// know, nothing after the value.
func decode[T any](c *call) (T, error) {
	var v T
	if t, _, err := mime.ParseMediaType(c.Header.Get("Content-Type")); err != nil || t != "application/json" {
		return v, fault.New(fault.UnsupportedMedia, "the content type is %q, this endpoint takes application/json", c.Header.Get("Content-Type"))
	}
	data, err := io.ReadAll(http.MaxBytesReader(c.w, c.Body, maxBody))
	if _, ok := errors.AsType[*http.MaxBytesError](err); ok {
		return v, fault.New(fault.TooLarge, "the request has more than %d bytes", maxBody)
	}
	if err != nil {
		return v, fault.New(fault.BadRequest, "reading the request: %w", err)
	}
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&v); err != nil {
		return v, fault.New(fault.BadRequest, "the request is not what this endpoint takes: %w", err)
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return v, fault.New(fault.BadRequest, "something follows the JSON value")
	}
	return v, nil
}

// credentials returns the bearer token; clients of registries may send it as the password of Basic authentication.
func credentials(r *http.Request) string {
	if _, password, ok := r.BasicAuth(); ok {
		return password
	}
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "Bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

func (s *Server) identify(r *http.Request) (mocapi.Identity, *fault.Error) {
	token := credentials(r)
	if token == "" {
		return mocapi.Identity{}, fault.New(fault.Unauthorized, "the request has no bearer token")
	}
	id, err := s.store.Identify(r.Context(), token)
	if errors.Is(err, store.ErrNotFound) {
		return id, fault.New(fault.Unauthorized, "the bearer token is not known").WithHint("the operator makes tokens: sealift moc token")
	}
	if err != nil {
		s.cfg.Log.Error("looking a token up", "error", err)
		return id, fault.New(fault.Unavailable, "the token cannot be checked now")
	}
	return id, nil
}

// registryAccess decides about the OCI registry: an owner has the repositories under its name, an operator may read.
func (s *Server) registryAccess(r *http.Request, repository string, write bool) error {
	id, err := s.identify(r)
	if err != nil {
		return artifact.ErrUnauthenticated
	}
	switch {
	case repository == "" && !write:
		return nil
	case id.Role == mocapi.RoleOwner && strings.HasPrefix(repository, id.Name+"/"):
		return nil
	case id.Role == mocapi.RoleOperator && !write:
		return nil
	}
	return artifact.ErrDenied
}

// poll calls read until it says that there is something to tell, the wait that the request asks for is over, or the
// M/OC stops. It returns what read returned last.
func poll[T any](s *Server, c *call, topic string, read func() (v T, ready bool, err error)) (T, error) {
	wait, err := waitOf(c)
	if err != nil {
		var none T
		return none, err
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	over := wait <= 0
	for {
		changed, done := s.store.Watch(topic)
		v, ready, err := read()
		if err != nil || ready || over {
			done()
			return v, err
		}
		select {
		case <-changed:
		case <-timer.C:
			over = true
		case <-s.closing:
			over = true
		case <-c.Context().Done():
			err = c.Context().Err()
		}
		if done(); err != nil {
			return v, err
		}
	}
}

func waitOf(c *call) (time.Duration, error) {
	text := c.URL.Query().Get("wait")
	if text == "" {
		return 0, nil
	}
	wait, err := time.ParseDuration(text)
	if err != nil || wait < 0 {
		return 0, fault.New(fault.BadRequest, "wait=%s is not a duration such as 25s", text)
	}
	return min(wait, mocapi.MaxWait), nil
}

func sinceOf(c *call) (uint64, error) {
	text := c.URL.Query().Get("since")
	if text == "" {
		return 0, nil
	}
	since, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		return 0, fault.New(fault.BadRequest, "since=%s is not a number", text)
	}
	return since, nil
}
