// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"strings"
	"testing"

	"sealift/appraisal"
	"sealift/internal/fault"
)

// TestExplainFault guards that a refusal by another party, which comes as the details of an error, is explained as one's own is, that
// its text cannot steer the terminal, and that other details are left alone.
func TestExplainFault(t *testing.T) {
	finding := appraisal.Finding{Code: "appraisal.debug", Claim: "POLICY", Expected: "clear\x1b[2J", Got: "set", Source: "the operator's policy", Hint: "ask"}
	for name, c := range map[string]struct {
		details any
		want    bool
	}{
		"findings":       {[]appraisal.Finding{finding}, true},
		"inside":         {map[string]any{"findings": []appraisal.Finding{finding}}, true},
		"something else": {[]map[string]string{{"device": "edge-1", "why": "full"}}, false},
		"nothing":        {nil, false},
	} {
		var out bytes.Buffer
		a := &app{stderr: &out, started: true}
		code := a.finish(fault.New(fault.OperatorAppraisal, "refused").WithDetails(c.details))
		shown := strings.Contains(out.String(), "differs: POLICY [appraisal.debug]") && strings.Contains(out.String(), "source of the expectation: the operator's policy")
		if shown != c.want || code != exitAttestation || strings.Contains(out.String(), "\x1b") || !strings.Contains(out.String(), "sealift: error: refused") {
			t.Errorf("%s: exit code %d: %s", name, code, out.String())
		}
	}
}
