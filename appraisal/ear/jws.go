// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/big"

	"sealift/appraisal/strictjson"
	"sealift/cose"
)

// signJWS returns a JWS in compact serialization (RFC 7515 section 7.1) with ES256 (RFC 7518 section 3.4).
func signJWS(rand io.Reader, signer cose.Signer, typ string, payload []byte) ([]byte, error) {
	if _, ok := signer.Key().ECDSA(); !ok {
		return nil, fmt.Errorf("%w: a JWT is signed with a P-256 key", ErrKey)
	}
	header, err := json.Marshal(struct {
		Alg string `json:"alg"`
		Typ string `json:"typ"`
	}{"ES256", typ})
	if err != nil {
		return nil, err
	}
	out := base64.RawURLEncoding.AppendEncode(nil, header)
	out = base64.RawURLEncoding.AppendEncode(append(out, '.'), payload)
	sig, err := signer.Sign(rand, out)
	if err != nil {
		return nil, fmt.Errorf("signing a JWT: %w", err)
	}
	return base64.RawURLEncoding.AppendEncode(append(out, '.'), sig), nil
}

// jws is a parsed JWS that nobody has verified.
type jws struct {
	signed, payload, signature []byte
}

// parseJWS reads the compact serialization. The only algorithm is ES256; a header that names another, is critical, or says
// anything twice is refused. Keys that a header offers are not looked at: the key is pinned.
func parseJWS(data []byte) (*jws, error) {
	parts := bytes.Split(data, []byte("."))
	if len(parts) != 3 {
		return nil, fmt.Errorf("%w: %d parts, a JWS has three", ErrMalformed, len(parts))
	}
	var decoded [3][]byte
	for i, part := range parts {
		b, err := base64.RawURLEncoding.Strict().AppendDecode(nil, part)
		if err != nil || bytes.ContainsAny(part, "\r\n") {
			return nil, fmt.Errorf("%w: part %d of the JWS is not base64url", ErrMalformed, i+1)
		}
		decoded[i] = b
	}
	header, err := object(decoded[0])
	if err != nil {
		return nil, fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	var alg string
	if err := json.Unmarshal(header["alg"], &alg); err != nil || alg != "ES256" {
		return nil, fmt.Errorf("%w: alg is %s, want ES256", ErrMalformed, header["alg"])
	}
	for _, name := range []string{"crit", "b64", "enc", "zip"} {
		if header[name] != nil {
			return nil, fmt.Errorf("%w: the header has %q", ErrMalformed, name)
		}
	}
	if len(decoded[2]) != 64 {
		return nil, fmt.Errorf("%w: a signature of %d bytes, ES256 has 64", ErrMalformed, len(decoded[2]))
	}
	return &jws{signed: data[:len(parts[0])+1+len(parts[1])], payload: decoded[1], signature: decoded[2]}, nil
}

// verify checks the signature with one of the keys.
func (j *jws) verify(keys []*cose.Key) (*cose.Key, error) {
	sum := sha256.Sum256(j.signed)
	r, s := new(big.Int).SetBytes(j.signature[:32]), new(big.Int).SetBytes(j.signature[32:])
	for _, k := range keys {
		if pub, ok := k.ECDSA(); ok && ecdsa.Verify(pub, sum[:], r, s) {
			return k, nil
		}
	}
	return nil, ErrSignature
}

// object reads a JSON object strictly: one object, no member twice, at any depth.
func object(data []byte) (map[string]json.RawMessage, error) {
	if err := strictjson.Check(data, nil); err != nil {
		return nil, err
	}
	var m map[string]json.RawMessage
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, err
	}
	if m == nil {
		return nil, errors.New("no object")
	}
	return m, nil
}
