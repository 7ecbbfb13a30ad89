// SPDX-License-Identifier: Apache-2.0

// Package codes holds the pages about the stable codes: what each means, where it usually comes from, and what to do. They are
// written for the person who sees a refusal.
//
// A page is a section of one of the Markdown files here. Its heading is the code, its first paragraph one line that says what
// the code is.
package codes

import (
	"embed"
	"fmt"
	"slices"
	"strings"
	"sync"
)

//go:embed *.md
var files embed.FS

// Page is what is said about one code.
type Page struct {
	Code  string `json:"code"`
	Title string `json:"title"` // one line, without a full stop
	Text  string `json:"text"`  // Markdown, without heading and title
}

// All returns the pages, sorted by code.
var All = sync.OnceValue(func() []Page {
	entries, err := files.ReadDir(".")
	if err != nil {
		panic(err) // the files are part of the program
	}
	var out []Page
	for _, e := range entries {
		data, err := files.ReadFile(e.Name())
		if err != nil {
			panic(err)
		}
		for _, section := range strings.Split(string(data), "\n## ")[1:] {
			out = append(out, parse(section))
		}
	}
	slices.SortFunc(out, func(a, b Page) int { return strings.Compare(a.Code, b.Code) })
	return out
})

func parse(section string) Page {
	code, rest, _ := strings.Cut(section, "\n")
	title, text, _ := strings.Cut(strings.TrimSpace(rest), "\n\n")
	return Page{Code: strings.TrimSpace(code), Title: strings.TrimSuffix(strings.TrimSpace(title), "."), Text: strings.TrimSpace(text)}
}

// Find returns the page of a code.
func Find(code string) (Page, bool) {
	for _, p := range All() {
		if p.Code == code {
			return p, true
		}
	}
	return Page{}, false
}

// String is the page as it is printed.
func (p Page) String() string { return fmt.Sprintf("%s: %s\n\n%s\n", p.Code, p.Title, p.Text) }
