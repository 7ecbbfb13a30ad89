// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"crypto"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"maps"
	"slices"

	"sealift/cose"
	"sealift/cose/wire"
)

// ErrKey says that a file holds no key that can be used here.
var ErrKey = errors.New("no key of P-256 or Ed25519, and no symmetric one")

// Keys are what is verified and decrypted with. Names say where a key came from.
type Keys struct {
	Public []*cose.Key
	MAC    [][]byte
	Ring   cose.KeyRing // opens what is encrypted
	names  map[[32]byte]string
}

// Add adds a public key under a name.
func (k *Keys) Add(name string, key *cose.Key) {
	if k.names == nil {
		k.names = map[[32]byte]string{}
	}
	for _, have := range k.Public {
		if have.Equal(key) {
			return
		}
	}
	k.names[key.Thumbprint()] = name
	k.Public = append(k.Public, key)
}

// AddFile adds the key in a file: PEM (private, public, certificate), a COSE_Key or a JWK, public, private or symmetric.
func (k *Keys) AddFile(name string, data []byte) error {
	block, _ := pem.Decode(data)
	var err error
	switch {
	case block != nil:
		err = k.addPEM(name, data)
	case len(data) > 0 && (data[0] == '{' || data[0] == ' ' || data[0] == '\n'):
		err = k.addJWK(name, data)
	default:
		err = k.addCOSE(name, data)
	}
	if err != nil {
		return fmt.Errorf("%w: %w", ErrKey, err)
	}
	return nil
}

// Name says which key that is.
func (k *Keys) Name(key *cose.Key) string {
	name := k.names[key.Thumbprint()]
	if name == "" {
		return fmt.Sprintf("%x", key.KID())
	}
	return fmt.Sprintf("%s (%x)", name, key.KID())
}

func (k *Keys) addPEM(name string, data []byte) error {
	if priv, err := cose.ParsePrivatePEM(data); err == nil {
		return k.addPrivate(name, priv)
	}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			return errors.New("no key in PEM form")
		}
		var pub any
		var err error
		switch block.Type {
		case "PUBLIC KEY":
			pub, err = x509.ParsePKIXPublicKey(block.Bytes)
		case "CERTIFICATE":
			var cert *x509.Certificate
			if cert, err = x509.ParseCertificate(block.Bytes); err == nil {
				pub = cert.PublicKey
			}
		default:
			continue
		}
		if err != nil {
			return err
		}
		return k.addPublic(name, pub)
	}
}

func (k *Keys) addPublic(name string, pub crypto.PublicKey) error {
	key, err := cose.NewKey(pub)
	if err != nil {
		return err
	}
	k.Add(name, key)
	return nil
}

func (k *Keys) addPrivate(name string, priv crypto.Signer) error {
	if ec, ok := priv.(*ecdsa.PrivateKey); ok {
		if dh, err := ec.ECDH(); err == nil {
			k.Ring.Keys = append(k.Ring.Keys, dh)
		}
	}
	return k.addPublic(name, priv.Public())
}

func (k *Keys) addSecret(kid, secret []byte) error {
	switch len(secret) {
	case 16:
		k.Ring.KEKs = append(k.Ring.KEKs, cose.NamedKEK{KID: kid, KEK: secret})
	case 32:
		k.MAC = append(k.MAC, secret)
	default:
		return fmt.Errorf("a symmetric key of %d bytes: 16 wrap keys, 32 authenticate", len(secret))
	}
	return nil
}

func (k *Keys) addCOSE(name string, data []byte) error {
	it, rest, err := read(data)
	if err != nil || rest > 0 || !isKey(it) {
		return errors.New("no COSE_Key")
	}
	if n, _ := it.get(1).int(); n == 4 {
		var kid []byte
		if it.get(2) != nil {
			kid = it.get(2).content
		}
		return k.addSecret(kid, it.get(-1).content)
	}
	// cose.ParseKey takes public members only.
	public := 0
	var body []byte
	for _, e := range it.Entries {
		if n, ok := e.Key.int(); !ok || n != -4 {
			public++
			body = append(append(body, e.Key.raw...), e.Value.raw...)
		}
	}
	key, err := cose.ParseKey(append(wire.AppendMap(nil, public), body...))
	if err != nil {
		return err
	}
	k.Add(name, key)
	if d := it.get(-4); d.is(Bytes) {
		if dh, err := ecdh.P256().NewPrivateKey(d.content); err == nil {
			k.Ring.Keys = append(k.Ring.Keys, dh)
		}
	}
	return nil
}

// jwk is a JSON Web Key (RFC 7517).
type jwk struct {
	Type  string `json:"kty"`
	Curve string `json:"crv"`
	KID   string `json:"kid"`
	X     b64    `json:"x"`
	Y     b64    `json:"y"`
	D     b64    `json:"d"`
	K     b64    `json:"k"`
}

type b64 []byte

// UnmarshalJSON decodes base64url without padding.
func (b *b64) UnmarshalJSON(data []byte) error {
	var s string
	err := json.Unmarshal(data, &s)
	if err == nil {
		*b, err = base64.RawURLEncoding.DecodeString(s)
	}
	return err
}

func (k *Keys) addJWK(name string, data []byte) error {
	var j jwk
	if err := json.Unmarshal(data, &j); err != nil {
		return err
	}
	switch {
	case j.Type == "oct":
		return k.addSecret([]byte(j.KID), j.K)
	case j.Type == "OKP" && j.Curve == "Ed25519" && len(j.X) == ed25519.PublicKeySize:
		return k.addPublic(name, ed25519.PublicKey(j.X))
	case j.Type == "EC" && j.Curve == "P-256":
		if len(j.X) != 32 || len(j.Y) != 32 {
			return fmt.Errorf("a JWK of curve %q whose coordinates are not 32 bytes", j.Curve)
		}
		pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), slices.Concat([]byte{4}, j.X, j.Y))
		if err != nil {
			return err
		}
		if dh, err := ecdh.P256().NewPrivateKey(j.D); err == nil {
			k.Ring.Keys = append(k.Ring.Keys, dh)
		}
		return k.addPublic(name, pub)
	}
	return fmt.Errorf("a JWK of type %q and curve %q", j.Type, j.Curve)
}

// with returns k and one more key.
func (k *Keys) with(name string, key *cose.Key) *Keys {
	out := &Keys{Public: slices.Clone(k.Public), MAC: k.MAC, Ring: k.Ring, names: maps.Clone(k.names)}
	out.Add(name, key)
	return out
}
