// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	_ "crypto/sha256" // for crypto.Hash
	_ "crypto/sha512"
	"encoding/asn1"
	"fmt"
	"io"
	"math/big"

	"sealift/cose"
)

// COSE algorithms of CCA tokens, RFC 9053 section 2.1. Package cose has no P-384, which TEEP does not use.
const (
	algES256 = -7
	algES384 = -35
)

const tagSign1 = 0xd2 // COSE_Sign1, tag 18

// sign1 is a COSE_Sign1 that was read and not verified.
type sign1 struct {
	protected []byte
	alg       int64
	payload   []byte
	signature []byte
}

type wireSign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cose.RawMessage
	Payload     []byte
	Signature   []byte
}

// parseSign1 reads a tagged COSE_Sign1 whose only header is the algorithm. Nothing outside of the signature is allowed.
func parseSign1(what string, data []byte) (*sign1, error) {
	if len(data) == 0 || data[0] != tagSign1 {
		return nil, fmt.Errorf("%w: %s token is no tagged COSE_Sign1", ErrMalformed, what)
	}
	var w wireSign1
	if err := cose.Unmarshal(data[1:], &w); err != nil {
		return nil, fmt.Errorf("%w: %s token: %w", ErrMalformed, what, err)
	}
	var header map[int64]int64
	if err := cose.Unmarshal(w.Protected, &header); err != nil {
		return nil, fmt.Errorf("%w: %s token: protected header: %w", ErrMalformed, what, err)
	}
	alg, ok := header[1]
	if !ok || len(header) != 1 || !bytes.Equal(w.Unprotected, []byte{0xa0}) {
		return nil, fmt.Errorf("%w: %s token: want the algorithm as the only header, protected", ErrMalformed, what)
	}
	if alg != algES256 && alg != algES384 {
		return nil, fmt.Errorf("%w: %s token: %d", ErrAlgorithm, what, alg)
	}
	return &sign1{protected: w.Protected, alg: alg, payload: w.Payload, signature: w.Signature}, nil
}

// parameters returns curve, hash and coordinate size of an algorithm.
func parameters(alg int64) (elliptic.Curve, crypto.Hash, int) {
	if alg == algES256 {
		return elliptic.P256(), crypto.SHA256, 32
	}
	return elliptic.P384(), crypto.SHA384, 48
}

// digest hashes the Sig_structure, RFC 9052 section 4.4.
func digest(h crypto.Hash, protected, payload []byte) []byte {
	tbs := cose.MustMarshal([]any{"Signature1", protected, []byte{}, payload})
	hash := h.New()
	hash.Write(tbs)
	return hash.Sum(nil)
}

func (s *sign1) verify(key *ecdsa.PublicKey) bool {
	curve, h, size := parameters(s.alg)
	if key.Curve != curve || len(s.signature) != 2*size {
		return false
	}
	r, t := new(big.Int).SetBytes(s.signature[:size]), new(big.Int).SetBytes(s.signature[size:])
	return ecdsa.Verify(key, digest(h, s.protected, s.payload), r, t)
}

// signToken makes a COSE_Sign1 with a P-256 or P-384 key.
func signToken(rand io.Reader, key crypto.Signer, payload []byte) ([]byte, error) {
	pub, ok := key.Public().(*ecdsa.PublicKey)
	if !ok || pub.Curve != elliptic.P256() && pub.Curve != elliptic.P384() {
		return nil, fmt.Errorf("%w: %T", ErrAlgorithm, key.Public())
	}
	alg := int64(algES384)
	if pub.Curve == elliptic.P256() {
		alg = algES256
	}
	_, h, size := parameters(alg)
	protected := cose.MustMarshal(map[int64]int64{1: alg})
	der, err := key.Sign(rand, digest(h, protected, payload), h)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, fmt.Errorf("signer's output: %w", err)
	}
	signature := make([]byte, 2*size)
	rs.R.FillBytes(signature[:size])
	rs.S.FillBytes(signature[size:])
	body := cose.MustMarshal(wireSign1{Protected: protected, Unprotected: cose.RawMessage{0xa0}, Payload: payload, Signature: signature})
	return append([]byte{tagSign1}, body...), nil
}
