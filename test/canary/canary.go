// SPDX-License-Identifier: Apache-2.0

// Package canary looks for a secret where it must not be: in files, in the memory of running processes and in captured
// traffic; as it is, in hexadecimal of either case, and in base64 of either alphabet at each of the three alignments.
//
// A scan that finds nothing proves something only if the same scan finds a planted secret; the tests of this package and
// those that use it do both.
package canary

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Secret is a value to look for, in all its forms.
type Secret struct {
	forms   map[string][]byte
	longest int
}

// Hit says where a secret was found and in which form.
type Hit struct {
	Where string // a file's path, "pid 12: 7f00…", or the name given to ScanReader
	Form  string // "raw", "hex", "HEX", "base64+0" …
}

// String reads as one line of a test's failure.
func (h Hit) String() string { return h.Where + " (" + h.Form + ")" }

// New prepares a search for value, which must be at least 12 bytes: a shorter one would be met by chance.
func New(value []byte) (*Secret, error) {
	if len(value) < 12 {
		return nil, fmt.Errorf("canary: %d bytes are too few to tell a leak from chance", len(value))
	}
	s := &Secret{forms: map[string][]byte{
		"raw": value,
		"hex": []byte(hex.EncodeToString(value)),
		"HEX": []byte(strings.ToUpper(hex.EncodeToString(value))),
	}}
	for shift := range 3 {
		for name, enc := range map[string]*base64.Encoding{"base64": base64.RawStdEncoding, "base64url": base64.RawURLEncoding} {
			s.forms[fmt.Sprintf("%s+%d", name, shift)] = inner(enc, value, shift)
		}
	}
	for _, form := range s.forms {
		s.longest = max(s.longest, len(form))
	}
	return s, nil
}

// inner returns the characters that every base64 text has in which value stands at an offset of shift modulo 3: those
// that depend on value alone, and not on its neighbours.
func inner(enc *base64.Encoding, value []byte, shift int) []byte {
	text := enc.EncodeToString(append(make([]byte, shift), value...))
	first := (shift*8 + 5) / 6
	last := (shift + len(value)) * 8 / 6
	return []byte(text[first:last])
}

// ScanReader looks through r to its end, in constant memory.
func (s *Secret) ScanReader(where string, r io.Reader) ([]Hit, error) {
	found := map[string]bool{}
	buf := make([]byte, 0, 1<<20)
	for {
		n, err := r.Read(buf[len(buf):cap(buf)])
		buf = buf[:len(buf)+n]
		for form, want := range s.forms {
			if !found[form] && bytes.Contains(buf, want) {
				found[form] = true
			}
		}
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return hits(where, found), err
		}
		if len(buf) == cap(buf) {
			keep := copy(buf, buf[len(buf)-s.longest+1:])
			buf = buf[:keep]
		}
	}
}

func hits(where string, found map[string]bool) []Hit {
	var out []Hit
	for form := range found {
		out = append(out, Hit{Where: where, Form: form})
	}
	return out
}

// ScanTree looks through every regular file under root, their names included. It returns how many files it read.
func (s *Secret) ScanTree(root string) (found []Hit, files int, err error) {
	err = filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // removed while we walked
			}
			return err
		}
		if !d.Type().IsRegular() {
			return nil
		}
		f, err := os.Open(path)
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		if err != nil {
			return err
		}
		defer f.Close()
		files++
		h, err := s.ScanReader(path, io.MultiReader(strings.NewReader(path+"\n"), f))
		found = append(found, h...)
		return err
	})
	return found, files, err
}
