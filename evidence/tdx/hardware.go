// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"strings"

	"sealift/evidence"
	"sealift/evidence/intel"
	"sealift/evidence/tsm"
)

// Hardware verifies TDX quotes for [evidence.Verify]. Anchors are root certificates; Intel's is [intel.VendorAnchor]. It
// remembers the chains and the collateral that it has verified.
//
// Collateral comes with the Evidence, in the CBOR form of [intel.Collateral], or from the verifier's endorsements of the
// kind "intel/tdx-collateral" under [intel.PCK.EndorsementKey]. Without any, the quote verifies, and "tcb-status" is
// missing: policies refuse that unless they say otherwise. An event log ([ParseEventLog]) in the collateral is replayed and
// compared with the registers; the field "event-log" then tells how many events they vouch for.
//
// Measurements: those of [Report.Measurements]. The configuration is "MRCONFIGID". Fields, under Intel's names: "version"
// of the quote, "TEE_TCB_SVN" ([SVN]), "TEE_TCB_SVN_2" (only in TD reports 1.5), "MRSEAM", "MRSIGNERSEAM",
// "SEAMATTRIBUTES", "TDATTRIBUTES" ([Attributes], a number), "XFAM" ([XFAM]), "MROWNER", "MROWNERCONFIG", and those of
// [intel.Cache.VerifyHardware].
type Hardware struct{ cache *intel.Cache }

// NewHardware returns a Hardware that remembers nothing yet.
func NewHardware() *Hardware { return &Hardware{intel.NewCache(cacheSize)} }

// Hardware implements [evidence.HardwareVerifier].
func (h *Hardware) Hardware() evidence.Hardware { return evidence.TDX }

// MediaTypes implements [evidence.HardwareVerifier].
func (h *Hardware) MediaTypes() []string { return []string{tsm.MediaType, MediaType} }

// Reads implements [evidence.HardwareVerifier].
func (h *Hardware) Reads(e evidence.HardwareEvidence) bool {
	if !strings.HasPrefix(e.MediaType, tsm.MediaType) {
		return true
	}
	w, err := tsm.Parse(e.Data)
	return err == nil && w.Provider == tsm.ProviderTDX
}

// VerifyHardware implements [evidence.HardwareVerifier].
func (h *Hardware) VerifyHardware(e evidence.HardwareEvidence, in evidence.HardwareInput) (*evidence.Signed, []*evidence.Mismatch) {
	data := e.Data
	var err error
	if strings.HasPrefix(e.MediaType, tsm.MediaType) {
		var w *tsm.Report
		if w, err = tsm.Parse(e.Data); err == nil {
			data = w.OutBlob
		}
	}
	var q *Quote
	if err == nil {
		q, err = Parse(data)
	}
	if err != nil {
		return nil, []*evidence.Mismatch{{Code: evidence.CodeMalformed, Claim: "TDX quote", Expected: "a quote of version 4 or 5",
			Got: err.Error(), Source: "the format", Err: err,
			Hint: "the bytes were damaged on the way, or the device speaks another version"}}
	}
	out := q.describe()
	found := h.cache.VerifyHardware(q.signed, q.signature, q.report.platform(), e.Collateral, in, out)
	found = append(found, q.checkLogs(e.Collateral, out)...)
	if !bytes.Equal(q.report.MRConfigID[sha256.Size:], make([]byte, 48-sha256.Size)) {
		found = append(found, &evidence.Mismatch{Code: evidence.CodeConfig, Claim: "MRCONFIGID",
			Got: hex.EncodeToString(q.report.MRConfigID[:]), Expected: "a SHA-256 and 16 zero bytes", Source: "the format of a TEE instance's Evidence",
			Hint: "the TD was not launched with a measured configuration"})
	}
	return out, found
}

// describe says what the quote says; what only the chain and collateral tell follows later.
func (q *Quote) describe() *evidence.Signed {
	r := &q.report
	s := &evidence.Signed{ReportData: r.ReportData[:], Config: r.MRConfigID[:sha256.Size], ConfigField: "MRCONFIGID",
		Measurements: r.Measurements(), Register: "RTMR3", RegisterHash: sha512.New384,
		Fields: map[string]any{"version": q.Version(), "TEE_TCB_SVN": r.TEETCBSVN, "MRSEAM": r.MRSEAM[:],
			"MRSIGNERSEAM": r.MRSIGNERSEAM[:], "SEAMATTRIBUTES": r.SEAMAttributes[:], "TDATTRIBUTES": r.Attributes, "XFAM": r.XFAM, "MROWNER": r.MROwner[:],
			"MROWNERCONFIG": r.MROwnerConfig[:]}}
	if r.Extended {
		s.Fields["TEE_TCB_SVN_2"] = r.TEETCBSVN2
	}
	return s
}

// checkLogs replays event logs among the collateral.
func (q *Quote) checkLogs(collateral [][]byte, out *evidence.Signed) (found []*evidence.Mismatch) {
	for _, item := range collateral {
		if !IsEventLog(item) {
			continue
		}
		l, err := ParseEventLog(item)
		if err != nil {
			found = append(found, &evidence.Mismatch{Code: evidence.CodeMalformed, Claim: "event log", Expected: "a CCEL event log",
				Got: err.Error(), Source: "the format", Err: err})
			continue
		}
		var except []int // what runs in the TD extends RTMR3 later, without the firmware's log; it needs a reference value, or a list of loads
		if l.Replay()[3] == [48]byte{} {
			except = []int{3}
		}
		found = append(found, evidence.Mismatches(l.compare(&q.report, except))...)
		out.Fields["event-log"] = len(l.events)
	}
	return found
}
