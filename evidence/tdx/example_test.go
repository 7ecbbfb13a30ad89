// SPDX-License-Identifier: Apache-2.0

package tdx_test

import (
	"crypto/rand"
	"fmt"
	"time"

	"sealift/evidence/intel"
	"sealift/evidence/tdx"
)

// An emulated Intel makes a platform and says later that it is out of date. The quote verifies with both opinions; what
// differs is the status, on which a policy decides.
func Example() {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	vendor, err := intel.NewPKI(rand.Reader, now)
	if err != nil {
		fmt.Println(err)
		return
	}
	device, err := tdx.NewDevice(rand.Reader, vendor, intel.PlatformSpec{FMSPC: [6]byte{0xee, 1}})
	if err != nil {
		fmt.Println(err)
		return
	}
	quote, err := device.Mint(rand.Reader, device.Report([48]byte{1}, tdx.ConfigID([32]byte{2}), [64]byte{3}))
	if err != nil {
		fmt.Println(err)
		return
	}
	verifier := tdx.NewVerifier(vendor.Root)
	for _, status := range []intel.TCBStatus{intel.UpToDate, intel.OutOfDate} {
		spec := device.CollateralSpec(now)
		spec.TCBInfo.Levels[0].Status = status
		collateral, err := vendor.Collateral(rand.Reader, spec)
		if err != nil {
			fmt.Println(err)
			return
		}
		v, err := verifier.Verify(quote, [][]byte{collateral.Marshal()}, now)
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Printf("MRTD %x..., emulated: %t, %s\n", v.Report.MRTD[:2], v.Emulated(), v.TCB.Status)
	}
	if _, err := tdx.Verify(quote, nil, now, intel.VendorRoot()); err != nil {
		fmt.Println("under Intel's root: refused")
	}
	// Output:
	// MRTD 0100..., emulated: true, UpToDate
	// MRTD 0100..., emulated: true, OutOfDate
	// under Intel's root: refused
}
