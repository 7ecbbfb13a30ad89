// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"crypto/rand"
	"strings"
	"testing"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/owner/inspect"
	"sealift/internal/sharedtest"
)

// TestHardwareEvidence guards that what hardware of each architecture signed is told apart, and shown with measurements, fields
// and the word that nothing was verified.
func TestHardwareEvidence(t *testing.T) {
	for file, want := range map[string][]string{
		"snp/azure_v0.report.bin":            {"SNP report", "measurement MEASUREMENT 6a063be9", "field VMPL: 0", "field POLICY:"},
		"tdx/phala_tdx_quote.bin":            {"TDX quote", "measurement MRTD 91eb2b44", "field TEE_TCB_SVN: 06010300"},
		"sgx/phala_sgx_quote.bin":            {"SGX quote", "measurement MRENCLAVE 33d8736d", "field ISVSVN: 0"},
		"csv/csvrs_report.cert":              {"CSV report", "measurement MEASURE 1178dadb", "migration allowed"},
		"cca/tfrmm_cca_token.cbor":           {"CCA token", "measurement RIM", "field lifecycle: secured"},
		"psa/tfm_psa-2_0_0_sign1.bin":        {"PSA token", "measurement SPE 96a2ec56", "field client-id: 3002"},
		"ear/veraison_cca_affirming.ear.jwt": {"Attestation Result", "submodule CCA_REALM: affirming; instance-identity 2, executables 2"},
	} {
		out := show(t, sharedtest.Read(t, "evidence", file), nil)
		for _, text := range append(want, "not verified: ") {
			if !strings.Contains(out, text) {
				t.Errorf("%s lacks %q:\n%.2000s", file, text, out)
			}
		}
	}
}

// TestPolicies guards each form of a policy, and that a signature is verified with a known key.
func TestPolicies(t *testing.T) {
	p := &appraisal.Policy{Version: appraisal.PolicyVersion, Name: "mine", Accept: appraisal.TierAffirming, Hardware: []evidence.Hardware{evidence.TDX},
		Anchors: []appraisal.AnchorRef{{Fingerprint: appraisal.Hex32{1}, Emulated: true}},
		Waive:   []appraisal.Waiver{{Rule: appraisal.RuleNoDebug, Source: "a trial"}},
		Rules:   []appraisal.Rule{{Name: "svn", Field: "X", Op: appraisal.OpAtLeast, Value: appraisal.NumberValue(3)}}}
	d, err := appraisal.LaunchDigest(evidence.TDX, make([]byte, 48))
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	must(err)
	p.ReferenceValues = []appraisal.ReferenceValue{{Name: "MRTD", Digests: []appraisal.Digest{d}}}
	text, err := p.Marshal()
	must(err)
	plain, err := p.MarshalCBOR()
	must(err)
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(err)
	s, err := cose.NewSigner(key)
	must(err)
	signed, err := appraisal.SignPolicy(rand.Reader, s, p)
	must(err)
	keys := &inspect.Keys{}
	keys.Add("mine", s.Key())
	for name, c := range map[string]struct {
		data []byte
		want []string
	}{
		"JSON":  {text, []string{"without a signature", `"reference_values"`}},
		"CBOR":  {plain, []string{"without a signature", "reference values", "fingerprint"}},
		"COSE":  {signed, []string{"appraisal policy, signed", "verified: ", "reference values"}},
		"wrong": {[]byte(strings.Replace(string(text), `"version": 2`, `"version": 9`, 1)), []string{"not usable"}},
	} {
		out := show(t, c.data, keys)
		want := append(c.want, "appraisal policy")
		if name != "wrong" {
			want = append(want, `policy "mine", version 2`, "EMULATED", "the check no-debug is waived (a trial)")
		}
		for _, text := range want {
			if !strings.Contains(out, text) {
				t.Errorf("%s lacks %q:\n%s", name, text, out)
			}
		}
	}
}
