// SPDX-License-Identifier: Apache-2.0

package oci_test

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/internal/oci"
)

// entry is a line of a layer.
type entry struct {
	name, content string
	link          string
	kind          byte // tar.TypeReg unless set
	mode          int64
}

func layer(t testing.TB, entries ...entry) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := &tar.Header{Typeflag: e.kind, Name: e.name, Linkname: e.link, Size: int64(len(e.content)), Mode: e.mode, ModTime: time.Unix(1e9, 0)}
		if h.Typeflag == 0 {
			h.Typeflag = tar.TypeReg
		}
		if h.Mode == 0 {
			h.Mode = 0o644
		}
		if err := w.WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func zip(data []byte) []byte {
	var buf bytes.Buffer
	w := gzip.NewWriter(&buf)
	_, _ = w.Write(data)
	_ = w.Close()
	return buf.Bytes()
}

// picture is an image in the making.
type picture struct {
	manifest []byte
	blobs    map[string][]byte
}

func (p *picture) Manifest() ([]byte, error) { return p.manifest, nil }
func (p *picture) Blob(d oci.Descriptor) (io.ReadCloser, error) {
	data, ok := p.blobs[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

func (p *picture) add(mediaType string, data []byte) oci.Descriptor {
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))}
	p.blobs[d.Digest] = data
	return d
}

// draw makes an image of unpacked layers; every second one is compressed.
func draw(t testing.TB, change func(*oci.Manifest, *oci.Config), layers ...[]byte) *picture {
	t.Helper()
	p := &picture{blobs: map[string][]byte{}}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.TypeManifest}
	c := oci.Config{Architecture: "amd64", OS: "linux", RootFS: oci.RootFS{Type: "layers"}, Config: oci.Process{Entrypoint: []string{"/app"}}}
	for i, l := range layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, oci.DigestOf(l))
		if i%2 == 0 {
			m.Layers = append(m.Layers, p.add(oci.TypeTarGzip, zip(l)))
		} else {
			m.Layers = append(m.Layers, p.add(oci.TypeTar, l))
		}
	}
	if change != nil {
		change(&m, &c)
	}
	config, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	m.Config = p.add(oci.TypeConfig, config)
	if p.manifest, err = json.Marshal(m); err != nil {
		t.Fatal(err)
	}
	return p
}

func payload(t testing.TB, p *picture) []byte {
	t.Helper()
	var buf bytes.Buffer
	if _, err := oci.Write(&buf, p, "amd64"); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// unpack returns the folder and what came of it.
func unpack(t testing.TB, data []byte, l oci.Limits) (string, *oci.Config, error) {
	t.Helper()
	dir := t.TempDir()
	c, err := unpackTo(dir, data, l)
	return dir, c, err
}

func unpackTo(dir string, data []byte, l oci.Limits) (*oci.Config, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(data)), nil }
	c, digest, err := oci.Unpack(context.Background(), open, root, "amd64", l)
	if err == nil && digest != sha256.Sum256(data) {
		err = errors.New("another digest than that of the payload")
	}
	return c, err
}

// TestUnpack guards the rules by which layers make a file system.
func TestUnpack(t *testing.T) {
	low := layer(t, entry{name: "./bin/app", content: "one", mode: 0o6755}, entry{name: "etc/a", content: "a"}, entry{name: "etc/b", content: "b"},
		entry{name: "etc/sub/c", content: "c"}, entry{name: "/usr/lib/", kind: tar.TypeDir, mode: 0o555}, entry{name: "lib", link: "usr/lib", kind: tar.TypeSymlink},
		entry{name: "var/run", link: "/run", kind: tar.TypeSymlink}, entry{name: "up", link: "../../etc", kind: tar.TypeSymlink},
		entry{name: "gone/x", content: "x"}, entry{name: "turned", content: "file"}, entry{name: "large", content: strings.Repeat("large", 200_000)})
	high := layer(t, entry{name: "lib/late", content: "late"}, entry{name: "var/run/pid", content: "1"}, entry{name: "up/through", content: "t"},
		entry{name: "hard", link: "bin/app", kind: tar.TypeLink}, entry{name: "etc/.wh.a"}, entry{name: "gone/new", content: "n"},
		entry{name: "gone/.wh..wh..opq"}, entry{name: ".wh..wh.plnk"}, entry{name: "kept", content: "k"}, entry{name: ".wh.kept"},
		entry{name: "turned", kind: tar.TypeDir}, entry{name: "turned/now", content: "folder"})
	dir, c, err := unpack(t, payload(t, draw(t, nil, low, high)), oci.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"bin/app", "etc/b", "etc/sub/c", "usr/lib/late", "run/pid", "etc/through", "hard", "gone/new", "kept", "turned/now"} {
		if st, err := os.Lstat(filepath.Join(dir, name)); err != nil || !st.Mode().IsRegular() {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, absent := range []string{"etc/a", "gone/x", ".wh..wh.plnk", "etc/.wh.a", "gone/.wh..wh..opq"} {
		if _, err := os.Lstat(filepath.Join(dir, absent)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", absent, err)
		}
	}
	st, err := os.Stat(filepath.Join(dir, "bin/app"))
	if err != nil || st.Mode() != 0o755 || !st.ModTime().Equal(time.Unix(1e9, 0)) {
		t.Errorf("%v %v", st, err)
	}
	if c.Config.Entrypoint[0] != "/app" {
		t.Errorf("%+v", c)
	}
}

// TestLayerTwice guards an image that has the same layer at two places.
func TestLayerTwice(t *testing.T) {
	add, hide := layer(t, entry{name: "a", content: "a"}), layer(t, entry{name: ".wh.a"})
	p := draw(t, nil, add, hide, add)
	dir, _, err := unpack(t, payload(t, p), oci.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(dir, "a")); err != nil {
		t.Error(err)
	}
}

// TestDeterministic guards that an image is one payload.
func TestDeterministic(t *testing.T) {
	p := draw(t, nil, layer(t, entry{name: "a", content: "a"}))
	if !bytes.Equal(payload(t, p), payload(t, p)) {
		t.Error("two payloads of one image")
	}
}

// TestHostile: every image here is refused with the kind of error that its fault has, and leaves nothing outside its root.
func TestHostile(t *testing.T) {
	small := oci.Limits{Bytes: 1 << 20, Files: 50}
	many := make([]entry, 60)
	for i := range many {
		many[i] = entry{name: fmt.Sprint("f", i)}
	}
	deep := strings.Repeat("d/", 200) + "f"
	links := []entry{{name: "l0", link: "l0", kind: tar.TypeSymlink}, {name: "l0/f", content: "x"}}
	for name, c := range map[string]struct {
		want    error
		entries []entry
	}{
		"traversal":             {oci.ErrEntry, []entry{{name: "../outside", content: "x"}}},
		"traversal inside":      {oci.ErrEntry, []entry{{name: "a/../../outside", content: "x"}}},
		"whiteout of the root":  {oci.ErrEntry, []entry{{name: ".wh.."}}},
		"whiteout upwards":      {oci.ErrEntry, []entry{{name: "a/.wh..."}}},
		"device":                {oci.ErrEntry, []entry{{name: "dev/sda", kind: tar.TypeBlock}}},
		"character device":      {oci.ErrEntry, []entry{{name: "dev/mem", kind: tar.TypeChar}}},
		"pipe":                  {oci.ErrEntry, []entry{{name: "pipe", kind: tar.TypeFifo}}},
		"hard link out":         {oci.ErrEntry, []entry{{name: "shadow", link: "../../etc/shadow", kind: tar.TypeLink}}},
		"hard link to absolute": {oci.ErrEntry, []entry{{name: "shadow", link: "/etc/shadow", kind: tar.TypeLink}}},
		"hard link via link": {oci.ErrEntry, []entry{{name: "e", link: "/etc", kind: tar.TypeSymlink},
			{name: "shadow", link: "e/shadow", kind: tar.TypeLink}}},
		"hard link to a folder": {oci.ErrEntry, []entry{{name: "d", kind: tar.TypeDir}, {name: "h", link: "d", kind: tar.TypeLink}}},
		"hard link to itself":   {oci.ErrEntry, []entry{{name: "a", content: "a"}, {name: "a", link: "a", kind: tar.TypeLink}}},
		"through a file":        {oci.ErrEntry, []entry{{name: "a", content: "a"}, {name: "a/b", content: "b"}}},
		"link that is a circle": {oci.ErrEntry, links},
		"too deep":              {oci.ErrEntry, []entry{{name: deep, content: "x"}}},
		"too many":              {oci.ErrLimit, many},
		"folders nobody named":  {oci.ErrLimit, []entry{{name: strings.Repeat("d/", 60) + "f"}}},
		"too large":             {oci.ErrLimit, []entry{{name: "f", content: strings.Repeat("x", 2<<20)}}},
		"root is a file":        {oci.ErrEntry, []entry{{name: ".", content: "x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			above := t.TempDir()
			dir := filepath.Join(above, "a", "b")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Fatal(err)
			}
			_, err := unpackTo(dir, payload(t, draw(t, nil, layer(t, c.entries...))), small)
			if !errors.Is(err, c.want) {
				t.Errorf("%v, want %v", err, c.want)
			}
			for _, d := range []string{above, filepath.Dir(dir)} {
				if list, err := os.ReadDir(d); err != nil || len(list) != 1 {
					t.Errorf("%s: %v %v", d, list, err)
				}
			}
		})
	}
}

// TestSymlinkOut guards that a link out of the root is resolved inside it.
func TestSymlinkOut(t *testing.T) {
	above := t.TempDir()
	dir := filepath.Join(above, "root")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for i, target := range []string{"..", "../..", above, "/", "/proc/self/cwd"} {
		name := fmt.Sprint("x", i)
		_, err := unpackTo(dir, payload(t, draw(t, nil, layer(t, entry{name: name, link: target, kind: tar.TypeSymlink},
			entry{name: name + "/planted", content: "x"}))), oci.Limits{})
		if err != nil {
			t.Errorf("%s: %v", target, err)
		}
	}
	if list, err := os.ReadDir(above); err != nil || len(list) != 1 {
		t.Errorf("%v %v", list, err)
	}
}

// TestBomb guards against a layer that is small until it is unpacked, in each of the ways that a tar file allows.
func TestBomb(t *testing.T) {
	zeros := layer(t, entry{name: "zeros", content: strings.Repeat("\x00", 8<<20)})
	trailing := append(layer(t, entry{name: "a"}), make([]byte, 8<<20)...)
	for name, l := range map[string][]byte{"file": zeros, "after the end": trailing} {
		if _, _, err := unpack(t, payload(t, draw(t, nil, l)), oci.Limits{Bytes: 1 << 20, Files: 10}); !errors.Is(err, oci.ErrLimit) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestLies guards every digest and size, and the order of the parts.
func TestLies(t *testing.T) {
	one, two := layer(t, entry{name: "a", content: "a"}), layer(t, entry{name: "b", content: "b"})
	other := layer(t, entry{name: "c", content: "c"})
	for name, c := range map[string]struct {
		want   error
		change func(*oci.Manifest, *oci.Config)
	}{
		"architecture":    {oci.ErrPlatform, func(_ *oci.Manifest, c *oci.Config) { c.Architecture = "s390x" }},
		"system":          {oci.ErrPlatform, func(_ *oci.Manifest, c *oci.Config) { c.OS = "windows" }},
		"unpacked digest": {oci.ErrDigest, func(_ *oci.Manifest, c *oci.Config) { c.RootFS.DiffIDs[0] = oci.DigestOf(other) }},
		"missing diff":    {oci.ErrMalformed, func(_ *oci.Manifest, c *oci.Config) { c.RootFS.DiffIDs = c.RootFS.DiffIDs[:1] }},
		"zstd": {oci.ErrMalformed, func(m *oci.Manifest, _ *oci.Config) {
			m.Layers[0].MediaType = "application/vnd.oci.image.layer.v1.tar+zstd"
		}},
		"tar said gzip": {oci.ErrMalformed, func(m *oci.Manifest, _ *oci.Config) { m.Layers[1].MediaType = oci.TypeTarGzip }},
	} {
		p := draw(t, c.change, one, two)
		var buf bytes.Buffer
		_, err := oci.Write(&buf, p, "amd64")
		if err == nil {
			_, _, err = unpack(t, buf.Bytes(), oci.Limits{})
		}
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// TestLayerDigestLies guards both sides against a layer with other bytes than its descriptor says.
func TestLayerDigestLies(t *testing.T) {
	p := draw(t, nil, layer(t, entry{name: "a", content: "a"}))
	good := payload(t, p)
	for d, data := range p.blobs {
		if bytes.HasPrefix(data, []byte{0x1f, 0x8b}) {
			evil := bytes.Clone(data)
			evil[len(evil)-9] ^= 1
			p.blobs[d] = evil
			if _, _, err := unpack(t, bytes.Replace(good, data, evil, 1), oci.Limits{}); err == nil {
				t.Error("unpacked")
			}
			long := zip(layer(t, entry{name: "other", content: "b"}))
			long = append(long, make([]byte, max(0, len(data)-len(long)))...)[:len(data)]
			if _, _, err := unpack(t, bytes.Replace(good, data, long, 1), oci.Limits{}); err == nil {
				t.Error("another layer was unpacked")
			}
		}
	}
	if _, err := oci.Write(io.Discard, p, "amd64"); !errors.Is(err, oci.ErrDigest) {
		t.Errorf("packed: %v", err)
	}
}

// TestEveryByte guards that no byte of a payload can be changed or cut without an error or another digest.
func TestEveryByte(t *testing.T) {
	good := payload(t, draw(t, nil, layer(t, entry{name: "a", content: "a"}), layer(t, entry{name: "b", content: "b"})))
	dir := t.TempDir()
	for i := 0; i < len(good); i += 7 {
		bad := bytes.Clone(good)
		bad[i] ^= 0x20
		if c, err := unpackTo(dir, bad, oci.Limits{}); err == nil && c == nil {
			t.Error(i)
		}
		if _, err := unpackTo(dir, good[:i], oci.Limits{}); err == nil && i < len(good)-1024 {
			t.Errorf("%d of %d bytes were an image", i, len(good))
		}
	}
}

func FuzzUnpack(f *testing.F) {
	f.Add(layer(f, entry{name: "bin/app", content: "x"}, entry{name: "l", link: "/bin", kind: tar.TypeSymlink}, entry{name: "l/y"}, entry{name: ".wh.bin"}))
	f.Add(layer(f, entry{name: "../x"}, entry{name: "h", link: "bin", kind: tar.TypeLink}))
	base := layer(f, entry{name: "bin/app", content: "x"}, entry{name: "up", link: "../..", kind: tar.TypeSymlink})
	f.Fuzz(func(t *testing.T, data []byte) {
		above := t.TempDir()
		dir := filepath.Join(above, "a", "root")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, _ = unpackTo(dir, payload(t, draw(t, nil, base, data)), oci.Limits{Bytes: 1 << 20, Files: 100})
		_, _ = unpackTo(dir, data, oci.Limits{Bytes: 1 << 20, Files: 100})
		for _, d := range []string{above, filepath.Dir(dir)} {
			if list, err := os.ReadDir(d); err != nil || len(list) != 1 {
				t.Errorf("%s: %v %v", d, list, err)
			}
		}
	})
}

// BenchmarkFiles unpacks many small files. It reports the time for each.
func BenchmarkFiles(b *testing.B) {
	const files = 2000
	entries := make([]entry, files)
	for i := range entries {
		entries[i] = entry{name: fmt.Sprintf("usr/share/some/d%d/f%d", i/100, i), content: "x"}
	}
	data := payload(b, draw(b, nil, layer(b, entries...)))
	for b.Loop() {
		if _, _, err := unpack(b, data, oci.Limits{}); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Microseconds())/float64(b.N*files), "us/file")
}

// BenchmarkBytes unpacks large files, not compressed and compressed.
func BenchmarkBytes(b *testing.B) {
	content := strings.Repeat("0123456789abcdef", 4<<20)
	l := layer(b, entry{name: "large", content: content})
	for name, data := range map[string][]byte{
		"gzip": payload(b, draw(b, nil, l)), "tar": payload(b, draw(b, nil, layer(b, entry{name: "small"}), l)),
	} {
		b.Run(name, func(b *testing.B) {
			b.SetBytes(int64(len(content)))
			for b.Loop() {
				if _, _, err := unpack(b, data, oci.Limits{}); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
