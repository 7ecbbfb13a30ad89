// SPDX-License-Identifier: Apache-2.0

//go:build linux

package main

import (
	"archive/tar"
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"runtime"

	"sealift/internal/oci"
)

// The image of `bench install --image`: a layer with the program, and layers with files that do not compress.
const (
	imageLayers   = 8
	imageFileSize = 16 << 20
	imageProgram  = "/usr/bin/ta"
)

// imageWriter writes an image layout (image-layout.md) into a folder.
type imageWriter struct {
	dir    string
	random *rand.ChaCha8
	config oci.Config
	layers []oci.Descriptor
}

// benchImage makes an image of about size bytes in dir. Its layers are tar files that are not compressed.
func benchImage(dir, program string, size int64) error {
	w := &imageWriter{dir: dir, random: rand.NewChaCha8([32]byte{1})}
	w.config = oci.Config{Architecture: runtime.GOARCH, OS: "linux", RootFS: oci.RootFS{Type: "layers"},
		Config: oci.Process{Entrypoint: []string{imageProgram}}}
	if err := os.MkdirAll(filepath.Join(dir, "blobs", "sha256"), 0o700); err != nil {
		return err
	}
	text, err := os.ReadFile(program)
	if err != nil {
		return err
	}
	if err := w.layer(func(tw *tar.Writer) error {
		return addFile(tw, imageProgram[1:], int64(len(text)), bytes.NewReader(text))
	}); err != nil {
		return err
	}
	each := (size - int64(len(text))) / (imageLayers - 1)
	for number := range imageLayers - 1 {
		if err := w.layer(func(tw *tar.Writer) error {
			for n, left := 0, each; left > 0; n, left = n+1, left-imageFileSize {
				name := fmt.Sprintf("usr/share/data/%d/%d", number, n)
				if err := addFile(tw, name, min(left, imageFileSize), w.random); err != nil {
					return err
				}
			}
			return nil
		}); err != nil {
			return err
		}
	}
	return w.finish()
}

// addFile adds a file of n bytes of r.
func addFile(tw *tar.Writer, name string, n int64, r io.Reader) error {
	if err := tw.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: 0o755, Size: n}); err != nil {
		return err
	}
	_, err := io.CopyN(tw, r, n)
	return err
}

// layer adds a layer that fill makes.
func (w *imageWriter) layer(fill func(*tar.Writer) error) error {
	f, err := os.CreateTemp(w.dir, "layer")
	if err != nil {
		return err
	}
	defer f.Close()
	sum := sha256.New()
	tw := tar.NewWriter(io.MultiWriter(f, sum))
	if err := fill(tw); err != nil {
		return err
	}
	if err := tw.Close(); err != nil {
		return err
	}
	st, err := f.Stat()
	if err != nil {
		return err
	}
	d := oci.Descriptor{MediaType: oci.TypeTar, Digest: "sha256:" + hex.EncodeToString(sum.Sum(nil)), Size: st.Size()}
	w.layers = append(w.layers, d)
	w.config.RootFS.DiffIDs = append(w.config.RootFS.DiffIDs, d.Digest)
	return os.Rename(f.Name(), w.blob(d.Digest))
}

func (w *imageWriter) blob(digest string) string {
	return filepath.Join(w.dir, "blobs", "sha256", digest[len("sha256:"):])
}

// document writes a JSON document as a blob.
func (w *imageWriter) document(mediaType string, v any) (oci.Descriptor, error) {
	data, err := json.Marshal(v)
	d := oci.Descriptor{MediaType: mediaType, Digest: oci.DigestOf(data), Size: int64(len(data))}
	if err != nil {
		return d, err
	}
	return d, os.WriteFile(w.blob(d.Digest), data, 0o600)
}

// finish writes what names the layers.
func (w *imageWriter) finish() error {
	config, err := w.document(oci.TypeConfig, w.config)
	if err != nil {
		return err
	}
	manifest, err := w.document(oci.TypeManifest, oci.Manifest{SchemaVersion: 2, MediaType: oci.TypeManifest, Config: config, Layers: w.layers})
	if err != nil {
		return err
	}
	index, err := json.Marshal(oci.Index{SchemaVersion: 2, MediaType: oci.TypeIndex, Manifests: []oci.Descriptor{manifest}})
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(w.dir, "oci-layout"), []byte(`{"imageLayoutVersion":"1.0.0"}`), 0o600); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(w.dir, "index.json"), index, 0o600)
}
