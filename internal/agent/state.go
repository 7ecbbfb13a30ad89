// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"fmt"
	"slices"

	"sealift/cose"
	"sealift/internal/agent/vault"
	"sealift/suit"
)

// state is everything that the Agent must not forget. It is a value: a transaction changes a clone and commits that as a whole,
// so what is read elsewhere never changes under the reader.
type state struct {
	Version    uint        `cbor:"1,keyasint"`
	SigningKey []byte      `cbor:"2,keyasint"` // PKCS #8, ESP256 or Ed25519
	EncKey     []byte      `cbor:"3,keyasint"` // PKCS #8, ECDH P-256
	Manifests  []manifest  `cbor:"4,keyasint"` // in the order in which their present versions were installed
	Components []component `cbor:"5,keyasint"` // likewise
	Floors     []floor     `cbor:"6,keyasint"`
	// Requested and Unneeded are what RequestTA and UnrequestTA have asked for and no TAM has dealt with yet.
	Requested []suit.ComponentID `cbor:"7,keyasint"`
	Unneeded  []suit.ComponentID `cbor:"8,keyasint"`
	// Lost are components of the REE that a transaction was about to put there: until it is committed nobody knows which version
	// the REE has, and none counts as installed.
	Lost []suit.ComponentID `cbor:"9,keyasint,omitempty"`
	// Candidates are newer versions that wait for their PD.
	Candidates []candidate `cbor:"10,keyasint,omitempty"`
	// Held are the TAs that their owner has stopped, installed or not: they do not run and see no PD until it consents.
	Held []suit.ComponentID `cbor:"11,keyasint,omitempty"`
}

const stateVersion = 1

// Bounds on what may gather in the state over the life of an instance.
const (
	maxFloors = 1024
	maxWishes = 64
)

// manifest is an installed manifest.
type manifest struct {
	ID       suit.ComponentID   `cbor:"1,keyasint"`
	Sequence uint64             `cbor:"2,keyasint"`
	Digest   suit.Digest        `cbor:"3,keyasint"`
	Signer   []byte             `cbor:"4,keyasint"` // kid of the key that verified it
	URI      string             `cbor:"5,keyasint"`
	Envelope vault.Ref          `cbor:"6,keyasint"`
	Depends  []suit.ComponentID `cbor:"7,keyasint"`           // identifiers of the manifests it depends on
	Version  []int64            `cbor:"8,keyasint,omitempty"` // of what it installs, as it says itself (suit-set-version)
}

// component is an installed component.
type component struct {
	ID     suit.ComponentID `cbor:"1,keyasint"`
	Digest suit.Digest      `cbor:"2,keyasint"` // SHA-256 of the content
	Size   int64            `cbor:"3,keyasint"`
	Blob   *vault.Ref       `cbor:"4,keyasint,omitempty"` // none for a component of the REE
	// Users are the identifiers of the manifests that list the component: its reference count (suit-trust-domains section 6.5).
	Users []string `cbor:"5,keyasint"`
	TA    *taState `cbor:"6,keyasint,omitempty"`
	// BoundTo is, for PD, the digest of the TA that may see it.
	BoundTo []byte `cbor:"7,keyasint,omitempty"`
	// Args are the start parameters with which a TA or UA was invoked last.
	Args []byte `cbor:"8,keyasint,omitempty"`
	// Origin is the digest of the ciphertext that the content was decrypted from.
	Origin []byte `cbor:"9,keyasint,omitempty"`
	// Waits says that the TA is installed and not started: its UA, which came with it, has not asked for it yet.
	Waits bool `cbor:"10,keyasint,omitempty"`
}

// taState are the keys of one TA, made in the TEE for this very program: another digest gets other keys.
type taState struct {
	EncKey []byte `cbor:"1,keyasint"` // PKCS #8, ECDH P-256
	TLSKey []byte `cbor:"2,keyasint"` // PKCS #8, P-256
}

// floor is the smallest sequence number that a manifest may still be installed with. It outlives the manifest.
type floor struct {
	ID       suit.ComponentID `cbor:"1,keyasint"`
	Sequence uint64           `cbor:"2,keyasint"`
}

func parseState(data []byte) (*state, error) {
	var s state
	if err := cose.Unmarshal(data, &s); err != nil {
		return nil, fmt.Errorf("agent: sealed state: %w", err)
	}
	if s.Version != stateVersion {
		return nil, fmt.Errorf("agent: the sealed state has version %d, this Agent knows %d", s.Version, stateVersion)
	}
	return &s, nil
}

func (s *state) marshal() []byte { return cose.MustMarshal(s) }

// clone returns a copy whose lists can be changed without changing those of s. The elements' own slices are never changed in
// place by anyone.
func (s *state) clone() *state {
	c := *s
	c.Manifests, c.Components, c.Floors = slices.Clone(s.Manifests), slices.Clone(s.Components), slices.Clone(s.Floors)
	c.Requested, c.Unneeded, c.Lost = slices.Clone(s.Requested), slices.Clone(s.Unneeded), slices.Clone(s.Lost)
	c.Candidates, c.Held = slices.Clone(s.Candidates), slices.Clone(s.Held)
	return &c
}

// manifest returns the installed manifest with that identifier, or nil.
func (s *state) manifest(id suit.ComponentID) *manifest {
	i := slices.IndexFunc(s.Manifests, func(m manifest) bool { return m.ID.Equal(id) })
	if i < 0 {
		return nil
	}
	return &s.Manifests[i]
}

// component returns the installed component with that identifier, or nil.
func (s *state) component(id suit.ComponentID) *component {
	i := slices.IndexFunc(s.Components, func(c component) bool { return c.ID.Equal(id) })
	if i < 0 {
		return nil
	}
	return &s.Components[i]
}

// putManifest adds m or puts it in the place of the one with the same identifier.
func (s *state) putManifest(m manifest) {
	if old := s.manifest(m.ID); old != nil {
		*old = m
		return
	}
	s.Manifests = append(s.Manifests, m)
}

func (s *state) putComponent(c component) {
	if old := s.component(c.ID); old != nil {
		*old = c
		return
	}
	s.Components = append(s.Components, c)
}

func (s *state) dropManifest(id suit.ComponentID) {
	s.Manifests = slices.DeleteFunc(s.Manifests, func(m manifest) bool { return m.ID.Equal(id) })
}

func (s *state) dropComponent(id suit.ComponentID) {
	s.Components = slices.DeleteFunc(s.Components, func(c component) bool { return c.ID.Equal(id) })
}

// dependents returns the installed manifests that depend directly on id.
func (s *state) dependents(id suit.ComponentID) (out []manifest) {
	for _, m := range s.Manifests {
		if slices.ContainsFunc(m.Depends, id.Equal) {
			out = append(out, m)
		}
	}
	return out
}

// floor returns the smallest sequence number that is still accepted for a manifest.
func (s *state) floor(id suit.ComponentID) uint64 {
	if i := slices.IndexFunc(s.Floors, func(f floor) bool { return f.ID.Equal(id) }); i >= 0 {
		return s.Floors[i].Sequence
	}
	return 0
}

// raiseFloor refuses sequence numbers below n from now on.
func (s *state) raiseFloor(id suit.ComponentID, n uint64) error {
	if i := slices.IndexFunc(s.Floors, func(f floor) bool { return f.ID.Equal(id) }); i >= 0 {
		s.Floors[i].Sequence = max(s.Floors[i].Sequence, n)
		return nil
	}
	if len(s.Floors) >= maxFloors {
		return fmt.Errorf("%w: sequence numbers of more than %d manifests", errLimit, maxFloors)
	}
	s.Floors = append(s.Floors, floor{ID: id, Sequence: n})
	return nil
}

// manifestOf returns the manifest that a component belongs to.
func (s *state) manifestOf(c *component) *manifest {
	for i := range s.Manifests {
		if slices.Contains(c.Users, s.Manifests[i].ID.String()) {
			return &s.Manifests[i]
		}
	}
	return nil
}

// storedBytes is the size of all components in the sealed store.
func (s *state) storedBytes() (n int64) {
	for _, c := range s.Components {
		if c.Blob != nil {
			n += c.Size
		}
	}
	for _, next := range s.Candidates {
		for _, c := range next.Components {
			n += c.Size
		}
	}
	return n
}

// blobs names every blob that the state refers to.
func (s *state) blobs() map[string]bool {
	keep := map[string]bool{}
	for _, m := range s.Manifests {
		keep[m.Envelope.ID] = true
	}
	for _, c := range s.Components {
		if c.Blob != nil {
			keep[c.Blob.ID] = true
		}
	}
	for i := range s.Candidates {
		for _, ref := range s.Candidates[i].refs() {
			keep[ref.ID] = true
		}
	}
	return keep
}

// refs returns the blobs of s that other does not refer to.
func (s *state) refsNotIn(other *state) (out []vault.Ref) {
	keep := other.blobs()
	for _, m := range s.Manifests {
		if !keep[m.Envelope.ID] {
			out = append(out, m.Envelope)
		}
	}
	for _, c := range s.Components {
		if c.Blob != nil && !keep[c.Blob.ID] {
			out = append(out, *c.Blob)
		}
	}
	for i := range s.Candidates {
		for _, ref := range s.Candidates[i].refs() {
			if !keep[ref.ID] {
				out = append(out, ref)
			}
		}
	}
	return out
}

// The first segment of a component identifier says where the component belongs (docs/architecture.md section 3).
const (
	classREE      = "ree"      // an UA: handed out to the REE
	classTEE      = "tee"      // a TA
	classPD       = "pd"       // released data
	classStaged   = "enc"      // ciphertext on its way to one of the others
	classManifest = "manifest" // a manifest
)

// class returns the class of a component identifier of the shape [class, app, name], or "".
func class(id suit.ComponentID) string {
	if len(id) != 3 {
		return ""
	}
	return string(id[0])
}

func app(id suit.ComponentID) string {
	if len(id) != 3 {
		return ""
	}
	return string(id[1])
}
