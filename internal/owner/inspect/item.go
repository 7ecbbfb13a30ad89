// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"unicode/utf8"
)

// Bounds of what is read. They leave room for every real file and keep the work that a hostile one causes small.
const (
	maxDepth = 64
	maxItems = 200_000
)

// Errors of the reader.
var (
	errTruncated = errors.New("the data end inside an item")
	errReserved  = errors.New("not well-formed CBOR")
	errBounds    = fmt.Errorf("more than %d levels or %d items", maxDepth, maxItems)
)

// Type is the kind of a CBOR item (RFC 8949 section 3.1).
type Type string

// The types.
const (
	Integer Type = "integer"
	Bytes   Type = "bytes"
	Text    Type = "text"
	Array   Type = "array"
	Map     Type = "map"
	Tag     Type = "tag"
	Simple  Type = "simple"
	Float   Type = "float"
)

// Item is one CBOR item with what is known of its meaning.
type Item struct {
	Type Type `json:"type"`
	// Note says what the item is, Remark what its value means.
	Note   string `json:"note,omitempty"`
	Remark string `json:"remark,omitempty"`
	// Value is a number, a simple value, a text, the hexadecimal form of bytes, or the number of a tag.
	Value   string  `json:"value,omitempty"`
	Items   []*Item `json:"items,omitempty"` // elements of an array, content of a tag
	Entries []Entry `json:"entries,omitempty"`
	// Inside is what a byte string holds, where that is CBOR that was opened.
	Inside *Item `json:"inside,omitempty"`

	raw        []byte // the whole encoded item
	content    []byte // of byte and text strings
	number     int64  // of integers and tags
	small      bool   // number is the value
	indefinite bool
}

// Entry is one pair of a map.
type Entry struct {
	Key   *Item `json:"key"`
	Value *Item `json:"value"`
}

// decoder reads items. Other than the strict decoders of Sealift's libraries it takes whatever is well-formed, because
// files that those refuse are the ones people want to look into.
type decoder struct {
	data  []byte
	at    int
	items int
}

// read reads the first item of data and returns it with the number of bytes that follow it.
func read(data []byte) (it *Item, rest int, err error) {
	d := &decoder{data: data}
	if it, err = d.item(0); err != nil {
		return nil, 0, fmt.Errorf("byte %d: %w", d.at, err)
	}
	return it, len(data) - d.at, nil
}

func (d *decoder) take(n uint64) ([]byte, error) {
	if n > uint64(len(d.data)-d.at) {
		return nil, errTruncated
	}
	b := d.data[d.at : d.at+int(n)]
	d.at += int(n)
	return b, nil
}

// head reads the initial byte and its argument.
func (d *decoder) head() (major, info byte, arg uint64, err error) {
	b, err := d.take(1)
	if err != nil {
		return 0, 0, 0, err
	}
	major, info = b[0]>>5, b[0]&31
	switch {
	case info < 24:
		return major, info, uint64(info), nil
	case info < 28:
		var buf [8]byte
		n := 1 << (info - 24)
		b, err := d.take(uint64(n))
		if err != nil {
			return 0, 0, 0, err
		}
		copy(buf[8-n:], b)
		return major, info, binary.BigEndian.Uint64(buf[:]), nil
	case info == 31 && (major >= 2 && major <= 5 || major == 7):
		return major, info, 0, nil
	}
	return 0, 0, 0, errReserved
}

func (d *decoder) item(depth int) (*Item, error) {
	if d.items++; d.items > maxItems || depth > maxDepth {
		return nil, errBounds
	}
	start := d.at
	major, info, arg, err := d.head()
	if err != nil {
		return nil, err
	}
	it := &Item{indefinite: info == 31}
	switch major {
	case 0, 1:
		it.integer(major, arg)
	case 2, 3:
		err = d.str(it, major, arg)
	case 4:
		it.Type = Array
		err = d.each(it.indefinite, arg, func() error {
			child, err := d.item(depth + 1)
			it.Items = append(it.Items, child)
			return err
		})
	case 5:
		it.Type = Map
		err = d.each(it.indefinite, arg, func() error { return d.entry(it, depth) })
	case 6:
		it.integer(0, arg)
		it.Type = Tag
		var child *Item
		child, err = d.item(depth + 1)
		it.Items = []*Item{child}
	case 7:
		err = it.simple(info, arg)
	}
	if err != nil {
		return nil, err
	}
	it.raw = d.data[start:d.at]
	return it, nil
}

func (d *decoder) entry(it *Item, depth int) error {
	key, err := d.item(depth + 1)
	if err != nil {
		return err
	}
	value, err := d.item(depth + 1)
	it.Entries = append(it.Entries, Entry{key, value})
	return err
}

// each calls f for each of n elements, or up to the break code.
func (d *decoder) each(indefinite bool, n uint64, f func() error) error {
	if !indefinite && n > uint64(len(d.data)-d.at) {
		return errTruncated // each element takes a byte at least
	}
	for i := uint64(0); indefinite || i < n; i++ {
		if indefinite && d.at < len(d.data) && d.data[d.at] == 0xff {
			d.at++
			return nil
		}
		if err := f(); err != nil {
			return err
		}
	}
	return nil
}

func (d *decoder) str(it *Item, major byte, n uint64) (err error) {
	if it.Type = Bytes; major == 3 {
		it.Type = Text
	}
	if !it.indefinite {
		it.content, err = d.take(n)
	} else {
		it.content = []byte{}
		err = d.each(true, 0, func() error {
			m, info, n, err := d.head()
			if err != nil {
				return err
			}
			if m != major || info == 31 {
				return errReserved
			}
			piece, err := d.take(n)
			it.content = append(it.content, piece...)
			return err
		})
	}
	if err != nil {
		return err
	}
	if it.Value = string(it.content); it.Type == Bytes {
		it.Value = hex.EncodeToString(it.content)
	} else if !utf8.Valid(it.content) {
		return fmt.Errorf("%w: text that is not UTF-8", errReserved)
	}
	return nil
}

func (it *Item) integer(major byte, arg uint64) {
	it.Type = Integer
	it.small = arg <= math.MaxInt64
	it.number = int64(arg)
	if major == 0 {
		it.Value = strconv.FormatUint(arg, 10)
		return
	}
	it.number = -1 - it.number
	n := new(big.Int).SetUint64(arg)
	it.Value = n.Neg(n.Add(n, big.NewInt(1))).String()
}

func (it *Item) simple(info byte, arg uint64) error {
	switch info {
	case 25:
		it.float(half(uint16(arg)))
	case 26:
		it.float(float64(math.Float32frombits(uint32(arg))))
	case 27:
		it.float(math.Float64frombits(arg))
	case 31:
		return errReserved
	default:
		if info == 24 && arg < 32 {
			return errReserved
		}
		it.Type = Simple
		names := map[uint64]string{20: "false", 21: "true", 22: "null", 23: "undefined"}
		if it.Value = names[arg]; it.Value == "" {
			it.Value = fmt.Sprintf("simple(%d)", arg)
		}
	}
	return nil
}

func (it *Item) float(f float64) {
	it.Type = Float
	switch {
	case math.IsNaN(f):
		it.Value = "NaN"
	case math.IsInf(f, 0):
		it.Value = map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]
	default:
		it.Value = strconv.FormatFloat(f, 'g', -1, 64)
		if f == math.Trunc(f) && math.Abs(f) < 1e15 {
			it.Value = strconv.FormatFloat(f, 'f', 1, 64)
		}
	}
}

// half converts a half-precision number (RFC 8949 appendix D).
func half(bits uint16) float64 {
	exponent, mantissa := int(bits>>10&31), float64(bits&0x3ff)
	f := math.Ldexp(mantissa+1024, exponent-25)
	switch exponent {
	case 0:
		f = math.Ldexp(mantissa, -24)
	case 31:
		if f = math.Inf(1); mantissa != 0 {
			f = math.NaN()
		}
	}
	if bits>>15 == 1 {
		f = -f
	}
	return f
}

// int returns the value of an integer that fits.
func (it *Item) int() (int64, bool) {
	if it == nil || it.Type != Integer || !it.small {
		return 0, false
	}
	return it.number, true
}

// is reports whether the item is of the type; nil is of none.
func (it *Item) is(t Type) bool { return it != nil && it.Type == t }

// tagged reports whether the item is the tag with that number.
func (it *Item) tagged(number int64) bool { return it.is(Tag) && it.small && it.number == number }

// get returns the value of a map under an integer label.
func (it *Item) get(label int64) *Item {
	if it.is(Map) {
		for _, e := range it.Entries {
			if n, ok := e.Key.int(); ok && n == label {
				return e.Value
			}
		}
	}
	return nil
}

// getText returns the value of a map under a text label.
func (it *Item) getText(label string) *Item {
	if it.is(Map) {
		for _, e := range it.Entries {
			if e.Key.Type == Text && e.Key.Value == label {
				return e.Value
			}
		}
	}
	return nil
}

// walk calls f for the item and all that is in it.
func (it *Item) walk(f func(*Item)) {
	f(it)
	for _, child := range it.Items {
		child.walk(f)
	}
	for _, e := range it.Entries {
		e.Key.walk(f)
		e.Value.walk(f)
	}
	if it.Inside != nil {
		it.Inside.walk(f)
	}
}
