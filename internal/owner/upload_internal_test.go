// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"os"
	"path/filepath"
	"testing"

	"sealift/internal/artifact"
	"sealift/internal/owner/archive"
)

// flaky is a registry whose uploads are cut, and that is started again in between.
type flaky struct {
	t    *testing.T
	dir  string
	http http.Handler
	cut  []int64 // each PATCH ends after so many bytes, in order; then none
	took int64   // bytes of all PATCH
}

func (f *flaky) restart() {
	s, err := artifact.Open(f.dir, artifact.Options{})
	if err != nil {
		f.t.Fatal(err)
	}
	f.http = s.Handler(func(*http.Request, string, bool) error { return nil }, nil)
}

// cutBody ends in the middle.
type cutBody struct {
	io.Reader
	f *flaky
}

func (c cutBody) Read(p []byte) (int, error) {
	n, err := c.Reader.Read(p)
	c.f.took += int64(n)
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	return n, err
}

func (cutBody) Close() error { return nil }

func (f *flaky) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPatch || len(f.cut) == 0 {
		f.took += max(r.ContentLength, 0)
		f.http.ServeHTTP(w, r)
		return
	}
	body := cutBody{io.LimitReader(r.Body, f.cut[0]), f}
	f.cut = f.cut[1:]
	r.Body = body
	f.http.ServeHTTP(httptest.NewRecorder(), r)
	f.restart()
	panic(http.ErrAbortHandler)
}

// TestUploadResumes: an upload that is cut goes on where the registry has it, also when that was started again, and the blob is
// not sent again once it is there.
func TestUploadResumes(t *testing.T) {
	f := &flaky{t: t, dir: t.TempDir(), cut: []int64{3 << 20, 0, 4 << 20}}
	f.restart()
	server := httptest.NewServer(f)
	defer server.Close()
	content := make([]byte, largeBlob+12345)
	_, _ = rand.Read(content)
	sum := sha256.Sum256(content)
	path := filepath.Join(t.TempDir(), "blob")
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	b := archive.FileBlob(archive.MediaTypePayload, path, int64(len(content)), hex.EncodeToString(sum[:]))
	base, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	push := func(u uploads, b archive.Blob) error {
		return u.blob(t.Context(), server.Client(), base, "alpha/app/ta", b, &progress{})
	}
	u := uploads{}
	attempts := 1
	for ; ; attempts++ {
		if err = push(u, b); err == nil {
			break
		}
		if attempts > 3 || away(pushError(t.Context(), err)) == false {
			t.Fatalf("attempt %d: %v", attempts, err)
		}
	}
	stored, err := os.ReadFile(filepath.Join(f.dir, "blobs", hex.EncodeToString(sum[:])))
	if err != nil || !bytes.Equal(stored, content) {
		t.Fatalf("stored %d bytes, %v", len(stored), err)
	}
	if attempts != 4 || f.took != b.Size {
		t.Errorf("%d attempts, %d bytes were taken of %d", attempts, f.took, b.Size)
	}
	if err := push(u, b); err != nil || f.took != b.Size {
		t.Errorf("again: %v, %d bytes", err, f.took)
	}
	if left, _ := os.ReadDir(filepath.Join(f.dir, "uploads")); len(left) != 0 {
		t.Errorf("left in the registry: %v", left)
	}
	if err := os.WriteFile(path, append(content[:len(content)-1:len(content)-1], 0x55^content[len(content)-1]), 0o600); err != nil {
		t.Fatal(err)
	}
	b.Digest = "sha256:" + hex.EncodeToString(bytes.Repeat([]byte{7}, 32))
	if err := push(u, b); !errors.Is(err, archive.ErrFormat) {
		t.Errorf("a file that was changed: %v", err)
	}
}
