// SPDX-License-Identifier: Apache-2.0

package payload_test

import (
	"testing"

	"sealift/internal/payload"
	"sealift/suit"
)

func TestOf(t *testing.T) {
	a, b := suit.SHA256([]byte("a")), suit.SHA256([]byte("b"))
	m := &suit.Manifest{
		Components: []suit.ComponentID{suit.NewComponentID("a"), suit.NewComponentID("b"), suit.NewComponentID("c")},
		Shared: suit.Sequence{
			suit.SetComponentIndex(0), suit.Override(suit.Params{suit.ParamDigest: a, suit.ParamSize: uint64(1)}),
			suit.OverrideMultiple(map[int]suit.Params{1: {suit.ParamDigest: b}, 2: {suit.ParamURI: "c"}}),
		},
		PayloadFetch: suit.Sequence{
			suit.SetComponentIndex(0),
			suit.TryEach(suit.Sequence{suit.Override(suit.Params{suit.ParamURI: "a1"}), suit.Fetch()},
				suit.Sequence{suit.Override(suit.Params{suit.ParamURI: "a2"}), suit.Fetch()}),
		},
		Install: suit.Sequence{
			suit.SetComponentIndex(1),
			suit.RunSequence(suit.CopyParams(suit.CopySource{Index: 2, Params: []suit.Param{suit.ParamURI}}), suit.Fetch()),
			suit.SetComponentIndex(2), suit.Override(suit.Params{suit.ParamSource: uint64(1), suit.ParamEncryptionInfo: []byte{0}}), suit.Copy(),
		},
	}
	want := []payload.Payload{
		{URI: "a1", Section: suit.MemberPayloadFetch, Digest: a, Size: 1},
		{URI: "a2", Section: suit.MemberPayloadFetch, Digest: a, Size: 1},
		{URI: "c", Section: suit.MemberInstall, Index: 1, Digest: b, Encrypted: true, Target: suit.NewComponentID("c")},
	}
	got := payload.Of(m)
	if len(got) != len(want) {
		t.Fatalf("got %+v", got)
	}
	for i, w := range want {
		g := got[i]
		if w.Target == nil {
			w.Target = suit.NewComponentID("a")
		}
		if g.URI != w.URI || g.Section != w.Section || g.Index != w.Index || !g.Digest.Equal(w.Digest) || g.Size != w.Size || g.Encrypted != w.Encrypted || !g.Target.Equal(w.Target) {
			t.Errorf("got %+v, want %+v", g, w)
		}
	}
}

// TestBounded: nested loops over all components end.
func TestBounded(t *testing.T) {
	m := &suit.Manifest{}
	for i := range 200 {
		m.Components = append(m.Components, suit.NewComponentID("c", string(rune('a'+i%26)), string(rune('a'+i/26))))
	}
	seq := suit.Sequence{suit.SetAllComponents(), suit.Fetch()}
	for range 8 {
		seq = suit.Sequence{suit.SetAllComponents(), suit.RunSequence(seq...)}
	}
	m.Install = seq
	if n := len(payload.Of(m)); n > 4096 {
		t.Errorf("%d payloads", n)
	}
}
