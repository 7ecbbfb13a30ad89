// SPDX-License-Identifier: Apache-2.0

package emutest_test

import (
	"crypto/rand"
	"flag"
	"os"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/emuroot/emutest"
)

var update = flag.Bool("update", false, "make the vendor of SEV-SNP anew")

// TestVendors guards that there is a vendor for each architecture, and that the kept one is of the present format.
func TestVendors(t *testing.T) {
	now := time.Now()
	if *update {
		p, err := emuroot.New(rand.Reader, evidence.SEVSNP, time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		if err != nil {
			t.Fatal(err)
		}
		data, err := p.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("testdata/sev-snp.cbor", data, 0o644); err != nil {
			t.Fatal(err)
		}
		t.Skip("made; run again without -update")
	}
	for _, hw := range emuroot.Played() {
		p := emutest.PKI(t, hw, now)
		if !p.Anchor().IsEmulated() || p.Hardware != hw || p != emutest.PKI(t, hw, now) {
			t.Errorf("%s: %v", hw, p.Anchor())
		}
	}
}
