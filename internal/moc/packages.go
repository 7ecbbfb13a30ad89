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
	"sealift/usecase"
)

// classes are the first segments of the identifiers of the components of each kind (docs/architecture.md section 3).
var classes = map[usecase.Payload]string{usecase.UA: "ree", usecase.TA: "tee", usecase.PD: "pd"}

// staged is the first segment for ciphertext on its way to one of the others.
const staged = "enc"

// source says whose packages are read, and for what.
type source struct {
	owner string
	key   *cose.Key
	app   string
	mode  usecase.Mode
}

// holds returns the classes of components that the package of a role may hold in the mode: what the mode puts into it, and ciphertext
// if PD is among that.
func (s source) holds(role string) (out []string) {
	for _, in := range s.mode.Packages() {
		if len(in) == 1 != (role != mocapi.PackageBundle) || len(in) == 1 && string(in[0]) != role {
			continue
		}
		for _, p := range in {
			out = append(out, classes[p])
		}
		if slices.Contains(in, usecase.PD) {
			out = append(out, staged)
		}
	}
	return out
}

// loadPackages reads the packages that a request names and checks that there is one of each role that is due, and no
// other.
func (s *Server) loadPackages(from source, roles []string, refs []mocapi.PackageRef) (map[string]*store.Package, error) {
	out := map[string]*store.Package{}
	for _, ref := range refs {
		if !slices.Contains(roles, ref.Role) {
			return nil, fault.New(fault.BadPackage, "a package of role %q is not due here; due are %s", ref.Role, strings.Join(roles, ", "))
		}
		if out[ref.Role] != nil {
			return nil, fault.New(fault.BadPackage, "two packages of role %q", ref.Role)
		}
		p, err := s.loadPackage(from, ref)
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
func (s *Server) loadPackage(from source, ref mocapi.PackageRef) (*store.Package, error) {
	bad := func(format string, args ...any) error {
		return fault.New(fault.BadPackage, "package "+ref.Role+": "+format, args...)
	}
	if !strings.HasPrefix(ref.Repository, from.owner+"/") {
		return nil, bad("the repository %q does not begin with %q", ref.Repository, from.owner+"/")
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
	m, err := envelope.Verify([]*cose.Key{from.key}, suit.VerifyOptions{})
	if err != nil {
		return nil, bad("the envelope is not the owner's: %w", err)
	}
	if want := suit.NewComponentID("manifest", from.app, ref.Role); !m.ComponentID.Equal(want) {
		return nil, bad("its manifest is called %q, not %q", m.ComponentID, want)
	}
	for _, id := range m.Components {
		if len(id) != 3 || string(id[1]) != from.app || !slices.Contains(from.holds(ref.Role), string(id[0])) {
			return nil, bad("component %s does not belong in it", id)
		}
	}
	p := &store.Package{PackageRef: mocapi.PackageRef{Role: ref.Role, Repository: ref.Repository, Digest: a.Digest}, Owner: from.owner,
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
