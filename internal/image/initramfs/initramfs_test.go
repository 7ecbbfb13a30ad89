// SPDX-License-Identifier: Apache-2.0

package initramfs_test

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"testing"

	"sealift/internal/image/initramfs"
)

var entries = []initramfs.Entry{
	{Name: "init", Mode: 0o755, Data: []byte("the agent")},
	{Name: "dev", Mode: 0o755},
	{Name: "lib/modules", Mode: 0o755},
	{Name: "lib", Mode: 0o755},
	{Name: "lib/modules/1.ko", Mode: 0o644, Data: []byte("a module")},
	{Name: "empty", Mode: 0o600, Data: []byte{}},
}

func archive(t *testing.T, list []initramfs.Entry) []byte {
	t.Helper()
	var out bytes.Buffer
	if err := initramfs.Write(&out, list); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// TestReproducible: the order of the entries does not matter, and the bytes are always these.
func TestReproducible(t *testing.T) {
	one := archive(t, entries)
	reversed := []initramfs.Entry{}
	for _, e := range entries {
		reversed = append([]initramfs.Entry{e}, reversed...)
	}
	if !bytes.Equal(one, archive(t, reversed)) {
		t.Error("the order changes the archive")
	}
	sum := sha256.Sum256(one)
	if got := hex.EncodeToString(sum[:]); got != golden || len(one)%4 != 0 {
		t.Errorf("%d bytes, %s", len(one), got)
	}
}

// TestRefused: what the kernel would unpack somewhere else, or not at all, is no entry.
func TestRefused(t *testing.T) {
	for name, list := range map[string][]initramfs.Entry{
		"up":        {{Name: "../x", Data: []byte{}}},
		"absolute":  {{Name: "/x", Data: []byte{}}},
		"twice":     {{Name: "x", Data: []byte{}}, {Name: "x"}},
		"no folder": {{Name: "a/x", Data: []byte{}}},
		"file":      {{Name: "a", Data: []byte{}}, {Name: "a/x", Data: []byte{}}},
		"the end":   {{Name: "TRAILER!!!", Data: []byte{}}},
		"mode":      {{Name: "x", Mode: 0o140000, Data: []byte{}}},
		"nothing":   {{}},
	} {
		if err := initramfs.Write(&bytes.Buffer{}, list); !errors.Is(err, initramfs.ErrEntry) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

const golden = "4155b269f3b7ff9a3999ad0e648d7ec32ea0fec316d0e06d2a58d77e2aff8fc0"
