// SPDX-License-Identifier: Apache-2.0

//go:build interop

package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/conform"
	"sealift/internal/owner/manifest"
	"sealift/suit"
	"sealift/usecase"
)

// libcsuit is a checkout of libcsuit in which its example examples/process was built.
type libcsuit struct{ source string }

func openLibcsuit(t *testing.T) libcsuit {
	t.Helper()
	source := os.Getenv("LIBCSUIT_SOURCE")
	if source == "" {
		t.Skip("LIBCSUIT_SOURCE names no built libcsuit; see docs/interop.md")
	}
	return libcsuit{source}
}

func (l libcsuit) read(t *testing.T, elem ...string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(append([]string{l.source}, elem...)...))
	must(t, err)
	return data
}

// process lets libcsuit's example processor take an envelope, with the payloads that its own Makefile gives it. It tells whether
// the manifest was processed to its end; failed conditions do not stop this example.
func (l libcsuit) process(t *testing.T, envelope string, payloads ...string) bool {
	t.Helper()
	file := func(name string) string { return filepath.Join(l.source, "testfiles", name) }
	const app = "https://example.org/8d82573a-926d-4754-9353-32dc29997f74"
	args := []string{envelope, "-p", t.TempDir(),
		"-u", "https://cdn.example/example3.bin", "-f", file("raw_image.bin"),
		"-u", "http://example.com/file.bin", "-f", file("raw_image.bin"),
		"-u", "http://example.com/dependent.suit", "-f", file("suit_manifest_expS0.suit"),
		"-u", "coaps://example.com/encrypted-firmware",
		"-b", "758c4b7bbae2c4c1d462423e0f0dc3164ffa7b85bb94d4bd6d7ed26ab32feb063385d4d3465927ec82cb5e198a59",
		"-u", app + ".suit", "-f", file("suit_manifest_expU.suit"),
		"-u", app + ".ta", "-f", file("8d82573a-926d-4754-9353-32dc29997f74.ta"),
		"-u", "https://example.org/config.json", "-f", file("config.json")}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, filepath.Join(l.source, "examples", "process", "suit_manifest_process"), append(args, payloads...)...)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Logf("%s: %v: %s", filepath.Base(envelope), err, lastLine(out))
	}
	return err == nil
}

func lastLine(out []byte) string {
	lines := strings.Split(strings.TrimSpace(string(out)), "\n")
	return lines[len(lines)-1]
}

// TestLibcsuitVectors: on each of libcsuit's test files, its processor and ours agree on whether it is authentic under libcsuit's keys.
// What the processor then makes of them, suit/processor tests against the same files.
func TestLibcsuitVectors(t *testing.T) {
	l := openLibcsuit(t)
	anchor, err := conform.ParsePublic(l.read(t, "testfiles", "key", "trust_anchor_secp256r1_pub.pem"))
	must(t, err)
	options := suit.VerifyOptions{StrictAlgorithms: true, MACKeys: [][]byte{bytes.Repeat([]byte{'a'}, 32)}}
	files, err := filepath.Glob(filepath.Join(l.source, "testfiles", "*.suit"))
	must(t, err)
	if len(files) < 20 {
		t.Fatalf("%d files", len(files))
	}
	for _, f := range files {
		t.Run(filepath.Base(f), func(t *testing.T) {
			data, err := os.ReadFile(f)
			must(t, err)
			e, err := suit.ParseEnvelope(data)
			if err == nil {
				_, err = e.Verify([]*cose.Key{anchor}, options)
			}
			if theirs := l.process(t, f); theirs != (err == nil) {
				t.Errorf("libcsuit: %v, we: %v", theirs, err)
			} else {
				t.Logf("both: %v (%v)", theirs, err)
			}
		})
	}
}

// TestLibcsuitTakesOurs: libcsuit processes what our Builder makes and signs, and refuses it when it was changed.
func TestLibcsuitTakesOurs(t *testing.T) {
	l := openLibcsuit(t)
	signer, err := conform.ParseSigner(l.read(t, "testfiles", "key", "trust_anchor_secp256r1.pem"))
	must(t, err)
	payload := []byte("hello from sealift")
	p := manifest.Program{App: "app", Kind: usecase.UA, Sequence: 7, Digest: suit.SHA256(payload), Size: int64(len(payload)),
		Cells: []usecase.Cell{{Instance: usecase.Process, Hardware: usecase.TrustZone}}}
	data, err := p.Build().Build(rand.Reader, signer)
	must(t, err)
	dir := t.TempDir()
	write := func(name string, data []byte) string {
		path := filepath.Join(dir, name)
		must(t, os.WriteFile(path, data, 0o600))
		return path
	}
	payloads := []string{"-u", manifest.URI(p.Digest), "-f", write("payload", payload)}
	if !l.process(t, write("ours.suit", data), payloads...) {
		t.Error("libcsuit does not process our manifest")
	}
	if !l.process(t, write("untagged.suit", suit.WithoutTag(data)), payloads...) {
		t.Error("libcsuit does not process our untagged manifest")
	}
	changed := slices.Clone(data)
	changed[len(changed)-1] ^= 1 // the last byte of the manifest
	if l.process(t, write("changed.suit", changed), payloads...) {
		t.Error("libcsuit processes a manifest whose digest is wrong")
	}
}
