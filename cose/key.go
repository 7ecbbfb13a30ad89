// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"bytes"
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"sealift/cose/wire"
)

// Labels and values of COSE_Key (RFC 9052 section 7, RFC 9053 section 7).
const (
	keyLabelKty = 1
	keyLabelAlg = 3
	keyLabelCrv = -1
	keyLabelX   = -2
	keyLabelY   = -3
	keyLabelD   = -4

	ktyOKP = 1
	ktyEC2 = 2

	crvP256    = 1
	crvX25519  = 4
	crvEd25519 = 6

	coordinateSize = 32 // of P-256, and the size of an Ed25519 or X25519 key
	maxKeySize     = 1024
)

// Key is a public COSE_Key: EC2 on P-256, or OKP on Ed25519 or, for key agreement only, on X25519. A Key does not change once it was made.
type Key struct {
	kty   int64
	crv   int64
	alg   Algorithm // 0 where the key names none
	x, y  []byte    // y only for EC2
	pub   crypto.PublicKey
	thumb [32]byte
}

// NewKey makes a Key of an *ecdsa.PublicKey on P-256, an *ecdh.PublicKey on P-256 or X25519, or an ed25519.PublicKey.
func NewKey(pub crypto.PublicKey) (*Key, error) {
	switch p := pub.(type) {
	case *ecdsa.PublicKey:
		if p == nil || p.Curve != elliptic.P256() {
			break
		}
		point, err := p.Bytes()
		if err != nil {
			return nil, malformed(err)
		}
		return newEC2(point, 0)
	case *ecdh.PublicKey:
		switch {
		case p != nil && p.Curve() == ecdh.P256():
			return newEC2(p.Bytes(), 0)
		case p != nil && p.Curve() == ecdh.X25519():
			return newOKP(crvX25519, p.Bytes(), 0)
		}
	case ed25519.PublicKey:
		return newOKP(crvEd25519, p, 0)
	}
	return nil, fmt.Errorf("%w: public key of type %T or its curve", ErrUnsupported, pub)
}

// newEC2 makes a P-256 key of an uncompressed point.
func newEC2(point []byte, alg Algorithm) (*Key, error) {
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), point)
	if err != nil {
		return nil, malformed(err)
	}
	point = bytes.Clone(point)
	k := &Key{kty: ktyEC2, crv: crvP256, alg: alg, x: point[1 : 1+coordinateSize], y: point[1+coordinateSize:], pub: pub}
	k.thumb = sha256.Sum256(k.encode(0))
	return k, nil
}

func newOKP(crv int64, x []byte, alg Algorithm) (*Key, error) {
	if len(x) != ed25519.PublicKeySize {
		return nil, malformedf("OKP key of %d bytes", len(x))
	}
	x = bytes.Clone(x)
	k := &Key{kty: ktyOKP, crv: crv, alg: alg, x: x, pub: ed25519.PublicKey(x)}
	if crv == crvX25519 {
		pub, err := ecdh.X25519().NewPublicKey(x)
		if err != nil {
			return nil, malformed(err)
		}
		k.pub = pub
	}
	k.thumb = sha256.Sum256(k.encode(0))
	return k, nil
}

// rawKey is a COSE_Key before its members were judged together.
type rawKey struct {
	kty, alg, crv int64
	x, y          []byte
	yBit          byte // 2 or 3 for a compressed point (RFC 9053 section 7.1.1), else 0
}

// ParseKey reads a public COSE_Key. Members that do not matter here (kid, key_ops, unknown ones) are left out of the result.
// A private member, an alg that does not fit the key type, and a point that is not on the curve are refused.
func ParseKey(data []byte) (*Key, error) {
	if len(data) > maxKeySize {
		return nil, malformedf("COSE_Key of %d bytes", len(data))
	}
	raw, err := readKey(wire.NewReader(data))
	if err != nil {
		return nil, fmt.Errorf("reading COSE_Key: %w", err)
	}
	k, err := raw.key()
	if err != nil {
		return nil, fmt.Errorf("reading COSE_Key: %w", err)
	}
	if alg := k.alg; alg != 0 && !k.fits(alg) {
		return nil, fmt.Errorf("reading COSE_Key: %w: %w: alg %v", ErrMalformed, ErrKeyMismatch, alg)
	}
	return k, nil
}

func readKey(r *wire.Reader) (raw rawKey, err error) {
	for range r.Map() {
		if r.Kind() == wire.KindText {
			r.Skip()
			r.Skip()
			continue
		}
		switch label := r.Int(); label {
		case keyLabelKty:
			raw.kty = r.Int()
		case keyLabelAlg:
			raw.alg = r.Int()
		case keyLabelCrv:
			raw.crv = r.Int()
		case keyLabelX:
			raw.x = r.Bytes()
		case keyLabelY:
			if r.Kind() != wire.KindBool {
				raw.y = r.Bytes()
				break
			}
			if raw.yBit = 2; r.Bool() {
				raw.yBit = 3
			}
		case keyLabelD:
			return raw, malformedf("private key member in a public key")
		default:
			r.Skip()
		}
	}
	if err := r.Err(); err != nil {
		return raw, malformed(err)
	}
	return raw, nil
}

func (raw rawKey) key() (*Key, error) {
	switch {
	case raw.kty == ktyOKP && (raw.crv == crvEd25519 || raw.crv == crvX25519):
		if raw.y != nil || raw.yBit != 0 {
			return nil, malformedf("y coordinate in an OKP key")
		}
		return newOKP(raw.crv, raw.x, Algorithm(raw.alg))
	case raw.kty == ktyEC2 && raw.crv == crvP256:
		return raw.ec2()
	}
	return nil, fmt.Errorf("%w: key type %d with curve %d", ErrUnsupported, raw.kty, raw.crv)
}

func (raw rawKey) ec2() (*Key, error) {
	if len(raw.x) != coordinateSize {
		return nil, malformedf("x coordinate of %d bytes", len(raw.x))
	}
	if raw.yBit != 0 {
		x, y := elliptic.UnmarshalCompressed(elliptic.P256(), append([]byte{raw.yBit}, raw.x...))
		if x == nil {
			return nil, malformedf("compressed point is not on the curve")
		}
		raw.y = y.FillBytes(make([]byte, coordinateSize))
	}
	if len(raw.y) != coordinateSize {
		return nil, malformedf("y coordinate of %d bytes", len(raw.y))
	}
	point := append(append([]byte{4}, raw.x...), raw.y...)
	return newEC2(point, Algorithm(raw.alg))
}

// encode writes the required members, which RFC 9679 section 4 hashes, and alg where it is not 0, in deterministic order.
func (k *Key) encode(alg Algorithm) []byte {
	n := 4
	if k.kty == ktyOKP {
		n = 3
	}
	if alg != 0 {
		n++
	}
	b := wire.AppendMap(make([]byte, 0, 96), n)
	b = wire.AppendInt(wire.AppendInt(b, keyLabelKty), k.kty)
	if alg != 0 {
		b = wire.AppendInt(wire.AppendInt(b, keyLabelAlg), int64(alg))
	}
	b = wire.AppendInt(wire.AppendInt(b, keyLabelCrv), k.crv)
	b = wire.AppendBytes(wire.AppendInt(b, keyLabelX), k.x)
	if k.kty == ktyEC2 {
		b = wire.AppendBytes(wire.AppendInt(b, keyLabelY), k.y)
	}
	return b
}

// fits reports whether alg is for keys of this type, and is what the key itself asks for.
func (k *Key) fits(alg Algorithm) bool {
	alg = alg.specific()
	if k.alg != 0 && k.alg.specific() != alg {
		return false
	}
	switch k.crv {
	case crvEd25519:
		return alg == AlgEd25519
	case crvP256:
		return alg == AlgESP256 || alg.agreement()
	}
	return alg.agreement()
}

// Marshal gives the deterministic encoding of the public members, with alg where the key has one.
func (k *Key) Marshal() []byte { return k.encode(k.alg) }

// Public gives the key as an *ecdsa.PublicKey, an ed25519.PublicKey or, on X25519, an *ecdh.PublicKey.
func (k *Key) Public() crypto.PublicKey { return k.pub }

// ECDSA gives the key for ECDSA, where it is one on P-256.
func (k *Key) ECDSA() (*ecdsa.PublicKey, bool) {
	p, ok := k.pub.(*ecdsa.PublicKey)
	return p, ok
}

// ECDH gives the key for key agreement; an Ed25519 key cannot do that.
func (k *Key) ECDH() (*ecdh.PublicKey, error) {
	switch p := k.pub.(type) {
	case *ecdsa.PublicKey:
		return p.ECDH()
	case *ecdh.PublicKey:
		return p, nil
	}
	return nil, fmt.Errorf("%w: key agreement with an Ed25519 key", ErrUnsupported)
}

// SignatureAlgorithm is the fully specified algorithm that this key verifies; 0 for a key that verifies nothing (X25519).
func (k *Key) SignatureAlgorithm() Algorithm {
	switch k.crv {
	case crvEd25519:
		return AlgEd25519
	case crvP256:
		return AlgESP256
	}
	return 0
}

// Thumbprint is the COSE Key Thumbprint with SHA-256 (RFC 9679).
func (k *Key) Thumbprint() [32]byte { return k.thumb }

// KID is the thumbprint as the kid of messages (teep-protocol section 8.1).
func (k *Key) KID() []byte { return bytes.Clone(k.thumb[:]) }

// Equal reports whether both are the same public key, whatever algorithm they name.
func (k *Key) Equal(o *Key) bool {
	if k == nil || o == nil {
		return k == o
	}
	return k.thumb == o.thumb
}

// ThumbprintOf is the thumbprint of any key that NewKey takes.
func ThumbprintOf(pub crypto.PublicKey) ([32]byte, error) {
	k, err := NewKey(pub)
	if err != nil {
		return [32]byte{}, err
	}
	return k.thumb, nil
}

// MarshalCBOR gives the key as a COSE_Key map.
func (k *Key) MarshalCBOR() ([]byte, error) {
	if k == nil || k.pub == nil {
		return []byte{wire.Null}, nil
	}
	return k.Marshal(), nil
}

// UnmarshalCBOR reads a COSE_Key map into a Key that nobody uses yet.
func (k *Key) UnmarshalCBOR(data []byte) error {
	parsed, err := ParseKey(data)
	if err != nil {
		return err
	}
	*k = *parsed
	return nil
}

// MarshalText gives the COSE_Key in base64url without padding, for JSON, YAML and command lines.
func (k *Key) MarshalText() ([]byte, error) {
	if k == nil || k.pub == nil {
		return nil, fmt.Errorf("%w: no key to write", ErrNoKey)
	}
	return base64.RawURLEncoding.AppendEncode(nil, k.Marshal()), nil
}

// UnmarshalText reads what MarshalText wrote into a Key that nobody uses yet.
func (k *Key) UnmarshalText(text []byte) error {
	data, err := base64.RawURLEncoding.Strict().AppendDecode(nil, text)
	if err != nil {
		return fmt.Errorf("reading a key in base64url: %w", malformed(err))
	}
	return k.UnmarshalCBOR(data)
}
