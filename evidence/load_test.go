// SPDX-License-Identifier: Apache-2.0

package evidence_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/hex"
	"errors"
	"reflect"
	"testing"

	"sealift/evidence"
	"sealift/suit"
)

func loadOf(name string) evidence.Load {
	return evidence.Load{Component: suit.NewComponentID("tee", "app", name), Sequence: 7,
		Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: bytes.Repeat([]byte{0x33}, 32)}}
}

// The event was encoded by hand: 84 6f "sealift-load-v1" 83 43 "tee" 43 "app" 42 "ta" 82 2f 58 20 33... 07.
func TestLoadVector(t *testing.T) {
	l := loadOf("ta")
	encoded := append([]byte("\x84\x6fsealift-load-v1\x83\x43tee\x43app\x42ta\x82\x2f\x58\x20"), bytes.Repeat([]byte{0x33}, 32)...)
	event := sha512.Sum384(append(encoded, 7))
	if l.Event() != event {
		t.Errorf("got %x, want %x", l.Event(), event)
	}
	want := sha256.Sum256(append(make([]byte, 32), event[:]...))
	if got := evidence.ReplayLoads(sha256.New, []evidence.Load{l}); !bytes.Equal(got, want[:]) {
		t.Errorf("got %x, want %x", got, want)
	}
	if got := evidence.ReplayLoads(sha512.New384, nil); hex.EncodeToString(got) != hex.EncodeToString(make([]byte, 48)) {
		t.Errorf("nothing loaded: %x", got)
	}
}

// A record of loads is read as it was written, is absent where nothing is listed, and has bounds.
func TestLoadClaims(t *testing.T) {
	c := newWorld(t).claims
	c.AgentKID = bytes.Repeat([]byte{1}, 32)
	without := c.Marshal()
	if back, err := evidence.ParseClaims(without); err != nil || back.Loads != nil {
		t.Fatalf("%+v, %v", back, err)
	}
	c.Loads = []evidence.Load{loadOf("one"), loadOf("two")}
	back, err := evidence.ParseClaims(c.Marshal())
	if err != nil || !reflect.DeepEqual(back.Loads, c.Loads) {
		t.Fatalf("%+v, %v", back, err)
	}
	for name, loads := range map[string][]evidence.Load{
		"no component":    {{Digest: loadOf("x").Digest}},
		"empty part":      {{Component: suit.ComponentID{[]byte("tee"), {}}, Digest: loadOf("x").Digest}},
		"digest too long": {{Component: loadOf("x").Component, Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: make([]byte, 33)}}},
		"too many":        make([]evidence.Load, 1025),
	} {
		c.Loads = loads
		if _, err := evidence.ParseClaims(c.Marshal()); !errors.Is(err, evidence.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
