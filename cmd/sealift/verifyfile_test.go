// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/appraisal"
	"sealift/appraisal/ear"
	"sealift/cose"
	"sealift/internal/sharedtest"
)

// samples are known-good Evidence of each architecture, with what is needed to verify it.
var samples = map[string]struct {
	file string
	with []string // further arguments
	ok   bool     // a policy made from it accepts it
}{
	"snp":  {"snp/azure_v0.report.bin", []string{"--collateral", "snp/azure_v0.vcek.der", "--at", "2026-11-22T00:00:00Z"}, true},
	"cca":  {"cca/tfrmm_cca_token.cbor", []string{"--anchor", "cca/tfrmm_cpak.pub.pem"}, true},
	"psa":  {"psa/tfm_psa-2_0_0_sign1.bin", []string{"--anchor", "psa/tfm_public.pem"}, true},
	"csv":  {"csv/csvrs_report.cert", []string{"--anchor", "csv/hrk.cert", "--collateral", "csv/csvrs_hsk_cek.cert"}, false}, // may migrate
	"tdx":  {"tdx/phala_tdx_quote.bin", []string{"--collateral", "tdx/phala_tdx_quote.collateral.json", "--at", "2025-06-20T00:00:00Z"}, true},
	"sgx":  {"sgx/phala_sgx_quote.bin", []string{"--collateral", "sgx/phala_sgx.collateral.json", "--at", "2025-06-20T00:00:00Z"}, false},    // TCB
	"snp2": {"snp/milan_v2_google.report.bin", []string{"--collateral", "snp/milan_google.vcek.der", "--at", "2026-11-22T00:00:00Z"}, false}, // debug
}

// withSamples runs a command line in an empty home, with file names of samples made whole.
func withSamples(t *testing.T, home string, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	dir := sharedtest.Dir(t, "evidence")
	for i, a := range args {
		if _, err := os.Stat(filepath.Join(dir, a)); err == nil && strings.Contains(a, "/") {
			args[i] = filepath.Join(dir, a)
		}
	}
	var out, errOut bytes.Buffer
	code = run(context.Background(), append([]string{"--home", home}, args...), strings.NewReader(""), &out, &errOut)
	clean := func(b *bytes.Buffer) string { return strings.ReplaceAll(b.String(), dir+"/", "") }
	return code, clean(&out), clean(&errOut)
}

func policyOf(t *testing.T, home, name string) string {
	t.Helper()
	s := samples[name]
	path := filepath.Join(home, name+".json")
	args := append([]string{"policy", "init", "--accept-emulated", "--name", name, "--output", path, "--from", s.file}, s.with...)
	if code, _, stderr := withSamples(t, home, args...); code != exitOK {
		t.Fatalf("%s: exit code %d: %s", name, code, stderr)
	}
	return path
}

// TestPolicyOfSamples guards that a policy made from Evidence of each architecture accepts it, unless a default check refuses
// it: then it says so at once.
func TestPolicyOfSamples(t *testing.T) {
	for name, s := range samples {
		home := t.TempDir()
		path := policyOf(t, home, name)
		code, stdout, stderr := withSamples(t, home, append([]string{"verify", s.file, "--json", "--policy", path}, s.with...)...)
		var r fileResult
		if err := json.Unmarshal([]byte(stdout), &r); err != nil {
			t.Fatalf("%s: %v: %s%s", name, err, stdout, stderr)
		}
		if r.OK != s.ok || (code == exitOK) != s.ok || len(r.Result.Limits) < 3 || !r.Result.HardwareOnly {
			t.Errorf("%s: exit code %d, %+v", name, code, r.Result)
		}
		if !s.ok && (r.Result.FirstCause == nil || code != exitAttestation) {
			t.Errorf("%s: no first cause", name)
		}
	}
}

// TestPolicyRefusesOthers guards that a policy made from one device's Evidence refuses each other architecture.
func TestPolicyRefusesOthers(t *testing.T) {
	home := t.TempDir()
	path := policyOf(t, home, "tdx")
	for name, s := range samples {
		if name == "tdx" {
			continue
		}
		code, stdout, _ := withSamples(t, home, append([]string{"policy", "test", path, s.file}, s.with...)...)
		if code != exitAttestation || !strings.Contains(stdout, appraisal.CodeHardware) {
			t.Errorf("%s: exit code %d: %s", name, code, stdout)
		}
	}
}

// TestRefusals compares what a person sees with golden files.
func TestRefusals(t *testing.T) {
	home := t.TempDir()
	tdx, snp := policyOf(t, home, "tdx"), policyOf(t, home, "snp")
	sgx := policyOf(t, home, "sgx")
	collateral := []string{"--collateral", "tdx/phala_tdx_quote.collateral.json"}
	for name, args := range map[string][]string{
		"expired":      append([]string{"verify", "tdx/phala_tdx_quote.bin", "--policy", tdx, "--at", "2026-06-20T00:00:00Z"}, collateral...),
		"no-anchor":    {"verify", "psa/tfm_psa-2_0_0_sign1.bin", "--policy", tdx, "--at", "2026-06-20T00:00:00Z"},
		"wrong-nonce":  append([]string{"verify", "tdx/phala_tdx_quote.bin", "--policy", tdx, "--at", "2025-06-20T00:00:00Z", "--nonce", "0102"}, collateral...),
		"tcb":          append([]string{"verify", "--policy", sgx, samples["sgx"].file}, samples["sgx"].with...),
		"test":         append([]string{"policy", "test", snp, "snp/milan_v2_google.report.bin"}, samples["snp2"].with...),
		"diff":         append([]string{"policy", "diff", tdx, sgx, "tdx/phala_tdx_quote.bin", "--at", "2025-06-20T00:00:00Z"}, collateral...),
		"explain":      {"explain", "appraisal.debug"},
		"explain-list": {"explain", "evidence."},
	} {
		code, stdout, stderr := withSamples(t, home, args...)
		got := stdout + "--\n" + stderr + "exit code " + string(rune('0'+code)) + "\n"
		golden := filepath.Join("testdata", "verify", name+".txt")
		if *update {
			if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		want, err := os.ReadFile(golden)
		if err != nil {
			t.Fatal(err)
		}
		if got != string(want) {
			t.Errorf("%s differs; run with -update and read the difference. Got:\n%s", golden, got)
		}
	}
}

// TestSignedPolicy guards who may sign: a context that pins a signer takes no other policy.
func TestSignedPolicy(t *testing.T) {
	home := t.TempDir()
	path := policyOf(t, home, "psa")
	must := func(want int, args ...string) string {
		t.Helper()
		code, stdout, stderr := withSamples(t, home, args...)
		if code != want {
			t.Fatalf("%v: exit code %d: %s%s", args, code, stdout, stderr)
		}
		return stdout + stderr
	}
	must(exitOK, "keys", "generate")
	must(exitOK, "keys", "generate", "other")
	signed, foreign := filepath.Join(home, "signed"), filepath.Join(home, "foreign")
	must(exitOK, "policy", "sign", path, "--output", signed)
	must(exitOK, "policy", "sign", path, "--output", foreign, "--key", "other")
	must(exitOK, "policy", "verify", signed)
	must(exitPolicy, "policy", "verify", path)
	key := filepath.Join(home, "keys", "owner.pem")
	must(exitPolicy, "policy", "verify", foreign, "--key", key)
	if out := must(exitOK, "policy", "show", signed); !strings.Contains(out, `"name": "psa"`) {
		t.Errorf("show: %s", out)
	}
	s := samples["psa"]
	verify := func(want int, policy string) string {
		t.Helper()
		return must(want, append([]string{"verify", s.file, "--policy", policy}, s.with...)...)
	}
	verify(exitOK, path)
	h := `{"url":"http://127.0.0.1:1","policy_signers":["` + publicOf(t, home) + `"]}`
	if err := os.MkdirAll(filepath.Join(home, "contexts"), 0o700); err != nil {
		t.Fatal(err)
	}
	for file, content := range map[string]string{"contexts/default.json": h, "context": "default\n"} {
		if err := os.WriteFile(filepath.Join(home, file), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	verify(exitOK, signed)
	for _, policy := range []string{path, foreign} {
		if out := verify(exitPolicy, policy); !strings.Contains(out, "pinned signers") {
			t.Errorf("%s: %s", policy, out)
		}
	}
}

// publicOf returns the owner's public key as it stands in a context.
func publicOf(t *testing.T, dir string) string {
	t.Helper()
	a := &app{home: dir}
	h, err := a.openHome()
	if err != nil {
		t.Fatal(err)
	}
	infos, err := h.Keys()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range infos {
		if i.Name == "owner" {
			text, err := i.Public.MarshalText()
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
	}
	t.Fatal("no key")
	return ""
}

// TestWriteEAR guards that the result can be handed on as an EAR that says what was found, and only of Evidence that verifies.
func TestWriteEAR(t *testing.T) {
	home := t.TempDir()
	if code, _, stderr := withSamples(t, home, "keys", "generate"); code != exitOK {
		t.Fatal(stderr)
	}
	s := samples["tdx"]
	out := filepath.Join(home, "result.jwt")
	args := append([]string{"verify", s.file, "--policy", policyOf(t, home, "tdx"), "--ear", out}, s.with...)
	if code, _, stderr := withSamples(t, home, args...); code != exitOK {
		t.Fatalf("exit code %d: %s", code, stderr)
	}
	data, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	var key cose.Key
	if err := key.UnmarshalText([]byte(publicOf(t, home))); err != nil {
		t.Fatal(err)
	}
	e, err := ear.Read(bytes.TrimSpace(data), &key)
	if err != nil {
		t.Fatal(err)
	}
	if a := e.Submods["tdx"]; a.Status != appraisal.TierAffirming || a.Vector[appraisal.Executables] != 2 || len(e.Nonces) != 0 {
		t.Errorf("%+v", e)
	}
	if code, stdout, _ := withSamples(t, home, "inspect", out); code != exitOK || !strings.Contains(stdout, "submodule tdx: affirming") || !strings.Contains(stdout, "verified: JWT") {
		t.Errorf("exit code %d: %s", code, stdout)
	}
	args = append(args, "--nonce", "01")
	if code, _, stderr := withSamples(t, home, args...); code != exitUsage || !strings.Contains(stderr, "does not verify") {
		t.Errorf("of a replay: exit code %d: %s", code, stderr)
	}
}

// TestCollateralForEvidence guards the way of an operator whose Evidence came without a certificate: the refusal says what is
// missing, fetch gets just that, and the next verification has it. A folder with certificates of several chips serves too.
func TestCollateralForEvidence(t *testing.T) {
	home := t.TempDir()
	policy := policyOf(t, home, "snp")
	file := samples["snp"].file
	code, stdout, _ := withSamples(t, home, "verify", file, "--policy", policy)
	if code != exitAttestation || !strings.Contains(stdout, "amd/vcek Milan/66a5a7b4") || !strings.Contains(stdout, "sealift collateral fetch "+file) {
		t.Errorf("exit code %d\n%s", code, stdout)
	}
	var asked []string
	kds := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked = append(asked, r.URL.Path)
		name := "snp/azure_v0.vcek.der"
		if strings.HasSuffix(r.URL.Path, "/crl") {
			name = "tdx/google_rootcrl.der" // any list
		}
		_, _ = w.Write(sharedtest.Read(t, "evidence", name))
	}))
	defer kds.Close()
	code, stdout, stderr := withSamples(t, home, "collateral", "fetch", file, "--kds", kds.URL)
	if code != exitOK || len(asked) != 2 || !strings.Contains(stdout, "amd/vcek/Milan/66a5a7b4") {
		t.Fatalf("exit code %d, asked %v\n%s%s", code, asked, stdout, stderr)
	}
	if code, stdout, _ := withSamples(t, home, "verify", file, "--policy", policy); code != exitOK || strings.Contains(stdout, "not there") {
		t.Errorf("with what was fetched: exit code %d\n%s", code, stdout)
	}
	empty := t.TempDir()
	for _, name := range []string{"snp", "snp2"} {
		code, stdout, _ := withSamples(t, empty, "verify", samples[name].file, "--policy", policy, "--collateral", "snp/", "--json")
		if strings.Contains(stdout, "evidence.certificate") {
			t.Errorf("%s with a folder of certificates: exit code %d\n%s", name, code, stdout)
		}
	}
	if code, _, stderr := withSamples(t, home, "collateral", "fetch", "cca/tfrmm_cca_token.cbor"); code != exitUsage || !strings.Contains(stderr, "nothing is asked for") {
		t.Errorf("a CCA token: exit code %d, %s", code, stderr)
	}
}

// TestStatusOfAnchors guards that roots which end are forecast beside the collateral.
func TestStatusOfAnchors(t *testing.T) {
	home := t.TempDir()
	args := append([]string{"policy", "init", "--name", "snp", "--from", samples["snp"].file}, samples["snp"].with...)
	if code, _, stderr := withSamples(t, home, args...); code != exitOK {
		t.Fatal(stderr)
	}
	for at, want := range map[string]string{"2026-11-22T00:00:00Z": "ok       anchor ARK-Milan", "2045-10-10T00:00:00Z": "ending   anchor ARK-Milan",
		"2050-01-01T00:00:00Z": "stale    anchor ARK-Milan"} {
		code, stdout, _ := withSamples(t, home, "collateral", "status", "--at", at)
		if !strings.Contains(stdout, want) || (code == exitOK) != strings.HasPrefix(want, "ok") {
			t.Errorf("at %s: exit code %d\n%s", at, code, stdout)
		}
	}
}
