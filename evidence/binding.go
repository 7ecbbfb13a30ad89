// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"

	"sealift/cose"
)

// bindingLabel separates the binding from every other use of SHA-512 over CBOR.
const bindingLabel = "teep-attest-binding-v1"

// NonceSize is the length in bytes of one party's nonce inside a challenge.
const NonceSize = 32

// ErrChallenge reports a challenge that is not two nonces of NonceSize bytes.
var ErrChallenge = errors.New("evidence: challenge")

// Binding returns the 64 bytes that the hardware signs as its nonce or report data:
//
//	SHA-512(deterministic CBOR ["teep-attest-binding-v1", hw, challenge, ckt, ext])
//
// hw is the hardware's name, with the prefix "emu:" where it is emulated ([Hardware.BindingName]); challenge is the
// challenge of the TEEP QueryRequest; ckt is the RFC 9679 thumbprint of the Agent's signing key; ext is the SHA-256 of
// the claims record's bytes. The verifier computes it from what it knows itself: nothing that the Agent sends is
// believed for it.
func Binding(hw string, challenge []byte, ckt [32]byte, ext [32]byte) [64]byte {
	return sha512.Sum512(cose.MustMarshal([]any{bindingLabel, hw, nonNil(challenge), ckt[:], ext[:]}))
}

// MixChallenge makes the challenge of a QueryRequest from the TAM's nonce and the owner's, so that the same Evidence is
// fresh for both. The owner's part is all zeros when no owner asks.
func MixChallenge(tam, owner [NonceSize]byte) []byte {
	return append(append(make([]byte, 0, 2*NonceSize), tam[:]...), owner[:]...)
}

// SplitChallenge returns the two nonces of a challenge that [MixChallenge] made.
func SplitChallenge(challenge []byte) (tam, owner [NonceSize]byte, err error) {
	if len(challenge) != 2*NonceSize {
		return tam, owner, fmt.Errorf("%w: %d bytes, want %d (the TAM's nonce, then the owner's)",
			ErrChallenge, len(challenge), 2*NonceSize)
	}
	copy(tam[:], challenge)
	copy(owner[:], challenge[NonceSize:])
	return tam, owner, nil
}

func isZero(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// nonNil keeps an empty byte string from being encoded as CBOR null.
func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
