// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"sealift/suit"
)

// File is an open package file.
type File struct {
	Description Description
	Artifacts   []Artifact

	f       io.ReaderAt
	closer  io.Closer
	entries map[string]*io.SectionReader
}

// maxEntries bounds the blobs of a package file.
const maxEntries = 1024

// Open opens a package file. Payloads are checked against their digests when they are read, everything else at once.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	st, err := f.Stat()
	if err == nil && !st.Mode().IsRegular() {
		err = fmt.Errorf("%w: not a regular file", ErrFormat)
	}
	var file *File
	if err == nil {
		file, err = Read(f, st.Size())
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	file.closer = f
	return file, nil
}

// Close closes the file; its blobs cannot be read any more.
func (f *File) Close() error {
	if f.closer == nil {
		return nil
	}
	return f.closer.Close()
}

// Read reads a package file of the given size from r, which must stay readable while blobs are used.
func Read(r io.ReaderAt, size int64) (*File, error) {
	f := &File{f: r, entries: make(map[string]*io.SectionReader)}
	if err := f.scan(size); err != nil {
		return nil, err
	}
	layout, err := f.document("oci-layout")
	if err != nil {
		return nil, err
	}
	if string(layout) != layoutFile {
		return nil, fmt.Errorf("%w: another OCI layout version", ErrFormat)
	}
	var ix index
	if data, err := f.document("index.json"); err != nil {
		return nil, err
	} else if err := strictJSON(data, &ix); err != nil {
		return nil, err
	}
	described := false
	for _, d := range ix.Manifests {
		a, err := f.artifact(d)
		if err != nil {
			return nil, err
		}
		if a.Role != roleDescription {
			f.Artifacts = append(f.Artifacts, a)
			continue
		}
		described = true
		if err := f.describe(a); err != nil {
			return nil, err
		}
	}
	if !described {
		return nil, fmt.Errorf("%w: there is no description in it", ErrFormat)
	}
	return f, f.check()
}

// scan notes where each entry of the tar file begins.
func (f *File) scan(size int64) error {
	at := &position{r: io.NewSectionReader(f.f, 0, size)}
	tr := tar.NewReader(at)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return fmt.Errorf("%w: %w", ErrFormat, err)
		}
		_, twice := f.entries[h.Name]
		if h.Typeflag != tar.TypeReg || twice || len(f.entries) >= maxEntries || at.n+h.Size > size {
			return fmt.Errorf("%w: the entry %q", ErrFormat, h.Name)
		}
		f.entries[h.Name] = io.NewSectionReader(f.f, at.n, h.Size)
	}
}

// position counts what the tar reader has taken, which after a header is where the entry's content begins.
type position struct {
	r *io.SectionReader
	n int64
}

func (p *position) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}

// Seek lets the tar reader skip payloads instead of reading them.
func (p *position) Seek(offset int64, whence int) (int64, error) {
	n, err := p.r.Seek(offset, whence)
	p.n = n
	return n, err
}

func (f *File) document(name string) ([]byte, error) {
	r, ok := f.entries[name]
	if !ok || r.Size() > maxDocument {
		return nil, fmt.Errorf("%w: %s is missing or too large", ErrFormat, name)
	}
	return io.ReadAll(io.NewSectionReader(r, 0, r.Size()))
}

// blob resolves a descriptor to the entry that holds its content.
func (f *File) blob(d descriptor) (Blob, error) {
	name, err := checkDigest(d.Digest)
	if err != nil {
		return Blob{}, err
	}
	r, ok := f.entries[blobFolder+name]
	if !ok || r.Size() != d.Size {
		return Blob{}, fmt.Errorf("%w: blob %s is missing or has another size", ErrFormat, d.Digest)
	}
	b := Blob{MediaType: d.MediaType, Digest: d.Digest, Size: d.Size}
	b.Open = func() (io.ReadCloser, error) {
		return newChecked(io.NopCloser(io.NewSectionReader(r, 0, r.Size())), b), nil
	}
	return b, nil
}

func (f *File) artifact(d descriptor) (Artifact, error) {
	own, err := f.blob(d)
	if err != nil {
		return Artifact{}, err
	}
	a := Artifact{Role: d.Annotations[annotationRole]}
	if a.Manifest, err = readAll(own); err != nil {
		return Artifact{}, err
	}
	var m manifest
	if err := strictJSON(a.Manifest, &m); err != nil {
		return Artifact{}, err
	}
	if m.SchemaVersion != 2 || m.Config.Digest != emptyConfig.Digest {
		return Artifact{}, fmt.Errorf("%w: an OCI manifest of another kind", ErrFormat)
	}
	for _, l := range m.Layers {
		b, err := f.blob(l)
		if err != nil {
			return Artifact{}, err
		}
		a.Layers = append(a.Layers, b)
	}
	return a, nil
}

func (f *File) describe(a Artifact) error {
	if len(a.Layers) != 1 || a.Layers[0].MediaType != MediaTypeDescription {
		return fmt.Errorf("%w: the description is of another kind", ErrFormat)
	}
	data, err := readAll(a.Layers[0])
	if err != nil {
		return err
	}
	if err := strictJSON(data, &f.Description); err != nil {
		return err
	}
	return f.Description.Restore()
}

// check compares the description with the artifacts.
func (f *File) check() error {
	d := &f.Description
	if d.Version != 1 || d.Owner == nil || d.Sequence == 0 {
		return fmt.Errorf("%w: the description is incomplete, or of a newer version", ErrFormat)
	}
	if len(d.Packages) != len(f.Artifacts) {
		return fmt.Errorf("%w: %d packages described, %d there", ErrFormat, len(d.Packages), len(f.Artifacts))
	}
	for _, a := range f.Artifacts {
		if p, ok := d.Package(a.Role); !ok || p.Digest != a.Digest() {
			return fmt.Errorf("%w: package %q is not the one that is described", ErrFormat, a.Role)
		}
	}
	return nil
}

// Restore fills in what the JSON form of a description leaves out.
func (d *Description) Restore() error {
	for i := range d.Components {
		c := &d.Components[i]
		sum, err := hex.DecodeString(c.SHA256)
		if err != nil || len(sum) != 32 || c.Size < 0 || len(c.ID) == 0 {
			return fmt.Errorf("%w: component %q", ErrFormat, strings.ToValidUTF8(c.Name, "?"))
		}
		c.Digest = suit.Digest{Alg: suit.AlgSHA256, Bytes: sum}
	}
	return nil
}

func strictJSON(data []byte, v any) error {
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return fmt.Errorf("%w: %w", ErrFormat, err)
	}
	return nil
}
