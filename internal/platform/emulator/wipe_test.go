// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"bytes"
	"os"
	"path/filepath"
	"testing"

	"sealift/internal/platform/emulator"
)

// TestDestroyWipes keeps the file with the instance's salt under a second name: what was in it is overwritten, and not only
// unlinked, when the instance is destroyed (promise I10).
func TestDestroyWipes(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, dir, emulator.Options{})
	w.launch("one", "c")
	kept := filepath.Join(t.TempDir(), "record")
	if err := os.Link(filepath.Join(dir, "instances", "one", "record.cbor"), kept); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(kept); err != nil || len(data) < 32 || len(bytes.Trim(data, "\x00")) == 0 {
		t.Fatalf("the record has %d bytes, %v", len(data), err)
	}
	if err := w.driver.Destroy(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if data, err := os.ReadFile(kept); err != nil || len(bytes.Trim(data, "\x00")) != 0 {
		t.Errorf("left of the record: %x, %v", data, err)
	}
}
