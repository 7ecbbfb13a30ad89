// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"sealift/cose"
	"sealift/cose/wire"
)

// Text is what a manifest says to people in one language (suit-manifest section 8.6, suit-update-management section 3). A
// processor decides nothing by it. It comes from the author, signed or not yet verified: pass it through Printable before
// showing it.
type Text struct {
	Language    string // a language tag of RFC 5646
	Description string // of the manifest
	Update      string // description of the update
	JSON, YAML  string // the manifest in other notations
	Components  []ComponentText
}

// ComponentText is what Text says about one component.
type ComponentText struct {
	Component       ComponentID
	VendorName      string
	ModelName       string
	VendorDomain    string
	ModelInfo       string
	Description     string
	Version         string
	VersionRequired string // an expression such as ">=1.2.5,<2"
	CurrentVersion  string
}

// fields lists the members by their labels, from 1.
func (t *Text) fields() []*string { return []*string{&t.Description, &t.Update, &t.JSON, &t.YAML} }

func (c *ComponentText) fields() []*string {
	return []*string{
		&c.VendorName, &c.ModelName, &c.VendorDomain, &c.ModelInfo, &c.Description, &c.Version, &c.VersionRequired, &c.CurrentVersion,
	}
}

const maxLanguages = 128

// ParseText decodes a SUIT_Text_Map, in the order in which it is written. Labels that no document defines are skipped.
func ParseText(data []byte) ([]Text, error) {
	r := wire.NewReader(data)
	n := r.Map()
	if r.Err() == nil && (n == 0 || n > maxLanguages) {
		return nil, fmt.Errorf("%w: text in %d languages", ErrMalformed, n)
	}
	out := make([]Text, 0, n)
	for range n {
		t := Text{Language: r.Text()}
		if err := t.read(r); err != nil {
			return nil, fmt.Errorf("text %q: %w", t.Language, err)
		}
		out = append(out, t)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: text: %w", ErrMalformed, err)
	}
	return out, nil
}

func (t *Text) read(r *wire.Reader) error {
	for range r.Map() {
		if r.Kind() != wire.KindArray {
			readText(r, t.fields())
			continue
		}
		id, err := readComponentID(r)
		if err != nil {
			return err
		}
		c := ComponentText{Component: id}
		for range r.Map() {
			readText(r, c.fields())
		}
		t.Components = append(t.Components, c)
	}
	return nil
}

// readText reads one label and its text.
func readText(r *wire.Reader, fields []*string) {
	if label := r.Int(); label >= 1 && label <= int64(len(fields)) {
		*fields[label-1] = r.Text()
	} else {
		r.Skip()
	}
}

// EncodeText encodes a SUIT_Text_Map deterministically, for Builder.Text. Empty members are left out.
func EncodeText(texts []Text) (cose.RawMessage, error) {
	out := make(map[string]cose.RawMessage, len(texts))
	for i := range texts {
		t := &texts[i]
		if _, twice := out[t.Language]; twice || len(t.Language) == 0 {
			return nil, fmt.Errorf("%w: language %q", ErrMalformed, t.Language)
		}
		components := make([][2][]byte, 0, len(t.Components))
		for j := range t.Components {
			c := &t.Components[j]
			key, err := cose.Marshal(c.Component)
			if err != nil {
				return nil, err
			}
			components = append(components, [2][]byte{key, appendText(nil, c.fields(), 0)})
		}
		slices.SortFunc(components, func(a, b [2][]byte) int { return bytes.Compare(a[0], b[0]) })
		b := appendText(nil, t.fields(), len(components))
		for _, c := range components {
			b = append(append(b, c[0]...), c[1]...)
		}
		out[t.Language] = b
	}
	data, err := cose.Marshal(out)
	if err != nil {
		return nil, err
	}
	_, err = ParseText(data) // refuses a component that is named twice
	return data, err
}

// appendText writes a map of the texts that are not empty, with room for more pairs.
func appendText(b []byte, fields []*string, more int) []byte {
	n := more
	for _, f := range fields {
		if *f != "" {
			n++
		}
	}
	b = wire.AppendMap(b, n)
	for i, f := range fields {
		if *f != "" {
			b = wire.AppendText(wire.AppendUint(b, uint64(i+1)), *f)
		}
	}
	return b
}

// Texts decodes the manifest's text; none if it has none, or it was severed and is not at hand.
func (m *Manifest) Texts() ([]Text, error) {
	if m.Text == nil {
		return nil, nil
	}
	return ParseText(m.Text)
}

// Printable makes text of a manifest fit for a terminal or a log: characters that do not print become "?", and at most max
// characters remain.
func Printable(s string, max int) string {
	var b strings.Builder
	for _, c := range s {
		if max--; max < 0 {
			b.WriteString("...")
			break
		}
		if c != ' ' && !unicode.IsPrint(c) {
			c = '?'
		}
		b.WriteRune(c)
	}
	return b.String()
}
