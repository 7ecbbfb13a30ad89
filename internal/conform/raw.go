// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"crypto/rand"

	"sealift/cose"
	"sealift/teep"
)

// Labels of options, for messages that package teep refuses to make.
const (
	optChallenge  = 2
	optVersions   = 3
	optPayload    = 7
	optTCList     = 8
	optManifests  = 10
	optErrMsg     = 12
	optRequested  = 14
	optReports    = 19
	optToken      = 20
	optFreshness  = 21
	optErrLang    = 22
	optErrCode    = 23
	optUnassigned = 4711
)

// raw is a message that may break any rule: its elements, of which the second is a map of options unless somebody replaces it.
type raw struct {
	elements []any
	options  map[any]any
}

// rawOf takes a valid message apart.
func rawOf(m teep.Message) (*raw, error) {
	data, err := teep.Encode(m)
	if err != nil {
		return nil, err
	}
	var elements []cose.RawMessage
	if err := cose.Unmarshal(data, &elements); err != nil {
		return nil, err
	}
	var options map[uint64]cose.RawMessage
	if err := cose.Unmarshal(elements[1], &options); err != nil {
		return nil, err
	}
	r := &raw{options: map[any]any{}}
	for label, value := range options {
		r.options[label] = value
	}
	for _, e := range elements {
		r.elements = append(r.elements, e)
	}
	r.elements[1] = r.options
	return r, nil
}

func (r *raw) set(label uint64, value any) { r.options[label] = value }
func (r *raw) drop(label uint64)           { delete(r.options, label) }
func (r *raw) bytes() []byte               { return cose.MustMarshal(r.elements) }

// envelope is how a payload is protected: by default the tagged COSE_Sign1 with alg protected and kid not that everyone makes.
type envelope struct {
	protected, unprotected map[any]any
	untagged               bool
	forge                  bool // the signature is another message's
}

func defaultEnvelope(s cose.Signer) *envelope {
	return &envelope{protected: map[any]any{1: int64(s.Algorithm())}, unprotected: map[any]any{4: s.Key().KID()}}
}

// seal makes a COSE_Sign1 (RFC 9052 section 4.2), whatever its headers say.
func (e *envelope) seal(s cose.Signer, payload []byte) ([]byte, error) {
	protected := []byte{}
	if len(e.protected) > 0 {
		protected = cose.MustMarshal(e.protected)
	}
	signed := payload
	if e.forge {
		signed = append([]byte{0xff}, payload...)
	}
	sig, err := s.Sign(rand.Reader, cose.MustMarshal([]any{"Signature1", protected, []byte{}, signed}))
	if err != nil {
		return nil, err
	}
	out := cose.MustMarshal([]any{protected, e.unprotected, payload, sig})
	if e.untagged {
		return out, nil
	}
	return append([]byte{0xd2}, out...), nil
}

// badMessage is a way to spoil a message; what it makes is validly signed unless it says otherwise.
type badMessage struct {
	title, section string
	spoil          func(*raw)          // of the content, or
	bytes          func([]byte) []byte // of the encoded payload, or
	header         func(*envelope)     // of the protection, or
	whole          func([]byte) []byte // of the finished message
}

// badAnything are the ways that suit every message with an option map (teep-protocol section 4.1.2; RFC 9052 section 3).
var badAnything = []badMessage{
	{title: "bytes after the CBOR item", section: "T 4.1.2", bytes: func(b []byte) []byte { return append(b, 0) }},
	{title: "a payload that is cut off", section: "T 4.1.2", bytes: func(b []byte) []byte { return b[:len(b)-1] }},
	{title: "a payload that is no array", section: "T 4.1.2", bytes: func(b []byte) []byte { return cose.MustMarshal(map[int]any{1: b}) }},
	{title: "an array without the option map", section: "T 6", spoil: func(r *raw) { r.elements = r.elements[:1] }},
	{title: "an option map that is an array", section: "T 6", spoil: func(r *raw) { r.elements[1] = []any{} }},
	{title: "the reserved message type 4", section: "T 4", spoil: func(r *raw) { r.elements[0] = 4 }},
	{title: "an unassigned message type", section: "T 4", spoil: func(r *raw) { r.elements[0] = 23 }},
	{title: "a token of 7 bytes", section: "T 4.1.1", spoil: func(r *raw) { r.set(optToken, make([]byte, 7)) }},
	{title: "a token of 65 bytes", section: "T 4.1.1", spoil: func(r *raw) { r.set(optToken, make([]byte, 65)) }},
	{title: "a token that is text", section: "T 4.1.1", spoil: func(r *raw) { r.set(optToken, "token678") }},
	{title: "a critical header nobody knows", section: "RFC 9052 3.1", header: func(e *envelope) {
		e.protected[2] = []int{-70777}
		e.protected[-70777] = true
	}},
	{title: "alg in the unprotected header", section: "RFC 9052 3", header: func(e *envelope) {
		e.unprotected[1] = e.protected[1]
		e.protected = nil
	}},
	{title: "a signature over other bytes", section: "T 4.1.2", header: func(e *envelope) { e.forge = true }},
	{title: "no COSE at all", section: "T 4.1.2", whole: func([]byte) []byte { return []byte("hello, peer") }},
}

// make applies b to m and signs the result.
func (b *badMessage) make(s cose.Signer, m teep.Message) ([]byte, error) {
	r, err := rawOf(m)
	if err != nil {
		return nil, err
	}
	if b.spoil != nil {
		b.spoil(r)
	}
	payload := r.bytes()
	if b.bytes != nil {
		payload = b.bytes(payload)
	}
	e := defaultEnvelope(s)
	if b.header != nil {
		b.header(e)
	}
	out, err := e.seal(s, payload)
	if err == nil && b.whole != nil {
		out = b.whole(out)
	}
	return out, err
}
