// SPDX-License-Identifier: Apache-2.0

package wire_test

import (
	"bytes"
	"encoding/hex"
	"errors"
	"math"
	"strings"
	"testing"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose/wire"
)

func unhex(t testing.TB, s string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(s, " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestValid(t *testing.T) {
	for _, c := range []struct {
		name, in string
		want     error
	}{
		{"empty input", "", wire.ErrTruncated},
		{"unsigned", "1b7fffffffffffffff", nil},
		{"unsigned cut short", "1b7fffff", wire.ErrTruncated},
		{"bytes cut short", "43 0102", wire.ErrTruncated},
		{"bytes of absurd length", "5bffffffffffffffff 00", wire.ErrTruncated},
		{"array cut short", "82 01", wire.ErrTruncated},
		{"array of absurd length", "9bffffffffffffffff", wire.ErrTooMany},
		{"map of absurd length", "ba00020001", wire.ErrTooMany},
		{"trailing byte", "01 00", wire.ErrTrailing},
		{"indefinite bytes", "5f 4101 ff", wire.ErrIndefinite},
		{"indefinite text", "7f 6161 ff", wire.ErrIndefinite},
		{"indefinite array", "9f 01 ff", wire.ErrIndefinite},
		{"indefinite map", "bf 0102 ff", wire.ErrIndefinite},
		{"lone break", "ff", wire.ErrIndefinite},
		{"reserved head", "1c", wire.ErrReserved},
		{"simple value below 32 in two bytes", "f814", wire.ErrReserved},
		{"text not UTF-8", "62 c328", wire.ErrUTF8},
		{"nested 16 deep", strings.Repeat("81", 16) + "00", nil},
		{"nested 17 deep", strings.Repeat("81", 17) + "00", wire.ErrDepth},
		{"tags 17 deep", strings.Repeat("c1", 17) + "00", wire.ErrDepth},
		{"duplicate key", "a2 0101 0102", wire.ErrDuplicateKey},
		{"duplicate key, not adjacent", "a3 0101 0202 0103", wire.ErrDuplicateKey},
		{"duplicate key in two widths", "a2 0101 180102", wire.ErrDuplicateKey},
		{"duplicate composite key in two widths", "a2 810101 81180102", wire.ErrDuplicateKey},
		{"duplicate key inside a value", "81 a2 0101 0102", wire.ErrDuplicateKey},
		{"duplicate key inside an unordered map", "a2 02a2 0101 0102 0103", wire.ErrDuplicateKey},
		{"unordered keys", "a2 0201 0102", nil},
		{"float, undefined, null", "83 fb3ff0000000000000 f7 f6", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := wire.Valid(unhex(t, c.in))
			if !errors.Is(err, c.want) || (err == nil) != (c.want == nil) {
				t.Fatalf("got %v, want %v", err, c.want)
			}
			var syntax *wire.SyntaxError
			if err != nil && !errors.As(err, &syntax) {
				t.Fatalf("%v is no SyntaxError", err)
			}
		})
	}
}

func TestDeterministic(t *testing.T) {
	for in, want := range map[string]bool{
		"a2 0101 0202":           true,
		"a2 0201 0102":           false,
		"1801":                   false,
		"1818":                   true,
		"a3 01f6 20f6 616101":    true,
		"a2 2001 0102":           false,
		"1900ff":                 false,
		"1b00000000ffffffff":     false,
		"fa3f800000":             true,
		"a1 a20201 0102 00 0000": false,
	} {
		if got := wire.Deterministic(unhex(t, in)); got != want {
			t.Errorf("%s: got %v", in, got)
		}
	}
}

// A map out of order at every level must not double the work at every level.
func TestNestedUnorderedMapsStayCheap(t *testing.T) {
	item := []byte{0x00}
	for range wire.MaxDepth {
		b := append(wire.AppendMap(nil, 3), 0x02)
		item = append(append(b, item...), 0x01, 0x00, 0x00, 0x00)
	}
	allocs := testing.AllocsPerRun(10, func() {
		if err := wire.Valid(item); err != nil {
			t.Fatal(err)
		}
	})
	if allocs > 20*wire.MaxDepth {
		t.Fatalf("%v allocations for %d levels", allocs, wire.MaxDepth)
	}
}

func TestReader(t *testing.T) {
	b := wire.AppendArray(nil, 10)
	b = wire.AppendUint(b, 7)
	b = wire.AppendInt(b, math.MinInt64)
	b = wire.AppendBytes(b, []byte("ab"))
	b = wire.AppendText(b, "cd")
	b = wire.AppendMap(b, 1)
	b = wire.AppendInt(b, 3)
	b = wire.AppendBool(b, true)
	b = wire.AppendTag(b, 18)
	b = wire.AppendNull(b)
	b = wire.AppendUint(b, math.MaxUint32)
	b = wire.AppendBool(b, false)
	b = wire.AppendArray(b, 0)
	b = wire.AppendUint(b, math.MaxUint64)
	r := wire.NewReader(b)
	if n := r.Array(); n != 10 {
		t.Fatal(n)
	}
	if r.Uint() != 7 || r.Int() != math.MinInt64 || string(r.Bytes()) != "ab" || r.Text() != "cd" {
		t.Fatal("scalars differ")
	}
	if r.Kind() != wire.KindMap || r.Map() != 1 || r.Int() != 3 || !r.Bool() || r.Tag() != 18 {
		t.Fatal("map or tag differs")
	}
	r.Null()
	if r.Uint32() != math.MaxUint32 || r.Bool() {
		t.Fatal("numbers differ")
	}
	if !bytes.Equal(r.Raw(), []byte{0x80}) || r.Uint() != math.MaxUint64 || r.Err() != nil {
		t.Fatal(r.Err())
	}
	if r.Kind() != wire.KindInvalid || r.Raw() != nil || !errors.Is(r.Err(), wire.ErrTruncated) {
		t.Fatal("reading past the end is not noticed")
	}
}

func TestReaderTakesOneTypeOnly(t *testing.T) {
	for name, c := range map[string]struct {
		in   string
		read func(*wire.Reader)
		want error
	}{
		"null for bytes":        {"f6", func(r *wire.Reader) { r.Bytes() }, wire.ErrType},
		"array for bytes":       {"820102", func(r *wire.Reader) { r.Bytes() }, wire.ErrType},
		"text for bytes":        {"6161", func(r *wire.Reader) { r.Bytes() }, wire.ErrType},
		"bytes for text":        {"4161", func(r *wire.Reader) { r.Text() }, wire.ErrType},
		"negative for unsigned": {"20", func(r *wire.Reader) { r.Uint() }, wire.ErrType},
		"float for integer":     {"f93c00", func(r *wire.Reader) { r.Int() }, wire.ErrType},
		"33 bits for 32":        {"1b0000000100000000", func(r *wire.Reader) { r.Uint32() }, wire.ErrRange},
		"2^63 for int64":        {"1b8000000000000000", func(r *wire.Reader) { r.Int() }, wire.ErrRange},
		"number for bool":       {"01", func(r *wire.Reader) { r.Bool() }, wire.ErrType},
		"undefined for null":    {"f7", func(r *wire.Reader) { r.Null() }, wire.ErrType},
		"tag for array":         {"c180", func(r *wire.Reader) { r.Array() }, wire.ErrType},
		"array for map":         {"80", func(r *wire.Reader) { r.Map() }, wire.ErrType},
		"bytes for tag":         {"40", func(r *wire.Reader) { r.Tag() }, wire.ErrType},
	} {
		r := wire.NewReader(unhex(t, c.in))
		c.read(r)
		if !errors.Is(r.Err(), c.want) {
			t.Errorf("%s: got %v", name, r.Err())
		}
	}
}

// FuzzValid holds Valid against an independent decoder: what Valid accepts, the decoder accepts, and Deterministic
// agrees with a deterministic encoder on values both can hold.
func FuzzValid(f *testing.F) {
	for _, s := range []string{"a2 0101 0202", "8301 a0 80", "d2 84 40 a0 f6 40", "bf ff", "a2 0101 180102", "f818", "1b8000000000000000"} {
		f.Add(unhex(f, s))
	}
	strict, err := cbor.DecOptions{
		DupMapKey: cbor.DupMapKeyEnforcedAPF, IndefLength: cbor.IndefLengthForbidden, MaxNestedLevels: 64,
		MapKeyByteString: cbor.MapKeyByteStringAllowed, TimeTag: cbor.DecTagIgnored,
	}.DecMode()
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		err := wire.Valid(data)
		if err == nil {
			if e := strict.Wellformed(data); e != nil {
				t.Fatalf("%x accepted, but: %v", data, e)
			}
		} else if wire.Deterministic(data) {
			t.Fatal("invalid, yet deterministic")
		}
		var v any
		if strict.Unmarshal(data, &v) != nil {
			return
		}
		if err != nil && !errors.Is(err, wire.ErrDepth) && !errors.Is(err, wire.ErrTooMany) && !errors.Is(err, wire.ErrDuplicateKey) {
			t.Fatalf("%x refused with %v, but the decoder takes it", data, err)
		}
	})
}

func BenchmarkValid(b *testing.B) {
	data := wire.AppendMap(nil, 20)
	for i := range 20 {
		data = wire.AppendBytes(wire.AppendUint(data, uint64(i)), make([]byte, 32))
	}
	b.SetBytes(int64(len(data)))
	for b.Loop() {
		if err := wire.Valid(data); err != nil {
			b.Fatal(err)
		}
	}
}
