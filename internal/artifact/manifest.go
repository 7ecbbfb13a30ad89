// SPDX-License-Identifier: Apache-2.0

package artifact

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// Descriptor names content (OCI Image Specification, descriptor).
type Descriptor struct {
	MediaType string `json:"mediaType"`
	Digest    string `json:"digest"`
	Size      int64  `json:"size"`
}

// manifest is what this store reads of an OCI image manifest.
type manifest struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	ArtifactType  string       `json:"artifactType"`
	Config        Descriptor   `json:"config"`
	Layers        []Descriptor `json:"layers"`
}

const maxLayers = 1024

func parseManifest(data []byte) (*manifest, error) {
	m := new(manifest)
	if err := json.Unmarshal(data, m); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	if m.SchemaVersion != 2 || (m.MediaType != "" && m.MediaType != TypeManifest) {
		return nil, fmt.Errorf("%w: schema %d, media type %q; this store takes OCI image manifests", ErrInvalid, m.SchemaVersion, m.MediaType)
	}
	if len(m.Layers) > maxLayers {
		return nil, fmt.Errorf("%w: %d layers, at most %d", ErrInvalid, len(m.Layers), maxLayers)
	}
	for _, d := range m.blobs() {
		if !ValidDigest(d.Digest) || d.Size < 0 {
			return nil, fmt.Errorf("%w: descriptor %q of %d bytes", ErrInvalid, d.Digest, d.Size)
		}
	}
	return m, nil
}

// blobs lists what the manifest refers to.
func (m *manifest) blobs() []Descriptor { return append([]Descriptor{m.Config}, m.Layers...) }

// errBlobUnknown says that a manifest refers to a blob that was not pushed to its repository.
var errBlobUnknown = errors.New("artifact: a blob of the manifest was not pushed")

// putManifest stores a manifest under its digest and, if tag is not empty, tags it.
func (s *Store) putManifest(repo, tag string, data []byte) (digest string, err error) {
	m, err := parseManifest(data)
	if err != nil {
		return "", err
	}
	s.collect.RLock()
	defer s.collect.RUnlock()
	for _, d := range m.blobs() {
		if !s.hasBlob(repo, d.Digest) {
			return "", fmt.Errorf("%w: %s", errBlobUnknown, d.Digest)
		}
		if st, err := os.Stat(s.blobPath(d.Digest)); err != nil || st.Size() != d.Size {
			return "", fmt.Errorf("%w: %s has not %d bytes", ErrInvalid, d.Digest, d.Size)
		}
	}
	digest = DigestOf(data)
	if err := writeFile(s.manifestPath(repo, digest), data); err != nil {
		return "", err
	}
	if tag != "" {
		err = writeFile(s.tagPath(repo, tag), []byte(digest))
	}
	return digest, err
}

// Manifest returns the OCI manifest that a digest or tag names in a repository, and its digest. What is on the disk is
// hashed again: a damaged file is an error, not content.
func (s *Store) Manifest(repo, reference string) (data []byte, digest string, err error) {
	if !ValidRepository(repo) {
		return nil, "", ErrNotFound
	}
	digest = reference
	if !ValidDigest(reference) {
		if !tagName.MatchString(reference) {
			return nil, "", ErrNotFound
		}
		if digest, err = s.tagged(repo, reference); err != nil {
			return nil, "", err
		}
	}
	data, err = os.ReadFile(s.manifestPath(repo, digest))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, "", ErrNotFound
	}
	if err == nil && DigestOf(data) != digest {
		err = fmt.Errorf("%w: manifest %s", ErrDigest, digest)
	}
	return data, digest, err
}

func (s *Store) tagged(repo, tag string) (string, error) {
	data, err := os.ReadFile(s.tagPath(repo, tag))
	if errors.Is(err, fs.ErrNotExist) {
		return "", ErrNotFound
	}
	if err == nil && !ValidDigest(string(data)) {
		err = fmt.Errorf("%w: tag %s", ErrDigest, tag)
	}
	return string(data), err
}

// tags lists a repository's tags, sorted.
func (s *Store) tags(repo string) ([]string, error) {
	entries, err := os.ReadDir(s.repo(repo, "_tags"))
	if errors.Is(err, fs.ErrNotExist) {
		if _, err := os.Stat(s.repo(repo)); err != nil {
			return nil, ErrNotFound
		}
		return []string{}, nil
	}
	out := []string{}
	for _, e := range entries {
		if tagName.MatchString(e.Name()) {
			out = append(out, e.Name())
		}
	}
	slices.Sort(out)
	return out, err
}

// Package is a package artifact.
type Package struct {
	Digest   string       // of the OCI manifest
	Envelope []byte       // the SUIT envelope: layer 0
	Payloads []Descriptor // the other layers
}

// Package reads the package that a digest names in a repository. Whether its envelope is acceptable is not judged here.
func (s *Store) Package(repo, digest string) (*Package, error) {
	data, digest, err := s.Manifest(repo, digest)
	if err != nil {
		return nil, err
	}
	m, err := parseManifest(data)
	if err != nil {
		return nil, err
	}
	if m.ArtifactType != TypePackage || len(m.Layers) == 0 || m.Layers[0].MediaType != TypeEnvelope {
		return nil, fmt.Errorf("%w: artifact type %q is not a package with an envelope as its first layer", ErrInvalid, m.ArtifactType)
	}
	if m.Layers[0].Size > s.opts.MaxEnvelope {
		return nil, fmt.Errorf("%w: an envelope of %d bytes", ErrTooLarge, m.Layers[0].Size)
	}
	f, err := s.OpenBlob(m.Layers[0].Digest)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	envelope, err := io.ReadAll(io.LimitReader(f, s.opts.MaxEnvelope+1))
	if err != nil {
		return nil, err
	}
	if DigestOf(envelope) != m.Layers[0].Digest {
		return nil, fmt.Errorf("%w: envelope %s", ErrDigest, m.Layers[0].Digest)
	}
	return &Package{Digest: digest, Envelope: envelope, Payloads: m.Layers[1:]}, nil
}

// repositories calls each for every repository that has manifests or blobs.
func (s *Store) repositories(each func(repo string) error) error {
	root := filepath.Join(s.dir, "repositories")
	seen := map[string]bool{}
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() || !strings.HasPrefix(e.Name(), "_") {
			return err
		}
		rel, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		if repo := filepath.ToSlash(rel); !seen[repo] {
			seen[repo] = true
			if err := each(repo); err != nil {
				return err
			}
		}
		return fs.SkipDir
	})
}
