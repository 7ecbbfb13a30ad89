// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"

	"sealift/cose"
)

// ErrKey says that a file does not hold the key that is wanted.
var ErrKey = errors.New("conform: key")

// COSE_Key labels (RFC 9053 section 7).
const (
	keyType    = 1
	keyCurve   = -1
	keyPrivate = -4
	curveP256  = 1
)

// ParseSigner reads a private key: PEM (PKCS #8 or SEC 1), or a COSE_Key with its private member.
func ParseSigner(data []byte) (cose.Signer, error) {
	key, err := parsePrivate(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return cose.NewSigner(key)
}

func parsePrivate(data []byte) (crypto.Signer, error) {
	if isPEM(data) {
		key, err := cose.ParsePrivatePEM(data)
		for rest := data; err != nil; { // PKCS #8 under another label, behind curve parameters, as libcsuit's key is
			var block *pem.Block
			if block, rest = pem.Decode(rest); block == nil {
				break
			}
			if again, e := cose.ParsePrivatePEM(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: block.Bytes})); e == nil {
				return again, nil
			}
		}
		return key, err
	}
	var members map[int64]any
	if err := cose.Unmarshal(data, &members); err != nil {
		return nil, err
	}
	d, ok := members[keyPrivate].([]byte)
	if !ok {
		return nil, errors.New("a COSE_Key without its private member")
	}
	switch members[keyType] {
	case int64(1):
		if len(d) != ed25519.SeedSize {
			return nil, errors.New("an Ed25519 key of another size")
		}
		return ed25519.NewKeyFromSeed(d), nil
	case int64(2):
		if members[keyCurve] != int64(curveP256) {
			return nil, errors.New("a curve other than P-256")
		}
		return ecdsa.ParseRawPrivateKey(elliptic.P256(), d)
	}
	return nil, fmt.Errorf("key type %v", members[keyType])
}

func isPEM(data []byte) bool { return bytes.HasPrefix(bytes.TrimSpace(data), []byte("-----BEGIN")) }

// ParsePublic reads a public key: PEM (PUBLIC KEY, CERTIFICATE, or a private key, of which the public half is taken), a COSE_Key with or
// without its private member, or the base64url text of a COSE_Key that sealift prints.
func ParsePublic(data []byte) (*cose.Key, error) {
	if isPEM(data) {
		return parsePublicPEM(data)
	}
	if key, err := cose.ParseKey(data); err == nil {
		return key, nil
	}
	if s, err := ParseSigner(data); err == nil {
		return s.Key(), nil
	}
	key := new(cose.Key)
	if err := key.UnmarshalText(bytes.TrimSpace(data)); err != nil {
		return nil, fmt.Errorf("%w: neither PEM nor a COSE_Key", ErrKey)
	}
	return key, nil
}

func parsePublicPEM(data []byte) (*cose.Key, error) {
	block, _ := pem.Decode(data)
	if block == nil {
		return nil, fmt.Errorf("%w: broken PEM", ErrKey)
	}
	var pub any
	var err error
	switch block.Type {
	case "PUBLIC KEY":
		pub, err = x509.ParsePKIXPublicKey(block.Bytes)
	case "CERTIFICATE":
		var c *x509.Certificate
		if c, err = x509.ParseCertificate(block.Bytes); err == nil {
			pub = c.PublicKey
		}
	default:
		var s cose.Signer
		if s, err = ParseSigner(data); err == nil {
			return s.Key(), nil
		}
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	return cose.NewKey(pub)
}
