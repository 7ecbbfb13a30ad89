// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"bytes"
	"testing"
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
