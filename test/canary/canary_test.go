// SPDX-License-Identifier: Apache-2.0

package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var value = []byte("canary-9c1f4e-do-not-leak")

func TestEveryFormIsFound(t *testing.T) {
	s, err := New(value)
	if err != nil {
		t.Fatal(err)
	}
	for shift := range 7 {
		around := append(append(bytes.Repeat([]byte{0xA5}, shift), value...), 0x5A, 0x11)
		for name, text := range map[string]string{
			"raw":       string(around),
			"hex":       hex.EncodeToString(around),
			"HEX":       strings.ToUpper(hex.EncodeToString(around)),
			"base64":    base64.StdEncoding.EncodeToString(around),
			"base64url": base64.URLEncoding.EncodeToString(around),
		} {
			if got, _ := s.ScanReader(name, strings.NewReader(text)); len(got) == 0 {
				t.Errorf("%s with %d bytes before it: not found", name, shift)
			}
		}
	}
	if got, _ := s.ScanReader("clean", strings.NewReader(strings.Repeat("canary-9c1f4e-do-not-lea ", 1000))); len(got) != 0 {
		t.Errorf("found where it is not: %v", got)
	}
}

// The secret may lie across the border of two reads of the scanner's buffer.
func TestAcrossBufferBorders(t *testing.T) {
	s, _ := New(value)
	for _, at := range []int{0, 1<<20 - 1, 1<<20 - len(value), 1<<20 - 5, 3<<20 - 7} {
		data := make([]byte, 4<<20)
		copy(data[at:], value)
		if got, err := s.ScanReader("x", bytes.NewReader(data)); err != nil || len(got) != 1 {
			t.Errorf("at %d: %v, %v", at, got, err)
		}
	}
}

func TestTreeAndOwnMemory(t *testing.T) {
	s, _ := New(value)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "a"), append([]byte("xx"), value...), 0o600); err != nil {
		t.Fatal(err)
	}
	found, files, err := s.ScanTree(dir)
	if err != nil || files != 1 || len(found) != 1 {
		t.Fatalf("%v %d %v", found, files, err)
	}
	found, size, err := s.ScanProcess(os.Getpid())
	if err != nil || size == 0 || len(found) == 0 {
		t.Fatalf("the scanner does not find the secret in its own memory: %v %d %v", found, size, err)
	}
	if _, err := New([]byte("short")); err == nil {
		t.Error("a short secret was accepted")
	}
}
