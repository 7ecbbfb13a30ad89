// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"sealift/internal/fault"
)

// sealift runs one command line in a fresh home.
func sealift(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	args = append([]string{"--home", filepath.Join(t.TempDir(), "home")}, args...)
	code = run(context.Background(), args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func TestUsageErrors(t *testing.T) {
	for _, line := range []string{
		"nonsense", "version extra", "version --unknown", "broker", "broker run", "broker nonsense", "dev nonsense", "dev up extra",
		"demo --mode ua", "demo --mode ua+ta", "demo --break nothing",
	} {
		code, stdout, stderr := sealift(t, strings.Fields(line)...)
		if line == "broker" { // help
			if code != exitOK || !strings.Contains(stdout, "run") {
				t.Errorf("%s: exit %d, %s", line, code, stdout)
			}
			continue
		}
		if code != exitUsage || !strings.HasPrefix(stderr, "sealift: error: ") || stdout != "" {
			t.Errorf("%s: exit %d\n%s%s", line, code, stdout, stderr)
		}
	}
}

func TestVersionAndStatus(t *testing.T) {
	code, stdout, _ := sealift(t, "version", "--json")
	var v versionInfo
	if err := json.Unmarshal([]byte(stdout), &v); err != nil || code != exitOK || v.Version == "" || strings.Count(stdout, "\n") != 1 {
		t.Errorf("exit %d, %q, %v", code, stdout, err)
	}
	code, _, stderr := sealift(t, "dev", "status")
	if code != exitUnreachable || !strings.Contains(stderr, "sealift: hint: ") {
		t.Errorf("exit %d, %s", code, stderr)
	}
}

func TestExitCodes(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int
		hint string
	}{
		{nil, 0, ""},
		{errors.New("x"), 1, ""},
		{usageError("do it right", "wrong"), 2, "do it right"},
		{fault.New(fault.Unreachable, "x").WithHint("start it"), 3, "start it"},
		{fmt.Errorf("outer: %w", fault.New(fault.AppraisalRefused, "x")), 4, ""},
		{fault.New(fault.ReleaseBeforeAppraisal, "x"), 5, ""},
		{fault.New(fault.AgentChanged, "x"), 6, ""},
		{&exitError{code: 1, err: fault.New(fault.Unreachable, "x").WithHint("kept")}, 1, "kept"},
	} {
		var stderr bytes.Buffer
		a := &app{stderr: &stderr, started: true}
		if got := a.finish(c.err); got != c.code || (c.hint != "") != strings.Contains(stderr.String(), "hint: "+c.hint) {
			t.Errorf("%v: exit %d, %s", c.err, got, stderr.String())
		}
	}
}
