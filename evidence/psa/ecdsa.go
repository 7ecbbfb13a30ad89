// SPDX-License-Identifier: Apache-2.0

package psa

import (
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

// The algorithms that a receiver has to accept (RFC 9783 section 5.2), under their names of RFC 9053 section 2.1 and under the
// fully specified ones of RFC 9864. Package cose has only those of TEEP, on P-256.
const (
	algES384  cose.Algorithm = -35
	algES512  cose.Algorithm = -36
	algESP384 cose.Algorithm = -51
	algESP512 cose.Algorithm = -52
)

// parameters of an algorithm. A name that leaves the curve open means the one that RFC 9783 pairs it with.
type parameters struct {
	curve elliptic.Curve
	hash  crypto.Hash
	size  int // of r and s, in bytes
}

var algorithms = map[cose.Algorithm]parameters{
	cose.AlgES256: {elliptic.P256(), crypto.SHA256, 32}, cose.AlgESP256: {elliptic.P256(), crypto.SHA256, 32},
	algES384: {elliptic.P384(), crypto.SHA384, 48}, algESP384: {elliptic.P384(), crypto.SHA384, 48},
	algES512: {elliptic.P521(), crypto.SHA512, 66}, algESP512: {elliptic.P521(), crypto.SHA512, 66},
}

// signAlgorithms names each curve by the identifier that RFC 9783 lists (the fully specified ones are younger).
var signAlgorithms = map[elliptic.Curve]cose.Algorithm{elliptic.P256(): cose.AlgES256, elliptic.P384(): algES384, elliptic.P521(): algES512}

// sign1 is the form of a COSE_Sign1.
type sign1 struct {
	_           struct{} `cbor:",toarray"`
	Protected   []byte
	Unprotected cose.RawMessage
	Payload     []byte
	Signature   []byte
}

// digest hashes the Sig_structure, RFC 9052 section 4.4.
func (s *sign1) digest(h crypto.Hash) []byte {
	hash := h.New()
	hash.Write(cose.MustMarshal([]any{"Signature1", s.Protected, []byte{}, s.Payload}))
	return hash.Sum(nil)
}

func (s *sign1) verify(alg cose.Algorithm, key *ecdsa.PublicKey) bool {
	p := algorithms[alg]
	if key.Curve != p.curve || len(s.Signature) != 2*p.size {
		return false
	}
	r, t := new(big.Int).SetBytes(s.Signature[:p.size]), new(big.Int).SetBytes(s.Signature[p.size:])
	return ecdsa.Verify(key, s.digest(p.hash), r, t)
}

// sign makes a tagged COSE_Sign1.
func sign(rand io.Reader, iak crypto.Signer, payload []byte) ([]byte, error) {
	pub, ok := iak.Public().(*ecdsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%w: %T", ErrAlgorithm, iak.Public())
	}
	alg, ok := signAlgorithms[pub.Curve]
	if !ok {
		return nil, fmt.Errorf("%w: curve %s", ErrAlgorithm, pub.Curve.Params().Name)
	}
	p := algorithms[alg]
	s := sign1{Protected: cose.MustMarshal(map[int64]int64{1: int64(alg)}), Unprotected: cose.RawMessage{0xa0}, Payload: payload}
	der, err := iak.Sign(rand, s.digest(p.hash), p.hash)
	if err != nil {
		return nil, err
	}
	var rs struct{ R, S *big.Int }
	if _, err := asn1.Unmarshal(der, &rs); err != nil {
		return nil, fmt.Errorf("signer's output: %w", err)
	}
	s.Signature = make([]byte, 2*p.size)
	rs.R.FillBytes(s.Signature[:p.size])
	rs.S.FillBytes(s.Signature[p.size:])
	return append([]byte{tagSign1}, cose.MustMarshal(s)...), nil
}
