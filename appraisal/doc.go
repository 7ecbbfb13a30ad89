// SPDX-License-Identifier: Apache-2.0

// Package appraisal decides whether verified Evidence is acceptable: it compares [evidence.Verified] with a [Policy] of
// reference values and writes a [Result] in the terms of AR4SI (draft-ietf-rats-ar4si section 2.3).
//
// Nothing is affirmed by default. Every claim of the trustworthiness vector begins without assertion and gets a value
// only from a comparison that was made; each comparison leaves a [Finding], also where it is satisfied, with what was
// expected, what came, and where the expectation came from. The worst claim gives the status (AR4SI section 2.3.5:
// affirming, warning, contraindicated), and a claim that a positive result needs but that nothing asserted keeps the
// status at none.
//
// Expectations have two sources: the policy, which a data owner or an operator keeps, and [Expect], which the caller
// computes at run time (the digest of the configuration that it asked for, the TA that it signed). Both can only add
// conditions.
//
// Emulated hardware is capped at "warning" unless the policy names the emulated root's fingerprint on purpose; a
// production policy never accepts it. Whatever the outcome, the result says EMULATED.
//
// [Issue] signs a result as an EAT of the TEEP profile (draft-ietf-teep-protocol section 5), [ParseResult] reads one.
package appraisal
