// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"crypto/x509"
	"errors"
	"time"

	"sealift/evidence/intel"
)

// cacheSize bounds the platforms, and the pieces of collateral, that a [Verifier] remembers.
const cacheSize = 1024

// Verified is a quote whose signatures and chain were checked.
type Verified struct {
	Header Header
	Report *Report
	*intel.Proof
	Time time.Time // the time for which everything was checked
}

// Emulated reports whether an emulated Intel vouches for the quote.
func (v *Verified) Emulated() bool { return v.Chain.Emulated() }

// InstanceID identifies the platform, not the enclave: see [intel.PCK.InstanceID].
func (v *Verified) InstanceID() [33]byte { return v.Chain.PCK.InstanceID() }

// Verifier verifies quotes under fixed roots and remembers the chains and the collateral that it has verified, by
// SHA-256. It is safe for concurrent use.
type Verifier struct {
	roots []*x509.Certificate
	cache *intel.Cache
}

// NewVerifier returns a Verifier that trusts these roots and no other. Intel's is [intel.VendorRoot].
func NewVerifier(roots ...*x509.Certificate) *Verifier {
	return &Verifier{roots: roots, cache: intel.NewCache(cacheSize)}
}

// Verify is [Verifier.Verify] for a single quote.
func Verify(quote []byte, collateral [][]byte, now time.Time, roots ...*x509.Certificate) (*Verified, error) {
	return NewVerifier(roots...).Verify(quote, collateral, now)
}

// Verify checks a quote at a given time: its form, the chain of the PCK certificate to a root, the PCK's signature over
// the quoting enclave's report, that report's hash of the attestation key, and the quote's signature by that key. With
// collateral (candidates in the forms of [intel.ParseCollateral]; nil for none) also whether the platform is revoked, and
// its TCB status. A bad status is a result and no error. The error joins a [*evidence.Mismatch] for everything that was
// found, but for bytes that are no quote.
func (v *Verifier) Verify(quote []byte, collateral [][]byte, now time.Time) (*Verified, error) {
	q, err := Parse(quote)
	if err != nil {
		return nil, err
	}
	p, err := q.verify(v.cache, intel.Input{Roots: v.roots, Now: now, Collateral: collateral})
	if err != nil {
		return nil, err
	}
	return &Verified{Header: q.Header, Report: &q.Report, Proof: p, Time: now}, nil
}

func (q *Quote) verify(cache *intel.Cache, in intel.Input) (*intel.Proof, error) {
	wrong := q.Report.check()
	p, err := cache.Verify(q.signed, q.Signature, nil, in)
	if err := errors.Join(append(wrong, err)...); err != nil {
		return nil, err
	}
	return p, nil
}
