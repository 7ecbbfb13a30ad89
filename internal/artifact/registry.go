// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// Access decides whether a request may read or write a repository. It returns nil, [ErrUnauthenticated] or
// [ErrDenied]. For the base endpoint /v2/ the repository is empty.
type Access func(r *http.Request, repository string, write bool) error

// Errors of Access.
var (
	ErrUnauthenticated = errors.New("artifact: no valid token")
	ErrDenied          = errors.New("artifact: not allowed")
)

// Handler serves the store by the OCI distribution protocol under /v2/.
func (s *Store) Handler(access Access, log *slog.Logger) http.Handler {
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	return &registry{s, access, log}
}

type registry struct {
	*Store
	access Access
	log    *slog.Logger
}

// target is what a request is about.
type target struct {
	repo string
	kind string // "", "blobs", "uploads", "manifests", "tags"
	ref  string
}

// parseTarget takes a path under /v2/ apart. A repository's name may hold slashes, so it is read from the end.
func parseTarget(path string) (target, bool) {
	rest, ok := strings.CutPrefix(path, "/v2")
	if !ok {
		return target{}, false
	}
	rest = strings.TrimPrefix(rest, "/")
	if rest == "" {
		return target{}, true
	}
	parts := strings.Split(rest, "/")
	n := len(parts)
	t := target{}
	switch {
	case n >= 4 && parts[n-3] == "blobs" && parts[n-2] == "uploads":
		t = target{strings.Join(parts[:n-3], "/"), "uploads", parts[n-1]}
	case n >= 3 && parts[n-2] == "blobs" && parts[n-1] == "uploads":
		t = target{strings.Join(parts[:n-2], "/"), "uploads", ""}
	case n >= 3 && (parts[n-2] == "blobs" || parts[n-2] == "manifests"):
		t = target{strings.Join(parts[:n-2], "/"), parts[n-2], parts[n-1]}
	case n >= 3 && parts[n-2] == "tags" && parts[n-1] == "list":
		t = target{strings.Join(parts[:n-2], "/"), "tags", ""}
	default:
		return target{}, false
	}
	return t, true
}

func (g *registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Docker-Distribution-API-Version", "registry/2.0")
	w.Header().Set("X-Content-Type-Options", "nosniff")
	t, ok := parseTarget(r.URL.Path)
	if !ok || (t.kind != "" && !ValidRepository(t.repo)) {
		fail(w, http.StatusNotFound, "NAME_INVALID", "there is no such endpoint or repository name")
		return
	}
	write := r.Method != http.MethodGet && r.Method != http.MethodHead
	if err := g.access(r, t.repo, write); err != nil {
		if errors.Is(err, ErrUnauthenticated) {
			// Basic, since clients of registries know no other challenge without a token service; Bearer is taken too.
			w.Header().Set("WWW-Authenticate", `Basic realm="sealift"`)
			fail(w, http.StatusUnauthorized, "UNAUTHORIZED", "a valid token is required")
			return
		}
		fail(w, http.StatusForbidden, "DENIED", "the token does not allow this")
		return
	}
	var err error
	switch t.kind {
	case "":
		w.Header().Set("Content-Type", "application/json")
		_, _ = io.WriteString(w, "{}")
	case "blobs":
		err = g.blob(w, r, t)
	case "uploads":
		err = g.upload(w, r, t)
	case "manifests":
		err = g.manifest(w, r, t)
	case "tags":
		err = g.list(w, r, t)
	}
	if err != nil {
		g.failed(w, r, err)
	}
}

// errMethod says that an endpoint does not have the method.
var errMethod = errors.New("artifact: method not allowed")

func (g *registry) blob(w http.ResponseWriter, r *http.Request, t target) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	if !ValidDigest(t.ref) || !g.hasBlob(t.repo, t.ref) {
		return fmt.Errorf("%w: blob %s", ErrNotFound, t.ref)
	}
	f, err := g.OpenBlob(t.ref)
	if err != nil {
		return err
	}
	defer f.Close()
	ServeBlob(w, r, t.ref, f)
	return nil
}

// ServeBlob answers a request with a blob, in ranges if asked.
func ServeBlob(w http.ResponseWriter, r *http.Request, digest string, f *os.File) {
	h := w.Header()
	h.Set("Content-Type", "application/octet-stream")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Docker-Content-Digest", digest)
	h.Set("ETag", `"`+digest+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
}

func (g *registry) upload(w http.ResponseWriter, r *http.Request, t target) error {
	digest := r.URL.Query().Get("digest")
	if digest != "" && !ValidDigest(digest) {
		return fmt.Errorf("%w: digest %q", ErrDigest, digest)
	}
	if t.ref == "" {
		return g.startUpload(w, r, t, digest)
	}
	u, err := g.find(t.repo, t.ref)
	if err != nil {
		return fmt.Errorf("%w: upload", err)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		return g.progress(w, t, u, http.StatusNoContent)
	case http.MethodDelete:
		g.cancel(t.ref)
		w.WriteHeader(http.StatusNoContent)
		return nil
	case http.MethodPatch:
		start, err := chunkStart(r)
		if err == nil {
			err = g.add(u, start, r.Body)
		}
		if err != nil {
			g.abandon(t.ref, err)
			return err
		}
		return g.progress(w, t, u, http.StatusAccepted)
	case http.MethodPut:
		return g.endUpload(w, r, t, u, digest)
	}
	return errMethod
}

// startUpload opens an upload, or takes a whole blob if the digest is given already. A mount from another repository is
// answered like any start: the client then sends the blob.
func (g *registry) startUpload(w http.ResponseWriter, r *http.Request, t target, digest string) error {
	if r.Method != http.MethodPost {
		return errMethod
	}
	id, err := g.begin(t.repo)
	if err != nil {
		return err
	}
	u, err := g.find(t.repo, id)
	if err != nil {
		return err
	}
	t.ref = id
	if digest != "" {
		u.mu.Lock()
		defer u.mu.Unlock()
		return g.endUpload(w, r, t, u, digest)
	}
	return g.progress(w, t, u, http.StatusAccepted)
}

func (g *registry) endUpload(w http.ResponseWriter, r *http.Request, t target, u *upload, digest string) error {
	if digest == "" {
		return fmt.Errorf("%w: none given", ErrDigest)
	}
	start, err := chunkStart(r)
	if err == nil {
		err = g.add(u, start, r.Body)
	}
	if err != nil {
		g.abandon(t.ref, err)
		return err
	}
	if err := g.finish(t.ref, u, digest); err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+t.repo+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

// abandon drops an upload that cannot go on. A chunk at the wrong offset was not written, and of one that was cut off what has arrived
// is kept, so the client may go on: it asks where.
func (g *registry) abandon(id string, err error) {
	switch {
	case errors.Is(err, errCutOff):
		g.setCutOff(id)
	case !errors.Is(err, errOffset):
		g.cancel(id)
	}
}

func (g *registry) progress(w http.ResponseWriter, t target, u *upload, status int) error {
	w.Header().Set("Location", "/v2/"+t.repo+"/blobs/uploads/"+t.ref)
	w.Header().Set("Range", fmt.Sprintf("0-%d", max(0, u.size-1)))
	w.Header().Set("Docker-Upload-UUID", t.ref)
	w.WriteHeader(status)
	return nil
}

// chunkStart reads the first number of Content-Range ("<start>-<end>"); -1 without the header.
func chunkStart(r *http.Request) (int64, error) {
	value := r.Header.Get("Content-Range")
	if value == "" {
		return -1, nil
	}
	first, _, _ := strings.Cut(strings.TrimPrefix(value, "bytes "), "-")
	start, err := strconv.ParseInt(first, 10, 64)
	if err != nil || start < 0 {
		return 0, errOffset
	}
	return start, nil
}

func (g *registry) manifest(w http.ResponseWriter, r *http.Request, t target) error {
	switch r.Method {
	case http.MethodGet, http.MethodHead:
		data, digest, err := g.Manifest(t.repo, t.ref)
		if err != nil {
			return fmt.Errorf("manifest: %w", err)
		}
		h := w.Header()
		h.Set("Content-Type", TypeManifest)
		h.Set("Content-Length", strconv.Itoa(len(data)))
		h.Set("Docker-Content-Digest", digest)
		if r.Method == http.MethodGet {
			_, _ = w.Write(data)
		}
		return nil
	case http.MethodPut:
		return g.takeManifest(w, r, t)
	case http.MethodDelete:
		if err := g.Delete(t.repo, t.ref); err != nil {
			return err
		}
		w.WriteHeader(http.StatusAccepted)
		return nil
	}
	return errMethod
}

func (g *registry) takeManifest(w http.ResponseWriter, r *http.Request, t target) error {
	data, err := io.ReadAll(io.LimitReader(r.Body, g.opts.MaxManifest+1))
	if err != nil {
		return err
	}
	if int64(len(data)) > g.opts.MaxManifest {
		return ErrTooLarge
	}
	tag := t.ref
	if ValidDigest(t.ref) {
		if DigestOf(data) != t.ref {
			return ErrDigest
		}
		tag = ""
	} else if !tagName.MatchString(tag) {
		return fmt.Errorf("%w: tag %q", ErrInvalid, tag)
	}
	digest, err := g.putManifest(t.repo, tag, data)
	if err != nil {
		return err
	}
	w.Header().Set("Location", "/v2/"+t.repo+"/manifests/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.WriteHeader(http.StatusCreated)
	return nil
}

func (g *registry) list(w http.ResponseWriter, r *http.Request, t target) error {
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		return errMethod
	}
	tags, err := g.tags(t.repo)
	if err != nil {
		return err
	}
	w.Header().Set("Content-Type", "application/json")
	return json.NewEncoder(w).Encode(map[string]any{"name": t.repo, "tags": tags})
}

// answers maps errors to what the distribution specification has for them.
var answers = []struct {
	err    error
	status int
	code   string
}{
	{ErrNotFound, http.StatusNotFound, "NAME_UNKNOWN"},
	{ErrDigest, http.StatusBadRequest, "DIGEST_INVALID"},
	{ErrTooLarge, http.StatusRequestEntityTooLarge, "SIZE_INVALID"},
	{ErrBusy, http.StatusTooManyRequests, "TOOMANYREQUESTS"},
	{errBlobUnknown, http.StatusNotFound, "MANIFEST_BLOB_UNKNOWN"},
	{ErrInvalid, http.StatusBadRequest, "MANIFEST_INVALID"},
	{errOffset, http.StatusRequestedRangeNotSatisfiable, "BLOB_UPLOAD_INVALID"},
	{errMethod, http.StatusMethodNotAllowed, "UNSUPPORTED"},
	{syscall.ENOSPC, http.StatusInsufficientStorage, "SIZE_INVALID"},
	{syscall.EDQUOT, http.StatusInsufficientStorage, "SIZE_INVALID"},
	{errCutOff, http.StatusBadRequest, "BLOB_UPLOAD_INVALID"},
	{io.ErrUnexpectedEOF, http.StatusBadRequest, "BLOB_UPLOAD_INVALID"},
}

func (g *registry) failed(w http.ResponseWriter, r *http.Request, err error) {
	for _, a := range answers {
		if errors.Is(err, a.err) {
			fail(w, a.status, a.code, err.Error())
			return
		}
	}
	g.log.Error("registry", "method", r.Method, "path", filepath.ToSlash(r.URL.Path), "error", err)
	fail(w, http.StatusInternalServerError, "UNKNOWN", "an internal error")
}

// fail writes an error in the form of the distribution specification.
func fail(w http.ResponseWriter, status int, code, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []map[string]string{{"code": code, "message": message}}})
}
