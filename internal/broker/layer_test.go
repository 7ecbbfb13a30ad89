// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"bytes"
	"crypto/sha256"
	"encoding/base64"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"testing"

	"sealift/internal/channel"
	"sealift/internal/image/initramfs"
	"sealift/internal/moc/mocapi"
)

// TestFetchLayer: a guest payload comes by its digest, whole and true or not at all, and leaves no file.
func TestFetchLayer(t *testing.T) {
	var serve []byte
	m := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(serve) }))
	defer m.Close()
	b := &Broker{cfg: Config{StateDir: t.TempDir()}, fetcher: newFetcher(&mocapi.Client{BaseURL: m.URL}, nil, nil)}
	good := []byte("a payload")
	sum := sha256.Sum256(good)
	uri := "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(sum[:])

	serve = good
	f, err := b.fetchLayer(t.Context(), uri)
	if err != nil {
		t.Fatal(err)
	}
	if got, err := io.ReadAll(io.NewSectionReader(f, 0, 1<<20)); err != nil || !bytes.Equal(got, good) {
		t.Errorf("%q, %v", got, err)
	}
	f.Close()
	for name, c := range map[string]struct {
		serve []byte
		uri   string
		want  error
	}{
		"another": {[]byte("another payload"), uri, errLayer},
		"large":   {make([]byte, initramfs.MaxLayerBytes+1), uri, channel.ErrTooLarge},
		"no name": {good, m.URL + "/payload", errLayer},
	} {
		serve = c.serve
		if f, err := b.fetchLayer(t.Context(), c.uri); f != nil || !errors.Is(err, c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if left, err := os.ReadDir(b.cfg.StateDir); err != nil || len(left) != 0 {
		t.Errorf("left over: %v, %v", left, err)
	}
}
