// SPDX-License-Identifier: Apache-2.0

package cose

import "strconv"

// Algorithm is a number of the IANA registry "COSE Algorithms".
type Algorithm int64

// The algorithms of the SUIT profiles (suit-mti) and of the TEEP cipher suites, with the older names that peers still use.
const (
	AlgESP256           Algorithm = -9  // ECDSA with P-256 and SHA-256, RFC 9864
	AlgEd25519          Algorithm = -19 // RFC 9864
	AlgES256            Algorithm = -7  // polymorphic; only with VerifyOptions.Legacy
	AlgEdDSA            Algorithm = -8  // polymorphic; only with VerifyOptions.Legacy
	AlgHMAC256          Algorithm = 5   // HMAC 256/256, RFC 9053 section 3.1
	AlgSHA256           Algorithm = -16 // RFC 9054
	AlgA128KW           Algorithm = -3  // AES key wrap, RFC 9053 section 6.2.1
	AlgA192KW           Algorithm = -4
	AlgA256KW           Algorithm = -5
	AlgECDHESA128KW     Algorithm = -29    // ECDH-ES + A128KW, RFC 9053 section 6.4.1
	AlgHSSLMS           Algorithm = -46    // RFC 8778; known by name only, see package comment
	AlgA128GCM          Algorithm = 1      // RFC 9053 section 4.1
	AlgA256GCM          Algorithm = 3      // RFC 9053 section 4.1
	AlgA128CTR          Algorithm = -65534 // RFC 9459
	AlgA256CTR          Algorithm = -65532 // RFC 9459
	AlgChaCha20Poly1305 Algorithm = 24     // RFC 9053 section 4.3
)

var algorithmNames = map[Algorithm]string{
	AlgESP256: "ESP256", AlgEd25519: "Ed25519", AlgES256: "ES256", AlgEdDSA: "EdDSA", AlgHMAC256: "HMAC 256/256",
	AlgSHA256: "SHA-256", AlgA128KW: "A128KW", AlgA192KW: "A192KW", AlgA256KW: "A256KW", AlgHSSLMS: "HSS-LMS",
	AlgECDHESA128KW: "ECDH-ES+A128KW", AlgA128GCM: "A128GCM",
	AlgA256GCM: "A256GCM", AlgA128CTR: "A128CTR", AlgA256CTR: "A256CTR", AlgChaCha20Poly1305: "ChaCha20/Poly1305",
}

// String gives the registered name, or the number where this package has none.
func (a Algorithm) String() string {
	if name, ok := algorithmNames[a]; ok {
		return name
	}
	return "COSE algorithm " + strconv.FormatInt(int64(a), 10)
}

// specific maps the polymorphic algorithms to the fully specified ones that do the same with the keys this package has.
func (a Algorithm) specific() Algorithm {
	switch a {
	case AlgES256:
		return AlgESP256
	case AlgEdDSA:
		return AlgEd25519
	}
	return a
}

// agreement reports whether a is one of RFC 9053's key agreements.
func (a Algorithm) agreement() bool { return a >= -34 && a <= -25 }
