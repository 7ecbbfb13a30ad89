// SPDX-License-Identifier: Apache-2.0

// Package all links the verifiers of every hardware architecture, for programs that accept Evidence of any. A program that
// needs fewer names their packages itself: each brings a library of its own with it.
package all

import (
	"sealift/evidence"
	"sealift/evidence/cca"
	"sealift/evidence/csv"
	"sealift/evidence/optee"
	"sealift/evidence/sgx"
	"sealift/evidence/snp"
	"sealift/evidence/tdx"
)

// New returns a verifier of each architecture, and of OP-TEE's own format beside PSA, which package evidence reads itself.
// They remember what they have verified, so a program makes them once. They are safe for concurrent use.
func New() []evidence.HardwareVerifier {
	return []evidence.HardwareVerifier{optee.Hardware{}, sgx.NewHardware(), snp.NewHardware(), cca.NewHardware(),
		tdx.NewHardware(), csv.NewHardware()}
}
