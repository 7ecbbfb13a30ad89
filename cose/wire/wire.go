// SPDX-License-Identifier: Apache-2.0

// Package wire reads and writes CBOR (RFC 8949) by hand, for the message formats where each byte matters: COSE and TEEP.
//
// Reading has two steps. Valid walks the whole input once and refuses whatever a strict protocol has no use for:
// indefinite lengths, duplicate keys, trailing bytes, deep nesting, absurd counts. Then a Reader steps through the items;
// each method demands one type and takes nothing else for it (null is not an empty string, an array of small numbers is
// not a byte string), and the first fault sticks, so that a decoder checks once, at its end. Results alias the input.
//
// Writing is a set of Append functions which always choose the shortest head (RFC 8949 section 4.2.1). The order of map
// keys is the caller's: it writes them in ascending bytewise order.
package wire

// Major types of RFC 8949 section 3.1.
const (
	majorUint = iota
	majorNint
	majorBytes
	majorText
	majorArray
	majorMap
	majorTag
	majorSimple
)

// Kind is what an item is, as far as the choice of a decoder goes.
type Kind byte

// The kinds of items. KindInvalid stands for the end of the data as well.
const (
	KindInvalid Kind = iota
	KindUint
	KindNint
	KindBytes
	KindText
	KindArray
	KindMap
	KindTag
	KindBool
	KindNull
	KindOther
)

// Null is the encoding of null.
const Null = 0xf6

// Reader steps through the items of one checked input.
type Reader struct {
	w   walker
	off int
	err error
}

// NewReader checks data with Valid and returns a Reader at its first item. A fault is kept: every method then returns
// zero values and Err tells.
func NewReader(data []byte) *Reader {
	return &Reader{w: walker{b: data}, err: Valid(data)}
}

// Err is the first fault met, or nil.
func (r *Reader) Err() error { return r.err }

// Offset is the position of the next item in the input.
func (r *Reader) Offset() int { return r.off }

// Fail records err, unless there was a fault before.
func (r *Reader) Fail(err error) {
	if r.err == nil {
		r.err = &SyntaxError{r.off, err}
	}
}

// Kind tells what the next item is without consuming it.
func (r *Reader) Kind() Kind {
	if r.err != nil || r.off >= len(r.w.b) {
		return KindInvalid
	}
	c := r.w.b[r.off]
	switch major := c >> 5; {
	case major < majorSimple:
		return KindUint + Kind(major)
	case c == 0xf4 || c == 0xf5:
		return KindBool
	case c == Null:
		return KindNull
	}
	return KindOther
}

// take consumes a head of the given major type.
func (r *Reader) take(want byte) (uint64, bool) {
	if r.err != nil {
		return 0, false
	}
	major, arg, next, err := r.w.head(r.off)
	if err != nil {
		r.err = err
		return 0, false
	}
	if major != want {
		r.Fail(ErrType)
		return 0, false
	}
	r.off = next
	return arg, true
}

// Uint reads an unsigned integer.
func (r *Reader) Uint() uint64 {
	v, _ := r.take(majorUint)
	return v
}

// Uint32 reads an unsigned integer of at most 32 bits.
func (r *Reader) Uint32() uint32 {
	start := r.off
	v := r.Uint()
	if v > 0xffffffff {
		r.off = start
		r.Fail(ErrRange)
		return 0
	}
	return uint32(v)
}

// Int reads an integer of either sign that fits int64.
func (r *Reader) Int() int64 {
	major := byte(majorUint)
	if r.Kind() == KindNint {
		major = majorNint
	}
	start := r.off
	v, ok := r.take(major)
	if !ok {
		return 0
	}
	if v > 1<<63-1 {
		r.off = start
		r.Fail(ErrRange)
		return 0
	}
	if major == majorNint {
		return -1 - int64(v)
	}
	return int64(v)
}

// Bytes reads a byte string. The result aliases the input and is never nil without a fault.
func (r *Reader) Bytes() []byte {
	n, ok := r.take(majorBytes)
	if !ok {
		return nil
	}
	return r.cut(n)
}

// Text reads a text string.
func (r *Reader) Text() string {
	n, ok := r.take(majorText)
	if !ok {
		return ""
	}
	return string(r.cut(n))
}

// cut takes the next n bytes, capped so that an append by the caller cannot write into the input.
func (r *Reader) cut(n uint64) []byte {
	if n > uint64(len(r.w.b)-r.off) {
		r.Fail(ErrTruncated)
		return nil
	}
	end := r.off + int(n)
	b := r.w.b[r.off:end:end]
	r.off = end
	return b
}

// Array reads the head of an array and returns its length.
func (r *Reader) Array() int {
	n, _ := r.take(majorArray)
	return int(n)
}

// Map reads the head of a map and returns the number of its pairs.
func (r *Reader) Map() int {
	n, _ := r.take(majorMap)
	return int(n)
}

// Tag reads a tag number; the content is the next item.
func (r *Reader) Tag() uint64 {
	n, _ := r.take(majorTag)
	return n
}

// Bool reads true or false.
func (r *Reader) Bool() bool {
	if r.Kind() != KindBool {
		r.Fail(ErrType)
		return false
	}
	r.off++
	return r.w.b[r.off-1] == 0xf5
}

// Null reads null.
func (r *Reader) Null() {
	if r.Kind() != KindNull {
		r.Fail(ErrType)
		return
	}
	r.off++
}

// Raw consumes the next item, whatever it is, and returns its bytes as they stand in the input.
func (r *Reader) Raw() []byte {
	if r.err != nil {
		return nil
	}
	if r.off >= len(r.w.b) {
		r.Fail(ErrTruncated)
		return nil
	}
	end := r.w.skip(r.off)
	b := r.w.b[r.off:end:end]
	r.off = end
	return b
}

// Skip consumes the next item.
func (r *Reader) Skip() { r.Raw() }
