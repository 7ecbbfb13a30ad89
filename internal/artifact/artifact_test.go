// SPDX-License-Identifier: Apache-2.0

package artifact_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"sealift/internal/artifact"
)

// access: the token "rw" may do everything in a/, "ro" may read there.
func access(r *http.Request, repo string, write bool) error {
	token := strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")
	switch {
	case token != "rw" && token != "ro":
		return artifact.ErrUnauthenticated
	case repo != "" && !strings.HasPrefix(repo, "a/"), write && token != "rw":
		return artifact.ErrDenied
	}
	return nil
}

func serve(t *testing.T, s *artifact.Store) string {
	t.Helper()
	srv := httptest.NewServer(s.Handler(access, nil))
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

func open(t *testing.T, dir string, o artifact.Options) *artifact.Store {
	t.Helper()
	s, err := artifact.Open(dir, o)
	must(t, err)
	return s
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// image makes an OCI image of random layers.
func image(t *testing.T, layers ...[]byte) v1.Image {
	t.Helper()
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	for _, data := range layers {
		var err error
		img, err = mutate.Append(img, mutate.Addendum{Layer: static.NewLayer(data, artifact.TypePayload)})
		must(t, err)
	}
	return img
}

func options(token string) []remote.Option {
	return []remote.Option{remote.WithAuth(&authn.Bearer{Token: token}), remote.WithRetryBackoff(remote.Backoff{Steps: 1})}
}

// TestPushRestartPull pushes with go-containerregistry's client, opens the store anew, and pulls by tag and by digest.
func TestPushRestartPull(t *testing.T) {
	dir := t.TempDir()
	big := make([]byte, 3<<20)
	_, _ = rand.Read(big)
	img := image(t, []byte("small"), big)
	host := serve(t, open(t, dir, artifact.Options{}))
	ref, err := name.ParseReference(host+"/a/b/c:v1", name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, img, options("rw")...))

	host = serve(t, open(t, dir, artifact.Options{}))
	digest, err := img.Digest()
	must(t, err)
	for _, at := range []string{"/a/b/c:v1", "/a/b/c@" + digest.String()} {
		ref, err := name.ParseReference(host+at, name.Insecure)
		must(t, err)
		got, err := remote.Image(ref, options("ro")...)
		must(t, err)
		layers, err := got.Layers()
		must(t, err)
		r, err := layers[1].Compressed()
		must(t, err)
		data, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(data, big) {
			t.Errorf("%s: pulled %d bytes that differ, %v", at, len(data), err)
		}
	}
	repo, err := name.NewRepository(host+"/a/b/c", name.Insecure)
	must(t, err)
	tags, err := remote.List(repo, options("ro")...)
	if err != nil || len(tags) != 1 || tags[0] != "v1" {
		t.Errorf("tags %v, %v", tags, err)
	}
	// Pushing again sends nothing that is there already, and works.
	again, err := name.ParseReference(host+"/a/b/c:v2", name.Insecure)
	must(t, err)
	must(t, remote.Write(again, img, options("rw")...))
}

// TestAccess checks who may do what, and that a digest alone opens no blob of another repository.
func TestAccess(t *testing.T) {
	host := serve(t, open(t, t.TempDir(), artifact.Options{}))
	img := image(t, []byte("x"))
	for at, token := range map[string]string{"/a/x:v1": "ro", "/b/x:v1": "rw", "/a/y:v1": "none"} {
		ref, err := name.ParseReference(host+at, name.Insecure)
		must(t, err)
		if err := remote.Write(ref, img, options(token)...); err == nil {
			t.Errorf("%s with token %s was pushed", at, token)
		}
	}
	ref, err := name.ParseReference(host+"/a/x:v1", name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, img, options("rw")...))
	digest := artifact.DigestOf([]byte("x"))
	if code, _ := do(t, http.MethodGet, host, "/v2/a/x/blobs/"+digest, nil); code != http.StatusOK {
		t.Errorf("own blob: %d", code)
	}
	if code, _ := do(t, http.MethodGet, host, "/v2/a/other/blobs/"+digest, nil); code != http.StatusNotFound {
		t.Errorf("a blob through another repository: %d", code)
	}
}

func do(t *testing.T, method, host, path string, body []byte, headers ...string) (int, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(context.Background(), method, "http://"+host+path, bytes.NewReader(body))
	must(t, err)
	req.Header.Set("Authorization", "Bearer rw")
	for i := 0; i+1 < len(headers); i += 2 {
		req.Header.Set(headers[i], headers[i+1])
	}
	resp, err := http.DefaultClient.Do(req)
	must(t, err)
	defer resp.Body.Close()
	_, _ = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header
}

// TestBadRequests sends what a client should not send; afterwards the store holds nothing of it.
func TestBadRequests(t *testing.T) {
	dir := t.TempDir()
	host := serve(t, open(t, dir, artifact.Options{MaxBlob: 100, MaxManifest: 1000, MaxUploads: 2}))
	zero := "sha256:" + strings.Repeat("0", 64)
	upload := "/v2/a/x/blobs/uploads/?digest="
	valid := func(text string) []byte { return []byte(text) }
	blob := []byte("{}")
	if code, _ := do(t, http.MethodPost, host, upload+artifact.DigestOf(blob), blob); code != http.StatusCreated {
		t.Fatalf("pushing a blob: %d", code)
	}
	config := fmt.Sprintf(`{"mediaType":"x","digest":%q,"size":2}`, artifact.DigestOf(blob))
	for what, c := range map[string]struct {
		method, path string
		body         []byte
		code         int
	}{
		"wrong digest":       {http.MethodPost, upload + zero, []byte("x"), 400},
		"another algorithm":  {http.MethodPost, upload + "md5:00", []byte("x"), 400},
		"too large":          {http.MethodPost, upload + zero, make([]byte, 101), 413},
		"no upload":          {http.MethodPatch, "/v2/a/x/blobs/uploads/00", []byte("x"), 404},
		"escape":             {http.MethodGet, "/v2/a/..%2F..%2Fx/manifests/latest", nil, 404},
		"upper case":         {http.MethodGet, "/v2/a/X/manifests/latest", nil, 404},
		"no manifest":        {http.MethodGet, "/v2/a/x/manifests/none", nil, 404},
		"bad tag":            {http.MethodPut, "/v2/a/x/manifests/-x", valid(`{"schemaVersion":2,"config":` + config + `}`), 400},
		"manifest no JSON":   {http.MethodPut, "/v2/a/x/manifests/v1", []byte("{"), 400},
		"schema":             {http.MethodPut, "/v2/a/x/manifests/v1", valid(`{"schemaVersion":1,"config":` + config + `}`), 400},
		"index":              {http.MethodPut, "/v2/a/x/manifests/v1", valid(`{"schemaVersion":2,"mediaType":"application/vnd.oci.image.index.v1+json"}`), 400},
		"blob missing":       {http.MethodPut, "/v2/a/x/manifests/v1", valid(`{"schemaVersion":2,"config":{"digest":"` + zero + `","size":1}}`), 404},
		"size lies":          {http.MethodPut, "/v2/a/x/manifests/v1", valid(strings.Replace(`{"schemaVersion":2,"config":`+config+`}`, `"size":2`, `"size":3`, 1)), 400},
		"digest path":        {http.MethodPut, "/v2/a/x/manifests/" + zero, valid(`{"schemaVersion":2,"config":` + config + `}`), 400},
		"manifest too large": {http.MethodPut, "/v2/a/x/manifests/v1", make([]byte, 1001), 413},
		"method":             {http.MethodPatch, "/v2/a/x/manifests/v1", nil, 405},
		"nowhere":            {http.MethodGet, "/v2/a/x/nothing", nil, 404},
	} {
		if code, _ := do(t, c.method, host, c.path, c.body); code != c.code {
			t.Errorf("%s: status %d, want %d", what, code, c.code)
		}
	}
	entries, err := os.ReadDir(filepath.Join(dir, "blobs"))
	if err != nil || len(entries) != 1 {
		t.Errorf("blobs after bad requests: %v, %v", entries, err)
	}
	if left, err := os.ReadDir(filepath.Join(dir, "uploads")); err != nil || len(left) != 0 {
		t.Errorf("uploads after bad requests: %v, %v", left, err)
	}
}

// TestChunks uploads in chunks, with one at the wrong offset between, and more uploads than there may be.
func TestChunks(t *testing.T) {
	host := serve(t, open(t, t.TempDir(), artifact.Options{MaxUploads: 1}))
	code, h := do(t, http.MethodPost, host, "/v2/a/x/blobs/uploads/", nil)
	at := h.Get("Location")
	if code != http.StatusAccepted || at == "" {
		t.Fatalf("starting: %d %q", code, at)
	}
	if code, _ := do(t, http.MethodPost, host, "/v2/a/x/blobs/uploads/", nil); code != http.StatusTooManyRequests {
		t.Errorf("a second upload: %d", code)
	}
	for _, c := range []struct {
		rng, body string
		code      int
	}{{"0-2", "abc", 202}, {"0-2", "abc", 416}, {"3-5", "def", 202}} {
		if code, _ := do(t, http.MethodPatch, host, at, []byte(c.body), "Content-Range", c.rng); code != c.code {
			t.Errorf("chunk %s: %d, want %d", c.rng, code, c.code)
		}
	}
	if _, h := do(t, http.MethodGet, host, at, nil); h.Get("Range") != "0-5" {
		t.Errorf("range %q", h.Get("Range"))
	}
	if code, _ := do(t, http.MethodPut, host, at+"?digest="+url.QueryEscape(artifact.DigestOf([]byte("abcdefg"))), []byte("g")); code != 201 {
		t.Errorf("finishing: %d", code)
	}
	if code, _ := do(t, http.MethodGet, host, at, nil); code != http.StatusNotFound {
		t.Errorf("the finished upload is still there: %d", code)
	}
}

// TestCollect deletes what is old and unused and keeps the rest; Delete takes a package at once.
func TestCollect(t *testing.T) {
	now := time.Now()
	s := open(t, t.TempDir(), artifact.Options{Now: func() time.Time { return now }})
	host := serve(t, s)
	push := func(tag string, layers ...[]byte) string {
		img := image(t, layers...)
		ref, err := name.ParseReference(host+"/a/x:"+tag, name.Insecure)
		must(t, err)
		must(t, remote.Write(ref, img, options("rw")...))
		d, err := img.Digest()
		must(t, err)
		return d.String()
	}
	keep, drop, gone := push("keep", []byte("one"), []byte("shared")), push("drop", []byte("two"), []byte("shared")), push("gone", []byte("three"), []byte("shared"))
	must(t, s.Delete("a/x", gone))
	if n, err := s.Collect(map[string]bool{keep: true}); err != nil || n != 0 {
		t.Errorf("young garbage: %d deleted, %v", n, err)
	}
	now = now.Add(48 * time.Hour)
	if n, err := s.Collect(map[string]bool{keep: true}); err != nil || n == 0 {
		t.Errorf("old garbage: %d deleted, %v", n, err)
	}
	for content, want := range map[string]bool{"one": true, "shared": true, "two": false, "three": false} {
		f, err := s.OpenBlob(artifact.DigestOf([]byte(content)))
		if (err == nil) != want {
			t.Errorf("blob %q: %v, want it there: %v", content, err, want)
		}
		if err == nil {
			f.Close()
		}
	}
	for digest, want := range map[string]bool{keep: true, drop: false, gone: false} {
		if _, _, err := s.Manifest("a/x", digest); (err == nil) != want {
			t.Errorf("manifest %s: %v, want it there: %v", digest, err, want)
		}
	}
	if _, _, err := s.Manifest("a/x", "drop"); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("a tag on a deleted manifest: %v", err)
	}
}

// TestDamage changes files on the disk: what is damaged is an error, not content.
func TestDamage(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, artifact.Options{})
	host := serve(t, s)
	img := image(t, []byte("x"))
	ref, err := name.ParseReference(host+"/a/x:v1", name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, img, options("rw")...))
	digest, err := img.Digest()
	must(t, err)
	path := filepath.Join(dir, "repositories", "a", "x", "_manifests", digest.Hex)
	data, err := os.ReadFile(path)
	must(t, err)
	data[10] ^= 1
	must(t, os.WriteFile(path, data, 0o600))
	if _, _, err := s.Manifest("a/x", digest.String()); !errors.Is(err, artifact.ErrDigest) {
		t.Errorf("a damaged manifest: %v", err)
	}
	if code, _ := do(t, http.MethodGet, host, "/v2/a/x/manifests/v1", nil); code == http.StatusOK {
		t.Error("a damaged manifest was served")
	}

	img = image(t, []byte("z"))
	ref, err = name.ParseReference(host+"/a/x:v2", name.Insecure)
	must(t, err)
	must(t, remote.Write(ref, img, options("rw")...))
	layers, err := img.Layers()
	must(t, err)
	blob, err := layers[0].Digest()
	must(t, err)
	must(t, s.Check(blob.String()))
	must(t, os.WriteFile(filepath.Join(dir, "blobs", blob.Hex), []byte("y"), 0o600))
	if err := s.Check(blob.String()); !errors.Is(err, artifact.ErrDigest) {
		t.Errorf("a damaged blob: %v", err)
	}
	if err := s.Check(blob.String()); !errors.Is(err, artifact.ErrNotFound) {
		t.Errorf("after a damaged blob was found: %v", err)
	}
	must(t, remote.WriteLayer(ref.Context(), layers[0], options("rw")...))
	must(t, s.Check(blob.String()))
}
