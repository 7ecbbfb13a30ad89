// SPDX-License-Identifier: Apache-2.0

package sgx

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/crl"
	"sealift/evidence/intel"
	"sealift/internal/sharedtest"
)

// Times at which the samples are verified. The chains of the quotes are valid at now; collateral lives for a month.
var (
	now        = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	inJune     = time.Date(2025, 6, 20, 0, 0, 0, 0, time.UTC)
	inAugust   = time.Date(2025, 8, 20, 0, 0, 0, 0, time.UTC)
	sampleTime = map[string]time.Time{"phala": inJune}
)

func sample(t testing.TB, name string) []byte {
	t.Helper()
	return sharedtest.Read(t, "evidence", path.Join("sgx", name))
}

// TestManifest checks every row for SGX at the time that it names.
func TestManifest(t *testing.T) {
	checked := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		dir, file := path.Split(row["file"])
		if dir != "sgx/" {
			continue
		}
		data := sample(t, file)
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row["sha256"] {
			t.Errorf("%s: SHA-256 differs from the manifest", file)
			continue
		}
		if err := checkRow(t, file, data, row["result_and_expected_claims"]); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		checked++
	}
	t.Logf("%d rows for SGX checked, none skipped", checked)
	if checked != 29 {
		t.Errorf("%d rows checked, want 29", checked)
	}
}

func checkRow(t *testing.T, file string, data []byte, expected string) error {
	synthetic := strings.HasPrefix(file, "intelqvl_")
	switch {
	case file == "intelqvl_quote.dat":
		return checkUnverifiable(data, expected)
	case strings.HasSuffix(file, "quote.bin"):
		return checkQuote(t, file, data, expected)
	case strings.HasSuffix(file, ".collateral.json"):
		_, err := intel.ParseCollateral(data)
		return err
	case strings.HasSuffix(file, ".der"):
		list, err := crl.Parse(data)
		if err == nil && !strings.HasPrefix(list.Issuer.CommonName, "Intel SGX") {
			err = fmt.Errorf("list of %q", list.Issuer)
		}
		return err
	case strings.HasSuffix(file, ".pem"):
		return checkSyntheticChain(t, data)
	case file == "automata_pico_inputs.json": // input of a proof system; no part of it is Intel's
		if !json.Valid(data) {
			return errors.New("no JSON")
		}
		return nil
	}
	return checkDocument(t, data, synthetic)
}

// checkQuote verifies a real quote: its chain and signatures today, and all of it where there is collateral.
func checkQuote(t *testing.T, file string, data []byte, expected string) error {
	v, err := Verify(data, nil, now, intel.VendorRoot())
	if err != nil {
		return err
	}
	if v.Emulated() || v.TCB != nil || !strings.Contains(expected, "VERIFIED") {
		return fmt.Errorf("verified as %+v, expected %q", v, expected)
	}
	for pattern, got := range map[string]string{
		`mrenclave ([0-9a-f]+)`: hex.EncodeToString(v.Report.MREnclave[:]),
		`mrsigner ([0-9a-f]+)`:  hex.EncodeToString(v.Report.MRSigner[:]),
		`rd "([^"]+)"`:          string(v.Report.ReportData[:]),
		`(DEBUG enclave)`:       map[bool]string{true: "DEBUG enclave"}[v.Report.Attributes.Debug()],
	} {
		if m := regexp.MustCompile(pattern).FindStringSubmatch(expected); m != nil && !strings.HasPrefix(got, m[1]) {
			return fmt.Errorf("%s: got %s, want %s", pattern, got, m[1])
		}
	}
	if v.Report.Attributes.Debug() != strings.Contains(expected, "DEBUG") {
		return fmt.Errorf("ATTRIBUTES %v, expected %q", v.Report.Attributes, expected)
	}
	if vendor, _, _ := strings.Cut(file, "_"); !sampleTime[vendor].IsZero() {
		return checkStatus(t, data, sample(t, vendor+"_sgx.collateral.json"), sampleTime[vendor], expected)
	}
	return nil
}

var statusPattern = regexp.MustCompile(`: (\w+) \[([^]]*)\] QE (\w+)`)

func checkStatus(t *testing.T, quote, collateral []byte, at time.Time, expected string) error {
	v, err := Verify(quote, [][]byte{collateral}, at, intel.VendorRoot())
	if err != nil {
		return err
	}
	got := fmt.Sprintf("%s %s %s", v.TCB.Status, strings.Join(v.TCB.Advisories, " "), v.TCB.QE.Status)
	if m := statusPattern.FindStringSubmatch(expected); m == nil || got != strings.Join(m[1:], " ") {
		return fmt.Errorf("got %s, expected %q", got, expected)
	}
	if end, what := v.Until(); !end.After(at) || end.After(at.AddDate(0, 1, 0)) || what == "" {
		return fmt.Errorf("good until %v (%s)", end, what)
	}
	for _, other := range []time.Time{now, at.AddDate(0, -2, 0), {}} {
		if _, err := Verify(quote, [][]byte{collateral}, other, intel.VendorRoot()); !errors.Is(err, intel.ErrTime) {
			return fmt.Errorf("at %v: %v", other, err)
		}
	}
	return nil
}

// checkUnverifiable wants the quote refused because it names its platform instead of holding the chain.
func checkUnverifiable(data []byte, expected string) error {
	_, err := Verify(data, nil, now, intel.VendorRoot())
	if !errors.Is(err, ErrMalformed) || !errors.Is(err, intel.ErrMalformed) || !strings.Contains(expected, "certification data type 1") ||
		!strings.Contains(err.Error(), "certification data of type 1 ") {
		return fmt.Errorf("got %v, expected %q", err, expected)
	}
	return nil
}

// checkSyntheticChain wants certificates of Intel's generator to be under its root, and not under Intel's.
func checkSyntheticChain(t *testing.T, data []byte) error {
	// The intermediate is there twice where it is the one in question.
	certs := append(certificates(data), certificates(sample(t, "intelqvl_pckSignChain.pem"))...)
	inAutumn2019 := time.Date(2019, 9, 10, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		root *x509.Certificate
		ok   bool
	}{{certificates(sample(t, "intelqvl_trustedRootCaCert.pem"))[0], true}, {intel.VendorRoot(), false}} {
		roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
		roots.AddCert(c.root)
		for _, i := range certs[1:] {
			intermediates.AddCert(i)
		}
		_, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: inAutumn2019})
		if (err == nil) != c.ok {
			return fmt.Errorf("under %x: %v", sha256.Sum256(c.root.Raw), err)
		}
	}
	return nil
}

func certificates(text []byte) (out []*x509.Certificate) {
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if c, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, c)
		}
	}
	return out
}

// tcbSigner is the key by which Intel signs documents, from the chain of the sample that is verified as a whole.
func tcbSigner(t *testing.T) *ecdsa.PublicKey {
	t.Helper()
	c, err := intel.ParseCollateral(sample(t, "phala_sgx.collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(c.TCBInfoChain[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := cert.CheckSignatureFrom(intel.VendorRoot()); err != nil {
		t.Fatal(err)
	}
	return cert.PublicKey.(*ecdsa.PublicKey)
}

// checkDocument checks a signed document of Intel's service: that it is read, and who signed it.
func checkDocument(t *testing.T, data []byte, synthetic bool) error {
	var parts map[string]json.RawMessage
	if err := json.Unmarshal(data, &parts); err != nil {
		return err
	}
	var text string
	if err := json.Unmarshal(parts["signature"], &text); err != nil {
		return err
	}
	delete(parts, "signature")
	if len(parts) != 1 {
		return fmt.Errorf("members %v", parts)
	}
	signer := tcbSigner(t)
	if synthetic {
		signer = certificates(sample(t, "intelqvl_tcbSignChain.pem"))[0].PublicKey.(*ecdsa.PublicKey)
	}
	signature, err := hex.DecodeString(text)
	if err != nil || len(signature) != 64 {
		return fmt.Errorf("signature %q: %v", text, err)
	}
	for member, body := range parts {
		sum := sha256.Sum256(body)
		if !ecdsa.Verify(signer, sum[:], new(big.Int).SetBytes(signature[:32]), new(big.Int).SetBytes(signature[32:])) {
			return fmt.Errorf("%s: the signature does not verify", member)
		}
		into := map[string]any{"tcbInfo": &intel.TCBInfo{}, "enclaveIdentity": &intel.QEIdentity{}}[member]
		if into == nil && member != "tcbEvaluationDataNumbers" {
			return fmt.Errorf("unknown document %q", member)
		}
		if into != nil {
			if err := json.Unmarshal(body, into); err != nil {
				return err
			}
		}
	}
	return nil
}

// august puts together Intel's collateral of August 2025 for one kind of platform from the single answers of the service,
// with the certificates and the root's list of the whole sample.
func august(t *testing.T) []byte {
	t.Helper()
	whole, err := intel.ParseCollateral(sharedtest.Read(t, "evidence", "tdx/phala_tdx_quote.collateral.json"))
	if err != nil {
		t.Fatal(err)
	}
	text := func(chain [][]byte) (out []byte) {
		for _, der := range chain {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
		}
		return out
	}
	c, err := (&intel.PCSResponses{TCBInfo: sample(t, "automata_0825_sgx_tcbinfov3_00606a000000.json"), TCBInfoChain: text(whole.TCBInfoChain),
		QEIdentity: sample(t, "automata_0825_sgx_qeidentity_v4.json"), QEIdentityChain: text(whole.QEIdentityChain),
		PCKCRL: sample(t, "automata_0825_platform_crl.der"), PCKCRLChain: text(whole.PCKCRLChain), RootCRL: whole.RootCRL}).Collateral()
	if err != nil {
		t.Fatal(err)
	}
	return c.Marshal()
}

// TestAugust verifies the single answers together, and that a quote of another kind of platform is refused with them.
func TestAugust(t *testing.T) {
	collateral, err := intel.ParseCollateral(august(t))
	if err != nil {
		t.Fatal(err)
	}
	v, err := collateral.Verify(intel.VendorRoot(), inAugust)
	if err != nil || v.TEE() != intel.SGX || hex.EncodeToString(v.TCBInfo().FMSPC) != "00606a000000" {
		t.Fatalf("got %+v, %v", v, err)
	}
	q, err := Verify(sample(t, "occlum_trustee.quote.bin"), [][]byte{august(t)}, inAugust, intel.VendorRoot())
	if err != nil {
		t.Fatal(err)
	}
	if tcb := q.TCB; tcb.Status != intel.OutOfDate || tcb.QE.Status != intel.UpToDate || len(tcb.Advisories) != 10 ||
		tcb.Advisories[0] != "INTEL-SA-00586" || tcb.Date.Format(time.DateOnly) != "2021-11-10" {
		t.Errorf("got %+v", tcb)
	}
	_, err = Verify(sample(t, "phala_sgx_quote.bin"), [][]byte{august(t)}, inAugust, intel.VendorRoot())
	if got := claims(err); !slices.Equal(got, []string{"issuer of the PCK CRL", "fmspc of the TCB info"}) {
		t.Errorf("with collateral of another platform: %v", err)
	}
}

// claims are the claims of the mismatches in an error.
func claims(err error) (out []string) {
	for _, m := range evidence.Mismatches(err) {
		out = append(out, m.Claim)
	}
	return out
}

// TestSwappedSamples puts parts of one real quote into the other: the signature that covers the part must tell.
func TestSwappedSamples(t *testing.T) {
	parse := func(name string) *Quote {
		q, err := Parse(sample(t, name))
		if err != nil {
			t.Fatal(err)
		}
		return q
	}
	other := parse("occlum_trustee.quote.bin")
	for name, c := range map[string]struct {
		change func(*Quote)
		want   []string
	}{
		"chain":           {func(q *Quote) { q.Signature.Chain = other.Signature.Chain }, []string{"signature of the QE report"}},
		"QE report":       {func(q *Quote) { q.Signature.QEReport = other.Signature.QEReport }, []string{"signature of the QE report", "REPORTDATA of the QE report"}},
		"attestation key": {func(q *Quote) { q.Signature.AttestationKey = other.Signature.AttestationKey }, []string{"REPORTDATA of the QE report", "signature of the quote"}},
		"signature":       {func(q *Quote) { q.Signature.Signature = other.Signature.Signature }, []string{"signature of the quote"}},
		"report":          {func(q *Quote) { q.Report = other.Report }, []string{"signature of the quote"}},
		"header":          {func(q *Quote) { q.Header = other.Header }, []string{"signature of the quote"}},
		"all but the chain": {func(q *Quote) {
			chain := q.Signature.Chain
			*q = *parse("occlum_trustee.quote.bin")
			q.Signature.Chain = chain
		}, []string{"signature of the QE report"}},
	} {
		q := parse("phala_sgx_quote.bin")
		c.change(q)
		_, err := Verify(q.Marshal(), nil, now, intel.VendorRoot())
		if got := claims(err); !slices.Equal(got, c.want) {
			t.Errorf("%s: got %v, want %v", name, got, c.want)
		}
	}
}
