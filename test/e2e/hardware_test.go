// SPDX-License-Identifier: Apache-2.0

//go:build e2e

package e2e

import (
	"strings"
	"testing"
)

// The worked example runs on SGX as it does on TrustZone, in each mode, and the owner appraises what SGX signs.
func TestDemoOnSGX(t *testing.T) {
	for mode, want := range loadSequences {
		t.Run(mode, func(t *testing.T) {
			report, r := demo(t, "--hardware", "sgx", "--mode", mode)
			if r.code != 0 {
				t.Fatalf("exit %d\n%s", r.code, r.stderr)
			}
			if report.Hardware != "sgx" || names(report.Trace) != want {
				t.Errorf("hardware %q, trace %s", report.Hardware, names(report.Trace))
			}
		})
	}
}

// A swapped Agent is named by what SGX calls it.
func TestDemoOnSGXRefuses(t *testing.T) {
	report, r := demo(t, "--hardware", "sgx", "--break", "measurement")
	if r.code != 4 || !strings.Contains(r.stderr, "MRENCLAVE") {
		t.Errorf("exit %d, report %+v\n%s", r.code, report, r.stderr)
	}
}

// Devices of all six architectures stand side by side, the owner's policy accepts what each launches, and the same devices are
// there after a stop.
func TestDevWithAllHardware(t *testing.T) {
	hardware := []string{"trustzone", "sgx", "sev-snp", "cca", "tdx", "csv"}
	u := newUser(t)
	args := []string{"dev", "up", "--json"}
	for _, hw := range hardware {
		args = append(args, "--hardware", hw)
	}
	type state struct {
		Devices []struct{ Name, Hardware, Relay string }
	}
	check := func(text string) {
		t.Helper()
		var st state
		decode(t, text, &st)
		if len(st.Devices) != len(hardware) {
			t.Fatalf("%d devices: %s", len(st.Devices), text)
		}
		for i, d := range st.Devices {
			if d.Hardware != hardware[i] || d.Relay == "" {
				t.Errorf("device %+v, want %s", d, hardware[i])
			}
		}
	}
	defer func() {
		u.must("", "dev", "down", "--purge")
		nothingLeft(t)
	}()
	check(u.must("", args...).stdout)
	var policy struct {
		Hardware        []string
		Anchors         []struct{ Emulated bool }
		ReferenceValues []struct{ Name, Hardware string } `json:"reference_values"`
	}
	decode(t, u.must("", "policy", "show", "--json").stdout, &policy)
	launched := map[string]string{}
	for _, r := range policy.ReferenceValues {
		launched[r.Hardware] += r.Name + " "
	}
	if len(policy.Hardware) != len(hardware) || len(policy.Anchors) != len(hardware) || len(launched) != len(hardware) {
		t.Errorf("the policy is for %v with %d roots and %v", policy.Hardware, len(policy.Anchors), launched)
	}
	u.must("", "dev", "down")
	check(u.must("", "dev", "up", "--json").stdout)
	u.refused(2, []string{"twice"}, "dev", "up", "--hardware", "tdx", "--hardware", "tdx")
	u.refused(2, []string{"hardware"}, "dev", "up", "--hardware", "tdz")
}

// The bench verifies Evidence of each architecture.
func TestBenchEvidence(t *testing.T) {
	u := newUser(t)
	var out struct {
		Rows []struct {
			Hardware string
			Cold     float64 `json:"cold_ms"`
			Warm     float64 `json:"warm_ms"`
			Floor    float64 `json:"floor_ms"`
		}
	}
	decode(t, u.must("", "bench", "evidence", "--time", "50ms", "--json").stdout, &out)
	if len(out.Rows) != 6 {
		t.Fatalf("%d rows", len(out.Rows))
	}
	for _, r := range out.Rows {
		if r.Cold <= 0 || r.Warm <= 0 || r.Floor <= 0 {
			t.Errorf("%+v", r)
		}
	}
	u.refused(2, []string{"no such file"}, "bench", "evidence", "--samples", u.dir)
}
