// SPDX-License-Identifier: Apache-2.0

package codes_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"sealift/docs/codes"
	"sealift/internal/fault"
)

// dotted is the form of the codes of findings.
var dotted = regexp.MustCompile(`^[a-z]+(\.[a-z][a-z0-9-]*)+$`)

// constants returns the values of all constants Code... of that form in the project, with where they stand.
func constants(t *testing.T) map[string]string {
	t.Helper()
	out := map[string]string{}
	err := filepath.WalkDir("../..", func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2 || d.Name() == "testdata" || d.Name() == "bin"):
			return filepath.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		for _, decl := range file.Decls {
			gen, ok := decl.(*ast.GenDecl)
			if !ok || gen.Tok != token.CONST {
				continue
			}
			for _, spec := range gen.Specs {
				for name, value := range valuesOf(spec.(*ast.ValueSpec)) {
					if strings.HasPrefix(name, "Code") && dotted.MatchString(value) {
						out[value] = path
					}
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func valuesOf(spec *ast.ValueSpec) map[string]string {
	out := map[string]string{}
	for i, name := range spec.Names {
		if i >= len(spec.Values) {
			break
		}
		if lit, ok := spec.Values[i].(*ast.BasicLit); ok && lit.Kind == token.STRING {
			if s, err := strconv.Unquote(lit.Value); err == nil {
				out[name.Name] = s
			}
		}
	}
	return out
}

// TestEveryCodeHasAPage guards that nobody meets a code that cannot be explained, and that no page speaks of a code that is gone.
func TestEveryCodeHasAPage(t *testing.T) {
	all := constants(t)
	if len(all) < 40 {
		t.Fatalf("only %d codes were found", len(all))
	}
	for code := range fault.Codes() {
		all[code] = "internal/fault"
	}
	for code, where := range all {
		if _, found := codes.Find(code); !found {
			t.Errorf("%s (%s) has no page in docs/codes", code, where)
		}
	}
	seen := map[string]bool{}
	for _, p := range codes.All() {
		if all[p.Code] == "" {
			t.Errorf("the page %s is about no code", p.Code)
		}
		if seen[p.Code] {
			t.Errorf("%s has two pages", p.Code)
		}
		seen[p.Code] = true
	}
}

// TestPagesSayAll guards the shape of the pages.
func TestPagesSayAll(t *testing.T) {
	for _, p := range codes.All() {
		for _, part := range []string{"Usual causes:", "\n- ", "What to do: "} {
			if !strings.Contains(p.Text, part) {
				t.Errorf("%s lacks %q", p.Code, part)
			}
		}
		if p.Title == "" || strings.Contains(p.Title, "\n") || len(p.Title) > 90 {
			t.Errorf("%s: title %q", p.Code, p.Title)
		}
	}
	if !slices.IsSortedFunc(codes.All(), func(a, b codes.Page) int { return strings.Compare(a.Code, b.Code) }) {
		t.Error("not sorted")
	}
}
