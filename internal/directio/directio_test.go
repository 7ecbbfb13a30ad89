// SPDX-License-Identifier: Apache-2.0

package directio_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"sealift/internal/directio"
	"sealift/internal/sharedtest"
)

// folders are one on the file system of temporary files and, where there is one, one in memory: they differ in what they offer.
func folders(t *testing.T) map[string]string {
	all := map[string]string{"disk": t.TempDir()}
	if dir, err := os.MkdirTemp("/dev/shm", "directio-"); err == nil {
		t.Cleanup(func() { os.RemoveAll(dir) })
		all["memory"] = dir
	}
	return all
}

// TestContent writes pieces of every kind behind each other and reads them back in every way.
func TestContent(t *testing.T) {
	const piece = 128 << 10
	buf := directio.Buffer(piece)
	pieces := map[string][][]byte{
		"aligned":        {buf, buf, buf},
		"short end":      {buf, buf, buf[:70_001]},
		"short":          {buf[:10]},
		"short between":  {buf, buf[:4096], buf, buf[:5], buf},
		"odd address":    {buf[1:4097], buf[:4095], buf},
		"not aligned":    {make([]byte, piece+1)[1:], buf},
		"large":          {make([]byte, 5<<20), buf[:1]},
		"nothing at all": {},
	}
	random := rand.NewChaCha8([32]byte{1})
	for place, dir := range folders(t) {
		for name, list := range pieces {
			t.Run(place+"/"+name, func(t *testing.T) {
				path := filepath.Join(dir, name)
				out, err := os.Create(path)
				if err != nil {
					t.Fatal(err)
				}
				w := directio.New(out)
				var want []byte
				for _, p := range list {
					_, _ = random.Read(p)
					want = append(want, p...)
					if n, err := w.Write(p); n != len(p) || err != nil {
						t.Fatalf("%d bytes of %d, %v", n, len(p), err)
					}
					w.StartSync(0, int64(len(want)))
				}
				if err := w.Sync(); err != nil {
					t.Fatal(err)
				}
				if err := w.Close(); err != nil {
					t.Fatal(err)
				}
				for _, size := range []int{piece, 4096, 70_000} {
					in, err := os.Open(path)
					if err != nil {
						t.Fatal(err)
					}
					r := directio.New(in)
					var got bytes.Buffer
					if _, err := io.CopyBuffer(onlyWriter{&got}, onlyReader{r}, directio.Buffer(size)); err != nil {
						t.Error(err)
					}
					if !bytes.Equal(got.Bytes(), want) {
						t.Errorf("read in pieces of %d: %d bytes, not the %d that were written", size, got.Len(), len(want))
					}
					if err := r.Close(); err != nil {
						t.Error(err)
					}
				}
				readAhead(t, path, want)
			})
		}
	}
}

// readAhead reads a file ahead: to its end, and not to its end.
func readAhead(t *testing.T, path string, want []byte) {
	for _, n := range []int{-1, 0, 1, len(want) / 2} {
		in, err := os.Open(path)
		if err != nil {
			t.Fatal(err)
		}
		r := directio.NewReader(in)
		if n < 0 {
			if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
				t.Errorf("read ahead: %d bytes of %d, %v", len(got), len(want), err)
			}
		} else if got := make([]byte, min(n, len(want))); n > 0 {
			if _, err := io.ReadFull(r, got); err != nil || !bytes.Equal(got, want[:len(got)]) {
				t.Errorf("the first %d bytes: %v", len(got), err)
			}
		}
		if err := r.Close(); err != nil {
			t.Error(err)
		}
		if n, err := r.Read(make([]byte, 1)); n != 0 || err == nil {
			t.Errorf("read after Close: %d, %v", n, err)
		}
	}
}

type (
	onlyWriter struct{ io.Writer }
	onlyReader struct{ io.Reader }
)

// TestErrors: what is no aligned transfer's fault is reported as it is.
func TestErrors(t *testing.T) {
	f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		sharedtest.Missing(t, "a full disk: %v", err)
	}
	w := directio.New(f)
	for _, p := range [][]byte{directio.Buffer(64 << 10), make([]byte, 10)} {
		if n, err := w.Write(p); err == nil {
			t.Errorf("%d bytes were written to a full disk", n)
		}
	}
	_ = w.Close()
	if _, err := w.Write(make([]byte, 10)); err == nil {
		t.Error("a closed file was written")
	}
}
