// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"sealift/internal/channel"
	"sealift/internal/moc/mocapi"
)

// origin is an M/OC's store that counts what leaves it, and cuts connections.
type origin struct {
	*httptest.Server
	mu       sync.Mutex
	content  []byte
	cut      []int64 // after so many bytes each answer is cut, in order; then none
	noRanges bool
	served   atomic.Int64
	requests atomic.Int64
}

func newOrigin(t *testing.T, content []byte) *origin {
	o := &origin{content: content}
	o.Server = httptest.NewServer(http.HandlerFunc(o.serve))
	t.Cleanup(o.Close)
	return o
}

func (o *origin) serve(w http.ResponseWriter, r *http.Request) {
	o.mu.Lock()
	content, left := o.content, int64(-1)
	if len(o.cut) > 0 {
		left, o.cut = o.cut[0], o.cut[1:]
	}
	o.mu.Unlock()
	o.requests.Add(1)
	if o.noRanges {
		r.Header.Del("Range")
	}
	http.ServeContent(&cutting{w, o, left}, r, "", time.Time{}, bytes.NewReader(content))
}

// cutting ends an answer in the middle.
type cutting struct {
	http.ResponseWriter
	o    *origin
	left int64
}

func (c *cutting) Write(p []byte) (int, error) {
	if c.left >= 0 && int64(len(p)) >= c.left {
		_, _ = c.ResponseWriter.Write(p[:c.left])
		c.o.served.Add(c.left)
		panic(http.ErrAbortHandler)
	}
	if c.left >= 0 {
		c.left -= int64(len(p))
	}
	c.o.served.Add(int64(len(p)))
	return c.ResponseWriter.Write(p)
}

const testSize = minCached + 12345

func testPayload() (content []byte, uri string) {
	content = make([]byte, testSize)
	_, _ = rand.Read(content)
	sum := sha256.Sum256(content)
	return content, "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum[:])
}

func (o *origin) fetcher(t *testing.T, dir string, size int64) *fetcher {
	t.Helper()
	kept, err := newCache(dir, size, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	f := newFetcher(&mocapi.Client{BaseURL: o.URL}, nil, kept)
	f.stall = 5 * time.Second
	return f
}

// get reads n bytes of a payload, all for -1, and closes it.
func get(t *testing.T, f *fetcher, uri string, n int64) ([]byte, error) {
	t.Helper()
	r, err := f.fetch(t.Context(), uri, testSize, nil)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	if n < 0 {
		return io.ReadAll(r)
	}
	return io.ReadAll(io.LimitReader(r, n))
}

func (o *origin) want(t *testing.T, got []byte, err error) {
	t.Helper()
	if err != nil || !bytes.Equal(got, o.content) {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
}

// moved checks that no more left the store than the payload and what was on its way when something was cut.
func (o *origin) moved(t *testing.T, limit int64) {
	t.Helper()
	if n := o.served.Load(); n > limit {
		t.Errorf("%d bytes were moved, more than %d", n, limit)
	}
}

func TestCutConnection(t *testing.T) {
	content, uri := testPayload()
	for name, o := range map[string]*origin{"ranges": newOrigin(t, content), "no ranges": newOrigin(t, content)} {
		t.Run(name, func(t *testing.T) {
			o.noRanges = name == "no ranges"
			o.cut = []int64{1_000_000, 1_500_000, 0}
			got, err := get(t, o.fetcher(t, t.TempDir(), 0), uri, -1)
			o.want(t, got, err)
			if o.requests.Load() != 4 {
				t.Errorf("%d requests", o.requests.Load())
			}
			o.requests.Store(0)
			o.cut = []int64{100_000} // by http, where nothing is kept
			got, err = get(t, o.fetcher(t, t.TempDir(), 0), o.URL+"/x", -1)
			o.want(t, got, err)
			if o.requests.Load() != 2 {
				t.Errorf("%d requests", o.requests.Load())
			}
		})
	}
}

// TestKilledInTheMiddle reads a part and begins again with another Broker on the same folder.
func TestKilledInTheMiddle(t *testing.T) {
	content, uri := testPayload()
	o := newOrigin(t, content)
	dir := t.TempDir()
	o.cut = append([]int64{3_000_000}, make([]int64, 100)...)
	f := o.fetcher(t, dir, 0)
	f.stall = 100 * time.Millisecond // the cuts after the first one end it
	if got, err := get(t, f, uri, -1); err == nil || len(got) > 3_000_000 {
		t.Fatalf("%d bytes, %v", len(got), err)
	}
	name, _ := cacheName(uri)
	part, err := os.Stat(filepath.Join(dir, name+partSuffix))
	if err != nil || part.Size() == 0 {
		t.Fatalf("nothing was kept: %v", err)
	}
	o.mu.Lock()
	o.cut = nil
	o.mu.Unlock()
	o.served.Store(0)
	got, err := get(t, o.fetcher(t, dir, 0), uri, -1)
	o.want(t, got, err)
	o.moved(t, testSize-part.Size())
	before := o.requests.Load()
	got, err = get(t, o.fetcher(t, dir, 0), uri, -1) // the next deployment
	o.want(t, got, err)
	if o.requests.Load() != before {
		t.Error("a payload that was there was asked for again")
	}
}

func TestDamagedCache(t *testing.T) {
	content, uri := testPayload()
	o := newOrigin(t, content)
	dir := t.TempDir()
	name, _ := cacheName(uri)
	got, err := get(t, o.fetcher(t, dir, 0), uri, -1)
	o.want(t, got, err)
	bad := bytes.Clone(content)
	bad[len(bad)/2] ^= 1
	whole := filepath.Join(dir, name)
	if err := os.WriteFile(whole, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	got, err = get(t, o.fetcher(t, dir, 0), uri, -1)
	o.want(t, got, err)

	if err := os.Remove(whole); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(whole+partSuffix, bad[:testSize-1], 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := get(t, o.fetcher(t, dir, 0), uri, -1); !errors.Is(err, channel.ErrNotReady) {
		t.Fatalf("a damaged part: %v", err)
	}
	got, err = get(t, o.fetcher(t, dir, 0), uri, -1)
	o.want(t, got, err)
}

// TestShared: two that want the same at one time share a transfer, and one of them may go.
func TestShared(t *testing.T) {
	content, uri := testPayload()
	o := newOrigin(t, content)
	f := o.fetcher(t, t.TempDir(), 0)
	quitter, err := f.fetch(t.Context(), uri, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, _ = io.ReadFull(quitter, make([]byte, 1000))
	var wg sync.WaitGroup
	for range 3 {
		wg.Go(func() {
			if got, err := get(t, f, uri, -1); err != nil || !bytes.Equal(got, content) {
				t.Errorf("%d bytes, %v", len(got), err)
			}
		})
	}
	_ = quitter.Close()
	wg.Wait()
	o.moved(t, 2*testSize)
	if len(f.slots) != 0 || len(f.cache.loads) != 0 || len(f.cache.ending) != 0 {
		t.Errorf("left: %d slots, %d loads, %d ending", len(f.slots), len(f.cache.loads), len(f.cache.ending))
	}
}

// TestSlowReader: one that is behind what is in memory reads the file, the others do not wait for it, and a transfer waits for the
// fastest.
func TestSlowReader(t *testing.T) {
	content, uri := testPayload()
	o := newOrigin(t, content)
	f := o.fetcher(t, t.TempDir(), 0)
	slow, err := f.fetch(t.Context(), uri, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer slow.Close()
	begin := make([]byte, 1000)
	_, _ = io.ReadFull(slow, begin)
	fast, err := f.fetch(t.Context(), uri, -1, nil)
	if err != nil {
		t.Fatal(err)
	}
	half := make([]byte, pieces*pieceSize+12345)
	_, _ = io.ReadFull(fast, half)
	l := fast.(*payload).body.(*follower).l
	l.mu.Lock()
	if ahead := l.have - int64(len(half)); ahead > pieces*pieceSize {
		t.Errorf("%d bytes arrived before anybody wanted them", ahead)
	}
	l.mu.Unlock()
	more := make([]byte, len(half)-len(begin)+1)
	_, _ = io.ReadFull(slow, more) // overtakes: from the file, and then from memory
	fast.Close()
	rest, err := io.ReadAll(slow)
	o.want(t, slices.Concat(begin, more, rest), err)
	o.moved(t, testSize)
}

// TestFullDisk: where nothing can be kept, the payload goes through all the same, and nothing is left.
func TestFullDisk(t *testing.T) {
	content, uri := testPayload()
	o := newOrigin(t, content)
	dir := t.TempDir()
	f := o.fetcher(t, dir, 0)
	name, _ := cacheName(uri)
	if err := os.Symlink("/dev/full", filepath.Join(dir, name+partSuffix)); err != nil {
		t.Fatal(err)
	}
	got, err := get(t, f, uri, -1)
	o.want(t, got, err)
	if left, _ := os.ReadDir(dir); len(left) != 0 {
		t.Errorf("left: %v", left)
	}
}

func TestCacheBounds(t *testing.T) {
	dir := t.TempDir()
	for i := range 3 {
		content, uri := testPayload()
		o := newOrigin(t, content)
		got, err := get(t, o.fetcher(t, dir, 2*testSize), uri, -1)
		o.want(t, got, err)
		left, _ := os.ReadDir(dir)
		if want := min(i+1, 2); len(left) != want {
			t.Errorf("%d payloads are kept, not %d", len(left), want)
		}
	}
	c, err := newCache(dir, 2*testSize, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	left, _ := os.ReadDir(dir)
	old := time.Now().Add(-2 * cacheAge)
	if err := os.Chtimes(filepath.Join(dir, left[0].Name()), old, old); err != nil {
		t.Fatal(err)
	}
	c.sweep(0)
	if left, _ = os.ReadDir(dir); len(left) != 1 {
		t.Errorf("%d payloads are left, not the one that is not old", len(left))
	}
	content, uri := testPayload() // too large for this cache
	o := newOrigin(t, content)
	got, err := get(t, o.fetcher(t, t.TempDir(), testSize-1), uri, -1)
	o.want(t, got, err)
	if o.requests.Load() != 1 {
		t.Errorf("%d requests for a payload that is not kept", o.requests.Load())
	}
}

// TestLyingSizes: a store that sends more or less than it said, or changes a payload in the middle.
func TestLyingSizes(t *testing.T) {
	content, uri := testPayload()
	o := newOrigin(t, content)
	f := o.fetcher(t, t.TempDir(), 0)
	if _, err := f.fetch(t.Context(), uri, testSize-1, nil); !errors.Is(err, channel.ErrTooLarge) {
		t.Errorf("more than is wanted: %v", err)
	}
	o.cut = []int64{1_000_000}
	r, err := f.fetch(t.Context(), o.URL+"/x", testSize, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	o.mu.Lock()
	o.content = append(bytes.Clone(content), 1)
	o.mu.Unlock()
	if _, err := io.Copy(io.Discard, r); !errors.Is(err, errChanged) {
		t.Errorf("another size after the cut: %v", err)
	}
}
