// SPDX-License-Identifier: Apache-2.0

package ociimage

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"sealift/internal/oci"
)

// FromProgram returns an image with nothing in it but the static program at file, for a TA that was not packed as an image and
// is to run in a container. The same program always makes the same image.
func FromProgram(file, arch string) (*Image, error) {
	data, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	name := filepath.Base(file)
	var layer bytes.Buffer
	w := tar.NewWriter(&layer)
	h := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(data)), Mode: 0o755, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := w.WriteHeader(h); err != nil {
		return nil, fmt.Errorf("an image of %s: %w", file, err)
	}
	if _, err := w.Write(data); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	p := program{blobs: map[string][]byte{}}
	content := p.add(oci.TypeTar, layer.Bytes())
	config, err := json.Marshal(oci.Config{
		Architecture: arch, OS: "linux", Config: oci.Process{Entrypoint: []string{"/" + name}},
		RootFS: oci.RootFS{Type: "layers", DiffIDs: []string{content.Digest}},
	})
	if err != nil {
		return nil, err
	}
	p.manifest, err = json.Marshal(oci.Manifest{
		SchemaVersion: 2, MediaType: oci.TypeManifest, Config: p.add(oci.TypeConfig, config), Layers: []oci.Descriptor{content},
	})
	return &Image{Source: p}, err
}

type program struct {
	manifest []byte
	blobs    map[string][]byte
}

func (p program) add(mediaType string, data []byte) oci.Descriptor {
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))}
	p.blobs[d.Digest] = data
	return d
}

// Manifest implements oci.Source.
func (p program) Manifest() ([]byte, error) { return p.manifest, nil }

// Blob implements oci.Source.
func (p program) Blob(d oci.Descriptor) (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(p.blobs[d.Digest])), nil
}
