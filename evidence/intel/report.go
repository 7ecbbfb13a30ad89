// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// ReportSize is the size of an enclave report's body.
const ReportSize = 384

// AttributeDebug is the bit of an enclave's attributes that lets the host read its memory. It stands in the first byte.
const AttributeDebug = 0x02

// EnclaveReport is the body of an SGX report (Intel SDM volume 3D, section 39.15; "DCAP Quote Library API", appendix
// A.3): what the processor says of an enclave. The QE's report in a quote is one; in an SGX quote the reported enclave's
// is another.
type EnclaveReport struct {
	CPUSVN       [16]byte
	MiscSelect   uint32
	CET          uint8 // CET_ATTRIBUTES
	ISVExtProdID [16]byte
	Attributes   [16]byte // flags, then XFRM
	MREnclave    [32]byte
	MRSigner     [32]byte
	ConfigID     [64]byte
	ISVProdID    uint16
	ISVSVN       uint16
	ConfigSVN    uint16
	ISVFamilyID  [16]byte
	ReportData   [64]byte
}

// Debug reports whether the host may read the enclave's memory.
func (r *EnclaveReport) Debug() bool { return r.Attributes[0]&AttributeDebug != 0 }

// wireReport is a report's layout, so that reading and writing cannot differ.
type wireReport struct {
	CPUSVN                       [16]byte
	MiscSelect                   uint32
	CET                          uint8
	Reserved0                    [11]byte
	ISVExtProdID, Attributes     [16]byte
	MREnclave                    [32]byte
	Reserved1                    [32]byte
	MRSigner                     [32]byte
	Reserved2                    [32]byte
	ConfigID                     [64]byte
	ISVProdID, ISVSVN, ConfigSVN uint16
	Reserved3                    [42]byte
	ISVFamilyID                  [16]byte
	ReportData                   [64]byte
}

// ParseEnclaveReport reads a report strictly: its exact size, reserved fields zero. It verifies nothing.
func ParseEnclaveReport(data []byte) (*EnclaveReport, error) {
	if len(data) != ReportSize {
		return nil, malformed("enclave report: %d bytes, want %d", len(data), ReportSize)
	}
	var w wireReport
	if _, err := binary.Decode(data, binary.LittleEndian, &w); err != nil {
		return nil, fmt.Errorf("%w: enclave report: %w", ErrMalformed, err)
	}
	r := &EnclaveReport{CPUSVN: w.CPUSVN, MiscSelect: w.MiscSelect, CET: w.CET, ISVExtProdID: w.ISVExtProdID, Attributes: w.Attributes,
		MREnclave: w.MREnclave, MRSigner: w.MRSigner, ConfigID: w.ConfigID, ISVProdID: w.ISVProdID, ISVSVN: w.ISVSVN,
		ConfigSVN: w.ConfigSVN, ISVFamilyID: w.ISVFamilyID, ReportData: w.ReportData}
	if !bytes.Equal(r.Marshal(), data) {
		return nil, malformed("enclave report: a reserved field is not zero")
	}
	return r, nil
}

// Marshal returns the report's bytes.
func (r *EnclaveReport) Marshal() []byte {
	w := wireReport{CPUSVN: r.CPUSVN, MiscSelect: r.MiscSelect, CET: r.CET, ISVExtProdID: r.ISVExtProdID, Attributes: r.Attributes,
		MREnclave: r.MREnclave, MRSigner: r.MRSigner, ConfigID: r.ConfigID, ISVProdID: r.ISVProdID, ISVSVN: r.ISVSVN,
		ConfigSVN: r.ConfigSVN, ISVFamilyID: r.ISVFamilyID, ReportData: r.ReportData}
	out, err := binary.Append(make([]byte, 0, ReportSize), binary.LittleEndian, &w)
	if err != nil {
		panic(err) // the structure has a fixed size
	}
	return out
}
