// SPDX-License-Identifier: Apache-2.0

// Package envelope takes a SUIT envelope apart and puts it together again while its author works on it: it adds
// authentication blocks, moves severable members out of the manifest, and takes members and payloads out of the envelope.
//
// What was signed stays the bytes that were signed. An authentication block covers the digest of the manifest, and the
// manifest holds the digest of each severed member (suit-manifest sections 8.3 and 8.5); so moving a member out of the
// manifest changes what is signed and is refused once there is a block, while leaving out of the envelope what was
// severed already, or an integrated payload, changes nothing.
package envelope

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"

	"sealift/cose"
	"sealift/suit"
)

// Errors of this package.
var (
	ErrSigned = errors.New("envelope: the manifest is signed and cannot change any more")
	ErrAbsent = errors.New("envelope: there is no such member")
)

const (
	labelAuthentication = 2
	labelManifest       = 3
)

// Envelope is an envelope that can be changed.
type Envelope struct {
	digest   []byte // encoded SUIT_Digest
	blocks   [][]byte
	manifest []byte // content of the manifest's byte string
	members  map[suit.Member][]byte
	payloads map[string][]byte
}

// Build makes an envelope without authentication blocks.
func Build(b *suit.Builder) (*Envelope, error) {
	// A Builder makes no unauthenticated envelope. The key of this block is known to nobody, and the block goes at once.
	key := make([]byte, 32)
	if _, err := io.ReadFull(rand.Reader, key); err != nil {
		return nil, err
	}
	data, err := b.BuildMAC(key, nil)
	if err != nil {
		return nil, err
	}
	e, err := Open(data)
	if err == nil {
		e.blocks = nil
	}
	return e, err
}

// Open takes an envelope apart. It checks its form and the manifest's digest, and no authentication block.
func Open(data []byte) (*Envelope, error) {
	parsed, err := suit.ParseEnvelope(data)
	if err != nil {
		return nil, err
	}
	if _, err := parsed.ManifestInsecure(); err != nil {
		return nil, err
	}
	untagged, err := parsed.Encode(suit.EncodeOptions{})
	if err != nil {
		return nil, err
	}
	var shell map[any][]byte
	if err := cose.Unmarshal(untagged, &shell); err != nil {
		return nil, err
	}
	e := &Envelope{members: map[suit.Member][]byte{}, payloads: map[string][]byte{}}
	for key, content := range shell {
		switch k := key.(type) {
		case string:
			e.payloads[k] = content
		case int64:
			if k != labelAuthentication && k != labelManifest {
				e.members[suit.Member(k)] = content
			}
		}
	}
	e.manifest = shell[int64(labelManifest)]
	var wrapper [][]byte
	if err := cose.Unmarshal(shell[int64(labelAuthentication)], &wrapper); err != nil {
		return nil, err
	}
	e.digest, e.blocks = wrapper[0], wrapper[1:]
	return e, nil
}

// Blocks is the number of authentication blocks.
func (e *Envelope) Blocks() int { return len(e.blocks) }

// Manifest is the encoded manifest.
func (e *Envelope) Manifest() []byte { return e.manifest }

// Sign adds an authentication block by s.
func (e *Envelope) Sign(random io.Reader, s cose.Signer) error {
	block, err := cose.Sign1Detached(random, s, e.digest)
	return e.add(block, err)
}

// Authenticate adds an authentication block by HMAC 256/256.
func (e *Envelope) Authenticate(key, kid []byte) error {
	block, err := cose.Mac0(key, kid, e.digest, true)
	return e.add(block, err)
}

func (e *Envelope) add(block []byte, err error) error {
	if err != nil {
		return fmt.Errorf("envelope: sign: %w", err)
	}
	if len(e.blocks) >= suit.MaxAuthBlocks {
		return fmt.Errorf("envelope: more than %d authentication blocks", suit.MaxAuthBlocks)
	}
	e.blocks = append(e.blocks, block)
	return nil
}

// Sever moves members out of the manifest into the envelope. A member that is severed already stays as it is.
func (e *Envelope) Sever(members ...suit.Member) error {
	var fields map[int64]cose.RawMessage
	if err := cose.Unmarshal(e.manifest, &fields); err != nil {
		return err
	}
	changed := false
	for _, m := range members {
		item := fields[int64(m)]
		switch {
		case item == nil:
			return fmt.Errorf("%w in the manifest: %v", ErrAbsent, m)
		case item[0]>>5 != 2:
			continue
		case len(e.blocks) > 0:
			return fmt.Errorf("%w: %v is in it", ErrSigned, m)
		}
		var content []byte
		if err := cose.Unmarshal(item, &content); err != nil {
			return err
		}
		digest, err := suit.SHA256(item).MarshalCBOR()
		if err != nil {
			return err
		}
		e.members[m], fields[int64(m)], changed = content, digest, true
	}
	if !changed {
		return nil
	}
	manifest, err := cose.Marshal(fields)
	if err != nil {
		return err
	}
	e.manifest = manifest
	wrapped, err := cose.Marshal(manifest)
	if err == nil {
		e.digest, err = suit.SHA256(wrapped).MarshalCBOR()
	}
	return err
}

// Take takes a severed member out of the envelope and returns it.
func (e *Envelope) Take(m suit.Member) ([]byte, error) {
	content, ok := e.members[m]
	if !ok {
		return nil, fmt.Errorf("%w in the envelope: %v", ErrAbsent, m)
	}
	delete(e.members, m)
	return content, nil
}

// TakePayload takes an integrated payload out of the envelope and returns it.
func (e *Envelope) TakePayload(uri string) ([]byte, error) {
	content, ok := e.payloads[uri]
	if !ok {
		return nil, fmt.Errorf("%w: payload %q; there are %q", ErrAbsent, uri, slices.Sorted(maps.Keys(e.payloads)))
	}
	delete(e.payloads, uri)
	return content, nil
}

// Encode puts the envelope together, with tag 107.
func (e *Envelope) Encode() ([]byte, error) {
	wrapper, err := cose.Marshal(append([][]byte{e.digest}, e.blocks...))
	if err != nil {
		return nil, err
	}
	shell := map[any][]byte{labelAuthentication: wrapper, labelManifest: e.manifest}
	for m, content := range e.members {
		shell[int64(m)] = content
	}
	for uri, content := range e.payloads {
		shell[uri] = content
	}
	data, err := cose.Marshal(shell)
	if err != nil {
		return nil, err
	}
	data = append([]byte{0xd8, suit.TagEnvelope}, data...)
	_, err = Open(data)
	return data, err
}
