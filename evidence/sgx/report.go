// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"encoding/binary"
	"fmt"
	"strings"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// Attributes are the flags of an enclave (Intel SDM volume 3D, "ATTRIBUTES").
type Attributes uint64

// Flags of an enclave.
const (
	AttrInit         Attributes = 1 << 0 // EINIT was run; no report of another enclave exists
	AttrDebug        Attributes = 1 << 1 // the host may read and write the enclave's memory
	AttrMode64       Attributes = 1 << 2
	AttrProvisionKey Attributes = 1 << 4 // the provisioning key is available: the platform can be recognised by it
	AttrEInitToken   Attributes = 1 << 5 // the launch key is available
	AttrCET          Attributes = 1 << 6
	AttrKSS          Attributes = 1 << 7 // key separation and sharing: CONFIGID and its like are in use
	AttrAEXNotify    Attributes = 1 << 10
	attrKnown                   = AttrInit | AttrDebug | AttrMode64 | AttrProvisionKey | AttrEInitToken | AttrCET | AttrKSS | AttrAEXNotify
)

// Debug reports whether the host may read and write the enclave's memory.
func (a Attributes) Debug() bool { return a&AttrDebug != 0 }

// ProvisionKey reports whether the enclave may use the provisioning key.
func (a Attributes) ProvisionKey() bool { return a&AttrProvisionKey != 0 }

// EInitTokenKey reports whether the enclave may make launch tokens.
func (a Attributes) EInitTokenKey() bool { return a&AttrEInitToken != 0 }

// Mode64 reports whether the enclave runs in 64-bit mode.
func (a Attributes) Mode64() bool { return a&AttrMode64 != 0 }

// KSS reports whether CONFIGID, CONFIGSVN, ISVFAMILYID and ISVEXTPRODID are in use.
func (a Attributes) KSS() bool { return a&AttrKSS != 0 }

var attributeNames = []struct {
	flag Attributes
	name string
}{{AttrInit, "INIT"}, {AttrDebug, "DEBUG"}, {AttrMode64, "MODE64BIT"}, {AttrProvisionKey, "PROVISION_KEY"},
	{AttrEInitToken, "EINITTOKEN_KEY"}, {AttrCET, "CET"}, {AttrKSS, "KSS"}, {AttrAEXNotify, "AEXNOTIFY"}}

// String gives the number and the names of the flags.
func (a Attributes) String() string {
	var names []string
	for _, n := range attributeNames {
		if a&n.flag != 0 {
			names = append(names, n.name)
		}
	}
	return strings.TrimSpace(fmt.Sprintf("0x%x %s", uint64(a), strings.Join(names, " ")))
}

// Report is the body of an enclave's report (Intel SDM volume 3D, "REPORT"): what the processor says of the enclave.
type Report struct {
	CPUSVN       [16]byte // opaque; what it means stands in the PCK certificate
	MiscSelect   uint32   // which information about exceptions the enclave gets
	CET          uint8    // CET_ATTRIBUTES
	Attributes   Attributes
	XFRM         uint64 // extended processor state that the enclave may use
	MREnclave    [32]byte
	MRSigner     [32]byte
	ConfigID     [64]byte
	ISVProdID    uint16
	ISVSVN       uint16
	ConfigSVN    uint16
	ISVFamilyID  [16]byte
	ISVExtProdID [16]byte
	ReportData   [64]byte
}

// parseReport reads the body of a report. Reserved fields and flags must be zero.
func parseReport(data []byte) (*Report, error) {
	w, err := intel.ParseEnclaveReport(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	r := &Report{CPUSVN: w.CPUSVN, MiscSelect: w.MiscSelect, CET: w.CET, ISVExtProdID: w.ISVExtProdID,
		Attributes: Attributes(binary.LittleEndian.Uint64(w.Attributes[:])), XFRM: binary.LittleEndian.Uint64(w.Attributes[8:]),
		MREnclave: w.MREnclave, MRSigner: w.MRSigner, ConfigID: w.ConfigID, ISVProdID: w.ISVProdID, ISVSVN: w.ISVSVN,
		ConfigSVN: w.ConfigSVN, ISVFamilyID: w.ISVFamilyID, ReportData: w.ReportData}
	if r.Attributes&^attrKnown != 0 {
		return nil, fmt.Errorf("%w: ATTRIBUTES are %v, which has reserved flags", ErrMalformed, r.Attributes)
	}
	return r, nil
}

// marshal is the inverse of parseReport.
func (r *Report) marshal() []byte {
	w := intel.EnclaveReport{CPUSVN: r.CPUSVN, MiscSelect: r.MiscSelect, CET: r.CET, ISVExtProdID: r.ISVExtProdID,
		MREnclave: r.MREnclave, MRSigner: r.MRSigner, ConfigID: r.ConfigID, ISVProdID: r.ISVProdID, ISVSVN: r.ISVSVN,
		ConfigSVN: r.ConfigSVN, ISVFamilyID: r.ISVFamilyID, ReportData: r.ReportData}
	binary.LittleEndian.PutUint64(w.Attributes[:], uint64(r.Attributes))
	binary.LittleEndian.PutUint64(w.Attributes[8:], r.XFRM)
	return w.Marshal()
}

// xfrmLegacy are the bits of XFRM for x87 and SSE, without which no enclave starts.
const xfrmLegacy = 3

// check looks for what no processor puts into a report, so that a quote which has it tells of nothing that ran.
func (r *Report) check() (all []error) {
	wrong := func(claim, want, got, source string) {
		all = append(all, &evidence.Mismatch{Code: evidence.CodeMalformed, Claim: claim, Expected: want, Got: got, Source: source,
			Err: ErrMalformed})
	}
	if r.Attributes&AttrInit == 0 {
		wrong("ATTRIBUTES", "INIT", r.Attributes.String(), "the processor's rule for reports")
	}
	if r.XFRM&xfrmLegacy != xfrmLegacy {
		wrong("XFRM", "x87 and SSE", fmt.Sprintf("0x%x", r.XFRM), "the processor's rule for enclaves")
	}
	if r.CET != 0 && r.Attributes&AttrCET == 0 {
		wrong("CET_ATTRIBUTES", "0, as ATTRIBUTES.CET is not set", fmt.Sprintf("0x%x", r.CET), "the processor's rule for enclaves")
	}
	if r.Attributes.KSS() {
		return all
	}
	for _, f := range []struct {
		name string
		zero bool
	}{{"CONFIGID", r.ConfigID == [64]byte{}}, {"CONFIGSVN", r.ConfigSVN == 0}, {"ISVFAMILYID", r.ISVFamilyID == [16]byte{}},
		{"ISVEXTPRODID", r.ISVExtProdID == [16]byte{}}} {
		if !f.zero {
			wrong(f.name, "zero, as ATTRIBUTES.KSS is not set", "something else", "the processor's rule for enclaves")
		}
	}
	return all
}
