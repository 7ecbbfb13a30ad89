// SPDX-License-Identifier: Apache-2.0

package oci

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"
)

const (
	layoutName = "oci-layout"
	layoutFile = `{"imageLayoutVersion":"1.0.0"}`
	indexName  = "index.json"
	blobFolder = "blobs/sha256/"
)

// Source gives the parts of an image to Write.
type Source interface {
	// Manifest returns the bytes of the manifest.
	Manifest() ([]byte, error)
	// Blob opens the configuration or a layer.
	Blob(d Descriptor) (io.ReadCloser, error)
}

// Write writes the image as one payload: a tar file whose bytes depend on the image only. The image has to be for
// linux/arch. Digests are checked on the way.
func Write(w io.Writer, s Source, arch string) (*Config, error) {
	data, err := s.Manifest()
	if err != nil {
		return nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, err
	}
	config, err := readBlob(s, m.Config)
	if err != nil {
		return nil, err
	}
	c, err := ParseConfig(config, m, arch)
	if err != nil {
		return nil, err
	}
	own := Descriptor{MediaType: m.MediaType, Digest: DigestOf(data), Size: int64(len(data)), Platform: &Platform{arch, "linux"}}
	if own.MediaType == "" {
		own.MediaType = TypeManifest
	}
	index, err := json.Marshal(Index{SchemaVersion: 2, MediaType: TypeIndex, Manifests: []Descriptor{own}})
	if err != nil {
		return nil, err
	}
	tw := tar.NewWriter(w)
	for _, doc := range []struct {
		name string
		data []byte
	}{{layoutName, []byte(layoutFile)}, {indexName, index}, {blobName(own), data}, {blobName(m.Config), config}} {
		if err := writeEntry(tw, doc.name, int64(len(doc.data)), bytes.NewReader(doc.data)); err != nil {
			return nil, err
		}
	}
	seen := map[string]bool{own.Digest: true, m.Config.Digest: true}
	for _, l := range m.Layers {
		if seen[l.Digest] {
			continue
		}
		seen[l.Digest] = true
		if err := writeBlob(tw, s, l); err != nil {
			return nil, err
		}
	}
	return c, tw.Close()
}

func blobName(d Descriptor) string { return blobFolder + d.Digest[len("sha256:"):] }

func readBlob(s Source, d Descriptor) ([]byte, error) {
	if d.Size > MaxDocument {
		return nil, fmt.Errorf("%w: a document of %d bytes", ErrLimit, d.Size)
	}
	r, err := s.Blob(d)
	if err != nil {
		return nil, err
	}
	defer r.Close()
	c := newChecked(r, d)
	data, err := io.ReadAll(c)
	if err != nil {
		return nil, err
	}
	return data, nil
}

func writeBlob(tw *tar.Writer, s Source, d Descriptor) error {
	r, err := s.Blob(d)
	if err != nil {
		return err
	}
	defer r.Close()
	return writeEntry(tw, blobName(d), d.Size, newChecked(r, d))
}

func writeEntry(tw *tar.Writer, name string, size int64, r io.Reader) error {
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := tw.WriteHeader(h); err != nil {
		return fmt.Errorf("oci: %w", err)
	}
	if _, err := io.Copy(tw, r); err != nil {
		return fmt.Errorf("oci: %s: %w", name, err)
	}
	return nil
}

// checked passes content on, and says EOF only after the content that its descriptor names.
type checked struct {
	r    io.Reader
	d    Descriptor
	hash hash.Hash
	n    int64
}

func newChecked(r io.Reader, d Descriptor) *checked { return &checked{r: r, d: d, hash: sha256.New()} }

// Read implements io.Reader.
func (c *checked) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	c.hash.Write(p[:n])
	switch {
	case c.n > c.d.Size, err == io.EOF && c.n < c.d.Size:
		return 0, fmt.Errorf("%w: %s has not %d bytes", ErrDigest, c.d.Digest, c.d.Size)
	case err == io.EOF && "sha256:"+hex.EncodeToString(c.hash.Sum(nil)) != c.d.Digest:
		return 0, fmt.Errorf("%w: the content is not that of %s", ErrDigest, c.d.Digest)
	}
	return n, err
}

// layout reads a payload from its beginning.
type layout struct {
	tr *tar.Reader
}

// next returns the content of the next entry, which has to have that name.
func (l layout) next(name string) (*tar.Header, error) {
	h, err := l.tr.Next()
	if errors.Is(err, io.EOF) {
		return nil, fmt.Errorf("%w: %s is missing", ErrMalformed, name)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if h.Typeflag != tar.TypeReg || h.Name != name {
		return nil, fmt.Errorf("%w: %.100q where %s is expected", ErrMalformed, h.Name, name)
	}
	return h, nil
}

func (l layout) document(name string, d *Descriptor) ([]byte, error) {
	h, err := l.next(name)
	if err != nil {
		return nil, err
	}
	if h.Size > MaxDocument {
		return nil, fmt.Errorf("%w: %s has %d bytes", ErrLimit, name, h.Size)
	}
	r := io.Reader(l.tr)
	if d != nil {
		r = newChecked(r, *d)
	}
	data, err := io.ReadAll(r)
	if err != nil && !errors.Is(err, ErrDigest) {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
	}
	return data, err
}

// open reads everything before the layers.
func (l layout) open(arch string) (*Manifest, *Config, error) {
	if version, err := l.document(layoutName, nil); err != nil || string(version) != layoutFile {
		return nil, nil, errors.Join(err, fmt.Errorf("%w: not an OCI image layout of version 1.0.0", ErrMalformed))
	}
	data, err := l.document(indexName, nil)
	if err != nil {
		return nil, nil, err
	}
	var index Index
	if err := json.Unmarshal(data, &index); err != nil || len(index.Manifests) != 1 {
		return nil, nil, fmt.Errorf("%w: an index of %d images, not of one: %w", ErrMalformed, len(index.Manifests), err)
	}
	own := index.Manifests[0]
	if _, err := own.hex(); err != nil {
		return nil, nil, err
	}
	if data, err = l.document(blobName(own), &own); err != nil {
		return nil, nil, err
	}
	m, err := ParseManifest(data)
	if err != nil {
		return nil, nil, err
	}
	if data, err = l.document(blobName(m.Config), &m.Config); err != nil {
		return nil, nil, err
	}
	c, err := ParseConfig(data, m, arch)
	return m, c, err
}
