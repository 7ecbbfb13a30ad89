// SPDX-License-Identifier: Apache-2.0

package ociruntime_test

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"

	"sealift/internal/oci/ociruntime"
	"sealift/internal/oci/ocitest"
)

// TestCollect guards that a part is what the program needs, always the same bytes, and can be unpacked. This test is the program:
// it is an executable of this machine with libraries or without.
func TestCollect(t *testing.T) {
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Skip("this needs Linux")
	}
	file := filepath.Join(t.TempDir(), "runc")
	if err := os.WriteFile(file, self, 0o700); err != nil {
		t.Fatal(err)
	}
	part, err := ociruntime.Collect(file)
	if err != nil {
		t.Fatal(err)
	}
	again, err := ociruntime.Collect(file)
	if err != nil || !bytes.Equal(part, again) {
		t.Errorf("two parts of one program: %v", err)
	}
	name, program, err := unpack(part, t.TempDir())
	if err != nil || name != "runc" || !bytes.Equal(program, self) {
		t.Errorf("%s, %d bytes, %v", name, len(program), err)
	}
	if _, err := ociruntime.Collect("/nowhere/runc"); !errors.Is(err, fs.ErrNotExist) {
		t.Error(err)
	}
	if _, err := ociruntime.Collect("/bin/sh"); !errors.Is(err, ociruntime.ErrMalformed) {
		t.Error(err)
	}
}

// unpack unpacks a part, with its program into memory.
func unpack(part []byte, dir string) (name string, program []byte, err error) {
	_, err = ociruntime.Unpack(bytes.NewReader(part), dir, func(called string, r io.Reader) (err error) {
		name = called
		program, err = io.ReadAll(r)
		return err
	})
	return name, program, err
}

// bad are parts that are refused.
func bad(t testing.TB) map[string][]byte {
	list := map[string][]byte{"text": []byte("no tar file at all, although it is as long as a block of one has to be")}
	for name, entries := range map[string][]*tar.Header{
		"nothing":   nil,
		"name":      {ocitest.File("../runc", "x")},
		"traversal": {ocitest.File("runc", "x"), ocitest.File("lib/../../etc/passwd", "x")},
		"elsewhere": {ocitest.File("runc", "x"), ocitest.File("etc/ld.so.preload", "x")},
		"link":      {ocitest.File("runc", "x"), {Typeflag: tar.TypeSymlink, Name: "lib", Linkname: "/lib"}},
		"twice":     {ocitest.File("runc", "x"), ocitest.File("lib/a", "x"), ocitest.File("lib/a", "x")},
		"folder":    {{Typeflag: tar.TypeDir, Name: "runc"}},
	} {
		list[name] = ocitest.Layer(t, entries...)
	}
	return list
}

// TestBadParts guards the reader.
func TestBadParts(t *testing.T) {
	for name, data := range bad(t) {
		if _, _, err := unpack(data, t.TempDir()); !errors.Is(err, ociruntime.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzUnpack(f *testing.F) {
	for _, data := range bad(f) {
		f.Add(data)
	}
	f.Add(ocitest.Layer(f, ocitest.File("runc", "x"), ocitest.File("lib64/ld.so", "y")))
	f.Fuzz(func(t *testing.T, data []byte) {
		above := t.TempDir()
		dir := filepath.Join(above, "a", "lib")
		if err := os.MkdirAll(dir, 0o700); err != nil {
			t.Fatal(err)
		}
		_, _, _ = unpack(data, dir)
		for _, d := range []string{above, filepath.Dir(dir)} {
			if list, err := os.ReadDir(d); err != nil || len(list) != 1 {
				t.Errorf("%s: %v %v", d, list, err)
			}
		}
	})
}
