// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/sha256"
	"errors"
	"fmt"
)

// VerifyOptions are the choices a verifier has. The zero value is the strictest that still takes messages without kid.
type VerifyOptions struct {
	// Legacy takes the polymorphic ES256 (-7) and EdDSA (-8) as well, with keys on P-256 and Ed25519.
	Legacy bool
	// Detached is the payload of a message that does not hold it.
	Detached []byte
	// RequireKID refuses signatures without kid.
	RequireKID bool
	// AnyKID disregards kids, for peers whose kids are no thumbprints: all keys that fit alg are tried.
	AnyKID bool
	// ExternalAAD is authenticated with the payload (RFC 9052 section 4.4).
	ExternalAAD []byte
}

// Verified is what a valid signature gives: the payload, the key that signed it, and how.
type Verified struct {
	Payload   []byte
	Key       *Key
	Algorithm Algorithm
}

// Verify looks for signatures made with one of keys. A signature with a kid concerns the keys with that thumbprint; one
// without, all keys that fit its alg.
//
// In a COSE_Sign, signatures by strangers are skipped, yet one that names a known key and is not that key's makes the whole
// message ErrBadSignature, even where another one verifies: nobody honest would have sent it. ErrNoKey says that no
// signature concerns any of keys, ErrKeyMismatch that the key named by kid is not for that alg, ErrUnsupported that the only
// signatures that concern them have an algorithm which is unknown, or legacy and not allowed.
func (m *Message) Verify(keys []*Key, o VerifyOptions) (*Verified, error) {
	payload, err := m.pickPayload(o.Detached)
	if err != nil {
		return nil, err
	}
	var good *Verified
	var failure error
	for i := range m.signatures {
		key, err := m.verifyOne(&m.signatures[i], keys, payload, o)
		switch {
		case err == nil:
			if good == nil {
				good = &Verified{payload, key, m.signatures[i].header.alg}
			}
		case fatal(err):
			return nil, err
		case failure == nil || errors.Is(failure, ErrNoKey):
			failure = err
		}
	}
	if good != nil {
		return good, nil
	}
	return nil, failure
}

// knownKeyError marks the failure of a signature whose kid names a key at hand.
type knownKeyError struct{ error }

func (e knownKeyError) Unwrap() error { return e.error }

// fatal reports whether err condemns a message whatever its other signatures say.
func fatal(err error) bool {
	var known knownKeyError
	return errors.As(err, &known)
}

// pickPayload gives the payload, from inside the message or from outside, and refuses both or none.
func (m *Message) pickPayload(detached []byte) ([]byte, error) {
	switch {
	case m.payload == nil && detached == nil:
		return nil, malformedf("payload is detached and not given")
	case m.payload == nil:
		return detached, nil
	case detached != nil:
		return nil, malformedf("payload is both inside the message and given from outside")
	}
	return m.payload, nil
}

// verifyOne tries the keys that s concerns.
func (m *Message) verifyOne(s *signature, keys []*Key, payload []byte, o VerifyOptions) (*Key, error) {
	h := s.header
	byKID := h.kid != nil && !o.AnyKID
	if h.kid == nil && o.RequireKID {
		return nil, fmt.Errorf("%w: signature without kid", ErrNoKey)
	}
	candidates := make([]*Key, 0, len(keys))
	for _, k := range keys {
		if k != nil && (!byKID || bytes.Equal(h.kid, k.thumb[:])) {
			candidates = append(candidates, k)
		}
	}
	if len(candidates) == 0 {
		return nil, fmt.Errorf("%w: kid %x", ErrNoKey, h.kid)
	}
	if err := allowed(h.alg, o.Legacy); err != nil {
		return nil, err
	}
	tried := false
	for _, k := range candidates {
		if !k.fits(h.alg) {
			continue
		}
		tried = true
		if m.matches(s, k, payload, o.ExternalAAD) {
			return k, nil
		}
	}
	switch {
	case byKID && !tried:
		return nil, knownKeyError{fmt.Errorf("%w: %v by key %x", ErrKeyMismatch, h.alg, h.kid)}
	case byKID:
		return nil, knownKeyError{fmt.Errorf("%w: %v by key %x", ErrBadSignature, h.alg, h.kid)}
	case !tried:
		return nil, fmt.Errorf("%w: %v", ErrNoKey, h.alg)
	}
	return nil, fmt.Errorf("%w: %v by none of the keys", ErrBadSignature, h.alg)
}

// allowed reports whether alg is a signature algorithm this package verifies.
func allowed(alg Algorithm, legacy bool) error {
	switch alg {
	case AlgESP256, AlgEd25519:
		return nil
	case AlgES256, AlgEdDSA:
		if legacy {
			return nil
		}
		return fmt.Errorf("%w: %v is not fully specified (RFC 9864)", ErrUnsupported, alg)
	}
	return fmt.Errorf("%w: %v for signatures", ErrUnsupported, alg)
}

// matches verifies one signature with one key, over the protected headers as received and, where they are an empty map,
// over a byte string of length 0 as well.
func (m *Message) matches(s *signature, k *Key, payload, aad []byte) bool {
	if len(s.value) != signatureSize {
		return false
	}
	context, sign := contextSign1, []byte(nil)
	if m.multi {
		context, sign = contextSign, s.header.protected
	}
	if verifyRaw(k, toBeSignedHead(context, m.body.protected, sign, aad, len(payload)), payload, s.value) {
		return true
	}
	if !m.multi || !m.body.empty || len(m.body.protected) == 0 {
		return false // a header that holds alg is not empty
	}
	return verifyRaw(k, toBeSignedHead(context, nil, sign, aad, len(payload)), payload, s.value)
}

// verifyRaw verifies sig over head and payload one after the other. ECDSA hashes them where they are; Ed25519 needs them in
// one piece, for which head has room.
func verifyRaw(k *Key, head, payload, sig []byte) bool {
	switch pub := k.pub.(type) {
	case *ecdsa.PublicKey:
		h := sha256.New()
		h.Write(head)
		h.Write(payload)
		var digest [sha256.Size]byte
		return ecdsa.VerifyASN1(pub, h.Sum(digest[:0]), derFromRaw(sig))
	case ed25519.PublicKey:
		return ed25519.Verify(pub, append(head, payload...), sig)
	}
	return false
}
