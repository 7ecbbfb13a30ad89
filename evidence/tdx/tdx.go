// SPDX-License-Identifier: Apache-2.0

// Package tdx reads, verifies and makes attestation quotes of Intel TDX trust domains.
//
// A quote of version 4 (Intel, "TDX DCAP Quote Generation Library and Quote Verification Library", appendix A.3) is a header
// of 48 bytes, a TD report 1.0 of 584 bytes, and signature data; version 5 puts type and size before the body, which is
// then a TD report 1.0, or 1.5 with 648 bytes. The TD report says what the TDX module measured: MRTD, the TD at its
// launch; the run-time registers RTMR0 to RTMR3, which firmware and kernel extend; MRCONFIGID, MROWNER and MROWNERCONFIG,
// which the host sets at launch; and REPORTDATA, which the TD gives. Package intel has the signature data, the chain to
// Intel's root, and Intel's collateral, which SGX shares.
//
// What the registers stand for is in the event log that the firmware keeps (CCEL, [ParseEventLog]). It carries no signature
// of its own; [EventLog.Check] replays it and compares.
//
// The configuration of a TD is in MRCONFIGID: its SHA-256, then 16 zero bytes ([ConfigID]).
//
// All of this is own code. go-tdx-guest, the library for quotes in Go, is the oracle of the tests, and not used here: it
// accepts only platforms that are UpToDate, has no lower bounds of validity, and ignores the status of the platform's TCB
// level where TEE_TCB_SVN[1] is above 0, that is with every TDX module since 1.5 (a test shows it accepting collateral that
// calls the platform Revoked). It also parses all collateral again for every quote.
//
// Whether a verified quote is acceptable (debugging, statuses, versions) is not decided here.
package tdx

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"strings"
)

// MediaType is the type of a bare quote. Evidence normally travels in the kernel's wrapper (package tsm).
const MediaType = "application/vnd.sealift.tdx-quote"

// Errors of this package; those of package intel come beside them.
var (
	ErrMalformed = errors.New("tdx: malformed quote")
	ErrEventLog  = errors.New("tdx: event log")
	ErrRegister  = errors.New("tdx: event log does not give the quoted register")
)

// Attributes are the attributes of a TD (Intel TDX Module base architecture specification, "ATTRIBUTES"): how it was
// launched. The lowest byte is the group TUD, TD under debug: any bit there lets others than the TD read its memory.
type Attributes uint64

// Bits of the attributes.
const (
	AttributeDebug         Attributes = 1 << 0
	groupTUD               Attributes = 0xff
	AttributeLASS          Attributes = 1 << 27
	AttributeSEPTVEDisable Attributes = 1 << 28 // the host cannot make the TD's memory disappear unnoticed
	AttributeMigratable    Attributes = 1 << 29
	AttributePKS           Attributes = 1 << 30
	AttributeKL            Attributes = 1 << 31
	AttributePerfmon       Attributes = 1 << 63
)

// Debug reports whether the TD can be debugged: any bit of the group TUD.
func (a Attributes) Debug() bool { return a&groupTUD != 0 }

// Migratable reports whether a migration TD may move the TD to another platform.
func (a Attributes) Migratable() bool { return a&AttributeMigratable != 0 }

// SEPTVEDisable reports whether the TD gets no exception where the host takes a page away, which Linux demands.
func (a Attributes) SEPTVEDisable() bool { return a&AttributeSEPTVEDisable != 0 }

// String gives the number and the names of its bits.
func (a Attributes) String() string {
	var names []string
	if a.Debug() {
		names = append(names, "DEBUG")
	}
	for _, n := range []struct {
		bit  Attributes
		name string
	}{{AttributeLASS, "LASS"}, {AttributeSEPTVEDisable, "SEPT_VE_DISABLE"}, {AttributeMigratable, "MIGRATABLE"},
		{AttributePKS, "PKS"}, {AttributeKL, "KL"}, {AttributePerfmon, "PERFMON"}} {
		if a&n.bit != 0 {
			names = append(names, n.name)
		}
	}
	if len(names) == 0 {
		return fmt.Sprintf("0x%x", uint64(a))
	}
	return fmt.Sprintf("0x%x (%s)", uint64(a), strings.Join(names, ", "))
}

// XFAM says which extended processor state the TD may use, with the bits of XCR0 and IA32_XSS.
type XFAM uint64

// String gives the number.
func (x XFAM) String() string { return fmt.Sprintf("0x%x", uint64(x)) }

// SVN is TEE_TCB_SVN: the versions of the TDX TCB components. The first is the security version of the TDX module, the
// second its major version.
type SVN [16]uint8

// String gives the versions in hexadecimal.
func (s SVN) String() string { return fmt.Sprintf("%x", s[:]) }

// ConfigID returns the MRCONFIGID for a measured configuration: its SHA-256, then 16 zero bytes.
func ConfigID(config [sha256.Size]byte) (id [48]byte) {
	copy(id[:], config[:])
	return id
}
