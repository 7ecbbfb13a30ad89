// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"crypto/rand"
	"errors"
	"strings"
	"testing"

	"sealift/cose"
)

// TestMalformed: bytes that are no envelope or no manifest.
func TestMalformed(t *testing.T) {
	signer := newSigner(t, cose.AlgESP256)
	good, err := everything().Build(rand.Reader, signer)
	if err != nil {
		t.Fatal(err)
	}
	bad := map[string][]byte{
		"empty": {}, "array": {0x80}, "other tag": {0xd8, 0x6a, 0xa0}, "indefinite": {0xbf, 0xff}, "trailing": append(bytes.Clone(good), 0),
		"no members": {0xa0}, "duplicate key": {0xa2, 0x02, 0x40, 0x02, 0x40}, "unknown member": {0xa1, 0x18, 99, 0x40},
		"payload is no bytes": {0xa1, 0x61, 'a', 0x01}, "key is a list": {0xa1, 0x80, 0x40}, "empty wrapper": {0xa2, 2, 0x40, 3, 0x40},
		"wrapper without digest": {0xa2, 2, 0x41, 0x80, 3, 0x40},
	}
	for name, data := range bad {
		if _, err := ParseEnvelope(data); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for i := range good {
		if _, err := verify(good[:i], []*cose.Key{signer.Key()}, VerifyOptions{}); err == nil {
			t.Errorf("cut to %d bytes it verifies", i)
		}
	}
}

// TestMalformedManifests: signed, yet not what the CDDL asks for.
func TestMalformedManifests(t *testing.T) {
	common := func(m map[int64]any) []byte { return cose.MustMarshal(m) }
	components := [][][]byte{{[]byte("c")}}
	one := common(map[int64]any{2: components})
	seq := func(items ...any) []byte { return cose.MustMarshal(items) }
	deep := seq(14, 15)
	for range MaxNesting + 2 {
		deep = seq(32, deep)
	}
	long := make([]any, 0, 2*MaxCommands+2)
	for range MaxCommands + 1 {
		long = append(long, 14, 0)
	}
	cases := map[string]map[int64]any{
		"no version":              {2: 1, 3: one},
		"no sequence number":      {1: 1, 3: one},
		"no common":               {1: 1, 2: 1},
		"negative sequence":       {1: 1, 2: -1, 3: one},
		"common is a map":         {1: 1, 2: 1, 3: map[int]int{}},
		"no components":           {1: 1, 2: 1, 3: common(map[int64]any{})},
		"empty components":        {1: 1, 2: 1, 3: common(map[int64]any{2: []int{}})},
		"component twice":         {1: 1, 2: 1, 3: common(map[int64]any{2: append(components, components...)})},
		"unknown in common":       {1: 1, 2: 1, 3: common(map[int64]any{2: components, 9: 1})},
		"dependency without name": {1: 1, 2: 1, 3: common(map[int64]any{1: map[int]any{1: map[int]any{}}, 2: components})},
		"dependency named twice":  {1: 1, 2: 1, 3: common(map[int64]any{1: map[int]any{1: map[int]any{1: components[0]}}, 2: components})},
		"empty dependencies":      {1: 1, 2: 1, 3: common(map[int64]any{1: map[int]any{}, 2: components})},
		"unknown member":          {1: 1, 2: 1, 3: one, 17: seq(14, 15)},
		"empty sequence":          {1: 1, 2: 1, 3: one, 20: seq()},
		"odd sequence":            {1: 1, 2: 1, 3: one, 20: seq(14)},
		"text as command":         {1: 1, 2: 1, 3: one, 20: seq("a", 1)},
		"policy of five bits":     {1: 1, 2: 1, 3: one, 20: seq(14, 16)},
		"policy is text":          {1: 1, 2: 1, 3: one, 20: seq(14, "a")},
		"index is false":          {1: 1, 2: 1, 3: one, 20: seq(12, false)},
		"index list is empty":     {1: 1, 2: 1, 3: one, 20: seq(12, []int{})},
		"no parameters":           {1: 1, 2: 1, 3: one, 20: seq(20, map[int]int{})},
		"parameter's type":        {1: 1, 2: 1, 3: one, 20: seq(20, map[int]any{14: "big"})},
		"short identifier":        {1: 1, 2: 1, 3: one, 20: seq(20, map[int]any{1: []byte{1}})},
		"digest too short":        {1: 1, 2: 1, 3: one, 20: seq(20, map[int]any{3: cose.MustMarshal([]any{-16, []byte{1}})})},
		"one alternative":         {1: 1, 2: 1, 3: one, 20: seq(15, []any{seq(14, 15)})},
		"nil between":             {1: 1, 2: 1, 3: one, 20: seq(15, []any{seq(14, 15), nil, seq(14, 15)})},
		"nested too deep":         {1: 1, 2: 1, 3: one, 20: deep},
		"too many commands":       {1: 1, 2: 1, 3: one, 20: seq(long...)},
		"validate severed":        {1: 1, 2: 1, 3: one, 7: []any{-16, make([]byte, 32)}},
	}
	for name, members := range cases {
		manifest := cose.MustMarshal(cose.MustMarshal(members))
		data := cose.MustMarshal(map[any]any{
			2: cose.MustMarshal([][]byte{cose.MustMarshal(SHA256(manifest))}), 3: cose.RawMessage(manifest),
		})
		e, err := ParseEnvelope(data)
		if err != nil {
			t.Fatal(name, err)
		}
		if _, err := e.ManifestInsecure(); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestRules: what Check finds, all of it at once.
func TestRules(t *testing.T) {
	b := everything()
	b.Shared = append(b.Shared, Write(), Command{Code: -300, Raw: []byte{0}})
	b.Install = append(b.Install, SetComponentIndex(9), Override(Params{ParamSource: 8, ParamSoftFailure: true}))
	b.Uninstall = Sequence{Unlink()}
	_, err := b.Build(rand.Reader, newSigner(t, cose.AlgESP256))
	if !errors.Is(err, ErrRule) {
		t.Fatal(err)
	}
	for _, want := range []string{
		"write: not allowed in the shared", "no custom commands", "no component 9", "no source component 8", "soft-failure",
		"uninstall, offset 1, unlink: a sequence over several",
	} {
		if !strings.Contains(err.Error(), want) {
			t.Errorf("not reported: %s in\n%v", want, err)
		}
	}
}

func TestBuilderRefuses(t *testing.T) {
	signer := newSigner(t, cose.AlgESP256)
	cases := map[string]func(b *Builder){
		"empty sequence":     func(b *Builder) { b.Load = Sequence{} },
		"parameter's type":   func(b *Builder) { b.Load = Sequence{Override(Params{ParamURI: 1})} },
		"negative size":      func(b *Builder) { b.Load = Sequence{Override(Params{ParamSize: -1})} },
		"short identifier":   func(b *Builder) { b.Load = Sequence{Override(Params{ParamClassID: []byte{1}})} },
		"negative index":     func(b *Builder) { b.Load = Sequence{SetComponentIndex(-1)} },
		"no index":           func(b *Builder) { b.Load = Sequence{SetComponentIndex()} },
		"one alternative":    func(b *Builder) { b.Load = Sequence{SetComponentIndex(0), TryEach(Sequence{Abort()})} },
		"sever what is not":  func(b *Builder) { b.Sever = []Member{MemberValidate} },
		"no components":      func(b *Builder) { b.Components, b.Dependencies = nil, nil },
		"unknown, no raw":    func(b *Builder) { b.Load = Sequence{SetComponentIndex(0), Command{Code: 99}} },
		"component too high": func(b *Builder) { b.Load = Sequence{SetComponentIndex(3)} },
	}
	for name, change := range cases {
		b := everything()
		change(b)
		if _, err := b.Build(rand.Reader, signer); err == nil {
			t.Error(name, "is accepted")
		}
	}
	if _, err := everything().Build(rand.Reader); !errors.Is(err, ErrUnsigned) {
		t.Error(err)
	}
}
