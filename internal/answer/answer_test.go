// SPDX-License-Identifier: Apache-2.0

package answer_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"

	"sealift/internal/answer"
)

// framed is an answer as it is on the wire.
func framed(t testing.TB, text string, e answer.End) []byte {
	t.Helper()
	var b bytes.Buffer
	w := answer.NewWriter(&b)
	if _, err := w.ReadFrom(iotest.OneByteReader(strings.NewReader(text[:len(text)/2]))); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(w, text[len(text)/2:]); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.End(e), w.End(answer.End{Kind: answer.Gone})); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestRoundTrip(t *testing.T) {
	for _, text := range []string{"", "x", strings.Repeat("long ", 50_000)} {
		for _, want := range []answer.End{{}, {Kind: answer.Exited, Code: 3}, {Kind: answer.Signaled, Code: 9}, {Kind: answer.Unstarted}} {
			r := answer.NewReader(iotest.HalfReader(bytes.NewReader(framed(t, text, want))))
			got, err := io.ReadAll(r)
			if err != nil || string(got) != text || r.End() == nil || *r.End() != want {
				t.Errorf("%d bytes, %v: %d bytes, %v, %v", len(text), want, len(got), r.End(), err)
			}
		}
	}
}

// TestCut guards that no answer that was cut anywhere passes for a whole one.
func TestCut(t *testing.T) {
	whole := framed(t, "some words", answer.End{})
	for n := range whole {
		r := answer.NewReader(bytes.NewReader(whole[:n]))
		if _, err := io.ReadAll(r); !errors.Is(err, io.ErrUnexpectedEOF) || r.End() != nil {
			t.Errorf("after %d bytes: %v", n, err)
		}
	}
}

func TestMalformed(t *testing.T) {
	for name, wire := range map[string]string{
		"huge chunk":          "\xff\xff\xff\xff",
		"unknown kind":        "\x00\x00\x00\x00\x63\x00\x00\x00\x00",
		"whole with a code":   "\x00\x00\x00\x00\x00\x00\x00\x00\x01",
		"exited without code": "\x00\x00\x00\x00\x01\x00\x00\x00\x00",
	} {
		r := answer.NewReader(strings.NewReader(wire))
		if _, err := io.ReadAll(r); !errors.Is(err, answer.ErrMalformed) || r.End() != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReader: what can be read can be written again, and reads the same.
func FuzzReader(f *testing.F) {
	f.Add(framed(f, "a few words", answer.End{}))
	f.Add(framed(f, "", answer.End{Kind: answer.Exited, Code: 1}))
	f.Add([]byte("\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, wire []byte) {
		r := answer.NewReader(bytes.NewReader(wire))
		text, err := io.ReadAll(r)
		if (err == nil) != (r.End() != nil) {
			t.Fatalf("end %v, error %v", r.End(), err)
		}
		if err != nil {
			return
		}
		again := answer.NewReader(bytes.NewReader(framed(t, string(text), *r.End())))
		if got, err := io.ReadAll(again); err != nil || !bytes.Equal(got, text) || *again.End() != *r.End() {
			t.Fatalf("%q %v, then %q %v: %v", text, r.End(), got, again.End(), err)
		}
	})
}
