// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
)

// ErrComponentID says that a text is not the printed form of a component identifier.
var ErrComponentID = errors.New("suit: malformed component identifier")

// ComponentID is a SUIT_Component_Identifier (suit-manifest section 8.4.5.1): a list of opaque byte strings. Segments
// carry no meaning here; whoever maps them to files refuses the empty segment, ".", "..", "/" and NUL.
type ComponentID [][]byte

// NewComponentID makes an identifier from text segments, as in NewComponentID("tee", "stats", "ta").
func NewComponentID(segments ...string) ComponentID {
	id := make(ComponentID, len(segments))
	for i, s := range segments {
		id[i] = []byte(s)
	}
	return id
}

// ParseComponentID is the inverse of String.
func ParseComponentID(s string) (ComponentID, error) {
	if s == "" {
		return ComponentID{}, nil
	}
	parts := strings.Split(s, "/")
	id := make(ComponentID, len(parts))
	for i, part := range parts {
		seg, err := unescape(part)
		if err != nil {
			return nil, fmt.Errorf("%w: %q", err, s)
		}
		id[i] = seg
	}
	return id, nil
}

// String prints the segments separated by "/". Bytes other than letters, digits, ".", "_", "~", "-" are percent-escaped,
// and an empty segment is "%", so that different identifiers print differently.
func (c ComponentID) String() string {
	const digits = "0123456789ABCDEF"
	n := len(c)
	for _, seg := range c {
		n += 3 * len(seg)
	}
	var b strings.Builder
	b.Grow(n)
	for i, seg := range c {
		if i > 0 {
			b.WriteByte('/')
		}
		if len(seg) == 0 {
			b.WriteByte('%')
		}
		for _, ch := range seg {
			if unreserved(ch) {
				b.WriteByte(ch)
			} else {
				b.Write([]byte{'%', digits[ch>>4], digits[ch&15]})
			}
		}
	}
	return b.String()
}

// MarshalText is String, for JSON and YAML.
func (c ComponentID) MarshalText() ([]byte, error) { return []byte(c.String()), nil }

// UnmarshalText is ParseComponentID.
func (c *ComponentID) UnmarshalText(text []byte) error {
	id, err := ParseComponentID(string(text))
	if err != nil {
		return err
	}
	*c = id
	return nil
}

// Equal reports whether both have the same segments.
func (c ComponentID) Equal(o ComponentID) bool {
	if len(c) != len(o) {
		return false
	}
	for i := range c {
		if !bytes.Equal(c[i], o[i]) {
			return false
		}
	}
	return true
}

// HasPrefix reports whether the first segments of c are those of prefix.
func (c ComponentID) HasPrefix(prefix ComponentID) bool {
	return len(c) >= len(prefix) && c[:len(prefix)].Equal(prefix)
}

func unreserved(ch byte) bool {
	switch {
	case 'a' <= ch && ch <= 'z', 'A' <= ch && ch <= 'Z', '0' <= ch && ch <= '9':
		return true
	}
	return ch == '.' || ch == '_' || ch == '~' || ch == '-'
}

func unescape(part string) ([]byte, error) {
	if part == "%" {
		return []byte{}, nil
	}
	if part == "" {
		return nil, ErrComponentID
	}
	out := make([]byte, 0, len(part))
	for i := 0; i < len(part); i++ {
		if unreserved(part[i]) {
			out = append(out, part[i])
			continue
		}
		if part[i] != '%' || i+2 >= len(part) {
			return nil, ErrComponentID
		}
		hi, lo := unhex(part[i+1]), unhex(part[i+2])
		if hi < 0 || lo < 0 {
			return nil, ErrComponentID
		}
		out = append(out, byte(hi<<4|lo))
		i += 2
	}
	return out, nil
}

func unhex(ch byte) int {
	return strings.IndexByte("0123456789ABCDEF", upper(ch))
}

func upper(ch byte) byte {
	if 'a' <= ch && ch <= 'f' {
		return ch - 'a' + 'A'
	}
	return ch
}
