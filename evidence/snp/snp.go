// SPDX-License-Identifier: Apache-2.0

// Package snp reads, verifies and makes AMD SEV-SNP attestation reports.
//
// A report (AMD publication 56860, "SEV Secure Nested Paging Firmware ABI", section 7.3) has 1184 bytes: what the secure
// processor says of the guest, and an ECDSA P-384 signature over the first 672 of them. It is signed by a VCEK, a key of one
// chip at one firmware level, or by a VLEK, a key that AMD lent to a cloud provider. Above them stand an intermediate (ASK
// for VCEKs, ASVK for VLEKs) and AMD's root of the product line (ARK), both RSA-4096 (publication 57230).
//
// Milan and Genoa are verified by go-sev-guest. Its options are always given the roots of the caller: left empty, the
// library would fall back on roots of its own choice (up to v0.14.1 even on the ones inside the Evidence). It cannot read
// the certificates of Turin, which carry an extension that it does not know; their chain goes through crypto/x509.
// Beyond the library, the certificate must be for the chip and the firmware level that the report names.
//
// Nothing here goes to a network. Whether a verified report is acceptable (debugging, VMPL, minimum firmware) is not
// decided here.
package snp

import (
	"errors"
	"fmt"
)

// Errors of this package; an error of [Verify] may join several.
var (
	ErrMalformed   = errors.New("snp: malformed report")
	ErrCertificate = errors.New("snp: endorsement key certificate")
	ErrNoRoot      = errors.New("snp: no trusted root")
	ErrChain       = errors.New("snp: certificate chain does not lead to a trusted root")
	ErrValidity    = errors.New("snp: certificate is out of its time")
	ErrSignature   = errors.New("snp: signature of the report does not verify")
	ErrMismatch    = errors.New("snp: certificate is not for this report")
)

// Product is a processor line with roots of its own.
type Product string

// Products.
const (
	Milan Product = "Milan"
	Genoa Product = "Genoa" // Bergamo and Siena included, which share its roots
	Turin Product = "Turin"
)

// Signer is the kind of key that signed a report (SIGNING_KEY).
type Signer uint8

// Signers. The values are those of the report.
const (
	VCEK Signer = 0 // key of the chip
	VLEK Signer = 1 // key that AMD lent to a cloud provider
)

// String gives AMD's name of the key.
func (s Signer) String() string {
	switch s {
	case VCEK:
		return "VCEK"
	case VLEK:
		return "VLEK"
	}
	return fmt.Sprintf("signing key %d", uint8(s))
}

// TCB is a firmware level: security version numbers of the parts.
type TCB struct {
	FMC        uint8 // Turin only
	Bootloader uint8
	TEE        uint8
	SNP        uint8
	Microcode  uint8
}

// AtLeast reports whether no part is older than in min.
func (t TCB) AtLeast(min TCB) bool {
	return t.FMC >= min.FMC && t.Bootloader >= min.Bootloader && t.TEE >= min.TEE && t.SNP >= min.SNP && t.Microcode >= min.Microcode
}

// String names the parts.
func (t TCB) String() string {
	s := fmt.Sprintf("bootloader %d, TEE %d, SNP %d, microcode %d", t.Bootloader, t.TEE, t.SNP, t.Microcode)
	if t.FMC > 0 {
		s = fmt.Sprintf("FMC %d, ", t.FMC) + s
	}
	return s
}

// RawTCB is TCB_VERSION as it stands in a report. Its layout depends on the product (publication 56860 section 2.2).
type RawTCB [8]byte

// decode reads the parts; reserved reports that a byte without meaning is not zero.
func (r RawTCB) decode(p Product) (t TCB, reserved bool) {
	if p == Turin {
		return TCB{FMC: r[0], Bootloader: r[1], TEE: r[2], SNP: r[3], Microcode: r[7]}, r[4]|r[5]|r[6] != 0
	}
	return TCB{Bootloader: r[0], TEE: r[1], SNP: r[6], Microcode: r[7]}, r[2]|r[3]|r[4]|r[5] != 0
}

// Raw returns the level in the form that it has in a report of that product.
func (t TCB) Raw(p Product) RawTCB {
	if p == Turin {
		return RawTCB{t.FMC, t.Bootloader, t.TEE, t.SNP, 0, 0, 0, t.Microcode}
	}
	return RawTCB{t.Bootloader, t.TEE, 0, 0, 0, 0, t.SNP, t.Microcode}
}

// Policy is the guest's policy (publication 56860 section 4.3): what the host may do with it.
type Policy uint64

// Bits of a policy.
const (
	PolicySMT          Policy = 1 << 16
	policyReserved     Policy = 1 << 17 // must be one
	PolicyMigrationMA  Policy = 1 << 18 // a migration agent may be associated
	PolicyDebug        Policy = 1 << 19 // the host may read and write the guest's memory
	PolicySingleSocket Policy = 1 << 20
	policyKnown        Policy = 1<<26 - 1
)

// Debug reports whether the host may read the guest's memory.
func (p Policy) Debug() bool { return p&PolicyDebug != 0 }

// Migratable reports whether a migration agent may move the guest.
func (p Policy) Migratable() bool { return p&PolicyMigrationMA != 0 }

// ABI returns the minimum firmware ABI version that the guest asks for.
func (p Policy) ABI() (major, minor uint8) { return uint8(p >> 8), uint8(p) }

// String gives the number, and the dangerous bits by name.
func (p Policy) String() string {
	s := fmt.Sprintf("0x%x", uint64(p))
	if p.Debug() {
		s += " (DEBUG)"
	}
	if p.Migratable() {
		s += " (MIGRATE_MA)"
	}
	return s
}
