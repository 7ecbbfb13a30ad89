// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"fmt"
	"io"
	"slices"

	"sealift/cose"
)

// Builder is a manifest to be made. The zero value of a field leaves it out. Encoding is deterministic (RFC 8949
// section 4.2.1), so the same Builder always gives the same manifest bytes and digest.
type Builder struct {
	Sequence     uint64
	ReferenceURI string
	ComponentID  ComponentID
	Components   []ComponentID
	// Dependencies are listed beyond the components: set Index >= len(Components) and Prefix to the dependency's
	// manifest-component-id. See AddDependency.
	Dependencies []Dependency

	Shared                Sequence
	Validate              Sequence
	Load                  Sequence
	Invoke                Sequence
	DependencyResolution  Sequence
	PayloadFetch          Sequence
	CandidateVerification Sequence
	Install               Sequence
	Uninstall             Sequence

	// SetVersion is the version of what the manifest installs (suit-update-management).
	SetVersion Version
	// CoSWID is an encoded concise-swid-tag (suit-update-management).
	CoSWID cose.RawMessage
	// Text is an encoded SUIT_Text_Map.
	Text cose.RawMessage
	// Sever lists severable members that are moved out of the manifest into the envelope.
	Sever []Member
	// Payloads are integrated payloads and dependencies by the URI under which commands fetch them, as in "#ta".
	Payloads map[string][]byte
}

// AddComponent appends a component and returns its index. Add all components before the first dependency.
func (b *Builder) AddComponent(id ComponentID) int {
	b.Components = append(b.Components, id)
	return len(b.Components) - 1
}

// AddDependency appends a dependency whose manifest has the given identifier and returns its component index.
func (b *Builder) AddDependency(id ComponentID) int {
	index := len(b.Components) + len(b.Dependencies)
	b.Dependencies = append(b.Dependencies, Dependency{Index: index, Prefix: id})
	return index
}

// Build encodes and signs: the result is an envelope with tag 107 and one COSE_Sign1 block per signer. What it returns
// has been parsed again and passes Manifest.Check.
func (b *Builder) Build(rand io.Reader, signers ...cose.Signer) ([]byte, error) {
	if len(signers) == 0 {
		return nil, ErrUnsigned
	}
	return b.build(func(digest []byte) (blocks [][]byte, err error) {
		for _, s := range signers {
			block, err := cose.Sign1Detached(rand, s, digest)
			if err != nil {
				return nil, fmt.Errorf("suit: sign the manifest: %w", err)
			}
			blocks = append(blocks, block)
		}
		return blocks, nil
	})
}

// BuildMAC is Build for manifests authenticated by HMAC 256/256 under a key shared with the device.
func (b *Builder) BuildMAC(key, kid []byte) ([]byte, error) {
	return b.build(func(digest []byte) ([][]byte, error) {
		block, err := cose.Mac0(key, kid, digest, true)
		return [][]byte{block}, err
	})
}

func (b *Builder) build(authenticate func(digest []byte) ([][]byte, error)) ([]byte, error) {
	shell := map[any]any{}
	manifest, err := b.manifest(shell)
	if err != nil {
		return nil, fmt.Errorf("suit: build: %w", err)
	}
	digest, err := SHA256(byteString(manifest)).MarshalCBOR()
	if err != nil {
		return nil, err
	}
	blocks, err := authenticate(digest)
	if err != nil {
		return nil, err
	}
	wrapper, err := cose.Marshal(append([][]byte{digest}, blocks...))
	if err != nil {
		return nil, err
	}
	shell[envelopeAuth] = wrapper
	shell[envelopeManifest] = manifest
	for uri, payload := range b.Payloads {
		shell[uri] = payload
	}
	data, err := cose.Marshal(shell)
	if err != nil {
		return nil, err
	}
	data = append(slices.Clone(tagHead), data...)
	return data, checkBuilt(data)
}

// checkBuilt reads back what was built, so that no manifest leaves that a processor would refuse for its form.
func checkBuilt(data []byte) error {
	e, err := ParseEnvelope(data)
	if err != nil {
		return fmt.Errorf("suit: build: %w", err)
	}
	m, err := e.ManifestInsecure()
	if err == nil {
		err = m.Check()
	}
	if err != nil {
		return fmt.Errorf("suit: build: %w", err)
	}
	return nil
}

// manifest encodes the manifest and puts severed members into shell.
func (b *Builder) manifest(shell map[any]any) ([]byte, error) {
	common, err := b.common()
	if err != nil {
		return nil, err
	}
	fields := map[int64]any{
		int64(MemberVersion):        1,
		int64(MemberSequenceNumber): b.Sequence,
		int64(MemberCommon):         common,
	}
	if b.ReferenceURI != "" {
		fields[int64(MemberReferenceURI)] = b.ReferenceURI
	}
	if b.ComponentID != nil {
		fields[int64(MemberComponentID)] = b.ComponentID
	}
	sections := map[Member]Sequence{
		MemberValidate: b.Validate, MemberLoad: b.Load, MemberInvoke: b.Invoke, MemberUninstall: b.Uninstall,
		MemberDependencyResolution: b.DependencyResolution, MemberPayloadFetch: b.PayloadFetch,
		MemberCandidateVerification: b.CandidateVerification, MemberInstall: b.Install,
	}
	for label, seq := range sections {
		if seq == nil {
			continue
		}
		content, err := seq.Marshal()
		if err != nil {
			return nil, fmt.Errorf("%v: %w", label, err)
		}
		fields[int64(label)] = content
	}
	if b.Text != nil {
		fields[int64(MemberText)] = []byte(b.Text)
	}
	if b.CoSWID != nil {
		fields[int64(MemberCoSWID)] = []byte(b.CoSWID)
	}
	if b.SetVersion != nil {
		content, err := b.SetVersion.MarshalCBOR()
		if err != nil {
			return nil, err
		}
		fields[int64(MemberSetVersion)] = content
	}
	if err := b.sever(fields, shell); err != nil {
		return nil, err
	}
	return cose.Marshal(fields)
}

func (b *Builder) common() ([]byte, error) {
	common := map[int64]any{}
	if len(b.Components) > 0 {
		common[commonComponents] = b.Components
	}
	if len(b.Dependencies) > 0 {
		deps := map[int64]any{}
		for _, d := range b.Dependencies {
			meta := map[int64]any{}
			if d.Prefix != nil {
				meta[dependencyPrefix] = d.Prefix
			}
			deps[int64(d.Index)] = meta
		}
		common[commonDependencies] = deps
	}
	if b.Shared != nil {
		content, err := b.Shared.Marshal()
		if err != nil {
			return nil, fmt.Errorf("shared sequence: %w", err)
		}
		common[commonShared] = content
	}
	return cose.Marshal(common)
}

func (b *Builder) sever(fields map[int64]any, shell map[any]any) error {
	for _, label := range b.Sever {
		content, ok := fields[int64(label)].([]byte)
		if !ok || !members[label].severable {
			return fmt.Errorf("%w: %v cannot be severed", ErrUnsupported, label)
		}
		shell[int64(label)] = content
		fields[int64(label)] = SHA256(byteString(content))
	}
	return nil
}

// byteString encodes a byte string with its CBOR head.
func byteString(content []byte) []byte {
	var head bytes.Buffer
	n := len(content)
	switch {
	case n < 24:
		head.WriteByte(0x40 | byte(n))
	case n < 1<<8:
		head.Write([]byte{0x58, byte(n)})
	case n < 1<<16:
		head.Write([]byte{0x59, byte(n >> 8), byte(n)})
	default:
		head.Write([]byte{0x5a, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	head.Write(content)
	return head.Bytes()
}
