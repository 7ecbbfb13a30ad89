// SPDX-License-Identifier: Apache-2.0

package strictjson

import (
	"strings"
	"testing"
)

func TestCheck(t *testing.T) {
	lower := func(s string) bool { return strings.ToLower(s) == s }
	deep := func(n int) string { return strings.Repeat("[", n) + strings.Repeat("]", n) }
	for _, c := range []struct {
		name, data string
		accept     func(string) bool
		problem    string // part of the error; empty is accepted
	}{
		{"an object", `{"a":1,"b":{"a":[1,2,{"a":null}]}}`, lower, ""},
		{"no object", `"text"`, nil, ""},
		{"a large number", `{"a":123456789012345678901234567890}`, nil, ""},
		{"names that differ in case", `{"a":1,"A":2}`, nil, ""},
		{"an unknown name", `{"a":1,"A":2}`, lower, `member "A" is not known`},
		{"twice", `{"a":1,"a":2}`, nil, `member "a" occurs twice`},
		{"twice, one escaped", `{"a":1,"\u0061":2}`, nil, "twice"},
		{"twice, inside", `[{"b":[{"a":1,"a":2}]}]`, nil, "twice"},
		{"as deep as may be", deep(MaxDepth + 1), nil, ""},
		{"too deep", deep(MaxDepth + 2), nil, "too deeply"},
		{"two values", `{} {}`, nil, "follows"},
		{"a stray bracket", `{}]`, nil, "follows"},
		{"nothing", ``, nil, "unexpected EOF"},
		{"cut", `{"a":[1,`, nil, "unexpected EOF"},
		{"cut after a name", `{"a"`, nil, "unexpected EOF"},
	} {
		t.Run(c.name, func(t *testing.T) {
			err := Check([]byte(c.data), c.accept)
			if (err == nil) != (c.problem == "") || err != nil && !strings.Contains(err.Error(), c.problem) {
				t.Errorf("got %v, want %q", err, c.problem)
			}
		})
	}
}
