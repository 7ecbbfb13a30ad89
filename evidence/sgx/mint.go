// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"fmt"
	"io"
	"time"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// Device is an emulated platform with SGX: it makes quotes of the same format, under an emulated Intel.
type Device struct {
	platform *intel.Platform
}

// NewDevice makes a platform under an emulated Intel. The zero value of most of s is fine; PPID and FMSPC tell platforms
// apart.
func NewDevice(rand io.Reader, p *intel.PKI, s intel.PlatformSpec) (*Device, error) {
	platform, err := p.NewPlatform(rand, s)
	if err != nil {
		return nil, fmt.Errorf("make an SGX platform: %w", err)
	}
	return &Device{platform}, nil
}

// Marshal returns the platform's keys and certificates in PEM, to be kept where only their owner can read them.
func (d *Device) Marshal() ([]byte, error) { return d.platform.Marshal() }

// ParseDevice reads what [Device.Marshal] wrote.
func ParseDevice(data []byte) (*Device, error) {
	platform, err := intel.ParsePlatform(data)
	if err != nil {
		return nil, err
	}
	return &Device{platform}, nil
}

// Platform returns the platform: its PCK, and what collateral for it is made from.
func (d *Device) Platform() *intel.Platform { return d.platform }

// InstanceID is the identity of the platform, as a verified quote gives it.
func (d *Device) InstanceID() [33]byte { return d.platform.PCK.InstanceID() }

// CollateralSpec describes collateral that finds the platform UpToDate.
func (d *Device) CollateralSpec(now time.Time) intel.CollateralSpec {
	return d.platform.CollateralSpec(intel.SGX, nil, now)
}

// xfrmUsual allows x87, SSE, AVX and AVX-512, as enclaves on servers do.
const xfrmUsual = 0xe7

// Report returns the report of a release enclave with key separation and sharing, which [Device.Mint] would sign. config is
// the SHA-256 of the measured configuration. The caller changes what it wants different.
func (d *Device) Report(mrEnclave, mrSigner, config [32]byte, reportData [64]byte) *Report {
	return &Report{CPUSVN: d.platform.PCK.CPUSVN, Attributes: AttrInit | AttrMode64 | AttrKSS, XFRM: xfrmUsual, MREnclave: mrEnclave,
		MRSigner: mrSigner, ConfigID: ConfigID(config), ISVProdID: 1, ISVSVN: 1, ReportData: reportData}
}

// Mint signs a report as the platform's quoting enclave does and returns the quote's bytes. The user data in the header
// says EMULATED.
func (d *Device) Mint(rand io.Reader, r *Report) ([]byte, error) {
	q := &Quote{Header: Header{QESVN: intel.QE(intel.SGX).ISVSVN, PCESVN: d.platform.PCK.PCESVN}, Report: *r}
	copy(q.Header.UserData[:], evidence.EmulatedMark)
	var err error
	if q.Signature, err = d.platform.Sign(rand, intel.SGX, q.signedPart()); err != nil {
		return nil, fmt.Errorf("sign an SGX quote: %w", err)
	}
	return q.Marshal(), nil
}
