// SPDX-License-Identifier: Apache-2.0

package docs_test

import (
	"slices"
	"testing"
)

// suitSections are the tables of conformance-suit.md, numbered through.
var suitSections = []string{"Envelope and manifest", "Processor", "Trust domains", "Update management", "Reports", "Encryption and profiles"}

// TestConformanceSUIT: rows are numbered without a gap, and each names tests that exist.
func TestConformanceSUIT(t *testing.T) {
	next, known := 1, map[string][]string{}
	for _, section := range suitSections {
		list := rows(t, "conformance-suit.md", section)
		if len(list) == 0 {
			t.Errorf("no rows under %q", section)
		}
		for _, r := range list {
			if r.number != next {
				t.Errorf("line %d: number %d, want %d", r.line, r.number, next)
			}
			next = r.number + 1
			if len(r.tests) == 0 {
				t.Errorf("line %d: no test", r.line)
			}
			for _, test := range r.tests {
				folder, name := test[0], test[1]
				if known[folder] == nil {
					known[folder] = functions(t, folder)
				}
				if !slices.Contains(known[folder], name) {
					t.Errorf("line %d: %s has no %s", r.line, folder, name)
				}
			}
		}
	}
	t.Logf("%d rows", next-1)
}
