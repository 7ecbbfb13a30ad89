// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"fmt"

	"sealift/cose/wire"
)

// Bounds on messages.
const (
	maxMessageSize   = 64 << 20
	maxSignatures    = 16
	maxSignatureSize = 1024
)

// Message is a COSE_Sign1 or COSE_Sign that was parsed and not verified: nothing in it is to be believed yet.
type Message struct {
	tagged     bool
	multi      bool // COSE_Sign
	body       *header
	payload    []byte // nil where it is detached
	signatures []signature
	one        [1]signature // room for a COSE_Sign1's
	head       header       // room for body
}

// signature is one signer's part; in a COSE_Sign1 its header is the body's.
type signature struct {
	header *header
	value  []byte
}

// Parse reads a COSE_Sign1 or COSE_Sign, with its tag or without (RFC 9052 section 2 lets the context decide; the fourth
// element tells which of the two it is). It refuses other tags, crit parameters that are not understood, signatures whose alg
// is not protected, and whatever exceeds this package's bounds. The Message aliases data.
func Parse(data []byte) (*Message, error) {
	if len(data) > maxMessageSize {
		return nil, malformedf("message of %d bytes", len(data))
	}
	m, err := parse(wire.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading a COSE message: %w", err)
	}
	return m, nil
}

func parse(r *wire.Reader) (*Message, error) {
	m := &Message{}
	var tag uint64
	if m.tagged = r.Kind() == wire.KindTag; m.tagged {
		if tag = r.Tag(); tag != tagSign1 && tag != tagSign {
			return nil, fmt.Errorf("%w: tag %d", malformedf("neither COSE_Sign1 nor COSE_Sign"), tag)
		}
	}
	if n := r.Array(); r.Err() == nil && n != 4 {
		return nil, malformedf("message of %d elements", n)
	}
	m.body = &m.head
	err := m.body.read(r)
	if err != nil {
		return nil, err
	}
	if r.Kind() == wire.KindNull {
		r.Null()
	} else {
		m.payload = r.Bytes()
	}
	m.multi = r.Kind() == wire.KindArray
	if m.tagged && m.multi != (tag == tagSign) {
		return nil, malformedf("tag %d around a message of the other type", tag)
	}
	if m.multi {
		err = m.readSignatures(r)
	} else {
		m.one[0] = signature{m.body, r.Bytes()}
		m.signatures = m.one[:]
	}
	if err != nil {
		return nil, err
	}
	if err := r.Err(); err != nil {
		return nil, malformed(err)
	}
	return m, m.check()
}

func (m *Message) readSignatures(r *wire.Reader) error {
	n := r.Array()
	if n == 0 || n > maxSignatures {
		return malformedf("%d signatures", n)
	}
	for range n {
		if k := r.Array(); r.Err() == nil && k != 3 {
			return malformedf("signature of %d elements", k)
		}
		h, err := readHeader(r)
		if err != nil {
			return err
		}
		m.signatures = append(m.signatures, signature{h, r.Bytes()})
	}
	return nil
}

// check enforces what no single element shows: alg must be protected (RFC 9052 section 3.1 lets it be anywhere, but then a
// signature could be moved to a weaker algorithm), and signatures have a bounded size.
func (m *Message) check() error {
	for _, s := range m.signatures {
		if !s.header.hasAlg {
			return malformedf("alg is not in the protected header")
		}
		if len(s.value) == 0 || len(s.value) > maxSignatureSize {
			return malformedf("signature of %d bytes", len(s.value))
		}
	}
	return nil
}

// Tagged reports whether the message carried its CBOR tag.
func (m *Message) Tagged() bool { return m.tagged }

// Multi reports whether the message is a COSE_Sign.
func (m *Message) Multi() bool { return m.multi }

// Detached reports whether the payload is not in the message.
func (m *Message) Detached() bool { return m.payload == nil }

// KIDs gives the kid of each signature, nil where it has none. They are hints.
func (m *Message) KIDs() [][]byte {
	kids := make([][]byte, len(m.signatures))
	for i, s := range m.signatures {
		kids[i] = bytes.Clone(s.header.kid)
	}
	return kids
}

// Algorithms gives the protected alg of each signature.
func (m *Message) Algorithms() []Algorithm {
	algs := make([]Algorithm, len(m.signatures))
	for i, s := range m.signatures {
		algs[i] = s.header.alg
	}
	return algs
}

// PayloadInsecure is the payload before verification, nil where it is detached.
func (m *Message) PayloadInsecure() []byte { return m.payload }

// X5Chain gives the certificates in the first header that has some, in DER, the signer's first. They are claims of the
// sender: the caller builds the path to its own root, and passes the leaf's key to Verify.
func (m *Message) X5Chain() [][]byte {
	if m.body.x5chain != nil {
		return m.body.x5chain
	}
	for _, s := range m.signatures {
		if s.header.x5chain != nil {
			return s.header.x5chain
		}
	}
	return nil
}

// ContentType is the content type parameter: a string, a uint64, or nil.
func (m *Message) ContentType() any { return m.body.content }
