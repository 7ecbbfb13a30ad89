// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// Sizes and numbers of quotes.
const (
	headerSize     = 48
	reportSize10   = 584
	reportSize15   = 648
	bodyTD10       = 2 // body types of version 5
	bodyTD15       = 3
	descriptorSize = 6 // type and size of the body in version 5
	lengthSize     = 4 // of the signature data
	maxQuote       = 16 << 10
)

// Report is a TD report: what the TDX module says of the TD and the platform.
type Report struct {
	TEETCBSVN      SVN // as of the TD's launch
	MRSEAM         [48]byte
	MRSIGNERSEAM   [48]byte // zero: Intel
	SEAMAttributes [8]byte
	Attributes     Attributes
	XFAM           XFAM
	MRTD           [48]byte
	MRConfigID     [48]byte
	MROwner        [48]byte
	MROwnerConfig  [48]byte
	RTMR           [4][48]byte
	ReportData     [64]byte

	// Extended is set for TD reports 1.5, which have these two as well.
	Extended    bool
	TEETCBSVN2  SVN      // as of now
	MRServiceTD [48]byte // hash of the TD's service TDs; zero: none
}

// wireHeader and wireReport are the layouts, so that reading and writing cannot differ.
type wireHeader struct {
	Version, KeyType uint16
	TEE              uint32
	Reserved         uint32
	Vendor           [16]byte
	UserData         [20]byte
}

type wireReport struct {
	TEETCBSVN                                [16]byte
	MRSEAM, MRSIGNERSEAM                     [48]byte
	SEAMAttributes                           [8]byte
	Attributes, XFAM                         uint64
	MRTD, MRConfigID, MROwner, MROwnerConfig [48]byte
	RTMR                                     [4][48]byte
	ReportData                               [64]byte
}

type wireExtension struct {
	TEETCBSVN2  [16]byte
	MRServiceTD [48]byte
}

// Quote is a quote that was read and not verified.
type Quote struct {
	version   uint16
	userData  [20]byte
	report    Report
	signed    []byte // header, descriptor, body
	signature *intel.SignatureData
}

// Version is 4 or 5.
func (q *Quote) Version() int { return int(q.version) }

// ReportInsecure returns what the quote says, without any proof that a platform signed it.
func (q *Quote) ReportInsecure() *Report { return &q.report }

// Parse reads a quote strictly and verifies nothing: versions 4 and 5 of TDX, Intel's quoting enclave, ECDSA with P-256,
// reserved fields zero, every length exact. Behind the quote only zero bytes may follow, because Linux hands quotes out in
// a buffer of fixed size.
func Parse(data []byte) (*Quote, error) {
	if len(data) < headerSize+reportSize10+lengthSize || len(data) > maxQuote {
		return nil, fmt.Errorf("%w: %d bytes, want %d to %d", ErrMalformed, len(data), headerSize+reportSize10+lengthSize, maxQuote)
	}
	q := &Quote{}
	if err := q.readHeader(data[:headerSize]); err != nil {
		return nil, err
	}
	end, err := q.readBody(data)
	if err != nil {
		return nil, err
	}
	size := uint64(binary.LittleEndian.Uint32(data[end:]))
	rest := data[end+lengthSize:]
	if size > uint64(len(rest)) {
		return nil, fmt.Errorf("%w: signature data of %d bytes, and %d follow", ErrMalformed, size, len(rest))
	}
	if len(bytes.Trim(rest[size:], "\x00")) > 0 {
		return nil, fmt.Errorf("%w: more than zero bytes behind the quote", ErrMalformed)
	}
	if q.signature, err = intel.ParseSignatureV4(rest[:size]); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	q.signed = bytes.Clone(data[:end])
	return q, nil
}

func (q *Quote) readHeader(data []byte) error {
	var h wireHeader
	if _, err := binary.Decode(data, binary.LittleEndian, &h); err != nil {
		return fmt.Errorf("%w: header: %w", ErrMalformed, err)
	}
	switch {
	case h.Version != 4 && h.Version != 5:
		return fmt.Errorf("%w: version is %d, want 4 or 5", ErrMalformed, h.Version)
	case h.KeyType != intel.AttestationKeyType:
		return fmt.Errorf("%w: att_key_type is %d, want %d (ECDSA P-256)", ErrMalformed, h.KeyType, intel.AttestationKeyType)
	case h.TEE != uint32(intel.TDX):
		return fmt.Errorf("%w: tee_type is 0x%x, want 0x%x (TDX)", ErrMalformed, h.TEE, uint32(intel.TDX))
	case h.Reserved != 0:
		return fmt.Errorf("%w: reserved field of the header is not zero", ErrMalformed)
	case hex.EncodeToString(h.Vendor[:]) != intel.QEVendorIntel:
		return fmt.Errorf("%w: qe_vendor_id is %x, want Intel's %s", ErrMalformed, h.Vendor, intel.QEVendorIntel)
	}
	q.version, q.userData = h.Version, h.UserData
	return nil
}

// readBody reads the body and returns the offset at which it ends.
func (q *Quote) readBody(data []byte) (int, error) {
	at, size := headerSize, reportSize10
	if q.version == 5 {
		kind, n := binary.LittleEndian.Uint16(data[at:]), binary.LittleEndian.Uint32(data[at+2:])
		q.report.Extended = kind == bodyTD15
		if q.report.Extended {
			size = reportSize15
		}
		if kind != bodyTD10 && kind != bodyTD15 || n != uint32(size) {
			return 0, fmt.Errorf("%w: body of type %d with %d bytes, want a TD report 1.0 or 1.5", ErrMalformed, kind, n)
		}
		at += descriptorSize
	}
	if len(data) < at+size+lengthSize {
		return 0, fmt.Errorf("%w: %d bytes, too few for the body", ErrMalformed, len(data))
	}
	var w wireReport
	if _, err := binary.Decode(data[at:at+reportSize10], binary.LittleEndian, &w); err != nil {
		return 0, fmt.Errorf("%w: body: %w", ErrMalformed, err)
	}
	extended := q.report.Extended
	q.report = Report{TEETCBSVN: w.TEETCBSVN, MRSEAM: w.MRSEAM, MRSIGNERSEAM: w.MRSIGNERSEAM, SEAMAttributes: w.SEAMAttributes,
		Attributes: Attributes(w.Attributes), XFAM: XFAM(w.XFAM), MRTD: w.MRTD, MRConfigID: w.MRConfigID, MROwner: w.MROwner,
		MROwnerConfig: w.MROwnerConfig, RTMR: w.RTMR, ReportData: w.ReportData, Extended: extended}
	if extended {
		q.report.TEETCBSVN2 = SVN(data[at+reportSize10:])
		q.report.MRServiceTD = [48]byte(data[at+reportSize10+16:])
	}
	return at + size, nil
}

// marshalSigned returns header, descriptor and body: what the quote's signature covers.
func (r *Report) marshalSigned(version uint16, userData [20]byte) ([]byte, error) {
	h := wireHeader{Version: version, KeyType: intel.AttestationKeyType, TEE: uint32(intel.TDX), UserData: userData}
	if _, err := hex.Decode(h.Vendor[:], []byte(intel.QEVendorIntel)); err != nil {
		return nil, err
	}
	parts := []any{&h}
	switch {
	case version == 5 && r.Extended:
		parts = append(parts, uint16(bodyTD15), uint32(reportSize15))
	case version == 5:
		parts = append(parts, uint16(bodyTD10), uint32(reportSize10))
	case version != 4 || r.Extended:
		return nil, fmt.Errorf("%w: version %d has no such TD report", ErrMalformed, version)
	}
	parts = append(parts, &wireReport{TEETCBSVN: r.TEETCBSVN, MRSEAM: r.MRSEAM, MRSIGNERSEAM: r.MRSIGNERSEAM,
		SEAMAttributes: r.SEAMAttributes, Attributes: uint64(r.Attributes), XFAM: uint64(r.XFAM), MRTD: r.MRTD,
		MRConfigID: r.MRConfigID, MROwner: r.MROwner, MROwnerConfig: r.MROwnerConfig, RTMR: r.RTMR, ReportData: r.ReportData})
	if r.Extended {
		parts = append(parts, &wireExtension{TEETCBSVN2: r.TEETCBSVN2, MRServiceTD: r.MRServiceTD})
	}
	var out []byte
	for _, p := range parts {
		var err error
		if out, err = binary.Append(out, binary.LittleEndian, p); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// Marshal returns the quote's bytes, without padding.
func (q *Quote) Marshal() []byte {
	signature := q.signature.MarshalV4()
	out := binary.LittleEndian.AppendUint32(bytes.Clone(q.signed), uint32(len(signature)))
	return append(out, signature...)
}

// platform is what the report says of the platform's TCB.
func (r *Report) platform() *intel.TDXPlatform {
	p := &intel.TDXPlatform{TEETCBSVN: r.TEETCBSVN, MRSignerSEAM: r.MRSIGNERSEAM, SEAMAttributes: r.SEAMAttributes}
	if r.Extended {
		now := [16]uint8(r.TEETCBSVN2)
		p.TEETCBSVN2 = &now
	}
	return p
}

// Measurements returns what was measured of the TD: "MRTD", and those of "RTMR0" to "RTMR3" and "MRSERVICETD" that are not
// zero.
func (r *Report) Measurements() []evidence.Measurement {
	const source = "TD report"
	out := []evidence.Measurement{{Name: "MRTD", Value: r.MRTD[:], Source: source}}
	for i := range r.RTMR {
		if r.RTMR[i] != [48]byte{} {
			out = append(out, evidence.Measurement{Name: fmt.Sprintf("RTMR%d", i), Value: r.RTMR[i][:], Source: source})
		}
	}
	if r.MRServiceTD != [48]byte{} {
		out = append(out, evidence.Measurement{Name: "MRSERVICETD", Value: r.MRServiceTD[:], Source: source})
	}
	return out
}
