// SPDX-License-Identifier: Apache-2.0

// Package ociimage finds the container image that a package file names, on the data owner's machine or in a registry, and makes
// the payload of it that a TEEP Agent installs (package oci).
//
// An image is named by
//
//   - a folder in the form of an OCI image layout (image-layout.md), as skopeo and buildah write it;
//   - a tar file of such a folder, or one that "docker save" wrote;
//   - a reference with a digest, as in registry.example/app@sha256:HEX. A tag is not enough: the owner signs what it names, and a
//     tag names something else tomorrow.
//
// Where there are images for several platforms, the one for linux and the wanted architecture is taken; there has to be one.
package ociimage

import (
	"archive/tar"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"sealift/internal/oci"
)

// ErrReference means that a name is neither a file or folder nor a reference with a digest.
var ErrReference = errors.New("not an image: a folder or tar file is expected, or a reference with a digest (NAME@sha256:...)")

// Image is an opened image. Close it when it is written.
type Image struct {
	oci.Source
	closer io.Closer
}

// Close ends the reading.
func (i *Image) Close() error {
	if i.closer == nil {
		return nil
	}
	return i.closer.Close()
}

// IsReference reports whether name is one that only a registry can resolve.
func IsReference(name string) bool {
	_, err := os.Stat(name)
	return err != nil && strings.Contains(name, "@sha256:")
}

// Open finds the image for linux/arch under that name. ctx bounds the reading of it too.
func Open(ctx context.Context, image, arch string) (*Image, error) {
	st, err := os.Stat(image)
	switch {
	case err == nil && st.IsDir():
		return openLayout(os.DirFS(image), arch, nil)
	case err == nil && st.Mode().IsRegular():
		return openTar(image, arch)
	case IsReference(image):
		return pull(ctx, image, arch)
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return nil, err
	}
	return nil, ErrReference
}

// pull opens an image in a registry, with the credentials of its other clients on this machine where there are any.
func pull(ctx context.Context, image, arch string) (*Image, error) {
	ref, err := name.NewDigest(image)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrReference, err)
	}
	img, err := remote.Image(ref, remote.WithContext(ctx), remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
	if err != nil {
		return nil, fmt.Errorf("pulling %s: %w", ref, err)
	}
	return &Image{Source: foreign{img}}, nil
}

// foreign is an image of the registry library.
type foreign struct{ v1.Image }

// Manifest implements oci.Source.
func (f foreign) Manifest() ([]byte, error) { return f.RawManifest() }

// Blob implements oci.Source.
func (f foreign) Blob(d oci.Descriptor) (io.ReadCloser, error) {
	if config, err := f.ConfigName(); err == nil && config.String() == d.Digest {
		data, err := f.RawConfigFile()
		return io.NopCloser(bytes.NewReader(data)), err
	}
	h, err := v1.NewHash(d.Digest)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrMalformed, err)
	}
	l, err := f.LayerByDigest(h)
	if err != nil {
		return nil, err
	}
	return l.Compressed()
}

// openTar opens an OCI layout in a tar file, or what "docker save" wrote.
func openTar(file, arch string) (*Image, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	entries, err := scan(f)
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("%w: %w", oci.ErrMalformed, err)
	}
	if _, ok := entries["oci-layout"]; ok {
		img, err := openLayout(entries, arch, f)
		if err != nil {
			f.Close()
			return nil, err
		}
		return img, nil
	}
	f.Close()
	if _, ok := entries["manifest.json"]; !ok {
		return nil, fmt.Errorf("%w: neither an OCI image layout nor an archive of docker save", oci.ErrMalformed)
	}
	img, err := tarball.ImageFromPath(file, nil)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrMalformed, err)
	}
	return &Image{Source: foreign{img}}, nil
}

// tarFS is a tar file by the names of its regular files.
type tarFS map[string]*io.SectionReader

// maxEntries bounds the files of an archive.
const maxEntries = 4096

func scan(f *os.File) (tarFS, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	entries := tarFS{}
	at := &position{r: io.NewSectionReader(f, 0, st.Size())}
	tr := tar.NewReader(at)
	for {
		h, err := tr.Next()
		if errors.Is(err, io.EOF) {
			return entries, nil
		}
		if err != nil {
			return nil, err
		}
		if len(entries) >= maxEntries {
			return nil, fmt.Errorf("more than %d entries", maxEntries)
		}
		if h.Typeflag == tar.TypeReg {
			entries[path.Clean(h.Name)] = io.NewSectionReader(f, at.n, h.Size)
		}
	}
}

// position counts what the tar reader has taken, which after a header is where the content begins.
type position struct {
	r *io.SectionReader
	n int64
}

// Read implements io.Reader.
func (p *position) Read(b []byte) (int, error) {
	n, err := p.r.Read(b)
	p.n += int64(n)
	return n, err
}

// Seek lets the tar reader skip content.
func (p *position) Seek(offset int64, whence int) (int64, error) {
	n, err := p.r.Seek(offset, whence)
	p.n = n
	return n, err
}

// Open implements fs.FS, as far as a layout needs it.
func (t tarFS) Open(name string) (fs.File, error) {
	r, ok := t[name]
	if !ok {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return section{io.NewSectionReader(r, 0, r.Size())}, nil
}

type section struct{ *io.SectionReader }

// Stat implements fs.File; nothing here asks for it.
func (section) Stat() (fs.FileInfo, error) { return nil, errors.ErrUnsupported }

// Close implements fs.File.
func (section) Close() error { return nil }

// layoutSource is an image in an OCI image layout.
type layoutSource struct {
	files    fs.FS
	manifest oci.Descriptor
}

func openLayout(files fs.FS, arch string, closer io.Closer) (*Image, error) {
	l := layoutSource{files: files}
	data, err := l.document("index.json")
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrMalformed, err)
	}
	found, err := l.find(data, arch, 0)
	if err != nil {
		return nil, err
	}
	switch len(found) {
	case 1:
	case 0:
		return nil, fmt.Errorf("%w: the target is linux/%s, and there are images for %s", oci.ErrPlatform, arch, strings.Join(l.platforms(data), ", "))
	default:
		return nil, fmt.Errorf("%w: the layout holds %d images for linux/%s, not one", oci.ErrPlatform, len(found), arch)
	}
	l.manifest = found[0]
	return &Image{Source: l, closer: closer}, nil
}

// maxNesting bounds indexes in indexes.
const maxNesting = 4

// typeDockerList is Docker's name of an index.
const typeDockerList = "application/vnd.docker.distribution.manifest.list.v2+json"

// find lists the images of an index that may be for linux/arch: those that say so, and those that say nothing.
func (l layoutSource) find(index []byte, arch string, depth int) (found []oci.Descriptor, err error) {
	var ix oci.Index
	if err := json.Unmarshal(index, &ix); err != nil || depth > maxNesting {
		return nil, fmt.Errorf("%w: index: %w", oci.ErrMalformed, err)
	}
	for _, d := range ix.Manifests {
		if d.Platform != nil && (d.Platform.OS != "linux" || d.Platform.Architecture != arch) {
			continue
		}
		if d.MediaType != oci.TypeIndex && d.MediaType != typeDockerList {
			found = append(found, d)
			continue
		}
		data, err := l.readAll(d)
		if err != nil {
			return nil, err
		}
		below, err := l.find(data, arch, depth+1)
		if err != nil {
			return nil, err
		}
		found = append(found, below...)
	}
	return found, nil
}

// platforms lists what the topmost entries of an index say that they are for.
func (l layoutSource) platforms(index []byte) []string {
	var ix oci.Index
	if err := json.Unmarshal(index, &ix); err != nil {
		return nil
	}
	list := []string{}
	for _, d := range ix.Manifests {
		if d.Platform != nil {
			list = append(list, d.Platform.OS+"/"+d.Platform.Architecture)
		}
	}
	return list
}

func (l layoutSource) document(name string) ([]byte, error) {
	f, err := l.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, oci.MaxDocument+1))
	if err == nil && len(data) > oci.MaxDocument {
		err = fmt.Errorf("%w: %s", oci.ErrLimit, name)
	}
	return data, err
}

func (l layoutSource) readAll(d oci.Descriptor) ([]byte, error) {
	name, err := blobName(d)
	if err != nil {
		return nil, err
	}
	data, err := l.document(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrMalformed, err)
	}
	if oci.DigestOf(data) != d.Digest {
		return nil, fmt.Errorf("%w: %s", oci.ErrDigest, d.Digest)
	}
	return data, nil
}

// Manifest implements oci.Source.
func (l layoutSource) Manifest() ([]byte, error) { return l.readAll(l.manifest) }

// Blob implements oci.Source; who reads it checks it.
func (l layoutSource) Blob(d oci.Descriptor) (io.ReadCloser, error) {
	name, err := blobName(d)
	if err != nil {
		return nil, err
	}
	f, err := l.files.Open(name)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", oci.ErrMalformed, err)
	}
	return f, nil
}

// blobName is where a layout keeps a blob. fs.FS refuses names that lead out of it.
func blobName(d oci.Descriptor) (string, error) {
	algorithm, hex, ok := strings.Cut(d.Digest, ":")
	name := "blobs/" + algorithm + "/" + hex
	if !ok || !fs.ValidPath(name) || strings.Contains(hex, "/") {
		return "", fmt.Errorf("%w: %q is no digest", oci.ErrMalformed, d.Digest)
	}
	return name, nil
}
