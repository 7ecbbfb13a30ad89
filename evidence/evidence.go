// SPDX-License-Identifier: Apache-2.0

// Package evidence turns the Evidence of a TEEP Agent into verified claims (RFC 9334 section 8, RFC 9711).
//
// Evidence travels as a [Bundle]: a CMW collection (RFC 9999) with what the hardware signed, the certificates that
// belong to it, the Agent's claims record, and the measured configuration. Only the hardware's part carries a
// signature. Its nonce is the [Binding]: a hash over the challenge, the Agent's key and the claims record, so one
// signature of the hardware covers everything. A verifier computes the binding from the challenge that it issued and
// from the key that signed the TEEP message; it believes nothing that the Agent sends for it.
//
// [Verify] answers one question: is this authentic and fresh? It reports every mismatch, each with a stable code, the
// claim, what was expected, what came, and where the expectation came from. Whether what was verified is acceptable is
// the question of package appraisal; the two results have different types.
//
// Hardware that an emulator plays is told apart on the wire: its root is an [Anchor] marked Emulated, or one whose
// subject carries the word EMULATED, and inside the binding its name carries the prefix "emu:".
package evidence
