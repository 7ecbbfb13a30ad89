// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/evidence"
)

// TDXPlatform is what a TD report says of the platform's TCB.
type TDXPlatform struct {
	TEETCBSVN      [componentCount]uint8  // TEE_TCB_SVN: as of the launch of the TD
	TEETCBSVN2     *[componentCount]uint8 // TEE_TCB_SVN_2: now; only in TD reports 1.5
	MRSignerSEAM   [48]byte
	SEAMAttributes [8]byte
}

// Part is the judgement of one part of the TCB.
type Part struct {
	Status     TCBStatus
	Date       time.Time // of the matching level (tcbDate)
	Advisories []string
}

// TCBResult is Intel's judgement of a platform with its quoting enclave.
type TCBResult struct {
	Status     TCBStatus // the worst of the parts: see [Worst]
	Advisories []string  // of all parts, sorted
	Date       time.Time // the earliest tcbDate of the parts

	Platform Part
	Module   *Part // TDX module; nil for SGX and for modules that the platform's level covers (TEE_TCB_SVN[1] is 0)
	QE       Part

	EvaluationNumber   uint32 // tcbEvaluationDataNumber of the TCB info
	QEEvaluationNumber uint32 // the QE identity's
}

// Evaluate matches a verified platform and quoting enclave against the collateral: revocation first, then the platform's
// level, the TDX module and the QE, each by itself. td is nil for SGX. The error joins everything for which there is no
// judgement: collateral of another platform, unknown modules or enclaves, no level that matches.
func (v *VerifiedCollateral) Evaluate(c *Chain, qe *EnclaveReport, td *TDXPlatform) (*TCBResult, error) {
	if (v.TEE() == TDX) != (td != nil) {
		return nil, problem(evidence.CodeCertificate, ErrCollateral, "id of the TCB info",
			"that of the quote's TEE", v.info.ID, "the quote")
	}
	if err := join(v.CheckRevocation(c), v.checkPlatform(c.PCK)); err != nil {
		return nil, err
	}
	r := &TCBResult{EvaluationNumber: v.info.EvaluationNumber, QEEvaluationNumber: v.qe.EvaluationNumber}
	qePart, qeErr := v.qe.evaluate(qe)
	platform, module, err := v.evaluatePlatform(c.PCK, td)
	if err := join(err, qeErr); err != nil {
		return nil, err
	}
	r.Platform, r.Module, r.QE = *platform, module, *qePart
	r.join()
	if td != nil && td.TEETCBSVN2 != nil && r.Status.OutOfDate() {
		v.adviseRelaunch(r, c.PCK, *td)
	}
	return r, nil
}

// checkPlatform checks that the TCB info is for this kind of platform.
func (v *VerifiedCollateral) checkPlatform(p *PCK) error {
	var all []error
	differ := func(claim string, want, got []byte) {
		if !bytes.Equal(want, got) {
			all = append(all, problem(evidence.CodeCertificate, ErrCollateral, claim+" of the TCB info", hex.EncodeToString(want),
				hex.EncodeToString(got), "the PCK certificate"))
		}
	}
	differ("fmspc", p.FMSPC[:], v.info.FMSPC)
	differ("pceId", []byte{p.PCEID[0], p.PCEID[1]}, v.info.PCEID)
	return join(all...)
}

// evaluatePlatform judges platform and TDX module.
func (v *VerifiedCollateral) evaluatePlatform(p *PCK, td *TDXPlatform) (platform, module *Part, err error) {
	if td != nil {
		if module, err = v.info.evaluateModule(td); err != nil {
			return nil, nil, err
		}
	}
	for i := range v.info.Levels {
		if l := &v.info.Levels[i]; l.covers(p, td) {
			return l.part(), module, nil
		}
	}
	got := fmt.Sprintf("SGX components %v, PCESVN %d", p.SVN, p.PCESVN)
	if td != nil {
		got += fmt.Sprintf(", TEE_TCB_SVN %v", td.TEETCBSVN)
	}
	return nil, nil, problem(evidence.CodeCertificate, ErrTCB, "TCB of the platform",
		"at least one of the levels in the TCB info", got, "the TCB info for this FMSPC")
}

// covers reports whether a platform has at least what a level demands. With TEE_TCB_SVN[1] above 0, the first two TDX
// components are the module's version and number, which its identity judges instead.
func (l *Level) covers(p *PCK, td *TDXPlatform) bool {
	if p.PCESVN < *l.TCB.PCESVN {
		return false
	}
	for i, c := range l.TCB.SGX {
		if p.SVN[i] < c.SVN {
			return false
		}
	}
	if td == nil {
		return true
	}
	first := 0
	if td.TEETCBSVN[1] > 0 {
		first = 2
	}
	for i := first; i < componentCount; i++ {
		if td.TEETCBSVN[i] < l.TCB.TDX[i].SVN {
			return false
		}
	}
	return true
}

func (l *Level) part() *Part { return &Part{l.Status, l.Date, l.Advisories} }

// evaluateModule checks who signed the TDX module and its attributes, and judges its version where it has an identity of
// its own.
func (t *TCBInfo) evaluateModule(td *TDXPlatform) (*Part, error) {
	if td.TEETCBSVN[1] == 0 {
		return nil, t.Module.check(td, "tdxModule of the TCB info")
	}
	id := fmt.Sprintf("TDX_%02X", td.TEETCBSVN[1])
	for i := range t.ModuleIdentities {
		m := &t.ModuleIdentities[i]
		if !strings.EqualFold(m.ID, id) {
			continue
		}
		part, err := level(m.Levels, uint16(td.TEETCBSVN[0]), "version of the TDX module", "module identity "+m.ID)
		if err := join(m.check(td, "module identity "+m.ID+" of the TCB info"), err); err != nil {
			return nil, err
		}
		return part, nil
	}
	return nil, problem(evidence.CodeCertificate, ErrTCB, "TDX module",
		"one with an identity in the TCB info", id, "the TCB info for this FMSPC")
}

func (m *Module) check(td *TDXPlatform, source string) error {
	return join(
		masked(evidence.CodeCertificate, "MRSIGNERSEAM", m.MRSigner, td.MRSignerSEAM[:], nil, source),
		masked(evidence.CodeCertificate, "SEAMATTRIBUTES", m.Attributes, td.SEAMAttributes[:], m.AttributesMask, source))
}

// masked compares a value with an expectation in the bits of a mask; nil means all of them.
func masked(code, claim string, want, got, mask []byte, source string) error {
	for i := range want {
		m := byte(0xff)
		if mask != nil {
			m = mask[i]
		}
		if got[i]&m != want[i]&m {
			expected := hex.EncodeToString(want)
			if mask != nil {
				expected += " under the mask " + hex.EncodeToString(mask)
			}
			return problem(code, ErrTCB, claim, expected, hex.EncodeToString(got), source)
		}
	}
	return nil
}

// level judges the version of an enclave or module: the first level that it reaches.
func level(levels []Level, svn uint16, claim, source string) (*Part, error) {
	for i := range levels {
		if svn >= *levels[i].TCB.ISVSVN {
			return levels[i].part(), nil
		}
	}
	return nil, problem(evidence.CodeCertificate, ErrTCB, claim, "at least one of the levels", fmt.Sprint(svn), source)
}

// evaluate checks who the quoting enclave is and judges its version.
func (q *QEIdentity) evaluate(r *EnclaveReport) (*Part, error) {
	const source = "the QE identity"
	var misc [4]byte
	binary.LittleEndian.PutUint32(misc[:], r.MiscSelect)
	var product error
	if q.ISVProdID != r.ISVProdID {
		product = problem(evidence.CodeCertificate, ErrTCB, "ISVPRODID of the QE",
			fmt.Sprint(q.ISVProdID), fmt.Sprint(r.ISVProdID), source)
	}
	part, err := level(q.Levels, r.ISVSVN, "ISVSVN of the QE", source)
	return part, join(
		masked(evidence.CodeCertificate, "MRSIGNER of the QE", q.MRSigner, r.MRSigner[:], nil, source),
		product,
		masked(evidence.CodeCertificate, "MISCSELECT of the QE", q.MiscSelect, misc[:], q.MiscSelectMask, source),
		masked(evidence.CodeCertificate, "ATTRIBUTES of the QE", q.Attributes, r.Attributes[:], q.AttributesMask, source),
		err)
}

// join computes the whole from the parts.
func (r *TCBResult) join() {
	parts := []*Part{&r.Platform, &r.QE}
	if r.Module != nil {
		parts = append(parts, r.Module)
	}
	r.Advisories, r.Status, r.Date = nil, UpToDate, r.Platform.Date
	for _, p := range parts {
		r.Status = Worst(r.Status, p.Status)
		r.Advisories = append(r.Advisories, p.Advisories...)
		if p.Date.Before(r.Date) {
			r.Date = p.Date
		}
	}
	slices.Sort(r.Advisories)
	r.Advisories = slices.Compact(r.Advisories)
}

// adviseRelaunch handles a platform that was updated while the TD ran: with what is loaded now nothing is out of date, and
// only the TD was launched under something older. The parts stay as they were at the launch.
func (v *VerifiedCollateral) adviseRelaunch(r *TCBResult, p *PCK, td TDXPlatform) {
	td.TEETCBSVN = *td.TEETCBSVN2
	platform, module, err := v.evaluatePlatform(p, &td)
	if err != nil {
		return
	}
	now := TCBResult{Platform: *platform, Module: module, QE: r.QE}
	now.join()
	if !now.Status.OutOfDate() && now.Status != Revoked {
		r.Status = Worst(now.Status, TDRelaunchAdvised)
	}
}
