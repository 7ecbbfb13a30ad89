// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"errors"
	"fmt"
)

// Codes of mismatches. They are stable: programs compare them, tests name them.
const (
	CodeMalformed   = "evidence.malformed"   // bytes that are no bundle, token or claims record
	CodeType        = "evidence.type"        // a media type that no verifier here reads
	CodeChallenge   = "evidence.challenge"   // the verifier's own challenge is unusable
	CodeFreshness   = "evidence.freshness"   // the challenge is too old
	CodeRoot        = "evidence.root"        // no configured anchor vouches for the device
	CodeCertificate = "evidence.certificate" // a certificate is expired or unfit
	CodeRevoked     = "evidence.revoked"     // a certificate is on a revocation list
	CodeSignature   = "evidence.signature"   // the hardware's signature does not verify
	CodeNonce       = "evidence.nonce"       // Evidence for another challenge: a replay
	CodeAgentKey    = "evidence.agent-key"   // Evidence for another Agent's key
	CodeHardware    = "evidence.hardware"    // emulated taken for real, or the reverse
	CodeBinding     = "evidence.binding"     // the hardware did not sign this claims record
	CodeConfig      = "evidence.config"      // the configuration is not the measured one
	CodeInstance    = "evidence.instance"    // the claims name another device than the hardware
)

// Mismatch is one reason why Evidence is not authentic, or not fresh. It is an error.
type Mismatch struct {
	Code     string // one of the codes
	Claim    string // what differs, for example "eat_nonce (owner's part)"
	Expected string
	Got      string
	Source   string // where the expectation came from
	Hint     string // what to do, may be empty
	Err      error  // the cause, may be nil
}

// Error gives everything in one line.
func (m *Mismatch) Error() string {
	return fmt.Sprintf("%s: %s: expected %s (from %s), got %s", m.Code, m.Claim, m.Expected, m.Source, m.Got)
}

// Unwrap returns the cause.
func (m *Mismatch) Unwrap() error { return m.Err }

// Mismatches returns all mismatches that an error of [Verify] holds, in the order in which they were found.
func Mismatches(err error) []*Mismatch {
	switch e := err.(type) { // not errors.As: the cause of a Mismatch can be a joined error too
	case nil:
		return nil
	case *Mismatch:
		return []*Mismatch{e}
	case interface{ Unwrap() []error }:
		var out []*Mismatch
		for _, one := range e.Unwrap() {
			out = append(out, Mismatches(one)...)
		}
		return out
	}
	return Mismatches(errors.Unwrap(err))
}

// findings collects mismatches.
type findings struct{ all []error }

func (f *findings) add(m Mismatch) { f.all = append(f.all, &m) }

func (f *findings) malformed(claim, want string, err error) {
	f.add(Mismatch{Code: CodeMalformed, Claim: claim, Expected: want, Got: err.Error(), Source: "the format", Err: err,
		Hint: "the bytes were damaged on the way, or the device speaks another version"})
}

func (f *findings) mismatches() []*Mismatch {
	out := make([]*Mismatch, len(f.all))
	for i, e := range f.all {
		out[i] = e.(*Mismatch)
	}
	return out
}

func (f *findings) err() error { return errors.Join(f.all...) }
