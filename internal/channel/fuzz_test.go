// SPDX-License-Identifier: Apache-2.0

package channel

import (
	"bytes"
	"io"
	"testing"
)

// FuzzFrames reads whatever may stand on a stream: a request, a reply, a body. Nothing of it may panic or grow beyond the bounds, and
// what was decoded encodes to something that decodes to the same.
func FuzzFrames(f *testing.F) {
	var buf bytes.Buffer
	for _, v := range []any{request{Kind: kindFetch, URI: "ni:///sha-256;x", Limit: 5}, reply{Code: "busy", Text: "x"}} {
		buf.Reset()
		if err := writeValue(&buf, v); err != nil {
			f.Fatal(err)
		}
		f.Add(buf.Bytes())
	}
	f.Add([]byte{0, 0, 0, 1, 'x', 0, 0, 0, 0})
	f.Add([]byte{0xff, 0xff, 0xff, 0xff})
	f.Fuzz(func(t *testing.T, data []byte) {
		roundTrip[request](t, data)
		roundTrip[reply](t, data)
		got, err := io.ReadAll(&bodyReader{r: bytes.NewReader(data)})
		if err == nil {
			var out bytes.Buffer
			w := newBodyWriter(&out)
			if _, err := w.Write(got); err != nil {
				t.Fatal(err)
			}
			if err := w.end(); err != nil {
				t.Fatal(err)
			}
			again, err := io.ReadAll(&bodyReader{r: &out})
			if err != nil || !bytes.Equal(again, got) {
				t.Fatal("a body reads back as another")
			}
		}
	})
}

func roundTrip[T any](t *testing.T, data []byte) {
	var v, again T
	if readValue(bytes.NewReader(data), &v) != nil {
		return
	}
	var one, two bytes.Buffer
	if err := writeValue(&one, v); err != nil {
		t.Fatal(err)
	}
	if err := readValue(bytes.NewReader(one.Bytes()), &again); err != nil {
		t.Fatal(err)
	}
	if err := writeValue(&two, again); err != nil || !bytes.Equal(one.Bytes(), two.Bytes()) {
		t.Fatal("a value reads back as another")
	}
}
