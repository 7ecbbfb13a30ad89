// SPDX-License-Identifier: Apache-2.0

package report

import (
	"bytes"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/sharedtest"
	"sealift/suit"
)

var updateGolden = flag.Bool("update", false, "write the golden files")

func samples() map[string]*Report {
	ta := suit.NewComponentID("tee", "app", "ta")
	digest := suit.SHA256([]byte("binary"))
	record := Record{Section: suit.MemberInstall, Offset: 7, Properties: suit.Params{suit.ParamDigest: digest}}
	dependency := Record{Manifest: []uint64{2, 3}, Section: suit.MemberValidate, Offset: 1, Component: 1}
	return map[string]*Report{
		"success": {
			URI: "https://author.example/m", Digest: digest, Nonce: []byte("token-12"),
			Items: []Item{&record, &SystemProperty{Component: ta, Params: suit.Params{suit.ParamDigest: digest, suit.ParamSize: uint64(6)}}, &dependency},
		},
		"failure": {
			Digest:  digest,
			Failure: &Failure{Code: int64(suit.CodeImageMatch), Record: record, Reason: ReasonConditionFailed},
		},
		"capabilities": {
			Digest: digest,
			Capabilities: &Capabilities{
				Components: []ComponentCapability{{Component: ta}, {Component: suit.NewComponentID("pd"), Prefix: true}},
				Commands:   []int64{1, 2, 3}, Params: []int64{1}, Algorithms: []int64{-16, -9}, Dependency: []int64{1},
			},
		},
	}
}

func TestGolden(t *testing.T) {
	for name, r := range samples() {
		data, err := r.Marshal()
		if err != nil {
			t.Fatal(name, err)
		}
		path := filepath.Join("testdata", name+".hex")
		if *updateGolden {
			if err := os.WriteFile(path, []byte(hex.EncodeToString(data)+"\n"), 0o644); err != nil {
				t.Fatal(err)
			}
		}
		want, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if got := hex.EncodeToString(data); got != strings.TrimSpace(string(want)) {
			t.Errorf("%s is encoded as\n%s\nwant\n%s", name, got, want)
		}
		for _, wire := range [][]byte{data, cose.MustMarshal(data)} { // bare, and as plaintext of an encrypted report
			back, err := Parse(wire)
			if err != nil {
				t.Fatal(name, err)
			}
			again, err := back.Marshal()
			if err != nil || !bytes.Equal(again, data) {
				t.Errorf("%s changes in its own encoding: %x (%v)", name, again, err)
			}
		}
	}
}

func TestInstalled(t *testing.T) {
	a, b := suit.NewComponentID("a"), suit.NewComponentID("b")
	r := &Report{Items: []Item{&SystemProperty{Component: b}, &Record{}, &SystemProperty{Component: a}, &SystemProperty{Component: b}}}
	if got := r.Installed(); !reflect.DeepEqual(got, []suit.ComponentID{b, a}) {
		t.Error(got)
	}
}

// TestPublishedReport reads the reports inside the published TEEP messages.
func TestPublishedReport(t *testing.T) {
	for path, nonce := range map[string]bool{"success_report.cbor": true, "success_report_bad_nonce.cbor": true} {
		data := sharedtest.Read(t, "vectors", "generated/teep/"+path)
		msg, err := cose.Parse(data)
		if err != nil {
			t.Fatal(err)
		}
		var parts []cose.RawMessage
		var options map[int64]cose.RawMessage
		var reports [][]byte
		for _, step := range []struct {
			data []byte
			v    any
		}{{msg.PayloadInsecure(), &parts}} {
			if err := cose.Unmarshal(step.data, step.v); err != nil {
				t.Fatal(err)
			}
		}
		if err := cose.Unmarshal(parts[1], &options); err != nil {
			t.Fatal(err)
		}
		if err := cose.Unmarshal(options[19], &reports); err != nil {
			t.Fatal(err)
		}
		for _, data := range reports {
			r, err := Parse(data)
			if err != nil || (r.Nonce != nil) != nonce {
				t.Errorf("%s: %+v, %v", path, r, err)
			}
		}
	}
}

func TestMalformed(t *testing.T) {
	ref := []any{"", []any{-16, make([]byte, 32)}}
	rec := []any{[]int{}, 20, 0, 0, map[int]int{}}
	cases := map[string]any{
		"list": []int{}, "nothing": map[int]int{}, "no result": map[int]any{99: ref, 3: []int{}},
		"no reference":     map[int]any{3: []int{}, 4: true},
		"digest missing":   map[int]any{99: []any{""}, 3: []int{}, 4: true},
		"uri is a number":  map[int]any{99: []any{1, ref[1]}, 3: []int{}, 4: true},
		"result false":     map[int]any{99: ref, 3: []int{}, 4: false},
		"result partial":   map[int]any{99: ref, 3: []int{}, 4: map[int]any{5: 1, 7: 1}},
		"result unknown":   map[int]any{99: ref, 3: []int{}, 4: map[int]any{5: 1, 6: rec, 8: 1}},
		"record is text":   map[int]any{99: ref, 3: []any{"a"}, 4: true},
		"record is short":  map[int]any{99: ref, 3: []any{[]any{[]int{}, 20}}, 4: true},
		"claim of nothing": map[int]any{99: ref, 3: []any{map[int]any{3: 1}}, 4: true},
		"unknown member":   map[int]any{99: ref, 3: []int{}, 4: true, 11: 1},
		"old member names": map[int]any{1: ref, 2: []int{}, 4: true},
		"capabilities":     map[int]any{99: ref, 3: []int{}, 4: true, 8: map[int]any{1: []any{[]any{true, true}}}},
	}
	for name, v := range cases {
		if r, err := Parse(cose.MustMarshal(v)); err == nil || !errors.Is(err, ErrMalformed) && !errors.Is(err, suit.ErrMalformed) {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
}

func TestReasonNames(t *testing.T) {
	if ReasonInvokePending.String() != "invoke-pending" || Reason(99).String() != "reason(99)" {
		t.Error("names")
	}
}

// FuzzReport: what parses encodes to what parses to the same bytes again.
func FuzzReport(f *testing.F) {
	for _, r := range samples() {
		data, err := r.Marshal()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err != nil {
			return
		}
		first, err := r.Marshal()
		if err != nil {
			t.Fatalf("%v: %+v", err, r)
		}
		back, err := Parse(first)
		if err != nil {
			t.Fatalf("%v: %x", err, first)
		}
		second, err := back.Marshal()
		if err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%v\n%x\n%x", err, first, second)
		}
	})
}
