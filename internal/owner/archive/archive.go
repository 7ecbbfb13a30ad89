// SPDX-License-Identifier: Apache-2.0

// Package archive is the file NAME.sealift, in which a data owner keeps a packed application: a tar file in the form of an OCI image
// layout (OCI image-spec, image-layout.md), so that any tool for OCI artifacts reads it.
//
//	oci-layout              {"imageLayoutVersion":"1.0.0"}
//	index.json              one descriptor for the description, one for each artifact
//	blobs/sha256/HEX        OCI manifests, SUIT envelopes, payloads
//
// It holds what may be public: the signed envelopes and the programs of modes in which they travel in the clear. PD, and in bundled modes
// the programs too, are not in it; the description names them by path, size and digest on the owner's own machine. The description
// is for the owner alone and is never pushed: a digest of small PD would let a reader guess it (docs/design/0003).
//
// The bytes depend on nothing but the content: entries are sorted, times and owners are zero.
package archive

import (
	"errors"
	"io"
	"os"

	"sealift/cose"
	"sealift/internal/launch"
	"sealift/suit"
	"sealift/usecase"
)

// Media types of the artifacts.
const (
	MediaTypeManifest    = "application/vnd.oci.image.manifest.v1+json"
	MediaTypeIndex       = "application/vnd.oci.image.index.v1+json"
	MediaTypeEmpty       = "application/vnd.oci.empty.v1+json"
	MediaTypeEnvelope    = "application/suit-envelope+cose"
	MediaTypePayload     = "application/octet-stream"
	MediaTypeDescription = "application/vnd.sealift.description.v1+json"
	ArtifactType         = "application/vnd.sealift.package.v1"
)

// ErrFormat is wrapped by every error about the content of a package file.
var ErrFormat = errors.New("not a package file, or a damaged one")

// Description is what the owner knows of a packed application.
type Description struct {
	Version    int                `json:"version"` // 1
	Name       string             `json:"name"`
	Mode       usecase.Mode       `json:"mode"`
	Arch       string             `json:"arch"`
	Sequence   uint64             `json:"sequence"` // of the signed manifests; those with PD get later ones
	Hardware   []usecase.Hardware `json:"hardware"`
	Instances  []usecase.Instance `json:"instances"`
	Owner      *cose.Key          `json:"owner"` // signs every manifest of this application
	Components []Component        `json:"components"`
	Packages   []Package          `json:"packages"` // those that are in the file
}

// Component is one program or one file of PD.
type Component struct {
	Kind   usecase.Payload  `json:"kind"` // ua, ta, pd
	Name   string           `json:"name"` // the last segment of ID
	ID     suit.ComponentID `json:"id"`
	Size   int64            `json:"size"`
	Digest suit.Digest      `json:"-"`
	SHA256 string           `json:"sha256"`           // hex, of the content in the clear
	Path   string           `json:"path,omitempty"`   // where it lies on the owner's machine; empty: its content is in the file
	Launch *launch.Spec     `json:"launch,omitempty"` // of a program
}

// Package is one signed package.
type Package struct {
	Role           string `json:"role"`            // "ua", "ta", or "bundle" with both
	Digest         string `json:"digest"`          // "sha256:HEX" of the OCI manifest
	ManifestSHA256 string `json:"manifest_sha256"` // hex, the SUIT digest of the SUIT manifest: what dependents name
}

// Component returns the first component of a kind.
func (d *Description) Component(kind usecase.Payload) (Component, bool) {
	for _, c := range d.Components {
		if c.Kind == kind {
			return c, true
		}
	}
	return Component{}, false
}

// Package returns the package with a role.
func (d *Description) Package(role string) (Package, bool) {
	for _, p := range d.Packages {
		if p.Role == role {
			return p, true
		}
	}
	return Package{}, false
}

// Blob is content that is named by its digest.
type Blob struct {
	MediaType string
	Digest    string // "sha256:HEX"
	Size      int64
	Open      func() (io.ReadCloser, error) // the reader checks size and digest before it says EOF
}

// BytesBlob returns data as a Blob.
func BytesBlob(mediaType string, data []byte) Blob {
	return Blob{MediaType: mediaType, Digest: digestOf(data), Size: int64(len(data)), Open: bytesOpener(data)}
}

// FileBlob returns the content of the file at path, whose size and SHA-256 (hex) are known, as a Blob.
func FileBlob(mediaType, path string, size int64, sha256 string) Blob {
	b := Blob{MediaType: mediaType, Digest: "sha256:" + sha256, Size: size}
	b.Open = func() (io.ReadCloser, error) {
		f, err := os.Open(path)
		if err != nil {
			return nil, err
		}
		return newChecked(f, b), nil
	}
	return b
}
