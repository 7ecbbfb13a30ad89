// SPDX-License-Identifier: Apache-2.0

package archive

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// Artifact is a package as OCI has it: a manifest, and the blobs that it names. Layer 0 is the SUIT envelope, the others are
// payloads in the order of the SUIT manifest's components.
type Artifact struct {
	Role     string
	Manifest []byte // the OCI manifest
	Layers   []Blob
}

// descriptor and manifest are the parts of OCI's JSON that a package has (image-spec, manifest.md).
type descriptor struct {
	MediaType    string            `json:"mediaType"`
	Digest       string            `json:"digest"`
	Size         int64             `json:"size"`
	Annotations  map[string]string `json:"annotations,omitempty"`
	ArtifactType string            `json:"artifactType,omitempty"`
}

type manifest struct {
	SchemaVersion int               `json:"schemaVersion"`
	MediaType     string            `json:"mediaType"`
	ArtifactType  string            `json:"artifactType"`
	Config        descriptor        `json:"config"`
	Layers        []descriptor      `json:"layers"`
	Annotations   map[string]string `json:"annotations,omitempty"`
}

// annotationRole names what a package carries.
const annotationRole = "sealift.package.role"

// emptyConfig is OCI's empty descriptor: an artifact has no image configuration (image-spec, manifest.md).
var emptyConfig = BytesBlob(MediaTypeEmpty, []byte("{}"))

// NewArtifact makes the artifact of a package.
func NewArtifact(role string, envelope []byte, payloads []Blob) (Artifact, error) {
	a := Artifact{Role: role, Layers: append([]Blob{BytesBlob(MediaTypeEnvelope, envelope)}, payloads...)}
	m := manifest{SchemaVersion: 2, MediaType: MediaTypeManifest, ArtifactType: ArtifactType, Config: describe(emptyConfig),
		Annotations: map[string]string{annotationRole: role}}
	for _, l := range a.Layers {
		m.Layers = append(m.Layers, describe(l))
	}
	var err error
	a.Manifest, err = json.Marshal(m)
	return a, err
}

// Digest returns the digest of the OCI manifest, by which the artifact is pulled.
func (a Artifact) Digest() string { return digestOf(a.Manifest) }

// Config returns the config blob, which a registry wants before it takes the manifest.
func (a Artifact) Config() Blob { return emptyConfig }

// Envelope returns the SUIT envelope.
func (a Artifact) Envelope() ([]byte, error) {
	if len(a.Layers) == 0 || a.Layers[0].MediaType != MediaTypeEnvelope {
		return nil, fmt.Errorf("%w: an artifact without a SUIT envelope", ErrFormat)
	}
	return readAll(a.Layers[0])
}

func describe(b Blob) descriptor {
	return descriptor{MediaType: b.MediaType, Digest: b.Digest, Size: b.Size}
}

// maxDocument bounds what is read into memory whole: JSON documents and envelopes.
const maxDocument = 4 << 20

func readAll(b Blob) ([]byte, error) {
	if b.Size > maxDocument {
		return nil, fmt.Errorf("%w: a document of %d bytes", ErrFormat, b.Size)
	}
	r, err := b.Open()
	if err != nil {
		return nil, err
	}
	defer r.Close()
	return io.ReadAll(r)
}

// checkDigest accepts only what names a blob's file safely.
func checkDigest(digest string) (hexDigest string, err error) {
	hexDigest, ok := strings.CutPrefix(digest, "sha256:")
	if raw, err := hex.DecodeString(hexDigest); !ok || err != nil || len(raw) != 32 || hexDigest != strings.ToLower(hexDigest) {
		return "", fmt.Errorf("%w: %q is not a SHA-256 digest", ErrFormat, digest)
	}
	return hexDigest, nil
}
