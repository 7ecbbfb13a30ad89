// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/internal/fault"
	"sealift/internal/image"
	"sealift/internal/owner"
	"sealift/internal/owner/packfile"
	"sealift/usecase"
)

func TestJudge(t *testing.T) {
	refused := &owner.Refused{Deployment: "d", Result: &appraisal.Result{Findings: []appraisal.Finding{
		{Claim: "fine", OK: true}, {Claim: "measurement AGENT", Expected: "a", Got: "b", Source: "the policy"}}}}
	for name, c := range map[string]struct {
		fault string
		err   error
		exit  int
		diffs int
	}{
		"well":                    {"", nil, 0, 0},
		"failed":                  {"", errors.New("x"), 1, 0},
		"unreachable":             {"", fault.New(fault.Unreachable, "x"), 3, 0},
		"refused":                 {"measurement", refused, 4, 1},
		"unnoticed":               {"measurement", nil, 1, 0},
		"refused for another why": {"measurement", fault.New(fault.Unreachable, "x"), 1, 0},
		"policy":                  {"pd-early", fault.New(fault.ReleaseBeforeAppraisal, "x"), 5, 0},
		"from the M/OC": {"rollback", &fault.Error{Code: fault.RollbackRefused, Message: "x", Exit: 1,
			Details: json.RawMessage(`{"claim":"sequence","expected":">= 2","got":"1","source":"state"}`)}, 5, 1},
	} {
		f, err := findFault(c.fault)
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		r := &run{opt: Options{Out: &out}, fault: f, report: &Report{}}
		err = r.judge(c.err)
		if r.report.Exit != c.exit || (err == nil) != (c.exit == 0) {
			t.Errorf("%s: exit %d, %v", name, r.report.Exit, err)
		}
		if err != nil && fault.From(err).Exit != c.exit {
			t.Errorf("%s: the error's exit code is %d, the report's %d", name, fault.From(err).Exit, c.exit)
		}
		diffs := 0
		if r.report.Refusal != nil {
			diffs = len(r.report.Refusal.Differences)
		}
		if diffs != c.diffs || strings.Count(out.String(), "expectation from") != c.diffs {
			t.Errorf("%s: %d differences, %s", name, diffs, out.String())
		}
	}
	if _, err := findFault("nothing"); fault.From(err).Exit != fault.ExitUsage {
		t.Errorf("an unknown fault: %v", err)
	}
}

func TestDescriptionsAreGood(t *testing.T) {
	for _, mode := range usecase.Modes() {
		f, err := packfile.Parse([]byte(description(mode, usecase.Cell{Instance: usecase.Process, Hardware: usecase.SGX}, "/programs/ta", "/programs/ua", "/data/staff.csv")), "stats.yaml")
		if err != nil {
			t.Errorf("%s: %v", mode, err)
			continue
		}
		if f.Mode != mode || (f.UA != nil) != mode.Has(usecase.UA) || f.TA == nil || len(f.PD) != 1 {
			t.Errorf("%s: %+v", mode, f)
		}
	}
}

// TestAlteredImages guards that the altered image of every instance type measures differently, and is still one.
func TestAlteredImages(t *testing.T) {
	dir := t.TempDir()
	agent, vm := filepath.Join(dir, "agent"), filepath.Join(dir, "vm")
	if err := os.WriteFile(agent, []byte("\x7fELF program"), 0o700); err != nil {
		t.Fatal(err)
	}
	f, err := os.Create(vm)
	if err != nil {
		t.Fatal(err)
	}
	img := &image.Image{Instance: image.VM, VCPUs: 1, MemoryMiB: 128,
		Parts: []image.Part{{Name: image.PartKernel, Size: 6}, {Name: image.PartInitramfs, Size: 7}}}
	err = image.Write(f, img, map[string]io.Reader{image.PartKernel: strings.NewReader("kernel"), image.PartInitramfs: strings.NewReader("archive")})
	if err := errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
	f1, _ := findFault("measurement")
	planted, args, err := f1.plant(dir, []string{agent, vm})
	if err != nil || len(args) != 0 || len(planted) != 2 {
		t.Fatal(planted, args, err)
	}
	for i, path := range []string{agent, vm} {
		before, after := measured(t, path), measured(t, planted[i])
		if bytes.Equal(before, after) {
			t.Errorf("%s measures the same", path)
		}
	}
	f2, _ := findFault("nonce")
	if planted, args, err = f2.plant(dir, []string{agent}); planted[0] != agent || fmt.Sprint(args) != "[--dishonest nonce]" || err != nil {
		t.Error(planted, args, err)
	}
}

func measured(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	img, err := image.Read(bytes.NewReader(data), int64(len(data)))
	if err != nil {
		t.Fatal(err)
	}
	sum, err := img.Measure(bytes.NewReader(data), image.Hash(evidence.TDX))
	if err != nil {
		t.Fatal(err)
	}
	return sum
}

func TestRecordsAreDistinctLines(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range records() {
		if len(r) < 20 || seen[string(r)] {
			t.Errorf("%q", r)
		}
		seen[string(r)] = true
	}
	if len(seen) < searched {
		t.Errorf("only %d", len(seen))
	}
}
