// SPDX-License-Identifier: Apache-2.0

// Package ocitest makes container images for tests.
package ocitest

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"io"
	"io/fs"
	"runtime"
	"testing"

	"sealift/internal/oci"
)

// Image is an image in the making; it implements oci.Source. The zero value has no layers and is for this machine.
type Image struct {
	Config oci.Config
	Layers [][]byte // tar files, not compressed
	Zipped [][]byte // further layers, compressed; what the configuration says of them is not true

	blobs map[string][]byte
}

// File is an entry of a layer.
func File(name, content string) *tar.Header {
	return &tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: int64(len(content)), PAXRecords: map[string]string{"SEALIFT.content": content}}
}

// Layer makes a tar file of entries; the content of a File goes with its header.
func Layer(t testing.TB, entries ...*tar.Header) []byte {
	t.Helper()
	var buf bytes.Buffer
	w := tar.NewWriter(&buf)
	for _, e := range entries {
		h := *e
		content := h.PAXRecords["SEALIFT.content"]
		h.PAXRecords = nil
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

// Manifest implements oci.Source.
func (i *Image) Manifest() ([]byte, error) {
	i.blobs = map[string][]byte{}
	c := i.Config
	if c.OS == "" {
		c.OS = "linux"
	}
	if c.Architecture == "" {
		c.Architecture = runtime.GOARCH
	}
	c.RootFS = oci.RootFS{Type: "layers"}
	m := oci.Manifest{SchemaVersion: 2, MediaType: oci.TypeManifest}
	for _, l := range i.Layers {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, oci.DigestOf(l))
		m.Layers = append(m.Layers, i.add(oci.TypeTar, l))
	}
	for _, l := range i.Zipped {
		c.RootFS.DiffIDs = append(c.RootFS.DiffIDs, oci.DigestOf(l))
		m.Layers = append(m.Layers, i.add(oci.TypeTarGzip, l))
	}
	config, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	m.Config = i.add(oci.TypeConfig, config)
	return json.Marshal(m)
}

func (i *Image) add(mediaType string, data []byte) oci.Descriptor {
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))}
	i.blobs[d.Digest] = data
	return d
}

// Blob implements oci.Source.
func (i *Image) Blob(d oci.Descriptor) (io.ReadCloser, error) {
	data, ok := i.blobs[d.Digest]
	if !ok {
		return nil, fs.ErrNotExist
	}
	return io.NopCloser(bytes.NewReader(data)), nil
}

// Payload returns the image as a payload.
func (i *Image) Payload(t testing.TB) []byte {
	t.Helper()
	var buf bytes.Buffer
	arch := i.Config.Architecture
	if arch == "" {
		arch = runtime.GOARCH
	}
	if _, err := oci.Write(&buf, i, arch); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}
