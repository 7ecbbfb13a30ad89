// SPDX-License-Identifier: Apache-2.0

// Package docs_test holds the documents against the source.
package docs_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// teepMusts is how many numbered MUSTs of TEEP there are.
const teepMusts = 45

var testName = regexp.MustCompile("`([a-z0-9/]+)\\.(Test[A-Za-z0-9]+)`")

// row is one line of a table whose first cell is a number.
type row struct {
	number int
	who    string
	tests  [][]string // folder and function
	line   int
}

// rows reads the numbered rows of the section with that heading.
func rows(t *testing.T, document, heading string) (out []row) {
	t.Helper()
	data, err := os.ReadFile(document)
	if err != nil {
		t.Fatal(err)
	}
	in := false
	for i, line := range strings.Split(string(data), "\n") {
		if strings.HasPrefix(line, "## ") {
			in = line == "## "+heading
		}
		cells := strings.Split(line, "|")
		if !in || len(cells) != 7 {
			continue
		}
		n, err := strconv.Atoi(strings.TrimSpace(cells[1]))
		if err != nil {
			continue // the head
		}
		r := row{number: n, who: strings.TrimSpace(cells[4]), line: i + 1}
		for _, m := range testName.FindAllStringSubmatch(cells[5], -1) {
			r.tests = append(r.tests, m[1:])
		}
		out = append(out, r)
	}
	return out
}

// functions are the top-level functions in the tests of a folder.
func functions(t *testing.T, folder string) (names []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("..", filepath.FromSlash(folder), "*_test.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range files {
		f, err := parser.ParseFile(token.NewFileSet(), name, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Recv == nil {
				names = append(names, fn.Name.Name)
			}
		}
	}
	return names
}

// TestConformance: every MUST of TEEP has a row, every row names a test, and every test that is named anywhere in the document is there.
func TestConformance(t *testing.T) {
	seen := map[int]bool{}
	for _, r := range rows(t, "conformance.md", "TEEP") {
		if seen[r.number] || r.number < 1 || r.number > teepMusts {
			t.Errorf("line %d: number %d", r.line, r.number)
		}
		seen[r.number] = true
		if len(r.tests) == 0 || !slices.Contains([]string{"TAM", "Agent", "both"}, r.who) {
			t.Errorf("line %d: %d tests, falls on %q", r.line, len(r.tests), r.who)
		}
	}
	if len(seen) != teepMusts {
		t.Errorf("%d rows", len(seen))
	}
	data, err := os.ReadFile("conformance.md")
	if err != nil {
		t.Fatal(err)
	}
	known := map[string][]string{}
	named := testName.FindAllStringSubmatch(string(data), -1)
	if len(named) < teepMusts {
		t.Fatalf("%d tests are named", len(named))
	}
	for _, m := range named {
		if known[m[1]] == nil {
			known[m[1]] = append(functions(t, m[1]), "")
		}
		if !slices.Contains(known[m[1]], m[2]) {
			t.Errorf("%s has no %s", m[1], m[2])
		}
	}
}
