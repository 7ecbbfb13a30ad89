// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"testing"

	"sealift/internal/agent/vault"
	"sealift/suit"
)

// FuzzState decodes sealed states. Nobody but the Agent can write one, so this guards against bugs, not attackers: it never
// panics, and what it accepts encodes to something that it accepts as the same.
func FuzzState(f *testing.F) {
	f.Add((&state{Version: stateVersion}).marshal())
	f.Add((&state{Version: stateVersion, Components: []component{{Users: []string{"x"}}}, Manifests: []manifest{{Sequence: 3}}}).marshal())
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := parseState(data)
		if err != nil {
			return
		}
		again, err := parseState(s.marshal())
		if err != nil || !bytes.Equal(again.marshal(), s.marshal()) {
			t.Fatalf("%+v: %v", s, err)
		}
	})
}

func TestClip(t *testing.T) {
	long := string(bytes.Repeat([]byte("ü"), 100))
	for in, want := range map[string]string{
		"short": "short", "line\nbreak\x00": "line break ", "bad\xff": "bad?", long: long[:124] + "...",
	} {
		if got := clip(in); got != want || len(got) > maxText {
			t.Errorf("%q: %q (%d bytes)", in, got, len(got))
		}
	}
}

// TestDataForAnotherTA: whatever the state says about manifests, data bound to one program is not shown to another.
func TestDataForAnotherTA(t *testing.T) {
	data := func(name, app string, bound byte) component {
		return component{ID: suit.NewComponentID("pd", app, name), Blob: &vault.Ref{}, BoundTo: []byte{bound}}
	}
	s := &state{Components: []component{
		data("mine", "app", 1), data("another program's", "app", 2), data("another application's", "other", 1),
		{ID: suit.NewComponentID("pd", "app", "unbound"), Blob: &vault.Ref{}},
	}}
	ta := &component{ID: suit.NewComponentID("tee", "app", "ta"), Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: []byte{1}}}
	if got := s.dataFor(ta); len(got) != 1 || string(got[0].ID[2]) != "mine" {
		t.Fatalf("%+v", got)
	}
}
