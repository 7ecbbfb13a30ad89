// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"testing"

	"sealift/cose"
	"sealift/internal/sharedtest"
	"sealift/suit"
)

// FuzzProcessor lets the fuzzer write the sections of a properly signed manifest over three components, one of them a
// dependency, and runs all procedures on a device in memory. Whatever the sections say, a run ends without a panic, with a
// report; it asks the platform for nothing but what the manifest lists, and stays within its limits.
func FuzzProcessor(f *testing.F) {
	info, ciphertext := []byte{0x80}, []byte("ciphertext")
	seed := func(b *suit.Builder) {
		section := func(s suit.Sequence) []byte {
			if s == nil {
				return nil
			}
			data, err := s.Marshal()
			if err != nil {
				f.Fatal(err)
			}
			return data
		}
		f.Add(section(b.Shared), section(b.Install), section(b.Invoke), section(b.Uninstall))
	}
	seed(taBuilder(1, []byte("binary")))
	seed(pdBuilder(info, ciphertext, suit.SHA256(nil)))
	seedVectors(f)
	dependency := dependencyEnvelope(f)
	f.Fuzz(func(t *testing.T, shared, install, invoke, uninstall []byte) {
		envelope := fuzzEnvelope(shared, install, invoke, uninstall)
		p := newMemPlatform()
		p.vendors, p.classes = [][]byte{vendorID[:]}, [][]byte{classID[:]}
		p.web["http://x/y"] = bytes.Repeat([]byte{1}, 100)
		p.manifests["dep"] = dependency
		p.components["a"] = []byte("old")
		o := Options{
			MACKeys: [][]byte{fuzzKey}, LenientDependencies: true, UpdateManagement: true,
			Limits: Limits{TotalBytes: 1000, Commands: 200, PayloadBytes: 500},
		}
		proc := New(managed(p), o)
		for _, run := range []func(context.Context, []byte) (*Outcome, error){proc.Update, proc.Invocation, proc.Uninstall} {
			p.written = 0
			out, err := run(context.Background(), envelope)
			checkReport(t, out, err)
			if p.written > o.Limits.TotalBytes {
				t.Fatalf("%d bytes written", p.written)
			}
		}
		listed := map[string]bool{"a": true, "b": true, "dep": true, "deps/own": true}
		for id := range p.accessed {
			if !listed[id] {
				t.Fatalf("touched %q", id)
			}
		}
	})
}

var fuzzKey = bytes.Repeat([]byte{9}, 32)

// dependencyEnvelope is a stored dependency that writes a component of its own.
func dependencyEnvelope(t testing.TB) []byte {
	t.Helper()
	b := &suit.Builder{
		Sequence: 1, Components: []suit.ComponentID{suit.NewComponentID("deps", "own")},
		Install:   suit.Sequence{content("x"), suit.Write()},
		Uninstall: suit.Sequence{suit.Unlink()},
	}
	envelope, err := b.BuildMAC(fuzzKey, nil)
	if err != nil {
		t.Fatal(err)
	}
	return envelope
}

func fuzzEnvelope(shared, install, invoke, uninstall []byte) []byte {
	common := map[int64]any{
		1: map[int]any{2: map[int]any{1: [][]byte{[]byte("dep")}}},
		2: [][][]byte{{[]byte("a")}, {[]byte("b")}},
	}
	if len(shared) > 0 {
		common[4] = shared
	}
	members := map[int64]any{1: 1, 2: 1, 3: cose.MustMarshal(common)}
	for label, section := range map[int64][]byte{20: install, 9: invoke, 24: uninstall} {
		if len(section) > 0 {
			members[label] = section
		}
	}
	manifest := cose.MustMarshal(cose.MustMarshal(members))
	digest := cose.MustMarshal(suit.SHA256(manifest))
	block, err := cose.Mac0(fuzzKey, nil, digest, true)
	if err != nil {
		panic(err)
	}
	return cose.MustMarshal(map[any]any{2: cose.MustMarshal([][]byte{digest, block}), 3: cose.RawMessage(manifest), "#ta": []byte("binary")})
}

func seedVectors(f *testing.F) {
	root := filepath.Join(sharedtest.Root(f), "..", "shared", "vectors")
	paths, _ := filepath.Glob(filepath.Join(root, "*", "*.suit.cbor"))
	more, _ := filepath.Glob(filepath.Join(root, "generated", "suit", "*.suit.cbor"))
	for _, path := range append(paths, more...) {
		data, err := os.ReadFile(path)
		if err != nil {
			continue
		}
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			continue
		}
		m, err := e.ManifestInsecure()
		if err != nil {
			continue
		}
		section := func(s suit.Sequence) []byte {
			out, _ := s.Marshal()
			return out
		}
		f.Add(section(m.Shared), section(m.Install), section(m.Invoke), section(m.Uninstall))
	}
}

// FuzzEnvelopeRun gives arbitrary bytes to the processor.
func FuzzEnvelopeRun(f *testing.F) {
	f.Add(dependencyEnvelope(f))
	f.Fuzz(func(t *testing.T, data []byte) {
		out, err := New(newMemPlatform(), Options{MACKeys: [][]byte{fuzzKey}}).Update(context.Background(), data)
		checkReport(t, out, err)
	})
}
