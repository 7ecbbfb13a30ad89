// SPDX-License-Identifier: Apache-2.0

package exhibit_test

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/internal/owner/exhibit"
	"sealift/internal/sharedtest"
)

// TestRead guards that each form is recognised by its content, whatever the file is called.
func TestRead(t *testing.T) {
	for file, want := range map[string]string{
		"snp/azure_v0.report.bin":             "SNP report",
		"tdx/phala_tdx_quote.bin":             "TDX quote",
		"tdx/v4_google_spr_e4.quote.bin":      "TDX quote",
		"sgx/phala_sgx_quote.bin":             "SGX quote",
		"csv/csvrs_report.cert":               "CSV report",
		"cca/tfrmm_cca_token.cbor":            "CCA token",
		"cca/tfm_cca_token.cbor":              "CCA token",
		"psa/tfm_psa-2_0_0_sign1.bin":         "PSA token",
		"snp/azure_v0.vcek.der":               "",
		"csv/hrk.cert":                        "",
		"tdx/phala_tdx_quote.collateral.json": "",
		"psa/tfm_psa-2_0_0_mac0.bin":          "",
	} {
		x, err := exhibit.Read(sharedtest.Read(t, "evidence", file))
		got := ""
		if err == nil {
			got = x.Form
		}
		if got != want {
			t.Errorf("%s is taken for %q, want %q", file, got, want)
		}
	}
}

// TestBeside guards that what lies in one folder is found and given to the Evidence that it belongs to, whatever else lies there.
func TestBeside(t *testing.T) {
	dir := t.TempDir()
	for _, file := range []string{"snp/azure_v0.vcek.der", "snp/ark_ask_milan.pem", "csv/hrk.cert", "csv/csvrs_hsk.cert", "csv/csvrs_cek.cert",
		"tdx/phala_tdx_quote.collateral.json", "sgx/phala_sgx.collateral.json", "tdx/google_rootcrl.der", "cca/rust_rv.json"} {
		if err := os.WriteFile(filepath.Join(dir, filepath.Base(file)), sharedtest.Read(t, "evidence", file), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := &exhibit.Beside{}
	if err := b.Add(dir); err != nil {
		t.Fatal(err)
	}
	if len(b.CRLs) != 1 {
		t.Errorf("%d revocation lists", len(b.CRLs))
	}
	anchors, err := exhibit.VendorAnchors()
	if err != nil {
		t.Fatal(err)
	}
	hrk, err := exhibit.ReadAnchor(filepath.Join(dir, "hrk.cert"))
	if err != nil {
		t.Fatal(err)
	}
	in := exhibit.Input(append(anchors, hrk), b, time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC))
	in.CRLs = nil // Intel's old one is for another time
	for _, file := range []string{"snp/azure_v0.report.bin", "csv/csvrs_report.cert", "tdx/phala_tdx_quote.bin", "sgx/phala_sgx_quote.bin"} {
		x, err := exhibit.Read(sharedtest.Read(t, "evidence", file))
		if err != nil {
			t.Fatal(err)
		}
		v, err := x.Recorded(b, nil).Verify(in, nil)
		if err != nil {
			t.Errorf("%s: %v", file, err)
			continue
		}
		if v.Hardware == evidence.TDX && v.Fields["tcb-status"] == nil {
			t.Errorf("%s: verified without its collateral", file)
		}
	}
	if err := b.Add(filepath.Join(dir, "rust_rv.json")); err == nil {
		t.Error("a file of no known form, named by itself, was passed over")
	}
	if err := b.Add(filepath.Join(dir, "nowhere")); err == nil {
		t.Error("a file that is not there")
	}
}

// TestAnchors guards the forms in which roots and keys of devices are published; a private key is none.
func TestAnchors(t *testing.T) {
	dir := sharedtest.Dir(t, "evidence")
	pemKey, err := exhibit.ReadAnchor(filepath.Join(dir, "cca/tfrmm_cpak.pub.pem"))
	if err != nil {
		t.Fatal(err)
	}
	jwk, err := exhibit.ReadAnchor(filepath.Join(dir, "cca/rust_cpak.json"))
	if err != nil {
		t.Fatal(err)
	}
	if jwk.Fingerprint() != pemKey.Fingerprint() {
		t.Error("the same key in two forms is not the same anchor")
	}
	for _, file := range []string{"snp/ark_ask_milan.pem", "csv/hrk.cert", "sgx/intelqvl_trustedRootCaCert.pem"} {
		if _, err := exhibit.ReadAnchor(filepath.Join(dir, file)); err != nil {
			t.Errorf("%s: %v", file, err)
		}
	}
	for _, file := range []string{"cca/trustee_cpak-priv.json", "cca/tfrmm_cpak.pem", "snp/azure_v0.report.bin", "cca/rust_rv.json"} {
		if a, err := exhibit.ReadAnchor(filepath.Join(dir, file)); err == nil {
			t.Errorf("%s is an anchor: %v", file, a)
		}
	}
}

// TestTruncated guards that Evidence that was cut is refused as such, and never verified.
func TestTruncated(t *testing.T) {
	for _, file := range []string{"snp/azure_v0.report.bin", "cca/tfrmm_cca_token.cbor", "psa/tfm_psa-2_0_0_sign1.bin", "csv/csvrs_report.cert"} {
		data := sharedtest.Read(t, "evidence", file)
		for n := 0; n < len(data); n += 7 {
			x, err := exhibit.Read(data[:n])
			if err != nil {
				continue
			}
			r, _ := appraisal.AppraiseRecorded(x.Recorded(&exhibit.Beside{}, nil), exhibit.Input(nil, &exhibit.Beside{}, time.Now()), &appraisal.Policy{})
			if r.OK() {
				t.Fatalf("%s cut to %d bytes is accepted", file, n)
			}
		}
	}
}

func FuzzRead(f *testing.F) {
	f.Add([]byte{3, 0, 2, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, data []byte) {
		x, err := exhibit.Read(data)
		if err == nil && (x.Bundle == nil) == (x.Hardware.MediaType == "") {
			t.Fatalf("neither a bundle nor of hardware: %+v", x)
		}
	})
}

// TestEventLogBeside guards that the event log of a TD is compared with its quote, and that another TD's is refused.
func TestEventLogBeside(t *testing.T) {
	for file, ok := range map[string]bool{"tdx/v4_cos113_google.quote.bin": true, "tdx/v4_google_spr_e4.quote.bin": false} {
		b := &exhibit.Beside{}
		if err := b.Add(filepath.Join(sharedtest.Dir(t, "evidence"), "tdx/cos113_ccel_data.bin")); err != nil {
			t.Fatal(err)
		}
		x, err := exhibit.Read(sharedtest.Read(t, "evidence", file))
		if err != nil {
			t.Fatal(err)
		}
		anchors, err := exhibit.VendorAnchors()
		if err != nil {
			t.Fatal(err)
		}
		v, err := x.Recorded(b, nil).Verify(exhibit.Input(anchors, b, time.Date(2026, 11, 22, 0, 0, 0, 0, time.UTC)), nil)
		if (err == nil) != ok || ok && v.Fields["event-log"] != 43 {
			t.Errorf("%s: %v", file, err)
		}
	}
}
