// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"sealift/cose"
)

// Value is what a rule compares a field with: a whole number, a flag, a text, or a list of texts. Numbers above 2^53 and
// masks can be written as text, "0x80000"; bytes are hexadecimal text, times RFC 3339.
type Value struct {
	number *big.Int // also of a text that is a hexadecimal number
	flag   *bool
	text   string
	list   []string
}

// NumberValue returns a number as a value.
func NumberValue(n int64) *Value { return &Value{number: big.NewInt(n)} }

// TextValue returns a text as a value.
func TextValue(s string) *Value {
	v := &Value{text: s}
	v.readHexadecimal()
	return v
}

// FlagValue returns a flag as a value.
func FlagValue(b bool) *Value { return &Value{flag: &b} }

// ListValue returns a list as a value.
func ListValue(list ...string) *Value { return &Value{list: append([]string{}, list...)} }

// readHexadecimal makes "0x..." a number as well.
func (v *Value) readHexadecimal() {
	if digits, ok := strings.CutPrefix(v.text, "0x"); ok && len(digits) <= 16 {
		if n, err := strconv.ParseUint(digits, 16, 64); err == nil {
			v.number = new(big.Int).SetUint64(n)
		}
	}
}

// String prints the value for people.
func (v *Value) String() string {
	switch {
	case v == nil:
		return "nothing"
	case v.list != nil && len(v.list) == 0:
		return "none"
	case v.list != nil:
		return strings.Join(v.list, " or ")
	case v.flag != nil:
		return strconv.FormatBool(*v.flag)
	case v.text != "":
		return v.text
	case v.number != nil:
		return v.number.String()
	}
	return `""`
}

func (v *Value) plain() any {
	switch {
	case v.list != nil:
		return v.list
	case v.flag != nil:
		return *v.flag
	case v.text == "" && v.number != nil:
		return v.number.Int64()
	}
	return v.text
}

// MarshalJSON gives a number, a flag, a text or a list of texts.
func (v *Value) MarshalJSON() ([]byte, error) { return json.Marshal(v.plain()) }

// MarshalCBOR gives the same in CBOR.
func (v *Value) MarshalCBOR() ([]byte, error) { return cose.Marshal(v.plain()) }

// UnmarshalJSON reads a whole number, a flag, a text or a list of texts.
func (v *Value) UnmarshalJSON(data []byte) error {
	for _, into := range []any{new(int64), new(bool), new(string), new([]string)} {
		if json.Unmarshal(data, into) == nil && string(data) != "null" {
			return v.read(into)
		}
	}
	return fmt.Errorf("%w: a value is a whole number, a flag, a text or a list of texts", ErrPolicy)
}

// UnmarshalCBOR reads what [Value.MarshalCBOR] wrote.
func (v *Value) UnmarshalCBOR(data []byte) error {
	for _, into := range []any{new(int64), new(bool), new(string), new([]string)} {
		if cose.Unmarshal(data, into) == nil {
			return v.read(into)
		}
	}
	return fmt.Errorf("%w: a value is a whole number, a flag, a text or a list of texts", ErrPolicy)
}

func (v *Value) read(from any) error {
	*v = Value{}
	switch x := from.(type) {
	case *int64:
		v.number = big.NewInt(*x)
	case *bool:
		v.flag = x
	case *string:
		v.text = *x
		v.readHexadecimal()
	case *[]string:
		v.list = append([]string{}, *x...)
	}
	return nil
}

// field is a value in the Evidence, in whichever ways it can be compared.
type field struct {
	number *big.Int
	flag   *bool
	time   time.Time
	bytes  []byte
	list   []string
	isList bool
	text   string
}

// String prints the field for people.
func (f *field) String() string {
	switch {
	case f.isList && len(f.list) == 0:
		return "none"
	case f.isList:
		return strings.Join(f.list, ", ")
	case f.text == "":
		return "nothing"
	}
	return f.text
}

// lookup finds a field, or a part of a structured one by its dotted name; letters may be of either case in the part.
func lookup(fields map[string]any, name string) (*field, bool) {
	if v, found := fields[name]; found {
		return newField(v)
	}
	for i := strings.LastIndexByte(name, '.'); i > 0; i = strings.LastIndexByte(name[:i], '.') {
		v, found := fields[name[:i]]
		if !found {
			continue
		}
		r := reflect.Indirect(reflect.ValueOf(v))
		for _, part := range strings.Split(name[i+1:], ".") {
			if r.Kind() != reflect.Struct {
				return nil, false
			}
			r = reflect.Indirect(r.FieldByNameFunc(func(n string) bool { return strings.EqualFold(n, part) }))
			if !r.IsValid() || !r.CanInterface() {
				return nil, false
			}
		}
		return newField(r.Interface())
	}
	return nil, false
}

func newField(v any) (*field, bool) {
	f := &field{}
	switch x := v.(type) {
	case nil:
		return nil, false
	case time.Time:
		f.time, f.text = x, x.UTC().Format(time.RFC3339)
		return f, true
	case []string:
		f.list, f.isList = x, true
		return f, true
	}
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Pointer, reflect.Interface:
		if r.IsNil() {
			return nil, false
		}
	case reflect.Bool:
		b := r.Bool()
		f.flag, f.text = &b, strconv.FormatBool(b)
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
		f.number = big.NewInt(r.Int())
		f.text = f.number.String()
	case reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		f.number = new(big.Int).SetUint64(r.Uint())
		f.text = f.number.String()
	case reflect.Slice, reflect.Array:
		f.readSlice(r)
	case reflect.String:
		f.text = r.String()
	}
	if s, ok := v.(fmt.Stringer); ok {
		f.text = s.String()
	}
	return f, true
}

func (f *field) readSlice(r reflect.Value) {
	switch r.Type().Elem().Kind() {
	case reflect.Uint8:
		f.bytes = make([]byte, r.Len())
		reflect.Copy(reflect.ValueOf(f.bytes), r)
		f.text = hex.EncodeToString(f.bytes)
	case reflect.String:
		f.isList = true
		for i := range r.Len() {
			f.list = append(f.list, r.Index(i).String())
		}
	}
}

var errCompare = errors.New("cannot be compared with the expected value")

// holds evaluates the rule on a field.
func (r *Rule) holds(f *field) (bool, error) {
	switch r.Op {
	case OpEquals:
		return equal(f, r.Value), nil
	case OpOneOf:
		return !f.isList && slices.Contains(r.Value.list, f.text), nil
	case OpWithin:
		return r.within(f), nil
	case OpAtLeast:
		return atLeast(f, r.Value)
	case OpAtMost:
		if f.number == nil {
			return false, errCompare
		}
		return f.number.Cmp(r.Value.number) <= 0, nil
	}
	return r.bits(f)
}

func (r *Rule) within(f *field) bool {
	list := f.list
	if !f.isList {
		list = []string{f.text}
	}
	for _, x := range list {
		if !slices.Contains(r.Value.list, x) {
			return false
		}
	}
	return true
}

// bits judges flags: a flag of its own, or those of a mask in a number.
func (r *Rule) bits(f *field) (bool, error) {
	switch {
	case r.Value == nil && f.flag != nil:
		return *f.flag == (r.Op == OpSet), nil
	case r.Value == nil && f.number != nil:
		return (f.number.Sign() != 0) == (r.Op == OpSet), nil
	case r.Value == nil || f.number == nil || f.number.Sign() < 0:
		return false, errCompare
	}
	and := new(big.Int).And(f.number, r.Value.number)
	if r.Op == OpSet {
		return and.Cmp(r.Value.number) == 0, nil
	}
	return and.Sign() == 0, nil
}

func equal(f *field, v *Value) bool {
	switch {
	case v.flag != nil:
		return f.flag != nil && *f.flag == *v.flag
	case v.text != "" && f.text == v.text:
		return true
	case v.number != nil && f.number != nil:
		return f.number.Cmp(v.number) == 0
	case f.bytes != nil:
		want, err := hex.DecodeString(v.text)
		return err == nil && bytes.Equal(want, f.bytes)
	}
	return v.number == nil && !f.isList && f.text == v.text
}

// atLeast orders numbers, times and dotted versions; bytes are lists of security version numbers, each of which counts.
func atLeast(f *field, v *Value) (bool, error) {
	switch {
	case f.number != nil && v.number != nil:
		return f.number.Cmp(v.number) >= 0, nil
	case !f.time.IsZero():
		want, err := time.Parse(time.RFC3339, v.text)
		if err != nil {
			return false, errCompare
		}
		return !f.time.Before(want), nil
	case f.bytes != nil:
		want, err := hex.DecodeString(v.text)
		if err != nil || len(want) != len(f.bytes) {
			return false, errCompare
		}
		for i := range want {
			if f.bytes[i] < want[i] {
				return false, nil
			}
		}
		return true, nil
	}
	got, err := version(f.text)
	if err != nil {
		return false, err
	}
	want, err := version(v.String())
	if err != nil {
		return false, err
	}
	return slices.Compare(got, want) >= 0, nil
}

// version reads numbers between dots, with or without a leading v.
func version(s string) ([]uint64, error) {
	var out []uint64
	for _, part := range strings.Split(strings.TrimPrefix(s, "v"), ".") {
		n, err := strconv.ParseUint(part, 10, 64)
		if err != nil {
			return nil, errCompare
		}
		out = append(out, n)
	}
	for len(out) > 0 && out[len(out)-1] == 0 { // 1.2 is 1.2.0
		out = out[:len(out)-1]
	}
	return out, nil
}
