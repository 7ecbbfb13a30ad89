// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
)

const signatureSize = 64 // of both algorithms: r and s of 32 bytes each, or RFC 8032's R and S

// Signer makes signatures with one key and one algorithm. Implementations MUST be safe for concurrent use.
type Signer interface {
	// Algorithm is what stands in the protected header.
	Algorithm() Algorithm
	// Key is the public key; its thumbprint becomes the kid.
	Key() *Key
	// Sign signs tbs itself, not a digest of it, and returns the signature in COSE's form.
	Sign(rand io.Reader, tbs []byte) ([]byte, error)
}

// NewSigner makes a Signer of a private key: ESP256 for one on P-256, Ed25519 for an Ed25519 key. Any crypto.Signer will do,
// so the key may live in hardware. With a nil rand, ECDSA signatures are deterministic where the key allows (RFC 6979).
func NewSigner(priv crypto.Signer) (Signer, error) {
	if priv == nil {
		return nil, fmt.Errorf("%w: no private key", ErrNoKey)
	}
	key, err := NewKey(priv.Public())
	if err != nil {
		return nil, fmt.Errorf("making a signer: %w", err)
	}
	return &signer{priv, key}, nil
}

type signer struct {
	priv crypto.Signer
	key  *Key
}

func (s *signer) Algorithm() Algorithm { return s.key.SignatureAlgorithm() }
func (s *signer) Key() *Key            { return s.key }

func (s *signer) Sign(rand io.Reader, tbs []byte) ([]byte, error) {
	if s.key.kty == ktyOKP {
		return s.priv.Sign(rand, tbs, crypto.Hash(0))
	}
	digest := sha256.Sum256(tbs)
	der, err := s.priv.Sign(rand, digest[:], crypto.SHA256)
	if err != nil {
		return nil, err
	}
	return rawFromDER(der)
}

// rawFromDER turns the ASN.1 sequence of r and s into COSE's fixed-size form (RFC 9053 section 2.1).
func rawFromDER(der []byte) ([]byte, error) {
	raw := make([]byte, signatureSize)
	if len(der) < 2 || der[0] != 0x30 || int(der[1]) != len(der)-2 {
		return nil, malformedf("ECDSA signature is no ASN.1 sequence")
	}
	rest := der[2:]
	for half := range 2 {
		if len(rest) < 2 || rest[0] != 0x02 || int(rest[1]) > len(rest)-2 {
			return nil, malformedf("ECDSA signature holds no integer")
		}
		n := rest[2 : 2+int(rest[1])]
		rest = rest[2+len(n):]
		for len(n) > 0 && n[0] == 0 {
			n = n[1:]
		}
		if len(n) > signatureSize/2 {
			return nil, malformedf("ECDSA signature is too long")
		}
		copy(raw[(half+1)*signatureSize/2-len(n):], n)
	}
	if len(rest) != 0 {
		return nil, malformedf("bytes after an ECDSA signature")
	}
	return raw, nil
}

// derFromRaw is the reverse. raw has signatureSize bytes.
func derFromRaw(raw []byte) []byte {
	der := make([]byte, 2, signatureSize+8)
	for _, n := range [][]byte{raw[:signatureSize/2], raw[signatureSize/2:]} {
		for len(n) > 1 && n[0] == 0 {
			n = n[1:]
		}
		if n[0]&0x80 != 0 {
			der = append(der, 0x02, byte(len(n)+1), 0)
		} else {
			der = append(der, 0x02, byte(len(n)))
		}
		der = append(der, n...)
	}
	der[0], der[1] = 0x30, byte(len(der)-2)
	return der
}

// GenerateKey makes a private key for ESP256 or Ed25519.
func GenerateKey(alg Algorithm, rand io.Reader) (crypto.Signer, error) {
	switch alg {
	case AlgESP256:
		return ecdsa.GenerateKey(elliptic.P256(), rand)
	case AlgEd25519:
		_, priv, err := ed25519.GenerateKey(rand)
		return priv, err
	}
	return nil, fmt.Errorf("%w: making a key for %v", ErrUnsupported, alg)
}

const pemPrivateKey = "PRIVATE KEY"

// MarshalPrivatePEM encodes a private key as PKCS #8 in PEM.
func MarshalPrivatePEM(priv crypto.Signer) ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(priv)
	if err != nil {
		return nil, fmt.Errorf("encoding a private key: %w", err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: pemPrivateKey, Bytes: der}), nil
}

// ParsePrivatePEM reads a private key in PEM: PKCS #8, or the older SEC 1 form of EC keys, with or without their parameters
// in front. The key must be one that NewSigner takes.
func ParsePrivatePEM(data []byte) (crypto.Signer, error) {
	block, rest := pem.Decode(data)
	if block != nil && block.Type == "EC PARAMETERS" {
		block, _ = pem.Decode(rest)
	}
	if block == nil {
		return nil, fmt.Errorf("reading a private key: %w: no PEM block", ErrMalformed)
	}
	var key any
	var err error
	switch block.Type {
	case pemPrivateKey:
		key, err = x509.ParsePKCS8PrivateKey(block.Bytes)
	case "EC PRIVATE KEY":
		key, err = x509.ParseECPrivateKey(block.Bytes)
	default:
		return nil, fmt.Errorf("reading a private key: %w: PEM block %q", ErrUnsupported, block.Type)
	}
	if err != nil {
		return nil, fmt.Errorf("reading a private key: %w", malformed(err))
	}
	priv, ok := key.(crypto.Signer)
	if !ok {
		return nil, fmt.Errorf("reading a private key: %w: %T cannot sign", ErrUnsupported, key)
	}
	if _, err := NewKey(priv.Public()); err != nil {
		return nil, fmt.Errorf("reading a private key: %w", err)
	}
	return priv, nil
}
