// SPDX-License-Identifier: Apache-2.0

package tpm

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha256"
	"errors"
	"fmt"
	"math/big"

	"github.com/google/go-tpm/tpm2"
)

// attestationKey is an attestation key whose public area was read.
type attestationKey struct {
	public crypto.PublicKey // *ecdsa.PublicKey on P-256, or *rsa.PublicKey of 2048 to 4096 bits
	scheme tpm2.TPMAlgID    // ECDSA, RSASSA or RSAPSS, with SHA-256
}

// parseKey reads the public area of an attestation key: named by SHA-256, restricted, signing and nothing else, made by its TPM and
// bound to it, with one signature scheme (Part 1, section 25.1.1, and Part 2, section 8.3).
func parseKey(data []byte) (*attestationKey, error) {
	p, err := tpm2.Unmarshal[tpm2.TPMTPublic](data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	a := p.ObjectAttributes
	switch {
	case p.NameAlg != tpm2.TPMAlgSHA256:
		return nil, fmt.Errorf("%w: its name is by algorithm 0x%x, want SHA-256", ErrKey, uint16(p.NameAlg))
	case !a.Restricted || !a.SignEncrypt || a.Decrypt:
		return nil, fmt.Errorf("%w: it is not a restricted signing key, so it signs what its TPM has not made", ErrKey)
	case !a.FixedTPM || !a.FixedParent || !a.SensitiveDataOrigin:
		return nil, fmt.Errorf("%w: it may exist outside its TPM", ErrKey)
	}
	var k *attestationKey
	switch p.Type {
	case tpm2.TPMAlgECC:
		k, err = eccKey(p)
	case tpm2.TPMAlgRSA:
		k, err = rsaKey(p)
	default:
		err = fmt.Errorf("type 0x%x, want ECC or RSA", uint16(p.Type))
	}
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrKey, err)
	}
	if !bytes.Equal(tpm2.Marshal(p), data) {
		return nil, fmt.Errorf("%w: the public area has another encoding", ErrMalformed)
	}
	return k, nil
}

func eccKey(p *tpm2.TPMTPublic) (*attestationKey, error) {
	parms, err := p.Parameters.ECCDetail()
	if err != nil {
		return nil, err
	}
	point, err := p.Unique.ECC()
	if err != nil {
		return nil, err
	}
	scheme, err := parms.Scheme.Details.ECDSA()
	if err != nil || parms.Scheme.Scheme != tpm2.TPMAlgECDSA || scheme.HashAlg != tpm2.TPMAlgSHA256 ||
		parms.CurveID != tpm2.TPMECCNistP256 || parms.Symmetric.Algorithm != tpm2.TPMAlgNull || parms.KDF.Scheme != tpm2.TPMAlgNull {
		return nil, errors.New("not for ECDSA on P-256 with SHA-256")
	}
	if len(point.X.Buffer) > 32 || len(point.Y.Buffer) > 32 {
		return nil, errors.New("a coordinate is too long")
	}
	raw := make([]byte, 65)
	raw[0] = 4
	copy(raw[33-len(point.X.Buffer):], point.X.Buffer)
	copy(raw[65-len(point.Y.Buffer):], point.Y.Buffer)
	public, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), raw)
	if err != nil {
		return nil, err
	}
	return &attestationKey{public, tpm2.TPMAlgECDSA}, nil
}

// exponent is the public exponent that a TPM writes as 0, being the only one that all of them have (Part 2, section 12.2.3.5).
const exponent = 65537

func rsaKey(p *tpm2.TPMTPublic) (*attestationKey, error) {
	parms, err := p.Parameters.RSADetail()
	if err != nil {
		return nil, err
	}
	modulus, err := p.Unique.RSA()
	if err != nil {
		return nil, err
	}
	var hash tpm2.TPMAlgID
	switch parms.Scheme.Scheme {
	case tpm2.TPMAlgRSASSA:
		if s, err := parms.Scheme.Details.RSASSA(); err == nil {
			hash = s.HashAlg
		}
	case tpm2.TPMAlgRSAPSS:
		if s, err := parms.Scheme.Details.RSAPSS(); err == nil {
			hash = s.HashAlg
		}
	}
	if hash != tpm2.TPMAlgSHA256 || parms.Symmetric.Algorithm != tpm2.TPMAlgNull {
		return nil, errors.New("not for RSASSA or RSAPSS with SHA-256")
	}
	if parms.Exponent != 0 && parms.Exponent != exponent {
		return nil, fmt.Errorf("public exponent %d, want %d", parms.Exponent, exponent)
	}
	n := new(big.Int).SetBytes(modulus.Buffer)
	if bits := n.BitLen(); bits != int(parms.KeyBits) || len(modulus.Buffer)*8 != bits || bits < 2048 || bits > 4096 {
		return nil, fmt.Errorf("a modulus of %d bits, want 2048 to 4096 as stated", bits)
	}
	return &attestationKey{&rsa.PublicKey{N: n, E: exponent}, parms.Scheme.Scheme}, nil
}

// verify checks a TPMT_SIGNATURE over the SHA-256 of message.
func (k *attestationKey) verify(message, signature []byte) error {
	s, err := tpm2.Unmarshal[tpm2.TPMTSignature](signature)
	if err != nil {
		return fmt.Errorf("%w: signature: %w", ErrMalformed, err)
	}
	if s.SigAlg != k.scheme {
		return fmt.Errorf("%w: a signature by algorithm 0x%x, the key is for 0x%x", ErrSignature, uint16(s.SigAlg), uint16(k.scheme))
	}
	if !bytes.Equal(tpm2.Marshal(s), signature) {
		return fmt.Errorf("%w: the signature has another encoding", ErrMalformed)
	}
	digest := sha256.Sum256(message)
	valid := false
	switch public := k.public.(type) {
	case *ecdsa.PublicKey:
		sig, err := s.Signature.ECDSA()
		valid = err == nil && sig.Hash == tpm2.TPMAlgSHA256 &&
			ecdsa.Verify(public, digest[:], new(big.Int).SetBytes(sig.SignatureR.Buffer), new(big.Int).SetBytes(sig.SignatureS.Buffer))
	case *rsa.PublicKey:
		valid = verifyRSA(public, &s.Signature, k.scheme, digest[:])
	}
	if !valid {
		return ErrSignature
	}
	return nil
}

func verifyRSA(public *rsa.PublicKey, s *tpm2.TPMUSignature, scheme tpm2.TPMAlgID, digest []byte) bool {
	if scheme == tpm2.TPMAlgRSASSA {
		sig, err := s.RSASSA()
		return err == nil && sig.Hash == tpm2.TPMAlgSHA256 && rsa.VerifyPKCS1v15(public, crypto.SHA256, digest, sig.Sig.Buffer) == nil
	}
	sig, err := s.RSAPSS()
	// The salt of a TPM has the length of the digest, or the largest that fits (Part 1, section B.7).
	return err == nil && sig.Hash == tpm2.TPMAlgSHA256 &&
		rsa.VerifyPSS(public, crypto.SHA256, digest, sig.Sig.Buffer, &rsa.PSSOptions{SaltLength: rsa.PSSSaltLengthAuto}) == nil
}
