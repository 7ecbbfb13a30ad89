// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"encoding/hex"
	"errors"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// Hardware verifies SGX quotes for [evidence.Verify]. Anchors are Intel's root ([intel.VendorAnchor]) or an emulated
// one. Collateral comes with the Evidence or from the verifier's endorsements, as [intel.Cache.VerifyHardware] says. It
// remembers the chains and the collateral that it has verified.
//
// Measurements: "MRENCLAVE", which stands for the Agent, and "MRSIGNER". The configuration is "CONFIGID", which an enclave
// has only with KSS. Fields, under the processor's names: "CPUSVN", "MISCSELECT", "CET_ATTRIBUTES", "ATTRIBUTES"
// ([Attributes]), "XFRM", "ISVPRODID", "ISVSVN", "CONFIGSVN", "ISVFAMILYID", "ISVEXTPRODID"; of the quote's header
// "QE_SVN" and "PCE_SVN"; and those of package intel.
type Hardware struct {
	cache *intel.Cache
}

// NewHardware returns a Hardware that remembers nothing yet.
func NewHardware() *Hardware { return &Hardware{cache: intel.NewCache(cacheSize)} }

// Hardware implements [evidence.HardwareVerifier].
func (h *Hardware) Hardware() evidence.Hardware { return evidence.SGX }

// MediaTypes implements [evidence.HardwareVerifier].
func (h *Hardware) MediaTypes() []string { return []string{MediaType} }

// Reads reports true: no other architecture has this media type.
func (h *Hardware) Reads(evidence.HardwareEvidence) bool { return true }

// VerifyHardware implements [evidence.HardwareVerifier].
func (h *Hardware) VerifyHardware(e evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []*evidence.Mismatch) {
	q, err := Parse(e.Data)
	if err != nil {
		return nil, []*evidence.Mismatch{{Code: evidence.CodeMalformed, Claim: "SGX quote",
			Expected: "a quote of version 3 with its certificate chain", Got: err.Error(), Source: "the format", Err: err,
			Hint: "the bytes were damaged on the way, or the device speaks another version"}}
	}
	s := q.signedOf()
	all := evidence.Mismatches(errors.Join(q.Report.check()...))
	if config, ok := q.Report.Config(); !ok {
		all = append(all, &evidence.Mismatch{Code: evidence.CodeConfig, Claim: "CONFIGID", Expected: "32 bytes of a digest, then zeros",
			Got: hex.EncodeToString(q.Report.ConfigID[:]), Source: "the format of a TEE instance's Evidence"})
	} else if q.Report.Attributes.KSS() {
		s.Config = config[:]
	}
	return s, append(all, h.cache.VerifyHardware(q.signed, q.Signature, nil, e.Collateral, in, s)...)
}

// signedOf says what the quote says; what only the chain and collateral tell follows later.
func (q *Quote) signedOf() *evidence.Signed {
	r := &q.Report
	return &evidence.Signed{ReportData: r.ReportData[:], ConfigField: "CONFIGID", Measurements: r.Measurements(),
		Fields: map[string]any{"CPUSVN": r.CPUSVN[:], "MISCSELECT": r.MiscSelect, "CET_ATTRIBUTES": r.CET, "ATTRIBUTES": r.Attributes,
			"XFRM": r.XFRM, "ISVPRODID": r.ISVProdID, "ISVSVN": r.ISVSVN, "CONFIGSVN": r.ConfigSVN, "ISVFAMILYID": r.ISVFamilyID[:],
			"ISVEXTPRODID": r.ISVExtProdID[:], "QE_SVN": q.Header.QESVN, "PCE_SVN": q.Header.PCESVN}}
}
