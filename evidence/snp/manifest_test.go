// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"sealift/internal/sharedtest"
)

// endorsements names the certificate for each report of the collection.
var endorsements = map[string]string{
	"snp/milan_v2_google.report.bin":  "snp/milan_google.vcek.der",
	"snp/milan_v2_trustee.report.bin": "snp/milan_trustee.vcek.der",
	"snp/milan_virtee.report.bin":     "snp/milan_virtee.vcek.der",
	"snp/azure_v0.report.bin":         "snp/azure_v0.vcek.der",
	"snp/azure_v1.report.bin":         "snp/azure_v1.vcek.der",
}

// TestManifest checks every row for SNP. All real certificates are valid at now, so "VERIFIED now" is taken at that time.
func TestManifest(t *testing.T) {
	checked := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		file := row["file"]
		if !strings.HasPrefix(file, "snp/") {
			continue
		}
		data := sharedtest.Read(t, "evidence", file)
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row["sha256"] {
			t.Errorf("%s: SHA-256 differs from the manifest", file)
			continue
		}
		var err error
		switch {
		case strings.HasSuffix(file, ".report.bin"):
			err = checkSample(t, data, file, row["result_and_expected_claims"])
		case strings.HasSuffix(file, "invalid-legacy.der"):
			err = checkAlteredCertificate(t, data)
		case strings.HasSuffix(file, ".vcek.der"):
			err = checkVendorChain(t, data)
		case strings.HasSuffix(file, ".pem"):
			_, err = ParseRoot(data)
		default:
			err = errors.New("no check for this kind of file")
		}
		if err != nil {
			t.Errorf("%s: %v", file, err)
		}
		checked++
	}
	t.Logf("%d rows for SNP checked, none skipped", checked)
	if checked != 19 {
		t.Errorf("%d rows checked, want 19", checked)
	}
}

func checkSample(t *testing.T, report []byte, file, expected string) error {
	certs := [][]byte{sharedtest.Read(t, "evidence", endorsements[file])}
	v, err := Verify(report, certs, now, vendorRoots(t)...)
	if err != nil {
		return err
	}
	if v.Emulated() || !strings.Contains(expected, "VERIFIED now") {
		return fmt.Errorf("verified as %+v, expected %q", v, expected)
	}
	if _, err := Verify(report, certs, now, pkis[Milan]().Root); !errors.Is(err, ErrChain) {
		return fmt.Errorf("under an emulated root: %v", err)
	}
	flipped := append([]byte(nil), report...)
	flipped[0x50] ^= 1
	if _, err := Verify(flipped, certs, now, vendorRoots(t)...); !errors.Is(err, ErrSignature) {
		return fmt.Errorf("with a flipped bit: %v", err)
	}
	return compareClaims(v, expected)
}

// compareClaims compares what the manifest says, such as "policy 0x3001f debug off vmpl0 tcb bl3/tee0/snp8/uc206".
func compareClaims(v *Verified, expected string) error {
	r := v.Report
	current, _ := r.CurrentTCB.decode(v.Product) // the manifest gives CURRENT_TCB
	for pattern, got := range map[string]string{
		`policy (0x[0-9a-f]+)`:    fmt.Sprintf("0x%x", uint64(r.Policy)),
		`DEBUG (on)`:              map[bool]string{true: "on", false: "off"}[r.Policy.Debug()],
		`debug (off)`:             map[bool]string{true: "on", false: "off"}[r.Policy.Debug()],
		`vmpl([0-9])`:             fmt.Sprint(r.VMPL),
		`tcb ([a-z0-9/]+)`:        fmt.Sprintf("bl%d/tee%d/snp%d/uc%d", current.Bootloader, current.TEE, current.SNP, current.Microcode),
		`meas ([0-9a-f]+)`:        hex.EncodeToString(r.Measurement[:]),
		`report_data ([0-9a-f]+)`: hex.EncodeToString(r.ReportData[:]),
		`rd ([0-9a-f]+)`:          hex.EncodeToString(r.ReportData[:]),
		`chip ([0-9a-f]+)`:        hex.EncodeToString(v.Chip),
	} {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(expected); m != nil && !strings.HasPrefix(got, m[1]) {
			return fmt.Errorf("%s: got %s, want %s", pattern, got, m[1])
		}
	}
	return nil
}

func checkAlteredCertificate(t *testing.T, der []byte) error {
	report := sharedtest.Read(t, "evidence", "snp/milan_v2_trustee.report.bin")
	if v, err := Verify(report, [][]byte{der}, now, vendorRoots(t)...); err == nil {
		return fmt.Errorf("accepted as %+v", v)
	}
	return nil
}

// checkVendorChain checks a certificate alone: the samples for Turin have no report.
func checkVendorChain(t *testing.T, der []byte) error {
	e, err := parseEndorsement(der)
	if err != nil {
		return err
	}
	for _, root := range vendorRoots(t) {
		if root.Product != e.product {
			continue
		}
		if _, err := e.verifyChain(root, now); err != nil {
			return err
		}
		forged := &Root{Product: e.product, ARK: pkis[e.product]().Root.ARK, ASK: root.ASK}
		if _, err := e.verifyChain(forged, now); !errors.Is(err, ErrChain) {
			return fmt.Errorf("under a forged root: %v", err)
		}
		return nil
	}
	return fmt.Errorf("no root of %s", e.product)
}

// TestVLEKRootsAreAMDs compares the embedded roots with the collection's.
func TestVLEKRootsAreAMDs(t *testing.T) {
	for _, root := range vendorRoots(t) {
		for file, cert := range map[string]*x509.Certificate{"vcek": root.ASK, "vlek": root.ASVK} {
			path := "snp/ark_ask_" + strings.ToLower(string(root.Product))
			if file == "vlek" || root.Product == Turin {
				path += "_" + file
			}
			other, err := ParseRoot(sharedtest.Read(t, "evidence", path+".pem"))
			if err != nil {
				t.Fatal(err)
			}
			if !other.ARK.Equal(root.ARK) || !cert.Equal(other.ASK) && !cert.Equal(other.ASVK) {
				t.Errorf("%s differs from the embedded root", path)
			}
		}
	}
}
