// SPDX-License-Identifier: Apache-2.0

// Package oci reads container images inside a TEE: OCI Image Format Specification 1.1, and the older schema 2 of Docker that
// registries still serve. Only the standard library is used, because the TEEP Agent is measured with this package in it.
//
// An image travels as one payload, a tar file in the form of an OCI image layout (image-layout.md) whose entries stand in the
// order in which they are needed: oci-layout, index.json, the manifest, the configuration, the layers from the lowest to the
// uppermost. So it is verified and unpacked in one pass, whatever its size, and the same image always makes the same bytes
// ([Write]). Every part is compared with the digest that the part before names, down to the digests of the unpacked layers.
//
// [Unpack] makes a root file system of it. The image is hostile input: see there.
package oci

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Media types (media-types.md, and those of Docker's schema 2 that it lists as compatible).
const (
	TypeIndex    = "application/vnd.oci.image.index.v1+json"
	TypeManifest = "application/vnd.oci.image.manifest.v1+json"
	TypeConfig   = "application/vnd.oci.image.config.v1+json"
	TypeTar      = "application/vnd.oci.image.layer.v1.tar"
	TypeTarGzip  = "application/vnd.oci.image.layer.v1.tar+gzip"

	typeDockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
	typeDockerConfig   = "application/vnd.docker.container.image.v1+json"
	typeDockerTar      = "application/vnd.docker.image.rootfs.diff.tar"
	typeDockerTarGzip  = "application/vnd.docker.image.rootfs.diff.tar.gzip"
)

// Errors.
var (
	// ErrMalformed means that the bytes are no image, or one in a form that is not supported; the text says what.
	ErrMalformed = errors.New("oci: not an image that can be used")
	// ErrDigest means that a part of the image has other bytes than the image says.
	ErrDigest = errors.New("oci: the image lies about a digest")
	// ErrPlatform means that the image is for another architecture or system.
	ErrPlatform = errors.New("oci: the image is for another platform")
	// ErrEntry means that a layer holds something that is not unpacked: a path out of the root, a device node.
	ErrEntry = errors.New("oci: a layer holds a forbidden entry")
	// ErrLimit means that the image is larger than the TEE allows.
	ErrLimit = errors.New("oci: the image is too large")
)

// Bounds of what is read into memory.
const (
	MaxDocument = 4 << 20 // an index, a manifest, a configuration
	MaxLayers   = 256
)

// Descriptor names content (descriptor.md).
type Descriptor struct {
	MediaType string    `json:"mediaType"`
	Digest    string    `json:"digest"`
	Size      int64     `json:"size"`
	Platform  *Platform `json:"platform,omitempty"`
}

// Platform is what an image runs on. Architecture and OS are values of GOARCH and GOOS.
type Platform struct {
	Architecture string `json:"architecture"`
	OS           string `json:"os"`
}

// Index is the list of an image layout's manifests (image-index.md).
type Index struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Manifests     []Descriptor `json:"manifests"`
}

// Manifest is an image (manifest.md). Layers are in the order of their application.
type Manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType,omitempty"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
}

// Config is an image's configuration (config.md), as far as it is used.
type Config struct {
	Architecture string  `json:"architecture"`
	OS           string  `json:"os"`
	Config       Process `json:"config"`
	RootFS       RootFS  `json:"rootfs"`
}

// Process says how an image is started.
type Process struct {
	User       string              `json:"User,omitempty"`
	Env        []string            `json:"Env,omitempty"`
	Entrypoint []string            `json:"Entrypoint,omitempty"`
	Cmd        []string            `json:"Cmd,omitempty"`
	WorkingDir string              `json:"WorkingDir,omitempty"`
	Volumes    map[string]struct{} `json:"Volumes,omitempty"`
}

// RootFS lists the digests of the layers as they are unpacked.
type RootFS struct {
	Type    string   `json:"type"`
	DiffIDs []string `json:"diff_ids"`
}

// ParseManifest decodes and checks a manifest.
func ParseManifest(data []byte) (*Manifest, error) {
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("%w: manifest: %w", ErrMalformed, err)
	}
	if m.SchemaVersion != 2 || !slices.Contains([]string{"", TypeManifest, typeDockerManifest}, m.MediaType) {
		return nil, fmt.Errorf("%w: manifest of schema %d and media type %q", ErrMalformed, m.SchemaVersion, m.MediaType)
	}
	if t := m.Config.MediaType; t != TypeConfig && t != typeDockerConfig {
		return nil, fmt.Errorf("%w: a configuration of media type %q: is it an image of a container?", ErrMalformed, t)
	}
	if len(m.Layers) == 0 || len(m.Layers) > MaxLayers {
		return nil, fmt.Errorf("%w: %d layers, not 1 to %d", ErrMalformed, len(m.Layers), MaxLayers)
	}
	for i, l := range m.Layers {
		if _, err := compression(l.MediaType); err != nil {
			return nil, fmt.Errorf("layer %d: %w", i+1, err)
		}
	}
	for _, d := range append([]Descriptor{m.Config}, m.Layers...) {
		if _, err := d.hex(); err != nil {
			return nil, err
		}
	}
	return &m, nil
}

// ParseConfig decodes a configuration and checks that its image has the layers of m and runs on linux/arch.
func ParseConfig(data []byte, m *Manifest, arch string) (*Config, error) {
	var c Config
	if err := json.Unmarshal(data, &c); err != nil {
		return nil, fmt.Errorf("%w: configuration: %w", ErrMalformed, err)
	}
	if c.OS != "linux" || c.Architecture != arch {
		return nil, fmt.Errorf("%w: it is for %s/%s, and the target is linux/%s", ErrPlatform, c.OS, c.Architecture, arch)
	}
	if c.RootFS.Type != "layers" || len(c.RootFS.DiffIDs) != len(m.Layers) {
		return nil, fmt.Errorf("%w: %d digests of unpacked layers for %d layers", ErrMalformed, len(c.RootFS.DiffIDs), len(m.Layers))
	}
	for _, text := range slices.Concat(c.Config.Env, c.Config.Entrypoint, c.Config.Cmd, []string{c.Config.WorkingDir}) {
		if strings.ContainsRune(text, 0) {
			return nil, fmt.Errorf("%w: a zero byte in the configuration", ErrMalformed)
		}
	}
	return &c, nil
}

// compression says whether a layer is compressed with gzip.
func compression(mediaType string) (gzip bool, err error) {
	switch mediaType {
	case TypeTar, typeDockerTar:
		return false, nil
	case TypeTarGzip, typeDockerTarGzip:
		return true, nil
	}
	return false, fmt.Errorf("%w: a layer of media type %q; known are tar and tar+gzip", ErrMalformed, mediaType)
}

// hex checks a digest and returns its hexadecimal part, which is safe as the name of a file.
func (d Descriptor) hex() (string, error) {
	h, ok := strings.CutPrefix(d.Digest, "sha256:")
	if raw, err := hex.DecodeString(h); !ok || err != nil || len(raw) != sha256.Size || h != strings.ToLower(h) || d.Size < 0 {
		return "", fmt.Errorf("%w: %q with %d bytes is no descriptor with a SHA-256 digest", ErrMalformed, d.Digest, d.Size)
	}
	return h, nil
}

// DigestOf returns the digest of data in the form that descriptors have.
func DigestOf(data []byte) string {
	sum := sha256.Sum256(data)
	return "sha256:" + hex.EncodeToString(sum[:])
}
