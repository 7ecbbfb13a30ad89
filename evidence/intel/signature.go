// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"encoding/pem"
	"fmt"
	"math/big"

	"sealift/evidence"
)

// Sizes and numbers of a quote's signature data ("DCAP Quote Library API", appendix A.4; "TDX DCAP Quote", appendix A.3).
const (
	keyType        = 2 // ECDSA-256-with-P-256: att_key_type of a quote's header
	certChainType  = 5 // certification data: PCK certificate chain in PEM
	certQEType     = 6 // certification data: QE report, its signature, and certification data of its own
	signatureSize  = 64
	maxAuthData    = 4096
	maxChainBytes  = 16 << 10
	maxSignature   = 32 << 10
	qeVendorString = "939a7233f79c4ca9940a0db3957f0607"
)

// AttestationKeyType is the only att_key_type of a quote's header that this package verifies: ECDSA with P-256.
const AttestationKeyType = keyType

// QEVendorIntel is the QE vendor ID of Intel's quoting enclaves, in hexadecimal, as it stands in a quote's header.
const QEVendorIntel = qeVendorString

// SignatureData is the signature of a quote with everything that vouches for it. It is what follows the signed part, the
// header and the body, and its own 32-bit length. Nothing in it is verified.
type SignatureData struct {
	Signature      [signatureSize]byte // r and s, big-endian, over the signed part
	AttestationKey [signatureSize]byte // x and y, big-endian
	QEReport       EnclaveReport
	QESignature    [signatureSize]byte // by the PCK, over the QE's report
	QEAuthData     []byte
	Chain          []byte // PCK certificate chain, PEM, as it stands in the quote
}

// reader reads little-endian fields; after the end it gives zeros and remembers that.
type reader struct {
	data  []byte
	short bool
}

func (r *reader) next(n int) []byte {
	if n > len(r.data) {
		r.short, r.data = true, nil
		return make([]byte, min(n, ReportSize))
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) uint16() int { return int(binary.LittleEndian.Uint16(r.next(2))) }

func (r *reader) uint32() int { return int(binary.LittleEndian.Uint32(r.next(4))) }

// ParseSignatureV3 reads the signature data of quotes of version 3 (SGX): the certification data follows the QE's
// authentication data.
func ParseSignatureV3(data []byte) (*SignatureData, error) {
	return parseSignature(data, false)
}

// ParseSignatureV4 reads the signature data of quotes of versions 4 and 5: the QE's report and what follows are nested in
// certification data of type 6.
func ParseSignatureV4(data []byte) (*SignatureData, error) {
	return parseSignature(data, true)
}

// The form is exact: every length matches, nothing follows.
func parseSignature(data []byte, nested bool) (*SignatureData, error) {
	if len(data) > maxSignature {
		return nil, malformed("signature data of %d bytes", len(data))
	}
	r := &reader{data: data}
	s := &SignatureData{}
	copy(s.Signature[:], r.next(signatureSize))
	copy(s.AttestationKey[:], r.next(signatureSize))
	if nested {
		kind, size := r.uint16(), r.uint32()
		if r.short || kind != certQEType || size != len(r.data) {
			return nil, malformed("certification data of type %d with %d bytes, want type %d with the %d that follow", kind, size,
				certQEType, len(r.data))
		}
	}
	report := r.next(ReportSize)
	copy(s.QESignature[:], r.next(signatureSize))
	size := r.uint16()
	if r.short || size > maxAuthData || size > len(r.data) {
		return nil, malformed("signature data ends within the QE's report or authentication data")
	}
	s.QEAuthData = bytes.Clone(r.next(size))
	kind, size := r.uint16(), r.uint32()
	if r.short || kind != certChainType || size != len(r.data) || size > maxChainBytes {
		return nil, malformed("certification data of type %d with %d bytes, want type %d (certificate chain) with the %d that follow",
			kind, size, certChainType, len(r.data))
	}
	s.Chain = bytes.Clone(r.data)
	qe, err := ParseEnclaveReport(report)
	if err != nil {
		return nil, fmt.Errorf("QE report: %w", err)
	}
	s.QEReport = *qe
	return s, nil
}

// MarshalV3 returns the bytes that [ParseSignatureV3] reads.
func (s *SignatureData) MarshalV3() []byte {
	return append(append(bytes.Clone(s.Signature[:]), s.AttestationKey[:]...), s.marshalQE()...)
}

// MarshalV4 returns the bytes that [ParseSignatureV4] reads.
func (s *SignatureData) MarshalV4() []byte {
	qe := s.marshalQE()
	out := append(bytes.Clone(s.Signature[:]), s.AttestationKey[:]...)
	out = binary.LittleEndian.AppendUint16(out, certQEType)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(qe)))
	return append(out, qe...)
}

func (s *SignatureData) marshalQE() []byte {
	out := append(s.QEReport.Marshal(), s.QESignature[:]...)
	out = binary.LittleEndian.AppendUint16(out, uint16(len(s.QEAuthData)))
	out = append(out, s.QEAuthData...)
	out = binary.LittleEndian.AppendUint16(out, certChainType)
	out = binary.LittleEndian.AppendUint32(out, uint32(len(s.Chain)))
	return append(out, s.Chain...)
}

// Certificates returns the chain of the certification data in DER, leaf first. It takes three PEM blocks and, behind
// them, white space and one zero byte, which Intel's library writes; nothing else.
func (s *SignatureData) Certificates() ([][]byte, error) {
	return parsePEM(bytes.TrimSuffix(s.Chain, []byte{0}), 3)
}

// parsePEM reads exactly n certificates and nothing between or behind them but white space.
func parsePEM(data []byte, n int) ([][]byte, error) {
	var out [][]byte
	for len(bytes.TrimSpace(data)) > 0 {
		data = bytes.TrimLeft(data, " \t\r\n")
		if !bytes.HasPrefix(data, []byte("-----BEGIN CERTIFICATE-----")) || len(out) == n {
			return nil, malformed("certificate chain: want %d certificates in PEM and nothing else", n)
		}
		block, rest := pem.Decode(data)
		if block == nil || len(block.Headers) > 0 ||
			!bytes.Equal(dense(data[:len(data)-len(rest)]), dense(pem.EncodeToMemory(block))) {
			return nil, malformed("certificate chain: certificate %d is no PEM", len(out))
		}
		out, data = append(out, block.Bytes), rest
	}
	if len(out) != n {
		return nil, malformed("certificate chain: %d certificates, want %d", len(out), n)
	}
	return out, nil
}

// dense returns text without white space.
func dense(text []byte) []byte { return bytes.Join(bytes.Fields(text), nil) }

// Verify checks everything between the signed part of a quote and a verified PCK: the PCK's signature over the QE's
// report, the report's hash of the attestation key, and that key's signature over the signed part. Whether the QE is one
// of Intel's is a question for the collateral ([VerifiedCollateral.Evaluate]).
func (s *SignatureData) Verify(signed []byte, pck *PCK) error {
	var all []error
	wrong := func(sentinel error, claim, want, got, source string) {
		p := problem(evidence.CodeSignature, sentinel, claim, want, got, source)
		p.Hint = "the quote was changed on the way, or put together of parts that do not belong together"
		all = append(all, p)
	}
	if !verifyP256(pck.Cert.PublicKey.(*ecdsa.PublicKey), s.QEReport.Marshal(), &s.QESignature) {
		wrong(ErrSignature, "signature of the QE report", "a signature by the PCK", "one that does not verify", "the PCK certificate")
	}
	want := s.keyHash()
	if !bytes.Equal(want[:], s.QEReport.ReportData[:]) {
		wrong(ErrQEReport, "REPORTDATA of the QE report", fmt.Sprintf("%x", want[:32]), fmt.Sprintf("%x", s.QEReport.ReportData[:]),
			"SHA-256 of attestation key and authentication data in the quote")
	}
	key, err := publicKey(&s.AttestationKey)
	if err != nil || !verifyP256(key, signed, &s.Signature) {
		wrong(ErrSignature, "signature of the quote", "a signature by the attestation key", "one that does not verify",
			"the attestation key in the quote")
	}
	return join(all...)
}

// keyHash is what the QE's report says of the attestation key: SHA-256 of key and authentication data, then zeros.
func (s *SignatureData) keyHash() (out [64]byte) {
	sum := sha256.Sum256(append(bytes.Clone(s.AttestationKey[:]), s.QEAuthData...))
	copy(out[:], sum[:])
	return out
}

// publicKey reads a point; it must lie on the curve.
func publicKey(raw *[signatureSize]byte) (*ecdsa.PublicKey, error) {
	return ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append([]byte{4}, raw[:]...))
}

func verifyP256(key *ecdsa.PublicKey, message []byte, signature *[signatureSize]byte) bool {
	sum := sha256.Sum256(message)
	r, s := new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])
	return ecdsa.Verify(key, sum[:], r, s)
}
