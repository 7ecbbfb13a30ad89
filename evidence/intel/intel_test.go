// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/rand"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/internal/sharedtest"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// realTime lies within the validity of the collection's complete collateral.
var realTime = time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)

var emulated, strangers = oncePKI(), oncePKI()

func oncePKI() func() *PKI {
	return sync.OnceValue(func() *PKI {
		pki, err := NewPKI(rand.Reader, now)
		if err != nil {
			panic(err)
		}
		return pki
	})
}

var tdx = TDXPlatform{TEETCBSVN: [16]uint8{5, 1, 2}, MRSignerSEAM: [48]byte{}, SEAMAttributes: [8]byte{}}

func platform(t testing.TB, change func(*PlatformSpec)) *Platform {
	t.Helper()
	s := PlatformSpec{PPID: [16]byte{1, 2, 3}, FMSPC: [6]byte{0xb0, 0xc0, 0x6f}, PCESVN: 13, SVN: [16]uint8{2, 2, 2, 2, 3, 1, 0, 5}}
	if change != nil {
		change(&s)
	}
	p, err := emulated().NewPlatform(rand.Reader, s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func collateral(t testing.TB, p *Platform, tee TEE, change func(*CollateralSpec)) []byte {
	t.Helper()
	s := p.CollateralSpec(tee, &tdx, now)
	if change != nil {
		change(&s)
	}
	c, err := emulated().Collateral(rand.Reader, s)
	if err != nil {
		t.Fatal(err)
	}
	return c.Marshal()
}

func verify(t testing.TB, p *Platform, tee TEE, coll ...[]byte) (*Proof, error) {
	t.Helper()
	s, err := p.Sign(rand.Reader, tee, []byte("quote"))
	if err != nil {
		t.Fatal(err)
	}
	var td *TDXPlatform
	if tee == TDX {
		td = &tdx
	}
	return NewCache(4).Verify([]byte("quote"), s, td,
		Input{Roots: []*x509.Certificate{VendorRoot(), emulated().Root}, Now: now, Collateral: coll})
}

func TestMintedVerifies(t *testing.T) {
	for _, ca := range []CA{PlatformCA, ProcessorCA} {
		p := platform(t, func(s *PlatformSpec) { s.CA = ca })
		for _, tee := range []TEE{SGX, TDX} {
			proof, err := verify(t, p, tee, collateral(t, p, tee, nil))
			if err != nil {
				t.Fatal(err)
			}
			if proof.TCB.Status != UpToDate || !proof.Chain.Emulated() || proof.Chain.PCK.CA != ca || (tee == TDX) != (proof.TCB.Module != nil) {
				t.Errorf("%s %v: %+v", ca, tee, proof.TCB)
			}
			if to, what := proof.Until(); what != "root CRL" && what != "PCK CRL" && what != "TCB info" || to.Sub(now) > collateralValidity {
				t.Errorf("ends at %v with %q", to, what)
			}
		}
	}
}

func TestRealCollateral(t *testing.T) {
	for _, file := range []string{"tdx/phala_tdx_quote.collateral.json", "sgx/phala_sgx.collateral.json"} {
		c, err := ParseCollateral(sharedtest.Read(t, "evidence", file))
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Verify(VendorRoot(), realTime); err != nil {
			t.Error(err)
		}
		for _, at := range []time.Time{now, realTime.Add(-10 * 24 * time.Hour), {}} {
			if _, err := c.Verify(VendorRoot(), at); !errors.Is(err, ErrTime) || len(evidence.Mismatches(err)) == 0 {
				t.Errorf("at %v: %v", at, err)
			}
		}
		for _, pki := range []*PKI{emulated(), strangers()} {
			if _, err := c.Verify(pki.Root, realTime); !errors.Is(err, ErrChain) {
				t.Errorf("under an emulated root: %v", err)
			}
		}
		again, err := ParseCollateral(c.Marshal())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := again.Verify(VendorRoot(), realTime); err != nil || !IsCollateral(c.Marshal()) {
			t.Error(err)
		}
	}
}
