// SPDX-License-Identifier: Apache-2.0

package table

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// small has 6 records in team red, 7 in blue, 3 in green.
func small(t *testing.T) *Table {
	t.Helper()
	var b strings.Builder
	b.WriteString("team,role,hours\n")
	for team, n := range map[string]int{"red": 6, "blue": 7, "green": 3} {
		for i := range n {
			fmt.Fprintf(&b, "%s,%s,%d\n", team, []string{"a", "b"}[i%2], 10+i)
		}
	}
	tab, err := Read(strings.NewReader(b.String()))
	if err != nil {
		t.Fatal(err)
	}
	return tab
}

func ask(t *testing.T, tab *Table, line string) (string, error) {
	t.Helper()
	q, err := ParseQuestion(line)
	if err != nil {
		return "", err
	}
	a, err := tab.Answer(q)
	if err != nil {
		return "", err
	}
	return a.String(), nil
}

func TestAnswers(t *testing.T) {
	tab := small(t)
	for line, want := range map[string]string{
		"count":                         "16\n",
		"sum hours where team=red":      "75.00\n",
		"MEAN Hours where TEAM=\"red\"": "12.50\n",
		"count where team=blue":         "7\n",
		// green is too small, and alone it could be had from the total: red is hidden with it.
		"count by team": "blue   7\ngreen  refused (too few records, at least 5 are needed)\nred    refused (too few records, at least 5 are needed)\n",
		"count by role": "a  9\nb  7\n",
	} {
		got, err := ask(t, tab, line)
		if err != nil || got != want {
			t.Errorf("%s: got %q, %v; want %q", line, got, err, want)
		}
	}
}

func TestRefusals(t *testing.T) {
	tab := small(t)
	for line, want := range map[string]error{
		"count where team=green":            ErrTooSmall,
		"count where team=none":             ErrTooSmall,
		"sum salary":                        ErrColumn,
		"count by floor":                    ErrColumn,
		"count where floor=1":               ErrColumn,
		"sum role":                          ErrTable,
		"max hours":                         ErrQuestion,
		"drop table":                        ErrQuestion,
		"":                                  ErrQuestion,
		"sum":                               ErrQuestion,
		"count by":                          ErrQuestion,
		"count where team":                  ErrQuestion,
		"count where team=red and":          ErrQuestion,
		"count by team by role":             ErrQuestion,
		"count where team=\"red":            ErrQuestion,
		"count where team=red and role=a x": ErrQuestion,
	} {
		if got, err := ask(t, tab, line); !errors.Is(err, want) {
			t.Errorf("%s: got %q, %v; want %v", line, got, err, want)
		}
	}
}

// TestComplement guards against the difference of two questions: all records minus a selection of all but a few.
func TestComplement(t *testing.T) {
	tab, err := Read(strings.NewReader("k,v\n" + strings.Repeat("x,1\n", 20) + strings.Repeat("y,100\n", 2)))
	if err != nil {
		t.Fatal(err)
	}
	if got, err := ask(t, tab, "sum v where k=x"); !errors.Is(err, ErrTooSmall) {
		t.Errorf("a selection that leaves out two records was answered: %q, %v", got, err)
	}
}

func TestBadTables(t *testing.T) {
	for name, text := range map[string]string{
		"empty":  "",
		"ragged": "a,b\n1,2\n3\n",
		"quote":  "a,b\n\"1,2\n",
		"wide":   strings.Repeat("c,", maxColumns) + "c\n",
	} {
		if _, err := Read(strings.NewReader(text)); !errors.Is(err, ErrTable) {
			t.Errorf("%s: got %v, want ErrTable", name, err)
		}
	}
}

// TestStaffTable holds the table that comes with the example to its generator: `go test -update` writes it anew.
func TestStaffTable(t *testing.T) {
	const path = "../staff.csv"
	want := staff()
	if *update {
		if err := os.WriteFile(path, want, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != string(want) {
		t.Errorf("%s is not what the generator makes", path)
	}
	tab, err := Read(strings.NewReader(string(got)))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"mean salary by department", "count by city", "sum hours where team=x by role"} {
		if a, err := ask(t, tab, line); err != nil {
			t.Errorf("%s: %v", line, err)
		} else {
			t.Logf("%s\n%s", line, a)
		}
	}
}

func FuzzQuestion(f *testing.F) {
	for _, s := range []string{"count", "mean salary by department", `sum hours where team="x y" and a=b by role`, `"`, "count where ="} {
		f.Add(s)
	}
	tab, err := Read(strings.NewReader("a,b\n" + strings.Repeat("x,1\n", 9)))
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(_ *testing.T, line string) {
		if q, err := ParseQuestion(line); err == nil {
			_, _ = tab.Answer(q)
		}
	})
}
