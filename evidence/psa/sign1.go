// SPDX-License-Identifier: Apache-2.0

package psa

import (
	"crypto"
	"errors"
	"fmt"
	"io"

	"sealift/cose"
)

// First bytes of what may be offered as a token.
const (
	tagMac0  = 0xd1 // COSE_Mac0, tag 17
	tagSign1 = 0xd2 // COSE_Sign1, tag 18
)

// Parse reads a token strictly and verifies nothing. The tag of COSE_Sign1 is required and no CWT tag may precede it
// (RFC 9783 section 5.2).
func Parse(data []byte) (*Message, error) {
	switch {
	case len(data) == 0 || len(data) > maxToken:
		return nil, fmt.Errorf("%w: %d bytes, want 1 to %d", ErrMalformed, len(data), maxToken)
	case data[0] == tagMac0:
		return nil, ErrMac0
	case data[0] != tagSign1:
		return nil, fmt.Errorf("%w: not a tagged COSE_Sign1", ErrMalformed)
	}
	msg, err := cose.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, alg := range msg.Algorithms() {
		if alg != cose.AlgES256 && alg != cose.AlgESP256 {
			return nil, fmt.Errorf("%w: %d", ErrAlgorithm, int64(alg))
		}
	}
	token, err := decodeClaims(msg.PayloadInsecure())
	if err != nil {
		return nil, err
	}
	return &Message{msg: msg, token: token}, nil
}

// Verify checks the signature with the keys in turn: Initial Attestation Keys whose owner the caller knows, from
// enrolment or from a certificate chain that it has checked. The error is an ErrSignature if no key fits.
func (m *Message) Verify(keys ...*cose.Key) (*Verified, error) {
	if len(keys) == 0 {
		return nil, ErrNoKey
	}
	// Tokens of devices carry no key identifier, and one that is there proves nothing.
	v, err := m.msg.Verify(keys, cose.VerifyOptions{Legacy: true, AnyKID: true})
	switch {
	case errors.Is(err, cose.ErrNoKey):
		return nil, fmt.Errorf("%w: no key is for the token's algorithm", ErrSignature)
	case err != nil:
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return &Verified{Token: m.token, Key: v.Key, Algorithm: v.Algorithm}, nil
}

// Mint signs a token as a device does, with its Initial Attestation Key (P-256). An empty profile means [ProfileTFM].
func Mint(rand io.Reader, iak crypto.Signer, t Token) ([]byte, error) {
	if t.Profile == "" {
		t.Profile = ProfileTFM
	}
	payload, err := t.encodeClaims()
	if err != nil {
		return nil, fmt.Errorf("mint a PSA token: %w", err)
	}
	s, err := cose.NewSigner(iak)
	if err != nil {
		return nil, fmt.Errorf("mint a PSA token: %w", err)
	}
	if s.Algorithm() != cose.AlgESP256 {
		return nil, fmt.Errorf("mint a PSA token: %w: %d", ErrAlgorithm, int64(s.Algorithm()))
	}
	return cose.Sign1(rand, es256{s}, payload)
}

// es256 names ECDSA with P-256 and SHA-256 by the identifier that RFC 9783 section 5.2 lists (the fully specified one
// is younger than the profiles).
type es256 struct{ cose.Signer }

func (es256) Algorithm() cose.Algorithm { return cose.AlgES256 }
