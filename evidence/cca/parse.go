// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"fmt"

	"sealift/cose"
)

// Keys of the collection, and the content format of its records (application/eat+cwt) where it is a CMW.
const (
	keyPlatform   = 44234
	keyRealm      = 44241
	formatEATCWT  = 263
	coordinate384 = 48
)

// Message is a token that was read and not verified.
type Message struct {
	token           Token
	platform, realm *sign1
	rak             *ecdsa.PublicKey
}

// TokenInsecure returns what the token says, without any proof that a platform signed it.
func (m *Message) TokenInsecure() *Token { return &m.token }

type wireRecord struct {
	_      struct{} `cbor:",toarray"`
	Format uint64
	Value  []byte
}

// Parse reads a token strictly and verifies nothing: exactly a platform and a realm token, in one of the two wrappers.
func Parse(data []byte) (*Message, error) {
	if len(data) > maxToken {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), maxToken)
	}
	m := &Message{}
	parts, err := m.unwrap(data)
	if err != nil {
		return nil, err
	}
	if m.platform, err = parseSign1("platform", parts[keyPlatform]); err != nil {
		return nil, err
	}
	if m.realm, err = parseSign1("realm", parts[keyRealm]); err != nil {
		return nil, err
	}
	if m.token.Platform, err = decodePlatform(m.platform.payload); err != nil {
		return nil, err
	}
	if m.token.Realm, err = decodeRealm(m.realm.payload); err != nil {
		return nil, err
	}
	if (m.token.Realm.Profile == ProfileRealm) != (m.token.Platform.Profile == ProfilePlatform) {
		return nil, fmt.Errorf("%w: %q beside %q", ErrProfile, m.token.Platform.Profile, m.token.Realm.Profile)
	}
	m.rak, err = parseRAK(&m.token.Realm)
	return m, err
}

func (m *Message) unwrap(data []byte) (map[int64][]byte, error) {
	parts := map[int64][]byte{}
	var err error
	cca, isCCA := bytes.CutPrefix(data, []byte{0xd9, 0x01, 0x8f})
	cmw, isCMW := bytes.CutPrefix(data, []byte{0xd9, 0x03, 0x8b})
	switch {
	case isCCA:
		m.token.Wrapper = WrapperCCA
		err = cose.Unmarshal(cca, &parts)
	case isCMW:
		m.token.Wrapper = WrapperCMW
		var records map[int64]wireRecord
		err = cose.Unmarshal(cmw, &records)
		for k, r := range records {
			if r.Format != formatEATCWT {
				return nil, fmt.Errorf("%w: record %d has content format %d, want %d", ErrMalformed, k, r.Format, formatEATCWT)
			}
			parts[k] = r.Value
		}
	default:
		return nil, fmt.Errorf("%w: neither tag %d nor tag %d", ErrMalformed, WrapperCCA, WrapperCMW)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: collection: %w", ErrMalformed, err)
	}
	if len(parts) != 2 || parts[keyPlatform] == nil || parts[keyRealm] == nil {
		return nil, fmt.Errorf("%w: want a platform token (%d) and a realm token (%d), and nothing else", ErrMalformed, keyPlatform, keyRealm)
	}
	return parts, nil
}

type wireKey struct {
	Kty int64  `cbor:"1,keyasint"`
	Crv int64  `cbor:"-1,keyasint"`
	X   []byte `cbor:"-2,keyasint"`
	Y   []byte `cbor:"-3,keyasint"`
}

// parseRAK reads the realm's key: an uncompressed point on P-384, or a COSE_Key with one.
func parseRAK(r *Realm) (*ecdsa.PublicKey, error) {
	point := r.PublicKey
	if r.Profile == ProfileRealm {
		var k wireKey
		if err := cose.Unmarshal(r.PublicKey, &k); err != nil {
			return nil, fmt.Errorf("%w: realm public key: %w", ErrMalformed, err)
		}
		if k.Kty != 2 || k.Crv != 2 || len(k.X) != coordinate384 || len(k.Y) != coordinate384 {
			return nil, fmt.Errorf("%w: realm public key is not on P-384", ErrMalformed)
		}
		point = append(append([]byte{4}, k.X...), k.Y...)
	}
	key, err := ecdsa.ParseUncompressedPublicKey(elliptic.P384(), point)
	if err != nil {
		return nil, fmt.Errorf("%w: realm public key: %w", ErrMalformed, err)
	}
	return key, nil
}

// encodeRAK is the inverse of parseRAK.
func encodeRAK(profile string, pub crypto.PublicKey) ([]byte, error) {
	key, ok := pub.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%w: the RAK is a %T, want a P-384 key", ErrAlgorithm, pub)
	}
	point, err := key.Bytes()
	if err != nil || profile == "" {
		return point, err
	}
	return cose.MustMarshal(wireKey{Kty: 2, Crv: 2, X: point[1 : 1+coordinate384], Y: point[1+coordinate384:]}), nil
}

// hashOf maps the names of the token to hashes.
func hashOf(name string) (crypto.Hash, error) {
	switch name {
	case "sha-256":
		return crypto.SHA256, nil
	case "sha-384":
		return crypto.SHA384, nil
	case "sha-512":
		return crypto.SHA512, nil
	}
	return 0, fmt.Errorf("%w: hash %q", ErrAlgorithm, name)
}

// nonceFor returns the platform nonce that belongs to a realm token: the hash of the RAK as it stands there.
func nonceFor(r *Realm) ([]byte, error) {
	h, err := hashOf(r.PublicKeyHash)
	if err != nil {
		return nil, err
	}
	hash := h.New()
	hash.Write(r.PublicKey)
	return hash.Sum(nil), nil
}
