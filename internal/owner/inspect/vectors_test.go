// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"path"
	"strings"
	"testing"

	"sealift/internal/owner/inspect"
	"sealift/internal/sharedtest"
)

// kinds gives what files are, by their path's beginning; the longest that fits counts.
var kinds = map[string]string{
	"keys/": "PEM", "keys/attestam_tam_priv.cbor": "COSE_Key", "keys/tam_over_http_tam_priv.cbor": "COSE_Key",
	"keys/device_ecdh": "COSE_Key", "keys/kek_": "COSE_Key", "keys/hmac": "COSE_Key",
	"teep-protocol/": "TEEP message", "teep-protocol/suit_": "SUIT envelope", "teep-protocol/eat_claims.cbor": "EAT claims",
	"suit-manifest/": "SUIT envelope", "suit-trust-domains/": "SUIT envelope", "suit-firmware-encryption/": "SUIT envelope",
	"suit-firmware-encryption/a128kw_kdf_context.cbor": "COSE_KDF_Context",
	"libcsuit/": "SUIT envelope", "libcsuit/encryption_info": "COSE_Encrypt", "suit-manifest-generator/": "COSE_Encrypt",
	"libteep/": "TEEP message", "libteep/query_request_cose.cbor": "COSE_Sign1", "libteep/query_request_es": "COSE_Sign1",
	"libteep/query_request_err1_cose": "COSE_Sign1", "libteep/query_request_err3_cose": "COSE_Sign1", "libteep/update_cose": "COSE_Sign1",
	"libteep/teep_success_cose": "COSE_Sign1", "libteep/evidence_cose": "COSE_Sign1", "libteep/query_request_cosesign": "COSE_Sign",
	"tam-over-http/": "COSE_Sign1", "attestam/": "SUIT envelope", "dthaler-teep/": "SUIT envelope", "tamproto/": "SUIT envelope",
	"teep-device/": "SUIT envelope", "ear/": "Attestation Result", "eat/": "EAT claims", "eat/valid_cwt.cbor": "CWT, COSE_Sign1",
	"cmw/cmw-example-1.cbor": "CMW record", "cmw/cmw-example-3.cbor": "CMW record", "cmw/cmw-example-tag-1.cbor": "CMW tag",
	"cmw/collection": "CMW collection", "measured-component/": "measured component",
	"cose-wg/": "COSE test vector, COSE_",
	// A wrong tag is what these are about.
	"cose-wg/sign1-tests/sign-fail-01.json": "COSE test vector, CBOR", "cose-wg/sign-tests/sign-fail-01.json": "COSE test vector, CBOR",
	"cose-wg/mac0-tests/mac-fail-01.json": "COSE test vector, CBOR", "generated/teep/": "COSE_Sign", "generated/teep/neg_raw_nocose.cbor": "TEEP message",
	"generated/enc/": "COSE_Encrypt", "generated/suit/": "SUIT envelope",
	"psa/": "COSE_", "psa/tfm_key.pem": "PEM", "psa/tfm_public.pem": "PEM", "psa/iatverifier_key": "PEM",
	"cca/": "CCA token", "cca/tfm_cca_platform_token.cbor": "COSE_Sign1", "cca/tfm_cca_example_platform_token.cbor": "COSE_Sign1",
	"ear/veraison_cca_affirming.ear.jwt": "JWT, Attestation Result", "ear/veraison_cca_affirming.evidence.cbor": "CCA token",
	"ear/veraison.ear-verification-key.jwk": "JWK",
	"cca/tfrmm_cpak":                        "PEM", "cca/rust_cpak.json": "JWK", "cca/rust_pkey.json": "JWK", "cca/trustee_cpak": "JWK", "cca/trustee_rak": "JWK",
	"cca/tfm_cca_platform.pem": "PEM", "cca/tfm_cca_realm": "PEM",
}

// others says why a file is of none of the kinds that inspect knows; by folder and extension.
var others = []struct{ pattern, reason string }{
	{"keys/*.tsv", "a table"},
	{"cddl/*", "a grammar"},
	{"payloads/*", "payloads, which may be anything"},
	{"*/*.enc", "ciphertext, which looks like nothing"},
	{"suit-manifest/*.json", "input of another author's tool"},
	{"snp/*", "hardware reports, certificates and event logs: formats of hardware vendors"},
	{"tdx/*", "hardware quotes and collateral: formats of hardware vendors"},
	{"sgx/*", "hardware quotes and collateral: formats of hardware vendors"},
	{"csv/*", "hardware reports and certificates: formats of hardware vendors"},
	{"optee/*", "JSON of a demonstration: a key, reference values and an undecoded token"},
	{"cca/*.json", "reference values and requests of another verifier"},
	{"cca/*.bin", "plain identifiers"},
	{"psa/*.diag", "diagnostic notation already"},
	{"psa/*.key", "plain bytes"},
}

func kindOf(file string) string {
	best := ""
	for prefix := range kinds {
		if strings.HasPrefix(file, prefix) && len(prefix) > len(best) {
			best = prefix
		}
	}
	return kinds[best]
}

func reason(file string) string {
	for _, o := range others {
		if ok, _ := path.Match(o.pattern, file); ok {
			return o.reason
		}
	}
	return ""
}

// TestKinds goes over all published files: each is recognised, or the table says why not.
func TestKinds(t *testing.T) {
	for set, column := range map[string]string{"vectors": "path", "evidence": "file"} {
		recognised, excused := 0, 0
		for _, row := range sharedtest.Manifest(t, set) {
			file := row[column]
			data := sharedtest.Read(t, set, file)
			got := ""
			if f, err := inspect.Read(data, nil); err == nil {
				got = f.Kind
			}
			want := kindOf(file)
			if set == "evidence" && strings.HasPrefix(want, "Attestation") && got == "" {
				want = ""
			}
			switch {
			case reason(file) != "" && (want == "" || !strings.HasPrefix(got, want)):
				excused++
			case want == "":
				t.Errorf("%s: neither a kind nor a reason is written down; it is %q", file, got)
			case !strings.HasPrefix(got, want):
				t.Errorf("%s: recognised as %q, want %q", file, got, want)
			default:
				recognised++
			}
		}
		t.Logf("%s: %d files recognised, %d of other formats", set, recognised, excused)
	}
}
