// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"crypto/x509"
	"time"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// cacheSize bounds the platforms, and the pieces of collateral, that a [Verifier] remembers.
const cacheSize = 1024

// Verified is a quote whose signatures and chain were checked. Only [Verifier.Verify] makes one.
type Verified struct {
	Report  *Report
	Version int // of the quote: 4 or 5
	// Proof is what vouches for the report: the platform's chain and, with collateral, the TCB result.
	*intel.Proof
	Time time.Time // for which everything was checked
}

// Emulated reports whether an emulated Intel vouches for the report.
func (v *Verified) Emulated() bool { return v.Chain.Emulated() }

// Measurements returns what was measured of the TD: see [Report.Measurements].
func (v *Verified) Measurements() []evidence.Measurement { return v.Report.Measurements() }

// Verifier verifies quotes under fixed roots. It remembers platforms' chains and collateral that it has verified, each
// up to a number, and is safe for concurrent use.
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

// Verify checks a quote at a given time: its form, the PCK's chain to a root, the signatures of quote and QE report, and
// the hash that binds them. With collateral (candidates in the forms of [intel.ParseCollateral]) also revocation and the
// TCB; without, Proof.TCB is nil. The error joins everything that was found.
func (v *Verifier) Verify(quote []byte, collateral [][]byte, now time.Time) (*Verified, error) {
	q, err := Parse(quote)
	if err != nil {
		return nil, err
	}
	p, err := v.cache.Verify(q.signed, q.signature, q.report.platform(),
		intel.Input{Roots: v.roots, Now: now, Collateral: collateral})
	if err != nil {
		return nil, err
	}
	return &Verified{Report: &q.report, Version: q.Version(), Proof: p, Time: now}, nil
}
