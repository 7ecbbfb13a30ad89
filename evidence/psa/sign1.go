// SPDX-License-Identifier: Apache-2.0

package psa

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"fmt"
	"io"

	"sealift/cose"
)

// First bytes of what may be offered as a token.
const (
	tagMac0  = 0xd1 // COSE_Mac0, tag 17
	tagSign1 = 0xd2 // COSE_Sign1, tag 18
)

// tagsInTwoBytes are the same tags where an encoder does not use the shortest form, which it need not (RFC 9783 section 5.1).
var tagsInTwoBytes = map[byte][]byte{tagMac0: {0xd8, 17}, tagSign1: {0xd8, 18}}

// untag returns what stands behind the tag.
func untag(data []byte, tag byte) ([]byte, bool) {
	if body, ok := bytes.CutPrefix(data, []byte{tag}); ok {
		return body, true
	}
	return bytes.CutPrefix(data, tagsInTwoBytes[tag])
}

// Parse reads a token strictly and verifies nothing. The tag of COSE_Sign1 is required and no CWT tag may precede it
// (RFC 9783 section 5.1).
func Parse(data []byte) (*Message, error) {
	if len(data) == 0 || len(data) > maxToken {
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrMalformed, len(data), maxToken)
	}
	if _, mac := untag(data, tagMac0); mac {
		return nil, ErrMac0
	}
	body, tagged := untag(data, tagSign1)
	if !tagged {
		return nil, fmt.Errorf("%w: not a tagged COSE_Sign1", ErrMalformed)
	}
	msg, err := cose.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	m := &Message{alg: msg.Algorithms()[0], chain: msg.X5Chain()}
	if _, known := algorithms[m.alg]; !known {
		return nil, fmt.Errorf("%w: %d", ErrAlgorithm, int64(m.alg))
	}
	if err := cose.Unmarshal(body, &m.msg); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if m.token, err = decodeClaims(m.msg.Payload); err != nil {
		return nil, err
	}
	return m, nil
}

// Verify is [Message.VerifyPublic] for keys on P-256 in COSE's form.
func (m *Message) Verify(keys ...*cose.Key) (*Verified, error) {
	public := make([]crypto.PublicKey, len(keys))
	for i, k := range keys {
		public[i] = k.Public()
	}
	return m.VerifyPublic(public...)
}

// VerifyPublic checks the signature with the keys in turn: Initial Attestation Keys whose owner the caller knows, from
// enrolment or from a certificate chain that it has checked. Keys that are not on the curve of the token's algorithm do not
// count. The error is an ErrSignature if no key fits. A key identifier in the token is ignored: tokens of devices carry
// none, and one that is there proves nothing.
func (m *Message) VerifyPublic(keys ...crypto.PublicKey) (*Verified, error) {
	if len(keys) == 0 {
		return nil, ErrNoKey
	}
	tried := 0
	for _, k := range keys {
		pub, ok := k.(*ecdsa.PublicKey)
		if !ok || pub.Curve != algorithms[m.alg].curve {
			continue
		}
		if m.msg.verify(m.alg, pub) {
			v := &Verified{Token: m.token, Public: pub, Algorithm: m.alg}
			v.Key, _ = cose.NewKey(pub) // nil for other curves than P-256
			return v, nil
		}
		tried++
	}
	return nil, fmt.Errorf("%w: of %d keys, %d are for the token's algorithm", ErrSignature, len(keys), tried)
}

// Mint signs a token as a device does, with its Initial Attestation Key on P-256, P-384 or P-521. An empty profile means
// [ProfileTFM].
func Mint(rand io.Reader, iak crypto.Signer, t Token) ([]byte, error) {
	if t.Profile == "" {
		t.Profile = ProfileTFM
	}
	payload, err := t.encodeClaims()
	if err != nil {
		return nil, fmt.Errorf("mint a PSA token: %w", err)
	}
	token, err := sign(rand, iak, payload)
	if err != nil {
		return nil, fmt.Errorf("mint a PSA token: %w", err)
	}
	return token, nil
}
