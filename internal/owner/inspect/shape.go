// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"time"

	"github.com/google/uuid"
)

// shape writes down what an item is and what its parts are. A shape takes what it finds: an item that is not of the form
// that it expects keeps its notation and gets no comment.
type shape func(a *annotator, it *Item)

// annotator goes over a tree of items and collects what can be verified, in the order in which it stands there.
type annotator struct {
	found    []found
	warnings []string
	opened   int // byte strings that were opened, one in another
}

// found is a part that carries proofs of its authenticity.
type found struct {
	kind string
	it   *Item
}

const maxOpened = 16

func (a *annotator) apply(s shape, it *Item) {
	if s != nil && it != nil {
		s(a, it)
	}
}

func (a *annotator) warn(format string, args ...any) {
	if len(a.warnings) < 32 {
		a.warnings = append(a.warnings, fmt.Sprintf(format, args...))
	}
}

// field is a label of a map: its name and the shape of its value.
type field struct {
	name  string
	shape shape
}

// named notes what the item is.
func named(note string, s shape) shape {
	return func(a *annotator, it *Item) {
		if it.Note == "" {
			it.Note = note
		}
		a.apply(s, it)
	}
}

// labels names the integer keys of a map; other keys go to rest.
func labels(fields map[int64]field, rest ...shape) shape {
	return func(a *annotator, it *Item) {
		if it.Type != Map {
			return
		}
		seen := map[string]bool{}
		for _, e := range it.Entries {
			if seen[string(e.Key.raw)] {
				a.warn("a map has the key %s twice", e.Key.Value)
			}
			seen[string(e.Key.raw)] = true
			n, isInt := e.Key.int()
			f, known := fields[n]
			switch {
			case isInt && known:
				e.Key.Note = f.name
				a.apply(f.shape, e.Value)
			case len(rest) > 1:
				a.apply(rest[0], e.Key)
				a.apply(rest[1], e.Value)
			}
		}
	}
}

// each gives all elements of an array one shape.
func each(s shape) shape {
	return func(a *annotator, it *Item) {
		if it.Type != Array {
			return
		}
		for _, child := range it.Items {
			a.apply(s, child)
		}
	}
}

// tuple gives the elements of an array their shapes by position.
func tuple(shapes ...shape) shape {
	return func(a *annotator, it *Item) {
		if it.Type != Array {
			return
		}
		for i, child := range it.Items {
			if i < len(shapes) {
				a.apply(shapes[i], child)
			}
		}
	}
}

// values gives all values of a map one shape.
func values(s shape) shape {
	return func(a *annotator, it *Item) {
		for _, e := range it.Entries {
			a.apply(s, e.Value)
		}
	}
}

// wrapped opens a byte string that holds CBOR.
func wrapped(s shape) shape {
	return func(a *annotator, it *Item) {
		if it.Type != Bytes || len(it.content) == 0 {
			return
		}
		if a.opened >= maxOpened {
			a.warn("byte strings nested more than %d deep were left closed", maxOpened)
			return
		}
		inner, rest, err := read(it.content)
		if err != nil || rest > 0 {
			it.Remark = "no CBOR item"
			a.warn("a byte string that should hold CBOR does not")
			return
		}
		it.Inside = inner
		a.opened++
		a.apply(s, inner)
		a.opened--
	}
}

// maybe opens a byte string if something that is known stands in it.
func maybe(a *annotator, it *Item) {
	if it.Type != Bytes || len(it.content) < 2 || a.opened >= maxOpened {
		return
	}
	inner, rest, err := read(it.content)
	if err != nil || rest > 0 {
		return
	}
	if kind, s := recognise(inner); kind != "" {
		it.Inside = inner
		a.opened++
		a.apply(named(kind, s), inner)
		a.opened--
	}
}

// enum remarks the meaning of a number.
func enum[K ~int64](name func(K) string) shape {
	return func(_ *annotator, it *Item) {
		if n, ok := it.int(); ok {
			it.Remark = name(K(n))
		}
	}
}

// words is enum for a list of names.
func words(m map[int64]string) shape {
	return enum(func(n int64) string { return m[n] })
}

// date remarks a time in seconds since 1970, tagged or not.
func date(_ *annotator, it *Item) {
	inner := it
	if it.tagged(1) {
		inner = it.Items[0]
	}
	if n, ok := inner.int(); ok && n >= 0 && n < 1<<38 {
		it.Remark = time.Unix(n, 0).UTC().Format(time.RFC3339)
	}
}

// identifier remarks the usual form of a UUID.
func identifier(_ *annotator, it *Item) {
	if it.Type != Bytes {
		return
	}
	if id, err := uuid.FromBytes(it.content); err == nil {
		it.Remark = "UUID " + id.String()
	}
}
