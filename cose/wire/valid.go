// SPDX-License-Identifier: Apache-2.0

package wire

import (
	"bytes"
	"errors"
	"fmt"
	"unicode/utf8"
)

// Bounds on what Valid accepts. They keep a hostile input from costing more than its own length.
const (
	// MaxDepth bounds the nesting of arrays, maps and tags.
	MaxDepth = 16
	// MaxItems bounds the elements of one array and the pairs of one map.
	MaxItems = 131072
)

// The reasons why an input is refused. A *SyntaxError wraps one of them.
var (
	ErrTruncated    = errors.New("data ends inside an item")
	ErrTrailing     = errors.New("bytes after the item")
	ErrIndefinite   = errors.New("indefinite length")
	ErrReserved     = errors.New("reserved encoding")
	ErrDepth        = errors.New("nested too deep")
	ErrTooMany      = errors.New("too many elements")
	ErrDuplicateKey = errors.New("duplicate map key")
	ErrUTF8         = errors.New("text is not UTF-8")
	ErrType         = errors.New("item of another type expected")
	ErrRange        = errors.New("integer out of range")
)

// SyntaxError says where in the input what went wrong.
type SyntaxError struct {
	Offset int   // byte offset of the item that is at fault
	Err    error // one of the sentinels above
}

// Error names the fault and its offset.
func (e *SyntaxError) Error() string { return fmt.Sprintf("cbor: %v at byte %d", e.Err, e.Offset) }

// Unwrap gives the sentinel.
func (e *SyntaxError) Unwrap() error { return e.Err }

// Valid reports whether data is exactly one well-formed item (RFC 8949 section 5.3.1) that keeps this package's rules:
// definite lengths only, no duplicate keys in any map, UTF-8 text, bounded depth and counts, nothing behind it.
// Byte strings are opaque: what is wrapped in one is judged when it is opened.
func Valid(data []byte) error {
	w := walker{b: data}
	end, err := w.item(0, 0)
	if err != nil {
		return err
	}
	if end != len(data) {
		return &SyntaxError{end, ErrTrailing}
	}
	return nil
}

// Deterministic reports whether data is valid and has the core deterministic encoding of RFC 8949 section 4.2.1:
// shortest heads, and map keys in ascending bytewise order. Floating point numbers are not looked at.
func Deterministic(data []byte) bool {
	w := walker{b: data}
	end, err := w.item(0, 0)
	return err == nil && end == len(data) && w.loose == 0
}

// walker checks items. loose counts what is valid but not deterministic.
type walker struct {
	b     []byte
	loose int
}

// head reads the head at off: major type, argument, and the offset behind it.
func (w *walker) head(off int) (major byte, arg uint64, next int, err error) {
	if off >= len(w.b) {
		return 0, 0, off, &SyntaxError{off, ErrTruncated}
	}
	major, info := w.b[off]>>5, w.b[off]&0x1f
	switch {
	case info < 24:
		return major, uint64(info), off + 1, nil
	case info == 31:
		return 0, 0, off, &SyntaxError{off, ErrIndefinite}
	case info > 27:
		return 0, 0, off, &SyntaxError{off, ErrReserved}
	}
	size := 1 << (info - 24)
	if len(w.b)-off-1 < size {
		return 0, 0, off, &SyntaxError{off, ErrTruncated}
	}
	for _, c := range w.b[off+1 : off+1+size] {
		arg = arg<<8 | uint64(c)
	}
	if major != majorSimple && !shortest(arg, size) {
		w.loose++
	}
	return major, arg, off + 1 + size, nil
}

// shortest reports whether arg needs the size bytes it was given.
func shortest(arg uint64, size int) bool {
	switch size {
	case 1:
		return arg >= 24
	case 2:
		return arg > 0xff
	case 4:
		return arg > 0xffff
	}
	return arg > 0xffffffff
}

// item checks the item at off and gives the offset behind it.
func (w *walker) item(off, depth int) (int, error) {
	major, arg, next, err := w.head(off)
	if err != nil {
		return 0, err
	}
	switch major {
	case majorUint, majorNint:
		return next, nil
	case majorBytes, majorText:
		if arg > uint64(len(w.b)-next) {
			return 0, &SyntaxError{off, ErrTruncated}
		}
		end := next + int(arg)
		if major == majorText && !utf8.Valid(w.b[next:end]) {
			return 0, &SyntaxError{off, ErrUTF8}
		}
		return end, nil
	case majorSimple:
		if w.b[off]&0x1f == 24 && arg < 32 {
			return 0, &SyntaxError{off, ErrReserved}
		}
		return next, nil
	}
	if depth >= MaxDepth {
		return 0, &SyntaxError{off, ErrDepth}
	}
	if major == majorTag {
		return w.item(next, depth+1)
	}
	if arg > MaxItems {
		return 0, &SyntaxError{off, ErrTooMany}
	}
	if major == majorMap {
		return w.pairs(next, int(arg), depth+1)
	}
	for range arg {
		if next, err = w.item(next, depth+1); err != nil {
			return 0, err
		}
	}
	return next, nil
}

// pairs checks the n pairs of a map whose first key is at off. As long as each key is deterministic and
// above the one before it, none can repeat; only a map in another order pays for a set.
func (w *walker) pairs(off, n, depth int) (int, error) {
	first, ordered := off, true
	var prev []byte
	for range n {
		loose := w.loose
		end, err := w.item(off, depth)
		if err != nil {
			return 0, err
		}
		key := w.b[off:end]
		if w.loose != loose || (prev != nil && bytes.Compare(prev, key) >= 0) {
			ordered = false
		}
		prev = key
		if off, err = w.item(end, depth); err != nil {
			return 0, err
		}
	}
	if ordered {
		return off, nil
	}
	w.loose++
	return off, w.unique(first, n)
}

// unique reports a key that occurs twice among n checked pairs starting at off. Keys are compared by their shortest
// encoding, so the same number written in two ways counts as one key. It steps over values without judging them again,
// or nesting would multiply the work at every level.
func (w *walker) unique(off, n int) error {
	seen := make(map[string]struct{}, n)
	for range n {
		key, end := w.normal(nil, off)
		if _, dup := seen[string(key)]; dup {
			return &SyntaxError{off, ErrDuplicateKey}
		}
		seen[string(key)] = struct{}{}
		off = w.skip(end)
	}
	return nil
}

// skip gives the offset behind the checked item at off.
func (w *walker) skip(off int) int {
	for pending := uint64(1); pending > 0; pending-- {
		major, arg, next, err := w.head(off)
		if err != nil {
			return off
		}
		off = next
		switch major {
		case majorBytes, majorText:
			off += int(arg)
		case majorTag:
			pending++
		case majorArray:
			pending += arg
		case majorMap:
			pending += 2 * arg
		}
	}
	return off
}

// normal appends the checked item at off with shortest heads and gives the offset behind it.
func (w *walker) normal(dst []byte, off int) ([]byte, int) {
	major, arg, next, err := w.head(off)
	if err != nil {
		return dst, off
	}
	if major == majorSimple {
		return append(dst, w.b[off:next]...), next
	}
	dst = appendHead(dst, major, arg)
	items := 0
	switch major {
	case majorBytes, majorText:
		end := next + int(arg)
		return append(dst, w.b[next:end]...), end
	case majorTag:
		items = 1
	case majorArray:
		items = int(arg)
	case majorMap:
		items = 2 * int(arg)
	}
	for range items {
		dst, next = w.normal(dst, next)
	}
	return dst, next
}
