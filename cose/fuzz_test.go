// SPDX-License-Identifier: Apache-2.0

package cose_test

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/cose/wire"
)

// seeds adds the golden files whose names begin with prefix.
func seeds(f *testing.F, prefix string) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", prefix+"*.hex"))
	if err != nil || len(files) == 0 {
		f.Fatal(err, "no golden files")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(unhex(f, strings.TrimSpace(string(text))))
	}
}

func FuzzParseKey(f *testing.F) {
	seeds(f, "key_")
	f.Add(unhex(f, rfc9679Key))
	f.Fuzz(func(t *testing.T, data []byte) {
		k, err := cose.ParseKey(data)
		if err != nil {
			return
		}
		out := k.Marshal()
		again, err := cose.ParseKey(out)
		if err != nil || !again.Equal(k) || !wire.Deterministic(out) || !bytes.Equal(again.Marshal(), out) {
			t.Fatalf("%x re-encodes to %x: %v", data, out, err)
		}
		if len(out) == len(data) && wire.Deterministic(data) && !bytes.Equal(out, data) {
			t.Fatalf("%x is deterministic, yet re-encodes to %x", data, out)
		}
	})
}

// FuzzParse re-encodes what was accepted with a general encoder: the result must mean the same.
func FuzzParse(f *testing.F) {
	seeds(f, "sign")
	s := fixedSigner(f, cose.AlgESP256, "golden")
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := cose.Parse(data)
		if err != nil {
			return
		}
		_, _ = m.Verify([]*cose.Key{s.Key()}, cose.VerifyOptions{Legacy: true, AnyKID: true, Detached: nil})
		var v cose.RawMessage
		if err := cose.Unmarshal(data, &v); err != nil {
			t.Fatalf("%x: accepted as a message, refused as CBOR: %v", data, err)
		}
		var items any
		if cose.Unmarshal(data, &items) != nil {
			return // a header with a value that has no Go form
		}
		out, err := cose.Marshal(items)
		if err != nil {
			return
		}
		again, err := cose.Parse(out)
		if err != nil {
			t.Fatalf("%x re-encodes to %x: %v", data, out, err)
		}
		if !reflect.DeepEqual(m.KIDs(), again.KIDs()) || !reflect.DeepEqual(m.Algorithms(), again.Algorithms()) ||
			!bytes.Equal(m.PayloadInsecure(), again.PayloadInsecure()) || m.Tagged() != again.Tagged() || m.Multi() != again.Multi() {
			t.Fatalf("%x re-encodes to %x, which differs", data, out)
		}
	})
}

func FuzzOpen(f *testing.F) {
	seeds(f, "encrypt_")
	seeds(f, "mac0")
	ring := receivers(f)[0].ring
	ring.KEKs = []cose.NamedKEK{{KEK: bytes.Repeat([]byte("a"), 16)}}
	f.Fuzz(func(t *testing.T, data []byte) {
		_, _ = cose.Decrypt(data, ring, cose.ContextEAT)
		if c, err := cose.OpenInfo(data, ring, ""); err == nil {
			_, _ = c.Open(io.Discard, bytes.NewReader(data))
		}
		_, _ = cose.VerifyMac0(data, [][]byte{bytes.Repeat([]byte("a"), 32)}, nil)
	})
}
