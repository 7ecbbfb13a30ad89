// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"sealift/usecase"
)

var advised = strings.Fields("advise --ua no --hide-ta yes --pd-apart no --at-rest operator --online no --hardware trustzone --instance any")

func TestAdviseCommand(t *testing.T) {
	code, stdout, stderr := sealift(t, advised...)
	if code != exitOK || !strings.HasPrefix(stdout, "recommended: mode ta+pd, instance type process on trustzone, delivery sealed\n") ||
		!strings.Contains(stdout, "mode ta,pd, delivery sealed (against your answers: hide-ta)\n    moc sees of the TA ") {
		t.Errorf("exit %d\n%s%s", code, stdout, stderr)
	}
	code, stdout, _ = sealift(t, append([]string{"--json"}, advised...)...)
	var a usecase.Advice
	if err := json.Unmarshal([]byte(stdout), &a); err != nil || code != exitOK || a.Recommended.Mode != usecase.ModeBundleTAPD || !a.Runnable {
		t.Errorf("exit %d, %v: %s", code, err, stdout)
	}
	for change, want := range map[string]int{
		"--pd-apart=yes": exitPolicy, "--instance=vm": exitPolicy, "--at-rest=cloud": exitUsage, "--hardware=z80": exitUsage, "--ua=": exitUsage, "--ua=no": exitOK,
	} {
		code, stdout, stderr := sealift(t, append(slices.Clone(advised), change)...)
		if code != want || (code == exitPolicy) != strings.Contains(stdout, "nothing fits all answers") {
			t.Errorf("%s: exit %d\n%s%s", change, code, stdout, stderr)
		}
	}
	if code, _, stderr := sealift(t, "advise", "--ua", "no"); code != exitUsage || !strings.Contains(stderr, "--hide-ta") {
		t.Errorf("exit %d: %s", code, stderr)
	}
}

// At a terminal, a wrong answer is asked for again, and the beginning of a word is enough.
func TestAdviseAsks(t *testing.T) {
	var stderr bytes.Buffer
	a := &app{stderr: &stderr}
	in := bufio.NewScanner(strings.NewReader("maybe\nY\nn\nyes\nop\nyes\ntdx z\nTDX, trustzone\n\n"))
	var facts usecase.Facts
	for _, q := range questions {
		if err := a.ask(in, q, &facts); err != nil {
			t.Fatal(err)
		}
	}
	want := usecase.Facts{UA: true, PDApart: true, AtRest: usecase.HeldByOperator, Online: true,
		Hardware: []usecase.Hardware{usecase.TDX, usecase.TrustZone}, Instances: []usecase.Instance{}}
	if got, _ := json.Marshal(facts); string(got) != string(mustJSON(want)) || strings.Count(stderr.String(), "is no answer") != 1 {
		t.Errorf("%s\n%s", got, stderr.String())
	}
	if err := a.ask(in, questions[0], &facts); err == nil {
		t.Error("the end of the input was taken for an answer")
	}
}

func mustJSON(v any) []byte {
	data, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return data
}
