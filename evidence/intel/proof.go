// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"cmp"
	"crypto/x509"
	"errors"
	"time"
)

// maxCandidates bounds the pieces of collateral that are tried for one quote.
const maxCandidates = 8

// Input is what a quote's signature is verified with.
type Input struct {
	Roots []*x509.Certificate
	Now   time.Time
	// Collateral holds candidates in the forms of [ParseCollateral]. None is no error: the proof then has no TCB. The
	// first 8 are tried.
	Collateral [][]byte
}

// Proof is a verified signature of a quote. Only [Cache.Verify] makes one.
type Proof struct {
	Chain      *Chain
	Collateral *VerifiedCollateral // that was used; nil without collateral
	TCB        *TCBResult          // nil without collateral: then nothing is known of revocation by Intel's current lists
}

// Until returns the time at which the first thing that the proof rests on ends to be valid, and its name.
func (p *Proof) Until() (time.Time, string) {
	to, what := p.Chain.Until()
	if p.Collateral != nil {
		if t, w := p.Collateral.Until(); t.Before(to) {
			return t, w
		}
	}
	return to, what
}

// Verify checks the signature of a quote with everything that vouches for it: the PCK's chain to a trusted root at the
// given time, revocation, the QE's report, the signature over the signed part, and the TCB against the collateral. td is
// nil for SGX. Of several pieces of collateral for this platform, the one with the highest tcbEvaluationDataNumber counts,
// and of those the latest: who brings Evidence cannot choose an older judgement than the verifier keeps. If any piece that is
// valid says that the PCK is revoked, it is. The error joins everything that was found.
func (c *Cache) Verify(signed []byte, s *SignatureData, td *TDXPlatform, in Input) (*Proof, error) {
	chain, err := c.ChainAnyTime(s, in.Roots)
	if err != nil {
		return nil, join(err, s.verifyAlone(signed))
	}
	p := &Proof{Chain: chain}
	collateralErr := c.choose(p, &s.QEReport, td, in)
	if collateralErr == nil && p.TCB == nil {
		tee := SGX
		if td != nil {
			tee = TDX
		}
		collateralErr = s.QEReport.checkQE(tee, chain.Emulated())
	}
	if err := join(chain.ValidAt(in.Now), s.Verify(signed, chain.PCK), collateralErr); err != nil {
		return nil, err
	}
	return p, nil
}

// verifyAlone checks the signature with the PCK in the quote, for which no root vouches, so that a bad signature is
// reported beside a bad root.
func (s *SignatureData) verifyAlone(signed []byte) error {
	certs, err := s.Certificates()
	if err != nil {
		return nil // reported already
	}
	pck, err := ParsePCK(certs[0])
	if err != nil {
		return nil // reported already
	}
	return s.Verify(signed, pck)
}

// choose evaluates the candidates and takes the judgement of the newest that is valid and for this platform, also where
// that is a refusal.
func (c *Cache) choose(p *Proof, qe *EnclaveReport, td *TDXPlatform, in Input) error {
	var unfit, revoked, judgement error
	for _, data := range in.Collateral[:min(len(in.Collateral), maxCandidates)] {
		var result *TCBResult
		v, err := c.Collateral(data, p.Chain.Root, in.Now)
		if err == nil {
			result, err = v.Evaluate(p.Chain, qe, td)
		}
		switch {
		case errors.Is(err, ErrRevoked):
			revoked = err
		case v == nil || errors.Is(err, ErrCollateral):
			if unfit == nil {
				unfit = err
			}
		case p.Collateral == nil || v.newer(p.Collateral):
			p.Collateral, p.TCB, judgement = v, result, err
		}
	}
	switch {
	case revoked != nil:
		return revoked
	case p.Collateral != nil:
		return judgement
	}
	return unfit
}

// newer compares editions: those of the TCB info first, which changes more often.
func (v *VerifiedCollateral) newer(o *VerifiedCollateral) bool {
	return cmp.Or(cmp.Compare(v.info.EvaluationNumber, o.info.EvaluationNumber), cmp.Compare(v.qe.EvaluationNumber, o.qe.EvaluationNumber),
		v.info.IssueDate.Compare(o.info.IssueDate), v.qe.IssueDate.Compare(o.qe.IssueDate)) > 0
}
