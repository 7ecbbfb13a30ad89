// SPDX-License-Identifier: Apache-2.0

package emuroot

import (
	"fmt"
	"io"
	"sync"
	"time"

	"sealift/evidence"
	"sealift/evidence/intel"
	"sealift/evidence/sgx"
	"sealift/evidence/tdx"
	"sealift/evidence/tsm"
)

// intelVendor is Intel for one of its two architectures.
type intelVendor struct {
	hw  evidence.Hardware
	pki *intel.PKI
}

func newIntel(hw evidence.Hardware) architecture {
	return architecture{
		make: func(rand io.Reader, now time.Time) (vendor, error) {
			pki, err := intel.NewPKI(rand, now)
			return &intelVendor{hw, pki}, err
		},
		open: func(data []byte) (vendor, error) {
			pki, err := intel.ParsePKI(data)
			return &intelVendor{hw, pki}, err
		},
	}
}

func (v *intelVendor) anchor() evidence.Anchor  { return v.pki.Anchor(v.hw) }
func (v *intelVendor) marshal() ([]byte, error) { return v.pki.Marshal() }

// platformSpec describes emulated platforms. The FMSPC is none of Intel's.
var platformSpec = intel.PlatformSpec{FMSPC: [6]byte{0xee, 0xee}, SVN: [16]uint8{8, 8, 2, 2, 4, 1, 0, 3}, PCESVN: 13,
	CPUSVN: [16]byte{8, 8, 2, 2, 4, 1, 0, 3}}

func (v *intelVendor) newChip(rand io.Reader, _ string) (chip, error) {
	spec := platformSpec
	if _, err := io.ReadFull(rand, spec.PPID[:]); err != nil {
		return nil, err
	}
	if v.hw == evidence.SGX {
		d, err := sgx.NewDevice(rand, v.pki, spec)
		return &sgxChip{d: d, collateral: collateral{pki: v.pki}}, err
	}
	d, err := tdx.NewDevice(rand, v.pki, spec)
	return &tdxChip{d: d, collateral: collateral{pki: v.pki}}, err
}

func (v *intelVendor) openChip(data []byte) (chip, error) {
	if v.hw == evidence.SGX {
		d, err := sgx.ParseDevice(data)
		return &sgxChip{d: d, collateral: collateral{pki: v.pki}}, err
	}
	d, err := tdx.ParseDevice(data)
	return &tdxChip{d: d, collateral: collateral{pki: v.pki}}, err
}

// collateralAge is how old collateral gets before the vendor signs new one. Verifiers accept it for 30 days.
const collateralAge = 24 * time.Hour

// collateral is what the vendor signs about a platform for a limited time, kept for as long as it is young.
type collateral struct {
	pki *intel.PKI

	mu   sync.Mutex
	made time.Time
	data []byte
}

// at returns collateral for Evidence that is made at now. The zero time is that of the vendor.
func (c *collateral) at(rand io.Reader, now time.Time, spec func(now time.Time) intel.CollateralSpec) ([][]byte, error) {
	if now.IsZero() {
		now = c.pki.Root.NotBefore.Add(backdate)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if age := now.Sub(c.made); c.data == nil || age < 0 || age > collateralAge {
		fresh, err := c.pki.Collateral(rand, spec(now))
		if err != nil {
			return nil, fmt.Errorf("emuroot: %w", err)
		}
		c.made, c.data = now, fresh.Marshal()
	}
	return [][]byte{c.data}, nil
}

// sgxChip signs SGX quotes of version 3.
type sgxChip struct {
	d          *sgx.Device
	collateral collateral
}

func (c *sgxChip) instanceID() ([33]byte, error) { return c.d.InstanceID(), nil }
func (c *sgxChip) marshal() ([]byte, error)      { return c.d.Marshal() }

func (c *sgxChip) evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error) {
	var enclave [32]byte
	if err := r.launch(enclave[:]); err != nil {
		return evidence.HardwareEvidence{}, err
	}
	report := c.d.Report(enclave, [32]byte(Firmware(evidence.SGX)[0].Value), r.Config, r.Binding)
	r.change(report)
	quote, err := c.d.Mint(rand, report)
	if err != nil {
		return evidence.HardwareEvidence{}, err
	}
	items, err := c.collateral.at(rand, r.Now, c.d.CollateralSpec)
	return evidence.HardwareEvidence{Data: quote, MediaType: sgx.MediaType, Collateral: items}, err
}

// tdxChip signs TDX quotes of version 4.
type tdxChip struct {
	d          *tdx.Device
	collateral collateral
}

func (c *tdxChip) instanceID() ([33]byte, error) { return c.d.InstanceID(), nil }
func (c *tdxChip) marshal() ([]byte, error)      { return c.d.Marshal() }

func (c *tdxChip) evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error) {
	var mrtd [48]byte
	if err := r.launch(mrtd[:]); err != nil {
		return evidence.HardwareEvidence{}, err
	}
	report := c.d.Report(mrtd, tdx.ConfigID(r.Config), r.Binding)
	r.change(report)
	quote, err := c.d.Mint(rand, report)
	if err != nil {
		return evidence.HardwareEvidence{}, err
	}
	items, err := c.collateral.at(rand, r.Now, c.d.CollateralSpec)
	wrapped := tsm.Report{Provider: tsm.ProviderTDX, OutBlob: quote}
	return evidence.HardwareEvidence{Data: wrapped.Marshal(), MediaType: tsm.MediaType, Collateral: items}, err
}
