// SPDX-License-Identifier: Apache-2.0

package all_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/csv"
	"sealift/evidence/emuroot/emutest"
	"sealift/evidence/intel"
	"sealift/evidence/sgx"
	"sealift/evidence/snp"
	"sealift/evidence/tdx"
	"sealift/internal/sharedtest"
)

// Evidence of real devices verifies under the vendors' roots, and under no emulated one.
func TestRealUnderEmulated(t *testing.T) {
	read := func(name string) []byte { return sharedtest.Read(t, "evidence", name) }
	inForce := time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC) // Intel's collateral beside the samples
	collateral := func(name string) [][]byte {
		c, err := intel.ParseCollateral(read(name))
		must(t, err)
		return [][]byte{c.Marshal()}
	}
	amd, err := snp.VendorAnchors()
	must(t, err)
	var emulated []evidence.Anchor
	for _, hw := range evidence.AllHardware() {
		emulated = append(emulated, emutest.PKI(t, hw, now).Anchor())
		a := emulated[len(emulated)-1]
		a.Hardware = "" // also where nobody says what it is for
		emulated = append(emulated, a)
	}
	for name, c := range map[string]struct {
		hw         evidence.Hardware
		mediaType  string
		collateral [][]byte
		at         time.Time
		vendor     []evidence.Anchor
	}{
		"snp/milan_v2_google.report.bin": {evidence.SEVSNP, snp.MediaType, [][]byte{read("snp/milan_google.vcek.der")}, now, amd},
		"snp/azure_v0.report.bin":        {evidence.SEVSNP, snp.MediaType, [][]byte{read("snp/azure_v0.vcek.der")}, now, amd},
		"tdx/phala_tdx_quote.bin": {evidence.TDX, tdx.MediaType, collateral("tdx/phala_tdx_quote.collateral.json"), inForce,
			[]evidence.Anchor{intel.VendorAnchor(evidence.TDX)}},
		"sgx/phala_sgx_quote.bin": {evidence.SGX, sgx.MediaType, collateral("sgx/phala_sgx.collateral.json"), inForce,
			[]evidence.Anchor{intel.VendorAnchor(evidence.SGX)}},
		"csv/csvrs_report.cert": {evidence.CSV, csv.MediaType, [][]byte{read("csv/csvrs_hsk.cert"), read("csv/csvrs_cek.cert")}, now,
			[]evidence.Anchor{{HRK: read("csv/hrk.cert"), Hardware: evidence.CSV}}},
	} {
		t.Run(name, func(t *testing.T) {
			e := evidence.HardwareEvidence{Data: read(name), MediaType: c.mediaType, Collateral: c.collateral}
			verify := func(anchors []evidence.Anchor) (*evidence.VerifiedHardware, error) {
				return evidence.VerifyHardware(e, nil, evidence.Input{Now: c.at, Verifiers: verifiers, Anchors: evidence.Anchors{Roots: anchors}})
			}
			v, err := verify(c.vendor)
			if err != nil || v.Emulated || v.Hardware != c.hw || v.ReportData == nil {
				t.Fatalf("under the vendor's root: %v", err)
			}
			if _, err := verify(emulated); !slices.Contains(codes(err), evidence.CodeRoot) {
				t.Errorf("under emulated roots: %v", err)
			}
			// Together the vendor's counts, so a verifier that knows both still tells them apart.
			if v, err := verify(append(slices.Clone(emulated), c.vendor...)); err != nil || v.Emulated || strings.Contains(v.Root.String(), evidence.EmulatedMark) {
				t.Errorf("under both: %v", err)
			}
		})
	}
}
