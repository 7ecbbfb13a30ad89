// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"fmt"
	"maps"
	"slices"

	"sealift/cose"
	"sealift/cose/wire"
)

// MaxAuthBlocks bounds how many authentication blocks an envelope may hold.
const MaxAuthBlocks = 8

// tagHead is the encoded head of tag 107.
var tagHead = []byte{0xd8, TagEnvelope}

// Envelope is a SUIT_Envelope as received (suit-manifest section 8.2): split into its members, and nothing about it is
// known to be authentic. It is immutable.
type Envelope struct {
	raw      []byte
	tagged   bool
	auth     cose.RawMessage    // encoded byte string of the authentication wrapper
	digest   []byte             // encoded SUIT_Digest: what the authentication blocks cover
	blocks   []cose.RawMessage  // contents of the authentication blocks
	manifest cose.RawMessage    // encoded byte string of the manifest, head included: what is digested
	one      [1]cose.RawMessage // room for one block
	severed  map[Member]cose.RawMessage
	payloads map[string]cose.RawMessage
}

// ParseEnvelope splits an envelope, tagged (107) or not. It checks the form of the shell only. The result aliases data,
// which the caller must not change afterwards.
func ParseEnvelope(data []byte) (*Envelope, error) {
	e := &Envelope{raw: data}
	body := data
	if bytes.HasPrefix(data, tagHead) {
		e.tagged = true
		body = data[len(tagHead):]
	}
	if major(body) != 5 {
		return nil, fmt.Errorf("%w: an envelope is a map", ErrMalformed)
	}
	r := wire.NewReader(body)
	for range r.Map() {
		if err := e.member(r); err != nil {
			return nil, err
		}
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: envelope: %w", ErrMalformed, err)
	}
	if e.auth == nil || e.manifest == nil {
		return nil, fmt.Errorf("%w: an envelope needs an authentication wrapper and a manifest", ErrMalformed)
	}
	return e, e.parseAuth()
}

func (e *Envelope) member(r *wire.Reader) error {
	if r.Kind() == wire.KindText {
		uri, item := r.Text(), r.Raw()
		if major(item) != 2 {
			return fmt.Errorf("%w: integrated payload %q is no byte string", ErrMalformed, uri)
		}
		if e.payloads == nil {
			e.payloads = map[string]cose.RawMessage{}
		}
		e.payloads[uri] = item
		return nil
	}
	k, item := r.Int(), cose.RawMessage(r.Raw())
	if r.Err() != nil {
		return nil // the caller says so
	}
	if k == envelopeDelegation {
		return nil
	}
	if major(item) != 2 {
		return fmt.Errorf("%w: envelope member %d is no byte string", ErrMalformed, k)
	}
	switch {
	case k == envelopeAuth:
		e.auth = item
	case k == envelopeManifest:
		e.manifest = item
	case members[Member(k)].severable:
		if e.severed == nil {
			e.severed = map[Member]cose.RawMessage{}
		}
		e.severed[Member(k)] = item
	default:
		return fmt.Errorf("%w: envelope member %d", ErrMalformed, k)
	}
	return nil
}

// parseAuth splits the authentication wrapper: [bstr .cbor SUIT_Digest, * bstr .cbor SUIT_Authentication_Block].
func (e *Envelope) parseAuth() error {
	content, err := bstr(e.auth)
	if err != nil {
		return err
	}
	r := wire.NewReader(content)
	n := r.Array()
	if r.Err() == nil && (n == 0 || n > 1+MaxAuthBlocks) {
		return fmt.Errorf("%w: authentication wrapper of %d items", ErrMalformed, n)
	}
	e.blocks = e.one[:0]
	for i := range n {
		if item := r.Bytes(); i == 0 {
			e.digest = item
		} else {
			e.blocks = append(e.blocks, item)
		}
	}
	if err := r.Err(); err != nil {
		return fmt.Errorf("%w: authentication wrapper: %w", ErrMalformed, err)
	}
	return nil
}

// Bytes returns the envelope as it was received.
func (e *Envelope) Bytes() []byte { return e.raw }

// Tagged reports whether tag 107 stood before the envelope.
func (e *Envelope) Tagged() bool { return e.tagged }

// AuthBlocks returns the number of authentication blocks.
func (e *Envelope) AuthBlocks() int { return len(e.blocks) }

// Payload returns the integrated payload or dependency stored under uri. It is not covered by the manifest's signature;
// the manifest holds its digest.
func (e *Envelope) Payload(uri string) ([]byte, bool) {
	item, ok := e.payloads[uri]
	if !ok {
		return nil, false
	}
	content, err := bstr(item)
	return content, err == nil
}

// Payloads returns the keys of the integrated payloads, sorted.
func (e *Envelope) Payloads() []string { return slices.Sorted(maps.Keys(e.payloads)) }

// EncodeOptions says in which form Envelope.Encode writes an envelope.
type EncodeOptions struct {
	Tag          bool // put tag 107 in front: for files; TEEP lists carry envelopes without it
	DropPayloads bool // leave integrated payloads out
	DropSevered  bool // leave severed members out
}

// Encode writes the envelope again in another form. Wrapper, manifest and members stay the bytes that were received, so
// everything that was signed still verifies.
func (e *Envelope) Encode(o EncodeOptions) ([]byte, error) {
	out := map[any]cose.RawMessage{envelopeAuth: e.auth, envelopeManifest: e.manifest}
	if !o.DropSevered {
		for k, v := range e.severed {
			out[int64(k)] = v
		}
	}
	if !o.DropPayloads {
		for k, v := range e.payloads {
			out[k] = v
		}
	}
	data, err := cose.Marshal(out)
	if err != nil || !o.Tag {
		return data, err
	}
	return append(slices.Clone(tagHead), data...), nil
}

// WithoutTag returns an encoded envelope without tag 107, as TEEP's manifest-list carries it.
func WithoutTag(envelope []byte) []byte { return bytes.TrimPrefix(envelope, tagHead) }
