// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"fmt"
	"io"

	"sealift/cose/wire"
)

// CBOR tags of RFC 9052 section 2.
const (
	tagEncrypt0 = 16
	tagMac0     = 17
	tagSign1    = 18
	tagEncrypt  = 96
	tagSign     = 98
)

// Contexts of the structures that are signed (RFC 9052 section 4.4) or authenticated (section 6.3).
const (
	contextSign1 = "Signature1"
	contextSign  = "Signature"
	contextMac0  = "MAC0"
)

// Headers are the optional parameters of a signed message.
type Headers struct {
	// ContentType is a media type (string) or a CoAP Content-Format (int, uint16, uint64); it is protected.
	ContentType any
	// X5Chain is the signer's certificate and its issuers in DER, the signer's first (RFC 9360).
	X5Chain [][]byte
}

// Sign1 makes a tagged COSE_Sign1: alg is protected, and the thumbprint of the key stands as kid in the unprotected header.
// A nil rand asks for a deterministic signature, see NewSigner.
func Sign1(rand io.Reader, s Signer, payload []byte) ([]byte, error) {
	return sign1(rand, s, Headers{}, payload, false)
}

// Sign1With is Sign1 with more headers.
func Sign1With(rand io.Reader, s Signer, h Headers, payload []byte) ([]byte, error) {
	return sign1(rand, s, h, payload, false)
}

// Sign1Detached is Sign1 with null in the place of the payload, which travels elsewhere.
func Sign1Detached(rand io.Reader, s Signer, payload []byte) ([]byte, error) {
	return sign1(rand, s, Headers{}, payload, true)
}

func sign1(rand io.Reader, s Signer, h Headers, payload []byte, detached bool) ([]byte, error) {
	w := headerWriter{s.Algorithm(), h.ContentType, s.Key().KID(), h.X5Chain}
	protected, err := w.protected()
	if err != nil {
		return nil, err
	}
	sig, err := s.Sign(rand, toBeSigned(contextSign1, protected, nil, nil, payload))
	if err != nil {
		return nil, fmt.Errorf("signing with %v: %w", s.Algorithm(), err)
	}
	size := len(payload)
	if detached {
		size = 0
	}
	b := make([]byte, 0, size+len(sig)+128)
	b = wire.AppendArray(wire.AppendTag(b, tagSign1), 4)
	b = w.appendUnprotected(wire.AppendBytes(b, protected))
	b = appendPayload(b, payload, detached)
	return wire.AppendBytes(b, sig), nil
}

// SignMulti makes a tagged COSE_Sign: each signer adds a signature with its own alg and kid.
func SignMulti(rand io.Reader, ss []Signer, payload []byte) ([]byte, error) {
	return SignMultiCertified(rand, ss, nil, payload)
}

// SignMultiCertified is SignMulti with certificates beside the signatures: chains holds, for the algorithm of a signer, what
// Headers.X5Chain would.
func SignMultiCertified(rand io.Reader, ss []Signer, chains map[Algorithm][][]byte, payload []byte) ([]byte, error) {
	if len(ss) == 0 || len(ss) > maxSignatures {
		return nil, fmt.Errorf("%w: %d signers", ErrUnsupported, len(ss))
	}
	b := make([]byte, 0, len(payload)+len(ss)*128+16)
	b = wire.AppendArray(wire.AppendTag(b, tagSign), 4)
	b = wire.AppendMap(wire.AppendBytes(b, nil), 0)
	b = wire.AppendArray(wire.AppendBytes(b, payload), len(ss))
	for _, s := range ss {
		w := headerWriter{alg: s.Algorithm(), kid: s.Key().KID(), x5chain: chains[s.Algorithm()]}
		protected, err := w.protected()
		if err != nil {
			return nil, err
		}
		sig, err := s.Sign(rand, toBeSigned(contextSign, nil, protected, nil, payload))
		if err != nil {
			return nil, fmt.Errorf("signing with %v: %w", s.Algorithm(), err)
		}
		b = w.appendUnprotected(wire.AppendBytes(wire.AppendArray(b, 3), protected))
		b = wire.AppendBytes(b, sig)
	}
	return b, nil
}

func appendPayload(b, payload []byte, detached bool) []byte {
	if detached {
		return wire.AppendNull(b)
	}
	return wire.AppendBytes(b, payload)
}

// toBeSigned builds the Sig_structure. sign is the signer's protected header, only for COSE_Sign.
func toBeSigned(context string, body, sign, aad, payload []byte) []byte {
	b := toBeSignedHead(context, body, sign, aad, len(payload))
	return append(b, payload...)
}

// toBeSignedHead is the Sig_structure up to where the payload's bytes begin, with room for them.
func toBeSignedHead(context string, body, sign, aad []byte, payload int) []byte {
	b := make([]byte, 0, payload+len(body)+len(sign)+len(aad)+64)
	if context == contextSign {
		b = wire.AppendText(wire.AppendArray(b, 5), context)
		b = wire.AppendBytes(wire.AppendBytes(b, body), sign)
	} else {
		b = wire.AppendText(wire.AppendArray(b, 4), context)
		b = wire.AppendBytes(b, body)
	}
	return wire.AppendBytesHead(wire.AppendBytes(b, aad), payload)
}
