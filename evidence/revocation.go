// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/x509"
	"errors"

	"sealift/evidence/crl"
)

// FieldRevocation is the field that tells whether revocation lists were at hand, where there is a certificate chain:
// "checked", "unchecked: " and why, or "stale: " and what. Only a list that revokes a certificate is a mismatch by itself.
const FieldRevocation = "revocation"

// CheckRevocation checks a verified chain, leaf first and root last, against the lists that the verifier keeps. It sets
// [FieldRevocation] of s, brings its end of validity forward to that of the lists, and returns a mismatch if a certificate is
// revoked. It is for implementations of [HardwareVerifier].
func (in HardwareInput) CheckRevocation(lists *crl.Checker, chain []*x509.Certificate, s *Signed) []*Mismatch {
	if len(in.CRLs) == 0 {
		s.Fields[FieldRevocation] = "unchecked: no revocation list"
		return nil
	}
	r, err := lists.Check(chain, in.CRLs, in.Now)
	switch {
	case errors.Is(err, crl.ErrRevoked):
		s.Fields[FieldRevocation] = "revoked"
		return []*Mismatch{{Code: CodeRevoked, Claim: "certificate chain", Expected: "no certificate that is revoked", Got: err.Error(),
			Source: "the revocation lists of the verifier", Err: err, Hint: "the vendor no longer vouches for this device: use another"}}
	case err != nil:
		s.Fields[FieldRevocation] = "stale: " + err.Error()
	case len(r.Unchecked) > 0:
		s.Fields[FieldRevocation] = "unchecked: " + r.Unchecked[0].Subject + ": " + r.Unchecked[0].Why
	default:
		s.Fields[FieldRevocation] = "checked"
	}
	if !r.Until.IsZero() && err == nil && (s.Until.IsZero() || r.Until.Before(s.Until)) {
		s.Until, s.UntilWhat = r.Until, r.UntilWhat
	}
	return nil
}
