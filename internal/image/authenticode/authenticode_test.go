// SPDX-License-Identifier: Apache-2.0

package authenticode

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sealift/internal/sharedtest"
)

// TestSignedKernel: the distribution signed its kernel, and the signature at its end holds this digest.
func TestSignedKernel(t *testing.T) {
	image, err := os.ReadFile(filepath.Join(sharedtest.Root(t), ".cache", "kernel", "vmlinuz"))
	if err != nil {
		sharedtest.Missing(t, "scripts/setup.sh was not run: %v", err)
	}
	sum, err := Digest(image)
	if err != nil {
		t.Fatal(err)
	}
	l, err := read(image)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(image[len(image)-l.certificateSize:], sum[:]) {
		t.Errorf("the signature of %d bytes is not over %x", l.certificateSize, sum)
	}
}

// small is an image with two sections in reversed order, bytes behind them, and certificates.
func small() []byte {
	image := make([]byte, 0x200+0x40+0x40+8+16)
	for i := range image {
		image[i] = byte(i)
	}
	le := binary.LittleEndian
	put := func(at int, v uint32) { le.PutUint32(image[at:], v) }
	copy(image, "MZ")
	put(offsetOfPE, 0x80)
	copy(image[0x80:], "PE\x00\x00")
	le.PutUint16(image[0x86:], 2)
	le.PutUint16(image[0x94:], 240)
	optional := 0x98
	le.PutUint16(image[optional:], 0x20b)
	put(optional+sizeOfHeaders, 0x200)
	put(optional+directories64-4, 6)
	put(optional+directories64+certificateItem, uint32(len(image)-16))
	put(optional+directories64+certificateItem+4, 16)
	table := optional + 240
	put(table+16, 0x40)
	put(table+20, 0x240)
	put(table+40+16, 0x40)
	put(table+40+20, 0x200)
	return image
}

func TestDigest(t *testing.T) {
	image := small()
	sum, err := Digest(image)
	if err != nil {
		t.Fatal(err)
	}
	field, entry := 0x98+checksum, 0x98+directories64+certificateItem
	want := sha256.New()
	want.Write(image[:field])
	want.Write(image[field+4 : entry])
	want.Write(image[entry+8 : len(image)-16])
	if !bytes.Equal(want.Sum(nil), sum[:]) {
		t.Errorf("%x", sum)
	}
	for i := range image {
		image[i] ^= 1
		other, err := Digest(image)
		image[i] ^= 1
		out := i >= field && i < field+4 || i >= len(image)-16
		if err == nil && (other == sum) != out && (i < entry || i >= entry+8) {
			t.Errorf("byte %d: the digest is the same: %v", i, other == sum)
		}
	}
}

func TestRefused(t *testing.T) {
	good := small()
	for n := range good {
		if _, err := Digest(good[:n]); !errors.Is(err, ErrImage) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
	for name, change := range map[string]func(b []byte){
		"kind":           func(b []byte) { b[0x98] = 0x07 },
		"directories":    func(b []byte) { b[0x98+directories64-4] = 4 },
		"certificates":   func(b []byte) { b[0x98+directories64+certificateItem] ^= 1 },
		"small headers":  func(b []byte) { b[0x98+sizeOfHeaders+1] = 1 },
		"large headers":  func(b []byte) { b[0x98+sizeOfHeaders+2] = 1 },
		"many sections":  func(b []byte) { b[0x86] = 200 },
		"overlap":        func(b []byte) { b[0x98+240+20] = 0 },
		"in the headers": func(b []byte) { b[0x98+240+40+21] = 0 },
		"behind the end": func(b []byte) { b[0x98+240+18] = 1 },
		"place of PE":    func(b []byte) { b[offsetOfPE+3] = 0xff },
	} {
		b := bytes.Clone(good)
		change(b)
		if _, err := Digest(b); !errors.Is(err, ErrImage) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzDigest(f *testing.F) {
	f.Add(small())
	f.Fuzz(func(t *testing.T, image []byte) { _, _ = Digest(image) })
}
