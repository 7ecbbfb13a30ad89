// SPDX-License-Identifier: Apache-2.0

// Package csv reads, verifies and makes attestation reports of Hygon's China Secure Virtualization.
//
// A report says what the secure processor knows of a guest and is signed with the platform endorsement key (PEK), whose
// certificate it holds. Above the PEK stand the chip endorsement key (CEK), the Hygon signing key (HSK) and the Hygon
// root key (HRK): HRK signs HSK, HSK signs CEK, CEK signs PEK. All signatures are SM2 with SM3 (GB/T 32918, GB/T 32905)
// under the user id that stands in the signer's certificate. Certificates and reports are fixed C structures with integers,
// coordinates and signatures in little-endian order; there is no standard document, the layout is the one of Hygon's
// published tools.
//
// Two versions are read. In version 1 the fields are masked by XOR with a 4-byte nonce of the firmware (anonce), and the
// signature covers the first 180 masked bytes. Version 2, which says so in a wrapper, has registers (RTMR 0 to 4) and signs
// 1024 bytes. In both, an HMAC-SM3 protects the block with the PEK's certificate; its key, mnonce, stands in the report, so
// it detects damage and proves nothing. The chip's serial number is protected by that alone.
//
// The format knows no validity times and no revocation. Whether a verified report is acceptable is not decided here.
package csv

import (
	"errors"
	"fmt"
)

// Errors of this package; an error of [Verify] may join several.
var (
	ErrMalformed   = errors.New("csv: malformed report")
	ErrCertificate = errors.New("csv: malformed certificate")
	ErrNoRoot      = errors.New("csv: no trusted root")
	ErrChain       = errors.New("csv: certificate chain does not lead to a trusted root")
	ErrSignature   = errors.New("csv: signature of the report does not verify")
	ErrMAC         = errors.New("csv: MAC over the signer's block does not verify")
)

// VendorRootFingerprint is the SHA-256 of Hygon's root certificate, which operators get from the vendor.
const VendorRootFingerprint = "296efa97580464aca0ab5eefe42199ee05862182508d1629f29cf4dc175b10cd"

// Policy is the guest's policy.
type Policy uint32

// Bits of a policy.
const (
	PolicyNoDebug         Policy = 1 << 0 // the host cannot debug the guest
	PolicyNoShare         Policy = 1 << 1 // no key sharing with other guests
	PolicyCSV2            Policy = 1 << 2 // encrypted register state is required
	PolicyNoSend          Policy = 1 << 3 // no migration to another platform
	PolicyDomain          Policy = 1 << 4
	PolicyCSV             Policy = 1 << 5
	PolicyCSV3            Policy = 1 << 6
	PolicyASIDReusePolicy        = 1 << 7
)

// Debug reports whether the host may debug the guest.
func (p Policy) Debug() bool { return p&PolicyNoDebug == 0 }

// Migratable reports whether the guest may be sent to another platform.
func (p Policy) Migratable() bool { return p&PolicyNoSend == 0 }

// String gives the number, and what is dangerous in it.
func (p Policy) String() string {
	s := fmt.Sprintf("0x%x", uint32(p))
	if p.Debug() {
		s += " (debugging allowed)"
	}
	if p.Migratable() {
		s += " (migration allowed)"
	}
	return s
}

// usage is what a key is for.
type usage uint32

const (
	usageHRK  usage = 0
	usageHSK  usage = 0x13
	usageNone usage = 0x1000
	usageOCA  usage = 0x1001 // the platform owner, who may countersign a PEK
	usagePEK  usage = 0x1002
	usageCEK  usage = 0x1004
)

// String names the key.
func (u usage) String() string {
	switch u {
	case usageHRK:
		return "HRK"
	case usageHSK:
		return "HSK"
	case usageOCA:
		return "OCA"
	case usagePEK:
		return "PEK"
	case usageCEK:
		return "CEK"
	}
	return fmt.Sprintf("key usage 0x%x", uint32(u))
}
