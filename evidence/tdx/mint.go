// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"encoding/binary"
	"fmt"
	"io"
	"time"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// emulatedSVN is the TEE_TCB_SVN of emulated platforms: a TDX module 1.5 with an identity of its own.
var emulatedSVN = SVN{0: 5, 1: 1, 2: 2}

// Device is an emulated platform with TDX.
type Device struct {
	platform *intel.Platform
	userData [20]byte
}

// NewDevice makes a platform under an emulated Intel. The zero value of most of s is fine; PPID and FMSPC tell platforms
// apart.
func NewDevice(rand io.Reader, p *intel.PKI, s intel.PlatformSpec) (*Device, error) {
	platform, err := p.NewPlatform(rand, s)
	if err != nil {
		return nil, fmt.Errorf("make a TDX platform: %w", err)
	}
	return newDevice(platform), nil
}

// Marshal returns the platform's keys and certificates in PEM, to be kept where only their owner can read them.
func (d *Device) Marshal() ([]byte, error) { return d.platform.Marshal() }

// ParseDevice reads what [Device.Marshal] wrote.
func ParseDevice(data []byte) (*Device, error) {
	platform, err := intel.ParsePlatform(data)
	if err != nil {
		return nil, err
	}
	return newDevice(platform), nil
}

func newDevice(p *intel.Platform) *Device {
	d := &Device{platform: p}
	copy(d.userData[:], evidence.EmulatedMark)
	return d
}

// Platform returns the platform: its PCK, and what collateral for it is made from.
func (d *Device) Platform() *intel.Platform { return d.platform }

// InstanceID is the identity of the platform, as a verified quote gives it.
func (d *Device) InstanceID() [33]byte { return d.platform.PCK.InstanceID() }

// CollateralSpec describes collateral that finds the reports of [Device.Report] UpToDate.
func (d *Device) CollateralSpec(now time.Time) intel.CollateralSpec {
	r := d.Report([48]byte{}, [48]byte{}, [64]byte{})
	return d.platform.CollateralSpec(intel.TDX, r.platform(), now)
}

// Report returns a TD report that [Device.Mint] would sign: no debugging, not migratable, registers zero. The caller fills
// in what was measured.
func (d *Device) Report(mrtd, configID [48]byte, reportData [64]byte) *Report {
	const avx = 0xe7 // x87, SSE, AVX, AVX-512
	return &Report{TEETCBSVN: emulatedSVN, Attributes: AttributeSEPTVEDisable, XFAM: avx, MRTD: mrtd, MRConfigID: configID,
		ReportData: reportData}
}

// Mint signs a quote as the quoting enclave does: version 4, or 5 for a TD report 1.5 (Extended). The host's user data in
// the header says EMULATED.
func (d *Device) Mint(rand io.Reader, r *Report) ([]byte, error) {
	version := uint16(4)
	if r.Extended {
		version = 5
	}
	return d.mint(rand, r, version)
}

func (d *Device) mint(rand io.Reader, r *Report, version uint16) ([]byte, error) {
	signed, err := r.marshalSigned(version, d.userData)
	if err != nil {
		return nil, err
	}
	s, err := d.platform.Sign(rand, intel.TDX, signed)
	if err != nil {
		return nil, fmt.Errorf("sign a TDX quote: %w", err)
	}
	signature := s.MarshalV4()
	out := binary.LittleEndian.AppendUint32(signed, uint32(len(signature)))
	return append(out, signature...), nil
}
