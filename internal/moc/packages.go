// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"slices"
	"strings"

	"sealift/cose"
	"sealift/internal/artifact"
	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/suit"
)

// classes says which components a package of each role may hold: the first segment of their identifiers. "enc" is
// ciphertext on its way to one of the others.
var classes = map[string][]string{
	mocapi.PackageUA:     {"ree"},
	mocapi.PackageTA:     {"tee"},
	mocapi.PackagePD:     {"pd", "enc"},
	mocapi.PackageBundle: {"ree", "tee", "pd", "enc"},
}

// loadPackages reads the packages that a request names and checks that there is one of each role that is due, and no
// other.
func (s *Server) loadPackages(owner string, key *cose.Key, app string, roles []string, refs []mocapi.PackageRef) (map[string]*store.Package, error) {
	out := map[string]*store.Package{}
	for _, ref := range refs {
		if !slices.Contains(roles, ref.Role) {
			return nil, fault.New(fault.BadPackage, "a package of role %q is not due here; due are %s", ref.Role, strings.Join(roles, ", "))
		}
		if out[ref.Role] != nil {
			return nil, fault.New(fault.BadPackage, "two packages of role %q", ref.Role)
		}
		p, err := s.loadPackage(owner, key, app, ref)
		if err != nil {
			return nil, err
		}
		out[ref.Role] = p
	}
	for _, role := range roles {
		if out[role] == nil {
			return nil, fault.New(fault.BadPackage, "the package of role %q is missing", role)
		}
	}
	return out, nil
}

// loadPackage reads a package and checks what the M/OC can check: the owner's signature, the names, and that every
// payload is there. The Agent checks everything again.
func (s *Server) loadPackage(owner string, key *cose.Key, app string, ref mocapi.PackageRef) (*store.Package, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.BadPackage, "package "+ref.Role+": "+format, args...)
	}
	if !strings.HasPrefix(ref.Repository, owner+"/") {
		return nil, bad("the repository %q does not begin with %q", ref.Repository, owner+"/")
	}
	a, err := s.artifacts.Package(ref.Repository, ref.Digest)
	if errors.Is(err, artifact.ErrNotFound) {
		return nil, bad("%s is not in %s", ref.Digest, ref.Repository)
	}
	if err != nil {
		return nil, bad("%w", err)
	}
	envelope, err := suit.ParseEnvelope(a.Envelope)
	if err != nil {
		return nil, bad("the envelope: %w", err)
	}
	m, err := envelope.Verify([]*cose.Key{key}, suit.VerifyOptions{})
	if err != nil {
		return nil, bad("the envelope is not the owner's: %w", err)
	}
	if want := suit.NewComponentID("manifest", app, ref.Role); !m.ComponentID.Equal(want) {
		return nil, bad("its manifest is called %q, not %q", m.ComponentID, want)
	}
	for _, id := range m.Components {
		if len(id) != 3 || string(id[1]) != app || !slices.Contains(classes[ref.Role], string(id[0])) {
			return nil, bad("component %s does not belong in it", id)
		}
	}
	p := &store.Package{PackageRef: mocapi.PackageRef{Role: ref.Role, Repository: ref.Repository, Digest: a.Digest}, Owner: owner,
		ManifestID: m.ComponentID.String(), ManifestDigest: "sha256:" + hex.EncodeToString(m.Digest.Bytes),
		Sequence: m.Sequence, Envelope: suit.WithoutTag(a.Envelope)}
	if m.Digest.Alg != cose.AlgSHA256 {
		return nil, bad("the manifest's digest is not SHA-256")
	}
	for _, d := range a.Payloads {
		p.Blobs = append(p.Blobs, d.Digest)
	}
	for _, digest := range named(m.Manifest) {
		if !slices.Contains(p.Blobs, digest) {
			return nil, bad("the manifest names the payload %s, which is not in the package", digest)
		}
	}
	return p, nil
}

// named lists the payloads that a manifest names by digest (RFC 6920).
func named(m *suit.Manifest) []string {
	var out []string
	for _, seq := range []suit.Sequence{m.Shared, m.PayloadFetch, m.Install} {
		out = append(out, namedIn(seq)...)
	}
	return out
}

func namedIn(seq suit.Sequence) (out []string) {
	for _, c := range seq {
		if uri, ok := c.Params.URI(); ok {
			if value, ok := strings.CutPrefix(uri, "ni:///sha-256;"); ok {
				sum, err := base64.RawURLEncoding.DecodeString(value)
				if err != nil {
					sum = []byte(value) // no payload has such a digest
				}
				out = append(out, "sha256:"+hex.EncodeToString(sum))
			}
		}
		for _, alternative := range c.Alternatives {
			out = append(out, namedIn(alternative)...)
		}
		out = append(out, namedIn(c.Sequence)...)
	}
	return out
}
