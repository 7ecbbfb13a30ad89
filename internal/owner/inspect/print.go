// SPDX-License-Identifier: Apache-2.0

package inspect

import (
	"fmt"
	"io"
	"strconv"
	"strings"
	"unicode"
)

// Style says how items are printed.
type Style struct {
	Full bool // print long byte strings in whole
}

const (
	lineWidth = 110
	longBytes = 40 // longer byte strings are shortened
	keptBytes = 16
)

// WriteItem prints an item in diagnostic notation (RFC 8949 section 8) with comments between slashes and CBOR in byte
// strings between double angle brackets (RFC 8610 appendix G).
func WriteItem(w io.Writer, it *Item, s Style) error {
	p := &printer{style: s}
	p.item(it, 0)
	p.b.WriteByte('\n')
	_, err := io.WriteString(w, p.b.String())
	return err
}

type printer struct {
	style Style
	b     strings.Builder
}

// item prints it on one line if it fits into what is left of that, else its parts on lines of their own.
func (p *printer) item(it *Item, indent int) {
	flat := &flattener{style: p.style, left: lineWidth - indent}
	if flat.item(it); flat.left >= 0 {
		p.b.WriteString(flat.b.String())
		return
	}
	p.b.WriteString(comment(it.Note, " "))
	open, closing := brackets(it)
	switch {
	case it.Inside != nil:
		p.b.WriteString("<< ")
		p.item(it.Inside, indent)
		p.b.WriteString(" >>")
	case it.Type == Tag:
		p.b.WriteString(open)
		p.item(it.Items[0], indent)
		p.b.WriteString(closing)
	case len(it.Items) > 0 || len(it.Entries) > 0:
		p.b.WriteString(open)
		p.members(it, indent+2)
		p.newline(indent)
		p.b.WriteString(closing)
	default:
		p.b.WriteString(scalar(it, p.style))
	}
	p.b.WriteString(remark(it.Remark))
}

func (p *printer) members(it *Item, indent int) {
	last := len(it.Items) + len(it.Entries) - 1
	for i, child := range it.Items {
		if it.paired() && i%2 == 1 {
			p.b.WriteByte(' ')
		} else {
			p.newline(indent)
		}
		p.item(child, indent)
		p.separator(i < last)
	}
	for i, e := range it.Entries {
		p.newline(indent)
		p.item(e.Key, indent)
		p.b.WriteString(": ")
		p.item(e.Value, indent)
		p.separator(i < last)
	}
}

func (p *printer) separator(more bool) {
	if more {
		p.b.WriteByte(',')
	}
}

func (p *printer) newline(indent int) {
	p.b.WriteByte('\n')
	p.b.WriteString(strings.Repeat(" ", indent))
}

// paired says that an array holds commands, each with its argument.
func (it *Item) paired() bool { return it.Note == noteSequence }

// flattener prints on one line and stops when that is full.
type flattener struct {
	style Style
	b     strings.Builder
	left  int
}

func (f *flattener) put(s string) {
	if f.left -= len(s); f.left >= 0 {
		f.b.WriteString(s)
	}
}

func (f *flattener) item(it *Item) {
	if f.left < 0 {
		return
	}
	f.put(comment(it.Note, " "))
	open, closing := brackets(it)
	switch {
	case it.Inside != nil:
		f.put("<< ")
		f.item(it.Inside)
		f.put(" >>")
	case open != "":
		f.put(open)
		f.members(it)
		f.put(closing)
	default:
		f.put(scalar(it, f.style))
	}
	f.put(remark(it.Remark))
}

func (f *flattener) members(it *Item) {
	for i, child := range it.Items {
		if i > 0 {
			f.put(", ")
		}
		f.item(child)
	}
	for i, e := range it.Entries {
		if i > 0 {
			f.put(", ")
		}
		f.item(e.Key)
		f.put(": ")
		f.item(e.Value)
	}
}

func brackets(it *Item) (open, closing string) {
	mark := ""
	if it.indefinite {
		mark = "_ "
	}
	switch it.Type {
	case Array:
		return "[" + mark, "]"
	case Map:
		return "{" + mark, "}"
	case Tag:
		return it.Value + "(", ")"
	}
	return "", ""
}

func scalar(it *Item, s Style) string {
	switch it.Type {
	case Bytes:
		return byteString(it, s)
	case Text:
		return quote(it.Value)
	}
	return it.Value
}

// quote prints a text as JSON does, without anything that a terminal would obey.
func quote(s string) string {
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteRune('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			r -= 0x10000
			fmt.Fprintf(&b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}

func byteString(it *Item, s Style) string {
	n := len(it.content)
	if n > 0 && n <= longBytes && wordy(it.content) {
		return "'" + string(it.content) + "'"
	}
	if n <= longBytes || s.Full {
		return "h'" + it.Value + "'"
	}
	return "h'" + it.Value[:2*keptBytes] + "...'" + comment(strconv.Itoa(n)+" bytes", "")
}

// wordy says that bytes are better read as text.
func wordy(b []byte) bool {
	for _, c := range b {
		if c < ' ' || c > '~' || c == '\'' || c == '\\' {
			return false
		}
	}
	return true
}

// comment prints text between slashes; a slash in it would end the comment.
func comment(text, after string) string {
	if text == "" {
		return ""
	}
	text = strings.ReplaceAll(clean(text), "/", "|")
	if after == "" {
		return " / " + text + " /"
	}
	return "/ " + text + " /" + after
}

// clean replaces whatever a terminal would obey.
func clean(text string) string {
	return strings.Map(func(r rune) rune {
		if !unicode.IsPrint(r) {
			return '?'
		}
		return r
	}, text)
}

func remark(text string) string { return comment(text, "") }
