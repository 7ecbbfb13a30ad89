// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"crypto/ecdh"
	"crypto/hkdf"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"

	"sealift/cose/wire"
)

// Recipient is who shall be able to decrypt: exactly one of Key and KEK is set.
type Recipient struct {
	Key *Key   // P-256 or X25519, for ECDH-ES+A128KW
	KEK []byte // 16, 24 or 32 bytes, for A128KW, A192KW or A256KW
	KID []byte // nil: the thumbprint of Key, or no kid with a KEK
}

// Recipients finds the keys that may open a message. kid is what the message names, and empty where it names none; it is a
// hint, so an implementation MAY return keys of other names as well.
type Recipients interface {
	ECDH(kid []byte) []*ecdh.PrivateKey
	KEK(kid []byte) [][]byte
}

const (
	kekSize       = 16 // of a derived KEK
	maxRecipients = 16
	maxWrapped    = 64 // a content key is never longer
)

// recipient is one layer-1 recipient as received.
type recipient struct {
	header  *header
	wrapped []byte
}

// wrapFor wraps the content key for r and appends the COSE_recipient.
func wrapFor(rand io.Reader, b []byte, r Recipient, cek []byte, context string) ([]byte, error) {
	switch {
	case r.Key != nil && r.KEK == nil:
		return wrapECDH(rand, b, r, cek, context)
	case r.Key == nil && wrapAlg(r.KEK) != 0:
		return wrapKEK(b, r, cek)
	}
	return nil, fmt.Errorf("%w: a recipient needs a P-256 or X25519 key, or a KEK of 16, 24 or 32 bytes", ErrUnsupported)
}

// wrapAlg is the AES key wrap for a KEK of this size, or 0.
func wrapAlg(kek []byte) Algorithm {
	switch len(kek) {
	case 16:
		return AlgA128KW
	case 24:
		return AlgA192KW
	case 32:
		return AlgA256KW
	}
	return 0
}

// wrapKEK emits the AES key wrap recipient: its header is unprotected throughout (RFC 9053 section 6.2.1).
func wrapKEK(b []byte, r Recipient, cek []byte) ([]byte, error) {
	wrapped, err := wrapKey(r.KEK, cek)
	if err != nil {
		return nil, err
	}
	n := 1
	if r.KID != nil {
		n = 2
	}
	b = wire.AppendBytes(wire.AppendArray(b, 3), nil)
	b = wire.AppendInt(wire.AppendUint(wire.AppendMap(b, n), labelAlg), int64(wrapAlg(r.KEK)))
	if r.KID != nil {
		b = wire.AppendBytes(wire.AppendUint(b, labelKID), r.KID)
	}
	return wire.AppendBytes(b, wrapped), nil
}

// wrapECDH emits the ECDH-ES+A128KW recipient with a fresh ephemeral key.
func wrapECDH(rand io.Reader, b []byte, r Recipient, cek []byte, context string) ([]byte, error) {
	pub, err := r.Key.ECDH()
	if err != nil {
		return nil, err
	}
	ephemeral, err := pub.Curve().GenerateKey(rand)
	if err != nil {
		return nil, fmt.Errorf("making an ephemeral key: %w", err)
	}
	epk, err := NewKey(ephemeral.PublicKey())
	if err != nil {
		return nil, err
	}
	protected := wire.AppendInt(wire.AppendUint(wire.AppendMap(nil, 1), labelAlg), int64(AlgECDHESA128KW))
	kek, err := deriveKEK(ephemeral, pub, nil, protected, context)
	if err != nil {
		return nil, err
	}
	wrapped, err := wrapKey(kek, cek)
	if err != nil {
		return nil, err
	}
	kid := r.KID
	if kid == nil {
		kid = r.Key.KID()
	}
	b = wire.AppendBytes(wire.AppendArray(b, 3), protected)
	b = wire.AppendBytes(wire.AppendUint(wire.AppendMap(b, 2), labelKID), kid)
	b = append(wire.AppendInt(b, labelEphemeral), epk.Marshal()...)
	return wire.AppendBytes(b, wrapped), nil
}

// deriveKEK is the key agreement of RFC 9053 section 6.3.1: HKDF-SHA-256 over the shared secret, with a
// COSE_KDF_Context that names the context.
func deriveKEK(priv *ecdh.PrivateKey, pub *ecdh.PublicKey, salt, protected []byte, context string) ([]byte, error) {
	shared, err := priv.ECDH(pub)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrDecrypt, err)
	}
	return hkdf.Key(sha256.New, shared, salt, string(kdfContext(protected, context)), kekSize)
}

// kdfContext encodes the COSE_KDF_Context (RFC 9053 section 5.2). A context of its own goes to SuppPubInfo.other as a byte
// string (suit-firmware-encryption, teep-protocol section 8.2); with an empty one that member is absent, as in plain COSE.
func kdfContext(protected []byte, context string) []byte {
	b := wire.AppendInt(wire.AppendArray(nil, 4), int64(AlgA128KW))
	for range 2 { // PartyUInfo, PartyVInfo
		b = wire.AppendArray(b, 3)
		b = wire.AppendNull(wire.AppendNull(wire.AppendNull(b)))
	}
	n := 2
	if context != "" {
		n = 3
	}
	b = wire.AppendUint(wire.AppendArray(b, n), 8*kekSize)
	b = wire.AppendBytes(b, protected)
	if context != "" {
		b = wire.AppendBytes(b, []byte(context))
	}
	return b
}

func readRecipients(r *wire.Reader) ([]recipient, error) {
	n := r.Array()
	if r.Err() == nil && (n == 0 || n > maxRecipients) {
		return nil, malformedf("%d recipients", n)
	}
	list := make([]recipient, 0, n)
	for range n {
		if k := r.Array(); r.Err() == nil && k != 3 { // 4 would be a recipient with recipients of its own
			return nil, fmt.Errorf("%w: recipient of %d elements", ErrUnsupported, k)
		}
		h, err := readHeader(r)
		if err != nil {
			return nil, fmt.Errorf("recipient: %w", err)
		}
		wrapped := r.Bytes()
		if len(wrapped) > maxWrapped {
			return nil, malformedf("wrapped key of %d bytes", len(wrapped))
		}
		list = append(list, recipient{h, wrapped})
	}
	return list, nil
}

// unwrapAny finds the content key: the recipients that keys knows by name first, then all with all.
func unwrapAny(list []recipient, keys Recipients, context string) ([]byte, error) {
	var faults []error
	for _, named := range []bool{true, false} {
		for _, r := range list {
			kid := r.header.kid
			if named == (len(kid) == 0) {
				continue
			}
			cek, err := r.unwrap(keys, kid, context)
			if err == nil {
				return cek, nil
			}
			faults = append(faults, err)
		}
	}
	for _, kind := range []error{ErrDecrypt, ErrMalformed, ErrUnsupported} {
		for _, err := range faults {
			if errors.Is(err, kind) {
				return nil, err
			}
		}
	}
	return nil, fmt.Errorf("%w: none for the %d recipients", ErrNoKey, len(list))
}

// unwrap tries the keys for one recipient.
func (r recipient) unwrap(keys Recipients, kid []byte, context string) ([]byte, error) {
	h := r.header
	switch {
	case h.hasAlg && h.alg == AlgECDHESA128KW:
		return r.unwrapECDH(keys.ECDH(kid), context)
	case !h.hasAlg && h.hasUnprot && (h.unprotAlg == AlgA128KW || h.unprotAlg == AlgA192KW || h.unprotAlg == AlgA256KW):
		if !h.empty {
			return nil, malformedf("protected header of a key wrap recipient is not empty") // RFC 9053 section 6.2.1
		}
		return r.unwrapKEK(h.unprotAlg, keys.KEK(kid))
	case h.hasAlg:
		return nil, fmt.Errorf("%w: %v for a recipient", ErrUnsupported, h.alg)
	case h.hasUnprot:
		return nil, fmt.Errorf("%w: %v for a recipient with alg unprotected", ErrUnsupported, h.unprotAlg)
	}
	return nil, malformedf("recipient without alg")
}

func (r recipient) unwrapECDH(keys []*ecdh.PrivateKey, context string) ([]byte, error) {
	h := r.header
	if h.ephemeralErr != nil {
		return nil, h.ephemeralErr
	}
	if h.ephemeral == nil {
		return nil, malformedf("recipient without ephemeral key")
	}
	if h.hasParties {
		return nil, fmt.Errorf("%w: party information in a recipient", ErrUnsupported)
	}
	pub, err := h.ephemeral.ECDH()
	if err != nil {
		return nil, err
	}
	err = fmt.Errorf("%w: recipient %x", ErrNoKey, h.kid)
	for _, priv := range keys {
		if priv == nil || priv.Curve() != pub.Curve() {
			continue
		}
		kek, kerr := deriveKEK(priv, pub, h.salt, h.protected, context)
		if kerr != nil {
			err = kerr
			continue
		}
		cek, uerr := unwrapKey(kek, r.wrapped)
		if uerr == nil {
			return cek, nil
		}
		err = uerr
	}
	return nil, err
}

func (r recipient) unwrapKEK(alg Algorithm, keys [][]byte) ([]byte, error) {
	err := fmt.Errorf("%w: recipient %x", ErrNoKey, r.header.kid)
	for _, kek := range keys {
		if wrapAlg(kek) != alg {
			continue
		}
		cek, uerr := unwrapKey(kek, r.wrapped)
		if uerr == nil {
			return cek, nil
		}
		err = uerr
	}
	return nil, err
}

// KeyRing is a Recipients of fixed keys. A kid selects the ECDH key with that thumbprint and the KEKs under that name; where
// it selects none, or is empty, all keys are tried, since a kid is only a hint.
type KeyRing struct {
	Keys []*ecdh.PrivateKey
	KEKs []NamedKEK
}

// NamedKEK is a key encryption key and its kid, which may be nil.
type NamedKEK struct{ KID, KEK []byte }

// ECDH implements Recipients.
func (k KeyRing) ECDH(kid []byte) []*ecdh.PrivateKey {
	for _, priv := range k.Keys {
		if thumb, err := ThumbprintOf(priv.PublicKey()); err == nil && bytes.Equal(kid, thumb[:]) {
			return []*ecdh.PrivateKey{priv}
		}
	}
	return k.Keys
}

// KEK implements Recipients.
func (k KeyRing) KEK(kid []byte) [][]byte {
	var named, all [][]byte
	for _, n := range k.KEKs {
		all = append(all, n.KEK)
		if len(kid) > 0 && bytes.Equal(kid, n.KID) {
			named = append(named, n.KEK)
		}
	}
	if named != nil {
		return named
	}
	return all
}
