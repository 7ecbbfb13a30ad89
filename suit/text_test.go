// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"testing"

	"sealift/cose"
)

func sampleTexts() []Text {
	return []Text{
		{Language: "de", Description: "Beschreibung", Update: "Aktualisierung"},
		{
			Language: "en-US", Description: "description", Update: "update", JSON: "{}", YAML: "-",
			Components: []ComponentText{
				{Component: NewComponentID("a"), VendorName: "vendor", ModelName: "model", VendorDomain: "v.example", ModelInfo: "info",
					Description: "a component", Version: "1.0", VersionRequired: ">=1.2.5,<2", CurrentVersion: "1.3.0"},
				{Component: NewComponentID("x", "y"), Version: "2"},
			},
		},
	}
}

// TestText: the model is what is encoded, also when severed, and unknown labels are no harm.
func TestText(t *testing.T) {
	data, err := EncodeText(sampleTexts())
	if err != nil {
		t.Fatal(err)
	}
	b := everything()
	b.Text = data
	signer := newSigner(t, cose.AlgESP256)
	envelope, err := b.Build(rand.Reader, signer)
	if err != nil {
		t.Fatal(err)
	}
	got, err := open(t, envelope, signer).Texts()
	if err != nil || !reflect.DeepEqual(got, sampleTexts()) {
		t.Errorf("%+v %v", got, err)
	}
	more := cose.MustMarshal(map[string]any{"en": map[int]any{1: "one", 99: []int{1}, -3: true}})
	if got, err := ParseText(more); err != nil || len(got) != 1 || got[0].Description != "one" {
		t.Errorf("%+v %v", got, err)
	}
	for name, v := range map[string]any{
		"no language": map[string]int{}, "not a map": []int{}, "number as text": map[string]any{"en": map[int]int{1: 1}},
		"language is a number": map[int]any{1: map[int]string{1: "a"}}, "segment is text": map[string]any{"en": map[any]any{[1]string{"a"}: map[int]string{}}},
	} {
		if got, err := ParseText(cose.MustMarshal(v)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %+v %v", name, got, err)
		}
	}
	twice := sampleTexts()
	twice[1].Components[1].Component = NewComponentID("a")
	if _, err := EncodeText(twice); err == nil {
		t.Error("a component is named twice")
	}
	if _, err := EncodeText([]Text{{Language: "en"}, {Language: "en"}}); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
}

func TestPrintable(t *testing.T) {
	if got := Printable("a\x1b[2Jb\nc\u202e", 100); got != "a?[2Jb?c?" {
		t.Errorf("%q", got)
	}
	if got := Printable("äöüß", 3); got != "äöü..." {
		t.Errorf("%q", got)
	}
}

// TestSeveredCandidateVerification: the digest form of member 18, which the draft's CDDL forgot.
func TestSeveredCandidateVerification(t *testing.T) {
	signer := newSigner(t, cose.AlgESP256)
	b := everything()
	b.Sever = []Member{MemberCandidateVerification}
	data, err := b.Build(rand.Reader, signer)
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, data, signer)
	if len(m.CandidateVerification) != len(b.CandidateVerification) || m.Severed[MemberCandidateVerification].IsZero() {
		t.Errorf("%+v", m.Severed)
	}
	e, err := ParseEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	dropped, err := e.Encode(EncodeOptions{DropSevered: true})
	if err != nil {
		t.Fatal(err)
	}
	if m := open(t, dropped, signer); m.CandidateVerification != nil || len(m.Missing) != 1 {
		t.Errorf("%+v", m.Missing)
	}
}

// FuzzText: what parses encodes to what parses to the same.
func FuzzText(f *testing.F) {
	data, err := EncodeText(sampleTexts())
	if err != nil {
		f.Fatal(err)
	}
	f.Add([]byte(data))
	f.Fuzz(func(t *testing.T, data []byte) {
		texts, err := ParseText(data)
		if err != nil {
			return
		}
		first, err := EncodeText(texts)
		if err != nil {
			return // an empty language tag
		}
		again, err := ParseText(first)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := EncodeText(again); err != nil || !bytes.Equal(first, second) {
			t.Fatalf("%v\n%x\n%x", err, first, second)
		}
	})
}
