// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"fmt"
	"strconv"
	"strings"

	"sealift/cose/wire"
)

// Version is a semantic version as suit-update-management section 4.4.1 encodes it: release numbers, then perhaps a negative
// pre-release indicator with numbers of its own, as in [1, 2, -1, 3] for 1.2-rc.3.
type Version []int64

// Pre-release indicators. They are negative, so that a pre-release compares lower than its release.
const (
	PreReleaseCandidate = -1
	PreReleaseBeta      = -2
	PreReleaseAlpha     = -3
)

const maxVersionNumbers = 16

var preReleases = map[int64]string{PreReleaseCandidate: "rc", PreReleaseBeta: "beta", PreReleaseAlpha: "alpha"}

// String prints "1.2-rc.3".
func (v Version) String() string {
	var b strings.Builder
	for i, n := range v {
		name, pre := preReleases[n]
		switch {
		case pre:
			b.WriteString("-" + name)
			continue
		case i > 0:
			b.WriteByte('.')
		}
		b.WriteString(strconv.FormatInt(n, 10))
	}
	return b.String()
}

// Compare compares v with as many numbers as want has: -1 if v is lower, 0 if it begins like want, 1 if it is higher
// (suit-update-management section 4.4). Numbers that v lacks count as 0, so that [1] is [1, 0, 0].
func (v Version) Compare(want Version) int {
	for i, w := range want {
		var have int64
		if i < len(v) {
			have = v[i]
		}
		if have != w {
			if have < w {
				return -1
			}
			return 1
		}
	}
	return 0
}

// check enforces the form: a release number first, at most one pre-release indicator, one that is known.
func (v Version) check() error {
	if len(v) == 0 || len(v) > maxVersionNumbers {
		return fmt.Errorf("%w: version of %d numbers", ErrMalformed, len(v))
	}
	seen := false
	for i, n := range v {
		if n >= 0 {
			continue
		}
		if i == 0 || seen || n < PreReleaseAlpha {
			return fmt.Errorf("%w: %d as number %d of a version", ErrMalformed, n, i)
		}
		seen = true
	}
	return nil
}

func readVersion(r *wire.Reader) (Version, error) {
	n := r.Array()
	if n > maxVersionNumbers {
		return nil, fmt.Errorf("%w: version of %d numbers", ErrMalformed, n)
	}
	v := make(Version, n)
	for i := range v {
		v[i] = r.Int()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: version: %w", ErrMalformed, err)
	}
	return v, v.check()
}

func (v Version) append(b []byte) []byte {
	b = wire.AppendArray(b, len(v))
	for _, n := range v {
		b = wire.AppendInt(b, n)
	}
	return b
}

// ParseVersion decodes the content of suit-set-version.
func ParseVersion(data []byte) (Version, error) { return readVersion(wire.NewReader(data)) }

// Comparison is a SUIT_Condition_Version_Comparison_Type.
type Comparison int64

// Comparisons: the component's version is greater than the manifest's, and so on.
const (
	VersionGreater Comparison = iota + 1
	VersionGreaterEqual
	VersionEqual
	VersionLesserEqual
	VersionLesser
)

var comparisonSigns = []string{"", ">", ">=", "=", "<=", "<"}

// String is the operator.
func (c Comparison) String() string {
	if c < VersionGreater || c > VersionLesser {
		return "comparison(" + strconv.FormatInt(int64(c), 10) + ")"
	}
	return comparisonSigns[c]
}

// VersionMatch is a SUIT_Parameter_Version_Match: what parameter version holds.
type VersionMatch struct {
	Comparison Comparison
	Version    Version
}

// ParseVersionMatch decodes the content of parameter version.
func ParseVersionMatch(data []byte) (VersionMatch, error) {
	return readVersionMatch(wire.NewReader(data))
}

func readVersionMatch(r *wire.Reader) (m VersionMatch, err error) {
	if n := r.Array(); r.Err() == nil && n != 2 {
		return m, fmt.Errorf("%w: version match of %d elements", ErrMalformed, n)
	}
	m.Comparison = Comparison(r.Int())
	if m.Version, err = readVersion(r); err != nil {
		return m, err
	}
	if m.Comparison < VersionGreater || m.Comparison > VersionLesser {
		return m, fmt.Errorf("%w: version comparison %d", ErrMalformed, m.Comparison)
	}
	return m, nil
}

// Encode is the inverse of ParseVersionMatch: a value for parameter version.
func (m VersionMatch) Encode() []byte { return m.append(nil) }

func (m VersionMatch) append(b []byte) []byte {
	return m.Version.append(wire.AppendInt(wire.AppendArray(b, 2), int64(m.Comparison)))
}

// Matches reports whether have is a version that m allows.
func (m VersionMatch) Matches(have Version) bool {
	c := have.Compare(m.Version)
	switch m.Comparison {
	case VersionGreater:
		return c > 0
	case VersionGreaterEqual:
		return c >= 0
	case VersionEqual:
		return c == 0
	case VersionLesserEqual:
		return c <= 0
	case VersionLesser:
		return c < 0
	}
	return false
}

// String prints ">= 1.2".
func (m VersionMatch) String() string { return m.Comparison.String() + " " + m.Version.String() }

// MarshalCBOR encodes the list of numbers.
func (v Version) MarshalCBOR() ([]byte, error) {
	if err := v.check(); err != nil {
		return nil, err
	}
	return v.append(nil), nil
}
