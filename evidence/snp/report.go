// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"encoding/binary"
	"fmt"
)

// Sizes and offsets of a report, publication 56860 table 23.
const (
	ReportSize      = 0x4a0
	signedSize      = 0x2a0
	coordinateSize  = 72 // of r and s, little-endian
	signatureEnd    = signedSize + 2*coordinateSize
	signatureAlg    = 1 // ECDSA P-384 with SHA-384
	minVersion      = 2
	versionWithCPU  = 3
	versionWithMits = 5
	maxVersion      = 5
)

// Version is a firmware version.
type Version struct{ Major, Minor, Build uint8 }

// String gives the version with dots, as it can be compared.
func (v Version) String() string { return fmt.Sprintf("%d.%d.%d", v.Major, v.Minor, v.Build) }

// Report is the content of an attestation report.
type Report struct {
	Version         uint32
	GuestSVN        uint32
	Policy          Policy
	FamilyID        [16]byte
	ImageID         [16]byte
	VMPL            uint32
	CurrentTCB      RawTCB
	PlatformInfo    uint64
	AuthorKeyEn     bool // AuthorKeyDigest holds something
	MaskChipKey     bool // the host had ChipID blanked
	Signer          Signer
	ReportData      [64]byte // what the guest gave: the binding
	Measurement     [48]byte // SHA-384 of the guest at launch
	HostData        [32]byte // what the host gave at launch: the digest of the configuration
	IDKeyDigest     [48]byte
	AuthorKeyDigest [48]byte
	ReportID        [32]byte
	ReportIDMA      [32]byte
	ReportedTCB     RawTCB // the level that the VCEK is for
	Family          uint8  // of the processor; version 3 and later
	Model           uint8
	Stepping        uint8
	ChipID          [64]byte
	CommittedTCB    RawTCB // the level below which the platform cannot go back
	Current         Version
	Committed       Version
	LaunchTCB       RawTCB
	LaunchMits      uint64 // mitigation vectors; version 5
	CurrentMits     uint64
	Signature       [2 * coordinateSize]byte // r and s, each 72 bytes, little-endian
}

// wire is a report's layout, so that reading and writing cannot differ.
type wire struct {
	Version, GuestSVN            uint32
	Policy                       uint64
	FamilyID, ImageID            [16]byte
	VMPL, SignatureAlg           uint32
	CurrentTCB                   [8]byte
	PlatformInfo                 uint64
	Flags, Reserved0             uint32
	ReportData                   [64]byte
	Measurement                  [48]byte
	HostData                     [32]byte
	IDKeyDigest, AuthorKeyDigest [48]byte
	ReportID, ReportIDMA         [32]byte
	ReportedTCB                  [8]byte
	CPU                          [3]byte
	Reserved1                    [21]byte
	ChipID                       [64]byte
	CommittedTCB                 [8]byte
	Current                      [3]byte // build, minor, major
	Reserved2                    byte
	Committed                    [3]byte
	Reserved3                    byte
	LaunchTCB                    [8]byte
	LaunchMits, CurrentMits      uint64
	Reserved4                    [signedSize - 0x208]byte
	Signature                    [2 * coordinateSize]byte
	Reserved5                    [ReportSize - signatureEnd]byte
}

// Parse reads a report strictly: its exact size, a known version, every reserved bit as the ABI wants it. It verifies
// nothing.
func Parse(data []byte) (*Report, error) {
	if len(data) != ReportSize {
		return nil, fmt.Errorf("%w: %d bytes, want %d", ErrMalformed, len(data), ReportSize)
	}
	var w wire
	if _, err := binary.Decode(data, binary.LittleEndian, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if w.Version < minVersion || w.Version > maxVersion {
		return nil, fmt.Errorf("%w: VERSION is %d, want %d to %d", ErrMalformed, w.Version, minVersion, maxVersion)
	}
	if err := w.checkFields(); err != nil {
		return nil, err
	}
	r := w.report()
	if !bytes.Equal(r.Marshal(), data) {
		return nil, fmt.Errorf("%w: a reserved field is not zero", ErrMalformed)
	}
	return r, nil
}

func (w *wire) checkFields() error {
	policy := Policy(w.Policy)
	switch signer := w.Flags >> 2 & 7; {
	case policy&policyReserved == 0 || policy&^policyKnown != 0:
		return fmt.Errorf("%w: POLICY 0x%x has a reserved bit of the wrong value", ErrMalformed, w.Policy)
	case w.VMPL > 3:
		return fmt.Errorf("%w: VMPL is %d, want 0 to 3", ErrMalformed, w.VMPL)
	case w.SignatureAlg != signatureAlg:
		return fmt.Errorf("%w: SIGNATURE_ALGO is %d, want %d (ECDSA P-384)", ErrMalformed, w.SignatureAlg, signatureAlg)
	case w.Flags>>5 != 0:
		return fmt.Errorf("%w: KEY_INFO 0x%x has a reserved bit set", ErrMalformed, w.Flags)
	case signer > uint32(VLEK):
		return fmt.Errorf("%w: SIGNING_KEY is %d, want 0 (VCEK) or 1 (VLEK)", ErrMalformed, signer)
	case w.Version < versionWithCPU && w.CPU != [3]byte{}, w.Version < versionWithMits && w.LaunchMits|w.CurrentMits != 0:
		return fmt.Errorf("%w: a field that VERSION %d does not have is not zero", ErrMalformed, w.Version)
	}
	return nil
}

func (w *wire) report() *Report {
	return &Report{
		Version: w.Version, GuestSVN: w.GuestSVN, Policy: Policy(w.Policy), FamilyID: w.FamilyID, ImageID: w.ImageID,
		VMPL: w.VMPL, CurrentTCB: w.CurrentTCB, PlatformInfo: w.PlatformInfo, AuthorKeyEn: w.Flags&1 != 0,
		MaskChipKey: w.Flags&2 != 0, Signer: Signer(w.Flags >> 2 & 7), ReportData: w.ReportData, Measurement: w.Measurement,
		HostData: w.HostData, IDKeyDigest: w.IDKeyDigest, AuthorKeyDigest: w.AuthorKeyDigest, ReportID: w.ReportID,
		ReportIDMA: w.ReportIDMA, ReportedTCB: w.ReportedTCB, Family: w.CPU[0], Model: w.CPU[1], Stepping: w.CPU[2],
		ChipID: w.ChipID, CommittedTCB: w.CommittedTCB, Current: Version{w.Current[2], w.Current[1], w.Current[0]},
		Committed: Version{w.Committed[2], w.Committed[1], w.Committed[0]}, LaunchTCB: w.LaunchTCB, LaunchMits: w.LaunchMits,
		CurrentMits: w.CurrentMits, Signature: w.Signature,
	}
}

// Marshal returns the report's bytes.
func (r *Report) Marshal() []byte {
	flags := uint32(r.Signer) << 2
	if r.AuthorKeyEn {
		flags |= 1
	}
	if r.MaskChipKey {
		flags |= 2
	}
	w := wire{
		Version: r.Version, GuestSVN: r.GuestSVN, Policy: uint64(r.Policy), FamilyID: r.FamilyID, ImageID: r.ImageID,
		VMPL: r.VMPL, SignatureAlg: signatureAlg, CurrentTCB: r.CurrentTCB, PlatformInfo: r.PlatformInfo, Flags: flags,
		ReportData: r.ReportData, Measurement: r.Measurement, HostData: r.HostData, IDKeyDigest: r.IDKeyDigest,
		AuthorKeyDigest: r.AuthorKeyDigest, ReportID: r.ReportID, ReportIDMA: r.ReportIDMA, ReportedTCB: r.ReportedTCB,
		CPU: [3]byte{r.Family, r.Model, r.Stepping}, ChipID: r.ChipID, CommittedTCB: r.CommittedTCB,
		Current:   [3]byte{r.Current.Build, r.Current.Minor, r.Current.Major},
		Committed: [3]byte{r.Committed.Build, r.Committed.Minor, r.Committed.Major}, LaunchTCB: r.LaunchTCB,
		LaunchMits: r.LaunchMits, CurrentMits: r.CurrentMits, Signature: r.Signature,
	}
	out := make([]byte, 0, ReportSize)
	out, err := binary.Append(out, binary.LittleEndian, &w)
	if err != nil {
		panic(err) // every field of wire has a fixed size
	}
	return out
}

// product returns the product that the processor's family and model say; false if the report does not tell (version 2)
// or names an unknown processor.
func (r *Report) product() (Product, bool) {
	switch {
	case r.Family == 0x19 && r.Model <= 0x0f:
		return Milan, true
	case r.Family == 0x19 && r.Model >= 0x10 && r.Model <= 0x1f, r.Family == 0x19 && r.Model >= 0xa0 && r.Model <= 0xaf:
		return Genoa, true
	case r.Family == 0x1a && r.Model <= 0x1f:
		return Turin, true
	}
	return "", false
}
