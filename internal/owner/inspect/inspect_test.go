// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/internal/owner/inspect"
	"sealift/internal/sharedtest"
)

func show(t *testing.T, data []byte) string {
	t.Helper()
	n, err := inspect.Bytes(data)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	if err := n.Write(&b); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestOwnManifest(t *testing.T) {
	data, err := os.ReadFile(filepath.Join("..", "manifest", "testdata", "pd.suit"))
	if err != nil {
		t.Fatal(err)
	}
	got := show(t, data)
	for _, want := range []string{"SUIT envelope: signatures were not checked", "sequence number: 2", "component 0: enc/stats/a.csv",
		"dependency 2: manifest/stats/ta", "process-dependency", "uri: ni:///sha-256;", "stored as: manifest/stats/pd"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in\n%s", want, got)
		}
	}
}

func TestOther(t *testing.T) {
	if got := show(t, []byte{0xa1, 0x01, 0x61, 'x'}); got != "CBOR: {1: \"x\"}\n" {
		t.Errorf("got %q", got)
	}
	for _, junk := range []string{"", "hello, this is text", "\xff\xff"} {
		if _, err := inspect.Bytes([]byte(junk)); err == nil {
			t.Errorf("%q was taken for something", junk)
		}
	}
}

// TestVectors shows every file of other implementations: none may stop it, and the well-known ones must be recognised.
func TestVectors(t *testing.T) {
	dir := sharedtest.Dir(t, "vectors")
	seen := map[string]int{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if n, err := inspect.Bytes(data); err == nil {
			kind, _, _ := strings.Cut(n.Name, " ")
			seen[kind]++
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, kind := range []string{"SUIT", "TEEP", "COSE"} {
		if seen[kind] == 0 {
			t.Errorf("no %s among %v", kind, seen)
		}
	}
}

func FuzzBytes(f *testing.F) {
	data, err := os.ReadFile(filepath.Join("..", "manifest", "testdata", "bundle.suit"))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(data)
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := inspect.Bytes(data)
		if err == nil && n.Name == "" {
			t.Error("no error and no name")
		}
	})
}
