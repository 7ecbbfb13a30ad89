// SPDX-License-Identifier: Apache-2.0

// Package sgx reads, verifies and makes attestation quotes of Intel SGX enclaves.
//
// A quote of version 3 (Intel, "SGX ECDSA QuoteLibReference DCAP API", appendix A.4) is a header of 48 bytes, the 384 bytes
// of the enclave's report body (Intel SDM volume 3D, "REPORT"), and signature data: the ECDSA P-256 signature over the
// two, the attestation key that made it, and what vouches for that key: the quoting enclave's report, whose REPORTDATA is
// the hash of the key, the signature over that report by the platform's PCK, and the PCK's certificate chain. Package
// intel has all that follows the report body, and Intel's collateral, which TDX shares.
//
// Only the attestation key type 2 (ECDSA P-256) is accepted, and only certification data of type 5, the chain itself: the
// other types name a platform whose certificate would have to be looked up.
//
// Without collateral a quote proves that an enclave with these measurements ran on a genuine processor that one of Intel's
// quoting enclaves vouches for, and nothing about known weaknesses of the two; the TCB is nil then. With collateral it is
// their converged TCB status. Whether a status, a debug enclave or an old ISVSVN is acceptable is not decided here.
//
// A real enclave gets its configuration through CONFIGID, which the host sets at launch, the processor keeps and the
// enclave cannot change: the first 32 bytes are the SHA-256 of the measured configuration, the others zero ([ConfigID]).
package sgx

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// MediaType is the media type of a quote, private to this project: none is registered.
const MediaType = "application/vnd.sealift.sgx-quote"

// Errors of this package. What is found about signatures, chains and collateral is of package intel.
var (
	ErrMalformed = errors.New("sgx: malformed quote")
	ErrVersion   = errors.New("sgx: quote version not supported")
)

// Sizes in bytes.
const (
	HeaderSize = 48
	ReportSize = intel.ReportSize
	signedSize = HeaderSize + ReportSize // what the quote's signature covers
	maxQuote   = 32 << 10
)

const version = 3

// Header is what the header says beside constants.
type Header struct {
	QESVN    uint16 // security version of the quoting enclave
	PCESVN   uint16 // and of the provisioning certification enclave
	UserData [20]byte
}

type wireHeader struct {
	Version  uint16
	KeyType  uint16
	Reserved uint32
	QESVN    uint16
	PCESVN   uint16
	Vendor   [16]byte
	UserData [20]byte
}

// Quote is a quote that was read. Nothing in it is verified.
type Quote struct {
	Header    Header
	Report    Report
	Signature *intel.SignatureData
	signed    []byte
}

// Parse reads a quote strictly: version 3, ECDSA P-256, Intel's quoting enclave, reserved fields zero, certification data
// of type 5, every length exact.
func Parse(data []byte) (*Quote, error) {
	if len(data) < signedSize+4 || len(data) > maxQuote {
		return nil, fmt.Errorf("%w: %d bytes, want %d to %d", ErrMalformed, len(data), signedSize+4, maxQuote)
	}
	q := &Quote{signed: bytes.Clone(data[:signedSize])}
	if err := q.Header.parse(data[:HeaderSize]); err != nil {
		return nil, err
	}
	report, err := parseReport(data[HeaderSize:signedSize])
	if err != nil {
		return nil, err
	}
	q.Report = *report
	rest := data[signedSize+4:]
	if size := binary.LittleEndian.Uint32(data[signedSize:]); uint64(size) != uint64(len(rest)) {
		return nil, fmt.Errorf("%w: signature data of %d bytes, and %d follow", ErrMalformed, size, len(rest))
	}
	if q.Signature, err = intel.ParseSignatureV3(rest); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return q, nil
}

func (h *Header) parse(data []byte) error {
	var w wireHeader
	if _, err := binary.Decode(data, binary.LittleEndian, &w); err != nil {
		return fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	switch {
	case w.Version != version:
		return fmt.Errorf("%w: %d, want %d", ErrVersion, w.Version, version)
	case w.KeyType != intel.AttestationKeyType:
		return fmt.Errorf("%w: header: attestation key type %d, want %d (ECDSA P-256)", ErrMalformed, w.KeyType, intel.AttestationKeyType)
	case w.Reserved != 0:
		return fmt.Errorf("%w: header: a reserved field is 0x%x", ErrMalformed, w.Reserved)
	case hex.EncodeToString(w.Vendor[:]) != intel.QEVendorIntel:
		return fmt.Errorf("%w: header: QE vendor ID %x, want Intel's", ErrMalformed, w.Vendor)
	}
	*h = Header{QESVN: w.QESVN, PCESVN: w.PCESVN, UserData: w.UserData}
	return nil
}

// marshal is the inverse of parse.
func (h *Header) marshal() []byte {
	w := wireHeader{Version: version, KeyType: intel.AttestationKeyType, QESVN: h.QESVN, PCESVN: h.PCESVN, UserData: h.UserData}
	if _, err := hex.Decode(w.Vendor[:], []byte(intel.QEVendorIntel)); err != nil {
		panic(err) // a constant
	}
	out, err := binary.Append(make([]byte, 0, HeaderSize), binary.LittleEndian, &w)
	if err != nil {
		panic(err) // the layout has a fixed size
	}
	return out
}

// Marshal returns the quote's bytes.
func (q *Quote) Marshal() []byte {
	signature := q.Signature.MarshalV3()
	out := binary.LittleEndian.AppendUint32(q.signedPart(), uint32(len(signature)))
	return append(out, signature...)
}

// signedPart is what the quote's signature covers.
func (q *Quote) signedPart() []byte { return append(q.Header.marshal(), q.Report.marshal()...) }

// Measurements returns what was measured of the enclave: MRENCLAVE, its content, and MRSIGNER, the hash of its author's key.
func (r *Report) Measurements() []evidence.Measurement {
	return []evidence.Measurement{
		{Name: "MRENCLAVE", Value: r.MREnclave[:], Source: "MRENCLAVE of the SGX report"},
		{Name: "MRSIGNER", Value: r.MRSigner[:], Source: "MRSIGNER of the SGX report"},
	}
}

// ConfigID returns the CONFIGID for a measured configuration: its SHA-256, then 32 zero bytes.
func ConfigID(config [sha256.Size]byte) (id [64]byte) {
	copy(id[:], config[:])
	return id
}

// Config returns the digest of the configuration that stands in CONFIGID; false if the rest is not zero.
func (r *Report) Config() (config [sha256.Size]byte, ok bool) {
	copy(config[:], r.ConfigID[:])
	return config, r.ConfigID == ConfigID(config)
}
