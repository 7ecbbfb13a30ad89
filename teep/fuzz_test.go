// SPDX-License-Identifier: Apache-2.0

package teep_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"testing"

	"sealift/cose"
	"sealift/cose/wire"
	"sealift/teep"
)

func seeds(f *testing.F) {
	f.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", "*.hex"))
	if err != nil || len(files) == 0 {
		f.Fatal(err, "no golden files")
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(unhex(f, string(text)))
	}
}

// peersOnly reports that a message which was rightly accepted may not be emitted: an Error without the list its code calls for.
func peersOnly(m teep.Message, err error) bool {
	var rule *teep.RuleError
	return m.Type() == teep.TypeError && errors.As(err, &rule) && rule.Option == "err-code"
}

func FuzzDecode(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, data []byte) {
		m, err := teep.Decode(data)
		if err != nil {
			if !errors.Is(err, teep.ErrMalformed) && !errors.Is(err, teep.ErrUnknownType) && !errors.Is(err, teep.ErrRule) {
				t.Fatalf("untyped error %v", err)
			}
			return
		}
		out, err := teep.Encode(m)
		if err != nil {
			if peersOnly(m, err) {
				return
			}
			t.Fatalf("%x decodes to %+v, which does not encode: %v", data, m, err)
		}
		again, err := teep.Decode(out)
		if err != nil {
			t.Fatalf("%x re-encodes to %x: %v", data, out, err)
		}
		final, err := teep.Encode(again)
		if err != nil || !bytes.Equal(final, out) {
			t.Fatalf("%x re-encodes to %x, then to %x: %v", data, out, final, err)
		}
		if !wire.Deterministic(data) {
			return
		}
		if !reflect.DeepEqual(again, m) {
			t.Fatalf("%x decodes to %+v, its re-encoding to %+v", data, m, again)
		}
		if q, ok := m.(*teep.QueryRequest); ok && data[len(data)-1] != byte(q.DataItems) {
			return // reserved bits were dropped
		}
		if r, ok := m.(*teep.QueryResponse); ok && hasDigest(r) {
			return // the digest is wrapped, and may be written in a form of its own
		}
		if !bytes.Equal(out, data) {
			t.Fatalf("%x is deterministic, yet re-encodes to %x", data, out)
		}
	})
}

func hasDigest(r *teep.QueryResponse) bool {
	for _, p := range r.TCList {
		if p.Digest != nil {
			return true
		}
	}
	return false
}

func FuzzVerify(f *testing.F) {
	seeds(f)
	keys := []*cose.Key{
		fixedSigner(f, cose.AlgESP256, "tam").Key(), fixedSigner(f, cose.AlgEd25519, "tam").Key(), fixedSigner(f, cose.AlgESP256, "agent").Key(),
	}
	want := map[string]bool{}
	for _, m := range messages() {
		data, err := teep.Encode(m)
		if err != nil {
			f.Fatal(err)
		}
		want[string(data)] = true
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		s, err := teep.Parse(data)
		if err != nil {
			return
		}
		_, _ = s.MessageInsecure()
		v, err := s.Verify(keys, teep.Options{Legacy: true, LooseToken: true})
		if err != nil {
			return
		}
		// Only what the owners of the keys have signed can be verified.
		if out, err := teep.Encode(v.Message); err != nil || !want[string(out)] {
			t.Fatalf("%x is a forgery of %+v", data, v.Message)
		}
	})
}
