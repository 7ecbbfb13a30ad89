// SPDX-License-Identifier: Apache-2.0

package recipe

import (
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v4"

	"sealift/suit"
)

// decoder walks the YAML nodes by hand, because only so every problem has a line.
type decoder struct {
	source   string
	dir      fs.FS
	builder  *suit.Builder
	deps     []suit.ComponentID
	problems Problems
}

func (d *decoder) refuse(n *yaml.Node, field, format string, args ...any) {
	d.problems = append(d.problems, Problem{Source: d.source, Line: max(n.Line, 1), Column: max(n.Column, 1), Field: field,
		Message: fmt.Sprintf(format, args...)})
}

// mapping gives each value to the function of its key; a key that has none, or stands there twice, is a problem.
func (d *decoder) mapping(n *yaml.Node, at string, fields map[string]reader) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, at, "a mapping is expected here")
		return
	}
	seen := map[string]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		field := key.Value
		if at != "" {
			field = at + "." + key.Value
		}
		read, known := fields[key.Value]
		switch {
		case !known:
			d.refuse(key, field, "unknown field; known: %s", strings.Join(slices.Sorted(maps.Keys(fields)), ", "))
		case seen[key.Value]:
			d.refuse(key, field, "stands here twice")
		default:
			seen[key.Value] = true
			read(value, field)
		}
	}
}

func (d *decoder) list(n *yaml.Node, field string, item reader) {
	if n.Kind != yaml.SequenceNode {
		d.refuse(n, field, "a list is expected here")
		return
	}
	for i, e := range n.Content {
		item(e, field+"["+strconv.Itoa(i)+"]")
	}
}

// scalar reads a single value. Aliases are not followed: a recipe says what it means where it means it.
func (d *decoder) scalar(n *yaml.Node, field string) (string, bool) {
	if n.Kind != yaml.ScalarNode || n.Tag == "!!null" {
		d.refuse(n, field, "a single value is expected here")
		return "", false
	}
	return n.Value, true
}

func (d *decoder) uint(n *yaml.Node, field string) (uint64, bool) {
	s, ok := d.scalar(n, field)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseUint(s, 0, 64)
	if err != nil {
		d.refuse(n, field, "%q is not a number of 64 bits without sign", s)
	}
	return v, err == nil
}

func (d *decoder) int(n *yaml.Node, field string) (int64, bool) {
	s, ok := d.scalar(n, field)
	if !ok {
		return 0, false
	}
	v, err := strconv.ParseInt(s, 0, 64)
	if err != nil {
		d.refuse(n, field, "%q is not a number", s)
	}
	return v, err == nil
}

func (d *decoder) bool(n *yaml.Node, field string) any {
	s, _ := d.scalar(n, field)
	if s != "true" && s != "false" {
		d.refuse(n, field, "true or false is expected")
		return nil
	}
	return s == "true"
}

func (d *decoder) id(n *yaml.Node, field string) suit.ComponentID {
	s, ok := d.scalar(n, field)
	if !ok {
		return nil
	}
	id, err := suit.ParseComponentID(s)
	if err != nil {
		d.refuse(n, field, "%v (segments are separated by /, other bytes than letters, digits, . _ ~ - are %%XX)", err)
	}
	return id
}

// bytes reads {hex: ...}, {text: ...} or {file: ...}.
func (d *decoder) bytes(n *yaml.Node, field string) []byte {
	if n.Kind != yaml.MappingNode || len(n.Content) != 2 {
		d.refuse(n, field, "bytes are written as {hex: ...}, {text: ...} or {file: ...}")
		return nil
	}
	var out []byte
	d.mapping(n, field, map[string]reader{
		"hex": func(n *yaml.Node, field string) {
			s, _ := d.scalar(n, field)
			b, err := hex.DecodeString(s)
			if err != nil {
				d.refuse(n, field, "not hexadecimal")
			}
			out = b
		},
		"text": func(n *yaml.Node, field string) {
			s, _ := d.scalar(n, field)
			out = []byte(s)
		},
		"file": func(n *yaml.Node, field string) {
			if s, ok := d.scalar(n, field); ok {
				out = d.file(n, field, s)
			}
		},
	})
	if out == nil {
		out = []byte{}
	}
	return out
}

// index reads the number of a component or dependency, or its identifier.
func (d *decoder) index(n *yaml.Node, field string) int {
	s, ok := d.scalar(n, field)
	if !ok {
		return 0
	}
	if v, err := strconv.ParseUint(s, 10, 31); err == nil {
		return int(v)
	}
	for i, id := range d.builder.Components {
		if id.String() == s {
			return i
		}
	}
	for _, dep := range d.builder.Dependencies {
		if dep.Prefix.String() == s {
			return dep.Index
		}
	}
	d.refuse(n, field, "%q is neither a number nor a component or dependency of this manifest", s)
	return 0
}

// version reads 1.2.3, 1.2-rc.3 and the like.
func (d *decoder) version(n *yaml.Node, field string) suit.Version {
	s, ok := d.scalar(n, field)
	if !ok {
		return nil
	}
	v, err := parseVersion(s)
	if err != nil {
		d.refuse(n, field, "%v", err)
	}
	return v
}

func parseVersion(s string) (suit.Version, error) {
	for name, code := range map[string]int{"-rc": suit.PreReleaseCandidate, "-beta": suit.PreReleaseBeta, "-alpha": suit.PreReleaseAlpha} {
		s = strings.ReplaceAll(s, name, "."+strconv.Itoa(code))
	}
	var v suit.Version
	for _, part := range strings.Split(s, ".") {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n < suit.PreReleaseAlpha {
			return nil, fmt.Errorf("%q is not a version such as 1.2.3 or 1.2-rc.1", s)
		}
		v = append(v, n)
	}
	if _, err := v.MarshalCBOR(); err != nil {
		return nil, err
	}
	return v, nil
}
