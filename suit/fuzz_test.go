// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/internal/sharedtest"
)

// seed adds all published envelopes that are at hand.
func seed(f *testing.F, add func(data []byte)) {
	f.Helper()
	root := filepath.Join(sharedtest.Root(f), "..", "shared", "vectors")
	paths, _ := filepath.Glob(filepath.Join(root, "*", "*.suit.cbor"))
	more, _ := filepath.Glob(filepath.Join(root, "generated", "suit", "*.suit.cbor"))
	for _, path := range append(paths, more...) {
		if data, err := os.ReadFile(path); err == nil {
			add(data)
		}
	}
	if data, err := everything().BuildMAC(make([]byte, 32), nil); err == nil {
		add(data)
	}
}

// FuzzEnvelope: an envelope that parses encodes to one that parses to the same, and its manifest's sequences too.
func FuzzEnvelope(f *testing.F) {
	seed(f, func(data []byte) { f.Add(data) })
	f.Fuzz(func(t *testing.T, data []byte) {
		e, err := ParseEnvelope(data)
		if err != nil {
			return
		}
		again, err := e.Encode(EncodeOptions{Tag: e.Tagged()})
		if err != nil {
			t.Fatal(err)
		}
		e2, err := ParseEnvelope(again)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(e.manifest, e2.manifest) || !bytes.Equal(e.auth, e2.auth) || !reflect.DeepEqual(e.severed, e2.severed) ||
			!reflect.DeepEqual(e.payloads, e2.payloads) {
			t.Fatal("the envelope changed")
		}
	})
}

// FuzzManifest gives the fuzzer the manifest's content and wraps it in a fitting digest, so that it gets past that.
func FuzzManifest(f *testing.F) {
	seed(f, func(data []byte) {
		if e, err := ParseEnvelope(data); err == nil {
			if content, err := bstr(e.manifest); err == nil {
				f.Add(content)
			}
		}
	})
	f.Fuzz(func(t *testing.T, content []byte) {
		manifest := byteString(content)
		e := &Envelope{manifest: manifest, digest: cose.MustMarshal(SHA256(manifest))}
		m, err := e.ManifestInsecure()
		if err != nil {
			return
		}
		for _, label := range Sections {
			if seq, ok := m.Section(label); ok {
				checkSequence(t, seq)
			}
		}
		if err := m.Check(); err != nil && !strings.Contains(err.Error(), "offset") {
			t.Fatal(err)
		}
		for _, index := range m.Indices() {
			if _, _, ok := m.Component(index); !ok {
				t.Fatalf("index %d is listed and does not exist", index)
			}
		}
	})
}

// FuzzSequence: what parses encodes to what parses to the same, and from then on to the same bytes.
func FuzzSequence(f *testing.F) {
	seed(f, func(data []byte) {
		if e, err := ParseEnvelope(data); err == nil {
			if m, err := e.ManifestInsecure(); err == nil {
				for _, label := range Sections {
					if seq, ok := m.Section(label); ok {
						data, _ := seq.Marshal()
						f.Add(data)
					}
				}
			}
		}
	})
	f.Fuzz(func(t *testing.T, data []byte) {
		if seq, err := ParseSequence(data); err == nil {
			checkSequence(t, seq)
		}
	})
}

func checkSequence(t *testing.T, seq Sequence) {
	t.Helper()
	first, err := seq.Marshal()
	if err != nil {
		t.Fatalf("%v: %+v", err, seq)
	}
	again, err := ParseSequence(first)
	if err != nil {
		t.Fatalf("%v: %x", err, first)
	}
	second, err := again.Marshal()
	if err != nil || !bytes.Equal(first, second) {
		t.Fatalf("%v\n%x\n%x", err, first, second)
	}
}

// FuzzComponentID: the printed form is one to one.
func FuzzComponentID(f *testing.F) {
	f.Add("tee/stats/ta")
	f.Add("%/%2F")
	f.Fuzz(func(t *testing.T, s string) {
		id, err := ParseComponentID(s)
		if err != nil {
			return
		}
		back, err := ParseComponentID(id.String())
		if err != nil || !back.Equal(id) {
			t.Fatalf("%q: %v %v", s, id, back)
		}
	})
}
