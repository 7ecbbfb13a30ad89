// SPDX-License-Identifier: Apache-2.0

// Package intel is what SGX and TDX share: the certificates of Intel's quoting infrastructure, its collateral, the
// signature of a quote, and the convergence of its TCB statuses.
//
// A quote is signed by an attestation key that a quoting enclave (QE) made. The QE's report, whose REPORTDATA is the hash
// of that key, is signed by the platform's Provisioning Certification Key (PCK). The PCK's certificate names the platform
// (PPID, FMSPC) and its security versions in an extension of Intel's ("Intel SGX PCK Certificate and Certificate
// Revocation List Profile Specification", section 1.3.5); above it stand the Platform or Processor CA and the Intel SGX
// Root CA. [SignatureData] and [Chain] are these two parts.
//
// The quote alone says which versions are there, and not whether they are good. That is in Intel's collateral: the TCB
// info of the platform's FMSPC, the identity of the QE, and revocation lists, all signed under the same root and valid
// for about 30 days ([Collateral]; "Intel SGX and Intel TDX PCS API", version 4). [VerifiedCollateral.Evaluate] matches
// platform, TDX module and QE against it, each by itself, and joins the three statuses. A status that is not UpToDate is
// a result and no error: policies decide. That no level matches, or that the collateral is for another platform, is one.
//
// Every type that holds unverified bytes differs from the one that holds verified ones. Roots are the caller's, and so is
// the time. Nothing goes to a network. Errors join a [*evidence.Mismatch] for everything that was found; each wraps one
// of the sentinels below.
//
// [PKI] is an emulated Intel: the same formats under a root of its own, with collateral of any status and time.
package intel

import (
	"errors"
	"fmt"

	"sealift/evidence"
)

// Errors of this package.
var (
	ErrMalformed   = errors.New("intel: malformed")
	ErrCertificate = errors.New("intel: certificate is unfit")
	ErrNoRoot      = errors.New("intel: no trusted root")
	ErrChain       = errors.New("intel: certificate chain does not lead to a trusted root")
	ErrTime        = errors.New("intel: outside of its validity")
	ErrRevoked     = errors.New("intel: revoked")
	ErrSignature   = errors.New("intel: signature does not verify")
	ErrQEReport    = errors.New("intel: the quoting enclave's report does not vouch for the attestation key")
	ErrCollateral  = errors.New("intel: collateral is not for this platform")
	ErrTCB         = errors.New("intel: no TCB level matches")
)

// TEE is the kind of TEE that a quote or collateral is about (tee_type of a quote's header).
type TEE uint32

// TEEs.
const (
	SGX TEE = 0x00
	TDX TEE = 0x81
)

// String gives Intel's name, which is also the "id" of TCB info.
func (t TEE) String() string {
	switch t {
	case SGX:
		return "SGX"
	case TDX:
		return "TDX"
	}
	return fmt.Sprintf("TEE type 0x%x", uint32(t))
}

// EndorsementKind is the kind under which [evidence.Endorsements] keeps collateral for a TEE, in a form that
// [ParseCollateral] reads. The key is [PCK.EndorsementKey].
func EndorsementKind(t TEE) string {
	if t == SGX {
		return "intel/sgx-collateral"
	}
	return "intel/tdx-collateral"
}

// problem makes one mismatch.
func problem(code string, sentinel error, claim, expected, got, source string) *evidence.Mismatch {
	return &evidence.Mismatch{Code: code, Claim: claim, Expected: expected, Got: got, Source: source, Err: sentinel}
}

func malformed(format string, args ...any) error {
	return fmt.Errorf("%w: "+format, append([]any{ErrMalformed}, args...)...)
}

// join is errors.Join for problems, some of which may be nil.
func join(all ...error) error { return errors.Join(all...) }
