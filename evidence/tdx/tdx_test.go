// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"crypto/rand"
	"errors"
	"sync"
	"testing"
	"time"

	"sealift/evidence/intel"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

var emulated, strangers = oncePKI(), oncePKI()

func oncePKI() func() *intel.PKI {
	return sync.OnceValue(func() *intel.PKI {
		pki, err := intel.NewPKI(rand.Reader, now)
		if err != nil {
			panic(err)
		}
		return pki
	})
}

var (
	binding  = [64]byte{0: 0xb1, 63: 0xb2}
	mrtd     = [48]byte{0: 0x31, 47: 0x32}
	configID = ConfigID([32]byte{0: 0x41, 31: 0x42})
)

func device(t testing.TB, pki *intel.PKI, change func(*intel.PlatformSpec)) *Device {
	t.Helper()
	s := intel.PlatformSpec{PPID: [16]byte{1, 2, 3}, FMSPC: [6]byte{0xb0, 0xc0, 0x6f}, PCESVN: 13, SVN: [16]uint8{2, 2, 2, 2, 3, 1, 0, 5}}
	if change != nil {
		change(&s)
	}
	d, err := NewDevice(rand.Reader, pki, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mint(t testing.TB, d *Device, change func(*Report)) []byte {
	t.Helper()
	r := d.Report(mrtd, configID, binding)
	if change != nil {
		change(r)
	}
	data, err := d.Mint(rand.Reader, r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func collateral(t testing.TB, pki *intel.PKI, d *Device, change func(*intel.CollateralSpec)) [][]byte {
	t.Helper()
	s := d.CollateralSpec(now)
	if change != nil {
		change(&s)
	}
	c, err := pki.Collateral(rand.Reader, s)
	if err != nil {
		t.Fatal(err)
	}
	return [][]byte{c.Marshal()}
}

func TestMintedVerifiesUnderItsOwnRootOnly(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	for _, extended := range []bool{false, true} {
		quote := mint(t, d, func(r *Report) { r.Extended, r.TEETCBSVN2 = extended, emulatedSVN })
		v, err := Verify(quote, collateral(t, pki, d, nil), now, intel.VendorRoot(), pki.Root)
		if err != nil {
			t.Fatal(err)
		}
		if !v.Emulated() || v.Report.MRTD != mrtd || v.Report.MRConfigID != configID || v.Report.ReportData != binding ||
			v.TCB.Status != intel.UpToDate || v.Report.Extended != extended || v.Chain.PCK.InstanceID() != d.InstanceID() {
			t.Errorf("verified as %+v", v)
		}
		if v.Version != map[bool]int{false: 4, true: 5}[extended] {
			t.Errorf("version %d", v.Version)
		}
		for name, root := range map[string]*intel.PKI{"Intel": {Root: intel.VendorRoot()}, "a stranger of the same name": strangers()} {
			if _, err := Verify(quote, nil, now, root.Root); !errors.Is(err, intel.ErrChain) {
				t.Errorf("under %s: %v", name, err)
			}
		}
		if _, err := Verify(quote, nil, now); !errors.Is(err, intel.ErrNoRoot) {
			t.Errorf("under no root: %v", err)
		}
	}
}

// TestBodyTD10 reads a TD report 1.0 in a quote of version 5.
func TestBodyTD10(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	quote, err := d.mint(rand.Reader, d.Report(mrtd, configID, binding), 5)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(quote, collateral(t, pki, d, nil), now, pki.Root)
	if err != nil || v.Version != 5 || v.Report.Extended || v.Report.MRTD != mrtd || v.TCB.Status != intel.UpToDate {
		t.Errorf("%+v, %v", v, err)
	}
	if err := library(t, quote, collateral(t, pki, d, nil)[0], pki.Root, now); err != nil {
		t.Errorf("the library: %v", err)
	}
}
