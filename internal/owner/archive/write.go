// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"archive/tar"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"time"
)

var errNoFile = errors.New("it is there and is no regular file")

const layoutFile = `{"imageLayoutVersion":"1.0.0"}`

type index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Manifests     []descriptor `json:"manifests"`
}

// Write writes a package file to path in one step: a file that exists is replaced only by a whole one. What is there and is no file,
// a device such as /dev/null for example, is not replaced.
func Write(path string, d Description, artifacts []Artifact) (err error) {
	if at, err := os.Stat(path); err == nil && !at.Mode().IsRegular() {
		return fmt.Errorf("writing %s: %w", path, errNoFile)
	}
	f, err := os.CreateTemp(filepath.Dir(path), ".new-*.sealift")
	if err != nil {
		return fmt.Errorf("writing %s: %w", path, err)
	}
	defer func() {
		if err != nil {
			f.Close()
			os.Remove(f.Name())
			err = fmt.Errorf("writing %s: %w", path, err)
		}
	}()
	if err := WriteTo(f, d, artifacts); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if err := f.Close(); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}

// WriteTo writes the tar stream of a package file.
func WriteTo(w io.Writer, d Description, artifacts []Artifact) error {
	description, err := json.Marshal(d)
	if err != nil {
		return err
	}
	root, err := descriptionManifest(description)
	if err != nil {
		return err
	}
	ix := index{SchemaVersion: 2, MediaType: MediaTypeIndex}
	blobs := make(map[string]Blob)
	add := func(b Blob) { blobs[b.Digest] = b }
	for _, a := range append([]Artifact{root}, artifacts...) {
		own := BytesBlob(MediaTypeManifest, a.Manifest)
		entry := describe(own)
		entry.Annotations = map[string]string{annotationRole: a.Role}
		ix.Manifests = append(ix.Manifests, entry)
		add(own)
		add(a.Config())
		for _, l := range a.Layers {
			add(l)
		}
	}
	indexJSON, err := json.Marshal(ix)
	if err != nil {
		return err
	}
	tw := tar.NewWriter(w)
	if err := writeEntry(tw, "oci-layout", BytesBlob("", []byte(layoutFile))); err != nil {
		return err
	}
	if err := writeEntry(tw, "index.json", BytesBlob("", indexJSON)); err != nil {
		return err
	}
	for _, digest := range slices.Sorted(maps.Keys(blobs)) {
		name, err := checkDigest(digest)
		if err != nil {
			return err
		}
		if err := writeEntry(tw, blobFolder+name, blobs[digest]); err != nil {
			return err
		}
	}
	return tw.Close()
}

const blobFolder = "blobs/sha256/"

// roleDescription marks the manifest whose only layer is the description.
const roleDescription = "description"

func descriptionManifest(description []byte) (Artifact, error) {
	layer := BytesBlob(MediaTypeDescription, description)
	m := manifest{SchemaVersion: 2, MediaType: MediaTypeManifest, ArtifactType: MediaTypeDescription, Config: describe(emptyConfig),
		Layers: []descriptor{describe(layer)}}
	data, err := json.Marshal(m)
	return Artifact{Role: roleDescription, Manifest: data, Layers: []Blob{layer}}, err
}

func writeEntry(tw *tar.Writer, name string, b Blob) error {
	header := &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: b.Size, Mode: 0o644, ModTime: time.Unix(0, 0), Format: tar.FormatPAX}
	if err := tw.WriteHeader(header); err != nil {
		return err
	}
	r, err := b.Open()
	if err != nil {
		return err
	}
	defer r.Close()
	_, err = io.Copy(tw, r)
	return err
}
