// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/cose/wire"
)

// TestImport guards that what a vendor's manifest says of a firmware decides on Evidence: with it alone the Evidence passes, and
// with the manifest of another firmware it fails.
func TestImport(t *testing.T) {
	home := t.TempDir()
	path := policyOf(t, home, "psa")
	manifest := func(digest []byte) string {
		tagged := func(tag uint64, v any) cose.RawMessage {
			return append(wire.AppendTag(nil, tag), cose.MustMarshal(v)...)
		}
		component := map[int]any{0: tagged(601, map[int]any{1: "SPE"}), 1: map[int]any{2: []any{[]any{1, digest}}}}
		comid := cose.MustMarshal(map[int]any{1: map[int]any{0: "x"}, 4: map[int]any{0: []any{[]any{map[int]any{0: map[int]any{1: "ACME"}}, []any{component}}}}})
		data := tagged(501, map[int]any{0: "firmware 2", 1: []any{tagged(506, comid)}, 3: "http://arm.com/psa/iot/1"})
		file := filepath.Join(home, "manifest.cbor")
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	old := "96a2ec56c65120a60ce3a53ef8d2082233772aacd5b17935a92be12ac577f685" // of SPE in the sample
	if err := os.WriteFile(path, bytes.ReplaceAll(data, []byte(old), bytes.Repeat([]byte("1"), 64)), 0o600); err != nil {
		t.Fatal(err)
	}
	s := samples["psa"]
	verify := func(policy string) (int, string) {
		code, stdout, _ := withSamples(t, home, append([]string{"verify", s.file, "--policy", policy}, s.with...)...)
		return code, stdout
	}
	if code, stdout := verify(path); code != exitAttestation || !strings.Contains(stdout, "SPE [appraisal.measurement]") {
		t.Fatalf("exit code %d: %s", code, stdout)
	}
	for digest, want := range map[string]int{old: exitOK, strings.Repeat("2", 64): exitAttestation} {
		out := filepath.Join(home, "imported.json")
		raw := make([]byte, 32)
		for i := range raw {
			raw[i] = unhex(digest[2*i])<<4 | unhex(digest[2*i+1])
		}
		code, stdout, stderr := withSamples(t, home, "policy", "import", path, "--corim", manifest(raw), "--output", out)
		if code != exitOK || !strings.Contains(stdout, "added 1 entries of CoRIM firmware 2") {
			t.Fatalf("exit code %d: %s%s", code, stdout, stderr)
		}
		if code, stdout := verify(out); code != want {
			t.Errorf("%s: exit code %d: %s", digest, code, stdout)
		}
	}
	if code, _, _ := withSamples(t, home, "policy", "import", path, "--corim", path); code != exitFailure {
		t.Errorf("a policy taken for a manifest: exit code %d", code)
	}
}

func unhex(c byte) byte {
	if c >= 'a' {
		return c - 'a' + 10
	}
	return c - '0'
}
