// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"bytes"
	"errors"
	"fmt"
	"sync"
	"testing"

	"sealift/evidence/intel"
)

func TestConcurrent(t *testing.T) {
	v := NewVerifier(pki().Root)
	var wg sync.WaitGroup
	for i := range 8 {
		d := newDevice(t, pki(), func(s *intel.PlatformSpec) { s.PPID[0] = byte(i) })
		quote, c := mint(t, d, nil), [][]byte{collateral(t, pki(), d, nil)}
		wg.Go(func() {
			for range 4 {
				if got, err := v.Verify(quote, c, now); err != nil || got.InstanceID() != d.InstanceID() {
					t.Errorf("device %d: %v", i, err)
				}
			}
		})
	}
	wg.Wait()
}

func FuzzParse(f *testing.F) {
	d := newDevice(f, pki(), nil)
	f.Add(mint(f, d, nil))
	f.Add(sample(f, "phala_sgx_quote.bin"))
	f.Add(sample(f, "intelqvl_quote.dat"))
	v := NewVerifier(intel.VendorRoot(), pki().Root)
	f.Fuzz(func(t *testing.T, data []byte) {
		q, err := Parse(data)
		if err != nil {
			if !errors.Is(err, ErrMalformed) && !errors.Is(err, ErrVersion) {
				t.Errorf("an error without a sentinel: %v", err)
			}
			return
		}
		if !bytes.Equal(q.Marshal(), data) {
			t.Errorf("%x does not encode again to the same", data)
		}
		_, _ = v.Verify(data, nil, now)
	})
}

func BenchmarkVerify(b *testing.B) {
	d := newDevice(b, pki(), nil)
	quote, c := mint(b, d, nil), [][]byte{collateral(b, pki(), d, nil)}
	for _, with := range []struct {
		name       string
		collateral [][]byte
	}{{"chain", nil}, {"collateral", c}} {
		b.Run(fmt.Sprintf("cold/%s", with.name), func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				if _, err := Verify(quote, with.collateral, now, pki().Root); err != nil {
					b.Fatal(err)
				}
			}
		})
		b.Run(fmt.Sprintf("warm/%s", with.name), func(b *testing.B) {
			v := NewVerifier(pki().Root)
			b.ReportAllocs()
			for b.Loop() {
				if _, err := v.Verify(quote, with.collateral, now); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}

func BenchmarkMint(b *testing.B) {
	d := newDevice(b, pki(), nil)
	b.ReportAllocs()
	for b.Loop() {
		mint(b, d, nil)
	}
}
