// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"sealift/evidence/intel"
	"sealift/internal/sharedtest"
)

// realTime lies within the validity of the collection's one complete collateral.
var realTime = time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)

func shared(t testing.TB, file string) []byte {
	t.Helper()
	return sharedtest.Read(t, "evidence", "tdx/"+file)
}

// TestManifest checks every row for TDX. "VERIFIED now" is taken at now: all real PCK certificates are valid then.
func TestManifest(t *testing.T) {
	checked := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		file, found := strings.CutPrefix(row["file"], "tdx/")
		if !found {
			continue
		}
		data := shared(t, file)
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row["sha256"] {
			t.Errorf("%s: SHA-256 differs from the manifest", file)
			continue
		}
		if err := checkRow(t, file, data, row["result_and_expected_claims"]); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		checked++
	}
	t.Logf("%d rows for TDX checked, none skipped", checked)
	if checked != 25 {
		t.Errorf("%d rows checked, want 25", checked)
	}
}

func checkRow(t *testing.T, file string, data []byte, expected string) error {
	switch {
	case file == "intelqvl_quote.dat":
		return wants(data, nil, now, intel.ErrMalformed, "want 3")
	case strings.HasPrefix(file, "intelqvl_"):
		return checkSynthetic(t, file, data)
	case file == "phala_tdx_quote.bin":
		return checkComplete(t, data, expected)
	case strings.HasPrefix(file, "v4_google_spr_e4"): // the library's authors put a text behind this quote
		if err := wants(data, nil, now, ErrMalformed, "behind the quote"); err != nil {
			return err
		}
		return checkQuote(data[:bytes.LastIndex(data, []byte("\nextra bytes(only for testing purpose)"))], expected)
	case strings.HasSuffix(file, ".bin") && strings.Contains(file, "quote"):
		return checkQuote(data, expected)
	case file == "cos113_nonce.bin":
		q, err := Parse(shared(t, "v4_cos113_google.quote.bin"))
		if err != nil || !bytes.Equal(q.report.ReportData[:], data) {
			return fmt.Errorf("REPORTDATA of the quote differs: %v", err)
		}
		return nil
	case file == "cos113_ccel_data.bin":
		return checkRealLog(t, data)
	case file == "phala_tdx_quote.collateral.json":
		c, err := intel.ParseCollateral(data)
		if err != nil {
			return err
		}
		_, err = c.Verify(intel.VendorRoot(), realTime)
		return err
	case strings.HasPrefix(file, "google_"):
		return checkGoogleCollateral(t)
	}
	return errors.New("no check for this file")
}

// wants expects Verify to refuse with that error and text.
func wants(quote []byte, collateral [][]byte, at time.Time, sentinel error, text string) error {
	v, err := Verify(quote, collateral, at, intel.VendorRoot())
	if !errors.Is(err, sentinel) || !strings.Contains(err.Error(), text) {
		return fmt.Errorf("got %v, %w; want %v with %q", v, err, sentinel, text)
	}
	return nil
}

func checkQuote(data []byte, expected string) error {
	if !strings.Contains(expected, "CHAIN+SIG VERIFIED now") {
		return fmt.Errorf("unexpected row %q", expected)
	}
	v, err := Verify(data, nil, now, intel.VendorRoot())
	if err != nil {
		return err
	}
	if v.Emulated() || v.TCB != nil || v.Chain.PCK.CA != intel.PlatformCA {
		return fmt.Errorf("verified as %+v", v)
	}
	if _, err := Verify(data, nil, now, emulated().Root); !errors.Is(err, intel.ErrChain) {
		return fmt.Errorf("under an emulated root: %w", err)
	}
	flipped := bytes.Clone(data)
	flipped[0x100] ^= 1
	if err := wants(flipped, nil, now, intel.ErrSignature, "signature of the quote"); err != nil {
		return err
	}
	if err := wants(data, nil, now.AddDate(20, 0, 0), intel.ErrTime, "Intel SGX PCK Certificate"); err != nil {
		return err
	}
	return compareClaims(v, expected)
}

// compareClaims compares what the manifest says, such as "fmspc 50806f000000 mrtd 6363b8043668a3ad..".
func compareClaims(v *Verified, expected string) error {
	r := v.Report
	raw := fmt.Sprintf("%x", uint64(r.Attributes))
	for pattern, got := range map[string]string{
		`fmspc ([0-9a-f]+)`: hex.EncodeToString(v.Chain.PCK.FMSPC[:]),
		`mrtd ([0-9a-f]+)`:  hex.EncodeToString(r.MRTD[:]),
		`rd ([0-9a-f]+)`:    hex.EncodeToString(r.ReportData[:]),
		`=> (DEBUG) TD`:     map[bool]string{true: "DEBUG", false: raw}[r.Attributes.Debug()],
	} {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(expected); m != nil && !strings.HasPrefix(got, m[1]) {
			return fmt.Errorf("%s: got %s, want %s", pattern, got, m[1])
		}
	}
	if r.Attributes.Debug() != strings.Contains(expected, "DEBUG") {
		return fmt.Errorf("attributes are %v", r.Attributes)
	}
	return nil
}

// checkComplete checks the one quote with complete collateral at its time, and that the collateral is expired now.
func checkComplete(t *testing.T, data []byte, expected string) error {
	collateral := [][]byte{shared(t, "phala_tdx_quote.collateral.json")}
	v, err := Verify(data, collateral, realTime, intel.VendorRoot())
	if err != nil {
		return err
	}
	if v.TCB.Status != intel.UpToDate || v.TCB.QE.Status != intel.UpToDate || v.TCB.Module == nil || v.TCB.EvaluationNumber != 17 ||
		len(v.TCB.Advisories) > 0 || v.TCB.Module.Status != intel.UpToDate {
		return fmt.Errorf("TCB %+v", v.TCB)
	}
	for _, what := range []string{"TCB info", "QE identity", "PCK CRL", "root CRL"} {
		if err := wants(data, collateral, now, intel.ErrTime, "validity of "+what); err != nil {
			return err
		}
	}
	if err := wants(data, collateral, realTime.AddDate(0, 0, -2), intel.ErrTime, "validity of TCB info"); err != nil {
		return err
	}
	sgx := [][]byte{sharedtest.Read(t, "evidence", "sgx/phala_sgx.collateral.json")}
	if err := wants(data, sgx, realTime, intel.ErrCollateral, "id of the TCB info"); err != nil {
		return err
	}
	return compareClaims(v, expected)
}

// checkGoogleCollateral checks the stored answers of Intel's service: they came without the issuer chains, which the other
// collateral has.
func checkGoogleCollateral(t *testing.T) error {
	full, err := intel.ParseCollateral(shared(t, "phala_tdx_quote.collateral.json"))
	if err != nil {
		return err
	}
	chain := func(certs [][]byte) (out []byte) {
		for _, der := range certs {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		return out
	}
	for _, info := range []string{"google_sample_tcbInfo_response", "google_sample_tcbinfo_response_v5"} {
		r := intel.PCSResponses{TCBInfo: shared(t, info), TCBInfoChain: chain(full.TCBInfoChain),
			QEIdentity: shared(t, "google_sample_qeIdentity_response"), QEIdentityChain: chain(full.QEIdentityChain),
			PCKCRL: shared(t, "google_pckcrl"), PCKCRLChain: chain(full.PCKCRLChain), RootCRL: shared(t, "google_rootcrl.der")}
		c, err := r.Collateral()
		if err != nil {
			return err
		}
		if _, err := c.Verify(intel.VendorRoot(), now); !errors.Is(err, intel.ErrTime) || errors.Is(err, intel.ErrSignature) {
			return fmt.Errorf("%s: %w", info, err)
		}
	}
	return nil
}

// checkSynthetic checks that what Intel's sample generator made does not verify under Intel's root, for the reason at hand.
func checkSynthetic(t *testing.T, file string, data []byte) error {
	full, err := intel.ParseCollateral(shared(t, "phala_tdx_quote.collateral.json"))
	if err != nil {
		return err
	}
	block, rest := pem.Decode(data)
	if file == "intelqvl_tcbSignChain.pem" {
		block, _ = pem.Decode(rest) // the root comes first
	}
	want := intel.ErrSignature
	switch file {
	case "intelqvl_tcbInfo.json", "intelqvl_qeIdentity.json":
		r := intel.PCSResponses{TCBInfo: shared(t, "intelqvl_tcbInfo.json"), QEIdentity: shared(t, "intelqvl_qeIdentity.json"),
			TCBInfoChain: shared(t, "intelqvl_tcbSignChain.pem"), QEIdentityChain: shared(t, "intelqvl_tcbSignChain.pem"),
			PCKCRL: full.PCKCRL, PCKCRLChain: shared(t, "intelqvl_pckSignChain.pem"), RootCRL: full.RootCRL}
		if full, err = r.Collateral(); err != nil {
			return err
		}
		want = intel.ErrChain
	case "intelqvl_rootCaCrl.der":
		full.RootCRL = data
	case "intelqvl_intermediateCaCrl.der":
		full.PCKCRL = data
	case "intelqvl_pckCert.pem", "intelqvl_pckSignChain.pem", "intelqvl_tcbSignChain.pem", "intelqvl_trustedRootCaCert.pem":
		full.TCBInfoChain, want = [][]byte{block.Bytes, full.TCBInfoChain[1]}, intel.ErrCertificate
		if file == "intelqvl_tcbSignChain.pem" {
			want = intel.ErrChain // the right name, another issuer of the same name
		}
	default:
		return errors.New("no check for this file")
	}
	if _, err := full.Verify(intel.VendorRoot(), realTime); !errors.Is(err, want) {
		return fmt.Errorf("got %w, want %v", err, want)
	}
	return nil
}
