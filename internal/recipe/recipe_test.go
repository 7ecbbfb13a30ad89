// SPDX-License-Identifier: Apache-2.0

package recipe_test

import (
	"crypto/rand"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"

	"sealift/cose"
	"sealift/internal/envelope"
	"sealift/internal/recipe"
	"sealift/internal/sharedtest"
	"sealift/suit"
)

const base = "sequence-number: 1\nmanifest-component-id: manifest/base\ncomponents: [app/base]\nvalidate: [abort]\n"

// folder holds the files that the reference's examples name.
func folder(t testing.TB) fstest.MapFS {
	t.Helper()
	dir := fstest.MapFS{}
	for _, name := range []string{"hello.bin", "a.bin", "secret.txt", "secret.enc", "secret.info"} {
		dir[name] = &fstest.MapFile{Data: []byte(name)}
	}
	b, err := recipe.Parse([]byte(base), "base.yaml", dir)
	if err != nil {
		t.Fatal(err)
	}
	dir["base.suit"] = &fstest.MapFile{Data: encode(t, b)}
	return dir
}

func encode(t testing.TB, b *suit.Builder) []byte {
	t.Helper()
	e, err := envelope.Build(b)
	if err != nil {
		t.Fatal(err)
	}
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func reference(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(sharedtest.Root(t), "docs", "manifest.md"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// TestReference builds every example of docs/manifest.md, and finds every command and parameter there.
func TestReference(t *testing.T) {
	text, dir := reference(t), folder(t)
	examples := strings.Split(text, "```yaml\n")[1:]
	if len(examples) < 5 {
		t.Fatalf("%d examples", len(examples))
	}
	all := ""
	for i, example := range examples {
		example, _, _ = strings.Cut(example, "```")
		all += example
		b, err := recipe.Parse([]byte(example), "docs/manifest.md", dir)
		if err != nil {
			t.Errorf("example %d: %v", i+1, err)
			continue
		}
		encode(t, b)
	}
	for c := suit.CodeVendorIdentifier; c <= suit.CodeCopyParams; c++ {
		if c.Known() && !strings.Contains(all, c.String()) {
			t.Errorf("no example has the command %v", c)
		}
	}
	for p := suit.ParamVendorID; p <= suit.ParamComponentMetadata; p++ {
		if p.Known() && !strings.Contains(all, p.String()+":") {
			t.Errorf("no example has the parameter %v", p)
		}
	}
	for _, m := range suit.Sections[1:] {
		if !strings.Contains(text, "`"+m.String()+"`") {
			t.Errorf("the member %v is not in the reference", m)
		}
	}
}

// TestValues: what a recipe says is what the manifest holds.
func TestValues(t *testing.T) {
	dir := folder(t)
	b, err := recipe.Parse([]byte(`
sequence-number: 0xffffffffffffffff
components: [app/a]
shared:
  - override-parameters:
      vendor-identifier: {domain: example.org}
      class-identifier: {domain: example.org, class: x}
      image-digest: {file: a.bin}
      image-size: {file: a.bin}
      version: "<= 1.2-rc.3"
  - image-match: 0
`), "r.yaml", dir)
	if err != nil {
		t.Fatal(err)
	}
	e, err := suit.ParseEnvelope(encode(t, b))
	if err != nil {
		t.Fatal(err)
	}
	m, err := e.ManifestInsecure()
	if err != nil {
		t.Fatal(err)
	}
	p := m.Shared[0].Params
	vendor := suit.VendorID("example.org")
	class := suit.ClassID(vendor, "x")
	if id, _ := p.Bytes(suit.ParamVendorID); string(id) != string(vendor[:]) {
		t.Errorf("vendor %x", id)
	}
	if id, _ := p.Bytes(suit.ParamClassID); string(id) != string(class[:]) {
		t.Errorf("class %x", id)
	}
	if d, _ := p.Digest(); !d.Equal(suit.SHA256([]byte("a.bin"))) {
		t.Errorf("digest %v", d)
	}
	if n, _ := p.Uint(suit.ParamSize); n != 5 {
		t.Errorf("size %d", n)
	}
	raw, _ := p.Bytes(suit.ParamVersion)
	if v, err := suit.ParseVersionMatch(raw); err != nil || v.String() != "<= 1.2-rc.3" {
		t.Errorf("version %v, %v", v, err)
	}
	if m.Sequence != 1<<64-1 || m.Shared[1].Policy != 0 || e.AuthBlocks() != 0 {
		t.Errorf("sequence %d, policy %d, %d blocks", m.Sequence, m.Shared[1].Policy, e.AuthBlocks())
	}
}

// TestRefuses: each recipe is refused for its own reason.
func TestRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                                   "not YAML",
		"[]":                                 "a recipe is a mapping",
		"components:":                        "a list is expected here",
		"components: []\nsequence-number: 1": "needs a component",
		"components: [a]\ncomponents: [b]":   "components",
		"components: [a]\ninstall: []":       "one command at least",
		"components: [a]\ninstall: [{write: 2, fetch: 2}]":                                              "mapping of one name",
		"components: [a]\ninstall: [override-parameters]":                                               "needs an argument",
		"components: [a]\ninstall: [{override-parameters: {content: x}}]":                               "bytes are written as",
		"components: [a]\ninstall: [{override-parameters: {image-digest: sha-1:00}}]":                   "64 hexadecimal digits",
		"components: [a]\ninstall: [{override-parameters: {image-digest: {manifest: a.bin}}}]":          "malformed",
		"components: [a]\ninstall: [{override-parameters: {image-digest: {file: /etc/passwd}}}]":        "not a file beside the recipe",
		"components: [a]\ninstall: [{override-parameters: {image-digest: {file: nowhere}}}]":            "does not exist",
		"components: [a]\ninstall: [{override-parameters: {vendor-identifier: {domain: a, class: b}}}]": "class belongs to a class-identifier",
		"components: [a]\ninstall: [{override-parameters: {version: 1.2}}]":                             "not a comparison",
		"components: [a]\ninstall: [{override-parameters: {wait-info: {time-of-day: 90000}}}]":          "time-of-day 90000",
		"components: [a]\ninstall: [{custom: {code: 3, argument: {hex: f6}}}]":                          "below -256",
		"components: [a]\ninstall: [{custom: {code: -300, argument: {hex: f6f6}}}]":                     "no CBOR item",
		"components: [a]\nx: &a 1\nsequence-number: *a":                                                 "single value",
		"components: [a]\ntext: {en: {component: x}}":                                                   "unknown field",
		"components: ['a//b']":              "malformed component identifier",
		"components: [a]\nset-version: one": "not a version",
		"components: [a]\ninstall: " + strings.Repeat("[{run-sequence: ", 12) + "[]" + strings.Repeat("}]", 12): "nested more than",
	} {
		_, err := recipe.Parse([]byte(text), "r.yaml", folder(t))
		if !errors.Is(err, recipe.ErrRecipe) || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %q", text, err, want)
		}
		var ps recipe.Problems
		if errors.As(err, &ps) && ps[0].Line < 1 {
			t.Errorf("%q: no line in %v", text, err)
		}
	}
}

// TestSignedStaysSigned: severing after signing is refused, taking out is not noticed by any signature.
func TestSignedStaysSigned(t *testing.T) {
	b, err := recipe.Parse([]byte("sequence-number: 1\ncomponents: [a]\ninstall: [abort]\npayloads: {x: a.bin}\n"), "r.yaml", folder(t))
	if err != nil {
		t.Fatal(err)
	}
	priv, err := cose.GenerateKey(cose.AlgEd25519, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(priv)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(sever bool) *envelope.Envelope {
		e, err := envelope.Build(b)
		if err == nil && sever {
			err = e.Sever(suit.MemberInstall)
		}
		if err == nil {
			err = e.Sign(rand.Reader, signer)
		}
		if err != nil {
			t.Fatal(err)
		}
		return e
	}
	if err := sign(false).Sever(suit.MemberInstall); !errors.Is(err, envelope.ErrSigned) {
		t.Errorf("severing a signed manifest: %v", err)
	}
	e := sign(true)
	if _, err := e.Take(suit.MemberInstall); err != nil {
		t.Fatal(err)
	}
	if _, err := e.TakePayload("x"); err != nil {
		t.Fatal(err)
	}
	if _, err := e.Take(suit.MemberText); !errors.Is(err, envelope.ErrAbsent) {
		t.Errorf("taking what is not there: %v", err)
	}
	data, err := e.Encode()
	if err != nil {
		t.Fatal(err)
	}
	parsed, err := suit.ParseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := parsed.Verify([]*cose.Key{signer.Key()}, suit.VerifyOptions{StrictAlgorithms: true})
	if err != nil || len(v.Missing) != 1 || len(parsed.Payloads()) != 0 {
		t.Errorf("%v, missing %v, payloads %v", err, v.Missing, parsed.Payloads())
	}
}

func FuzzParse(f *testing.F) {
	dir := folder(f)
	for _, example := range strings.Split(reference(f), "```yaml\n")[1:] {
		example, _, _ = strings.Cut(example, "```")
		f.Add([]byte(example))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		b, err := recipe.Parse(data, "r.yaml", dir)
		if err != nil {
			return
		}
		if e, err := envelope.Build(b); err == nil {
			if _, err := e.Encode(); err != nil {
				t.Error(err)
			}
		}
	})
}
