// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"encoding/hex"

	"sealift/evidence"
)

// VerifyHardware is [Cache.Verify] in the terms of [evidence.HardwareVerifier], for SGX and TDX alike. It completes out,
// which holds what the quote says already, with the anchor, the instance ID ([PCK.InstanceID]), the end of validity, and
// these fields: "FMSPC", "PCEID" (hexadecimal), "pck-ca" ([CA]), "SGX Type" (number), and, only with collateral,
// "tcb-status" ([TCBStatus]), "advisories" (list), "tcb-date", "tcb-status-platform", "tcb-status-module" (TDX),
// "tcb-status-qe", "tcb-evaluation-data-number", and "qe-evaluation-data-number".
//
// Collateral comes with the Evidence (collateral), or from the verifier's endorsements under [EndorsementKind] and
// [PCK.EndorsementKey]; items of collateral that are none are ignored. Its revocation lists are in force, so with it
// [evidence.FieldRevocation] says "checked"; a revocation in a list that the verifier keeps counts beside it. Anchors are
// root certificates.
func (c *Cache) VerifyHardware(signed []byte, s *SignatureData, td *TDXPlatform, collateral [][]byte,
	in evidence.HardwareInput, out *evidence.Signed) []*evidence.Mismatch {
	input := Input{Now: in.Now}
	anchors := map[string]evidence.Anchor{}
	for _, a := range in.Anchors {
		if a.Cert != nil {
			input.Roots = append(input.Roots, a.Cert)
			anchors[string(a.Cert.Raw)] = a
		}
	}
	for _, item := range collateral {
		if IsCollateral(item) {
			input.Collateral = append(input.Collateral, item)
		}
	}
	var found []*evidence.Mismatch
	if chain, err := c.ChainAnyTime(s, input.Roots); err == nil {
		tee := SGX
		if td != nil {
			tee = TDX
		}
		if in.Endorsements != nil {
			kept := in.Endorsements.Find(EndorsementKind(tee), chain.PCK.EndorsementKey())
			input.Collateral = append(kept[:len(kept):len(kept)], input.Collateral...)
		}
		chain.describe(out, anchors)
		found = in.CheckRevocation(&c.lists, chain.certificates(), out)
	}
	p, err := c.Verify(signed, s, td, input)
	if err != nil {
		return append(found, mismatches(err)...)
	}
	if until, what := p.Until(); p.TCB != nil || out.Until.IsZero() || until.Before(out.Until) {
		out.Until, out.UntilWhat = until, what // the collateral's own lists replace those of the verifier
	}
	if p.TCB != nil && len(found) == 0 {
		out.Fields[evidence.FieldRevocation] = "checked"
	}
	p.TCB.describe(out)
	return found
}

func (c *Chain) describe(out *evidence.Signed, anchors map[string]evidence.Anchor) {
	out.Root, out.Rooted = anchors[string(c.Root.Raw)]
	id := c.PCK.InstanceID()
	out.InstanceID = id[:]
	out.Fields["FMSPC"], out.Fields["PCEID"] = hex.EncodeToString(c.PCK.FMSPC[:]), hex.EncodeToString(c.PCK.PCEID[:])
	out.Fields["pck-ca"], out.Fields["SGX Type"] = string(c.PCK.CA), uint8(c.PCK.Type)
}

func (r *TCBResult) describe(out *evidence.Signed) {
	if r == nil {
		return
	}
	f := out.Fields
	f["tcb-status"], f["advisories"], f["tcb-date"] = string(r.Status), append([]string{}, r.Advisories...), r.Date
	f["tcb-status-platform"], f["tcb-status-qe"] = string(r.Platform.Status), string(r.QE.Status)
	if r.Module != nil {
		f["tcb-status-module"] = string(r.Module.Status)
	}
	f["tcb-evaluation-data-number"], f["qe-evaluation-data-number"] = r.EvaluationNumber, r.QEEvaluationNumber
}

// mismatches returns the mismatches that an error holds; one that is none says that bytes cannot be read.
func mismatches(err error) []*evidence.Mismatch {
	var out []*evidence.Mismatch
	if joined, ok := err.(interface{ Unwrap() []error }); ok && evidence.Mismatches(err) != nil {
		for _, one := range joined.Unwrap() {
			out = append(out, mismatches(one)...)
		}
		return out
	}
	if all := evidence.Mismatches(err); all != nil {
		return all
	}
	return []*evidence.Mismatch{{Code: evidence.CodeMalformed, Claim: "certificates and collateral of the quote",
		Expected: "Intel's formats", Got: err.Error(), Source: "the format", Err: err, Hint: "the bytes were damaged on the way"}}
}

// VendorAnchor returns the Intel SGX Root CA as a trust anchor for one of the two architectures.
func VendorAnchor(hw evidence.Hardware) evidence.Anchor {
	root := VendorRoot()
	return evidence.Anchor{Cert: root, Name: root.Subject.CommonName, Hardware: hw}
}
