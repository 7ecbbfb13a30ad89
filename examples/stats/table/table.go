// SPDX-License-Identifier: Apache-2.0

// Package table answers statistical questions over a CSV table and refuses those whose answer would show too few records.
//
// The rule is that of small cells in official statistics: an aggregate over fewer than MinGroup records is not given. Two
// questions whose difference would give such an aggregate are held back as well, where this can be seen from one question
// alone: a selection that leaves out fewer than MinGroup records is refused, and where the suppressed groups of one answer
// hold fewer than MinGroup records together, the next smallest group is suppressed with them. This hides a record from a
// curious caller; against a patient one with many overlapping questions it takes more (a budget, or noise).
package table

import (
	"cmp"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
)

// MinGroup is the smallest number of records over which an aggregate is given.
const MinGroup = 5

// Bounds on what is read, so that a broken table cannot fill the TEE's memory.
const (
	maxRows    = 1 << 20
	maxColumns = 256
)

// Errors a caller can tell apart with errors.Is.
var (
	ErrTable    = errors.New("the table cannot be used")
	ErrColumn   = errors.New("no such column")
	ErrTooSmall = errors.New("refused")
)

// Table is a CSV table in memory. It is immutable and safe for concurrent use.
type Table struct {
	columns []string
	rows    [][]string
}

// Read reads a CSV table whose first row holds the columns' names.
func Read(r io.Reader) (*Table, error) {
	cr := csv.NewReader(r)
	header, err := cr.Read()
	if err != nil {
		return nil, fmt.Errorf("%w: reading its header: %w", ErrTable, err)
	}
	if len(header) > maxColumns {
		return nil, fmt.Errorf("%w: more than %d columns", ErrTable, maxColumns)
	}
	t := &Table{columns: header}
	for {
		row, err := cr.Read()
		if errors.Is(err, io.EOF) {
			return t, nil
		}
		if err != nil {
			// The reader's own error names line and column only, never the content.
			return nil, fmt.Errorf("%w: %w", ErrTable, err)
		}
		if len(t.rows) == maxRows {
			return nil, fmt.Errorf("%w: more than %d rows", ErrTable, maxRows)
		}
		t.rows = append(t.rows, row)
	}
}

// Len is the number of records.
func (t *Table) Len() int { return len(t.rows) }

// Cell is one group's answer.
type Cell struct {
	Group      string // the value of the column grouped by; empty without grouping
	Records    int    // 0 when suppressed
	Value      float64
	Suppressed bool
}

// Answer is what a question gave: one cell without grouping, else one cell per group in the order of the groups' names.
type Answer struct {
	Question Question
	Cells    []Cell
}

// Answer answers q, or says with ErrColumn, ErrTooSmall or ErrTable why it does not.
func (t *Table) Answer(q Question) (*Answer, error) {
	value, by, err := t.resolve(&q)
	if err != nil {
		return nil, err
	}
	matched, err := t.selectRows(q.Where)
	if err != nil {
		return nil, err
	}
	if len(matched) < MinGroup {
		return nil, fmt.Errorf("%w: fewer than %d records fit, too few to hide one", ErrTooSmall, MinGroup)
	}
	if left := len(t.rows) - len(matched); left > 0 && left < MinGroup {
		return nil, fmt.Errorf("%w: all but fewer than %d records fit, so the answer would show the others", ErrTooSmall, MinGroup)
	}
	groups := map[string]*Cell{}
	for _, row := range matched {
		name := ""
		if by >= 0 {
			name = row[by]
		}
		cell := groups[name]
		if cell == nil {
			cell = &Cell{Group: name}
			groups[name] = cell
		}
		cell.Records++
		if value >= 0 {
			n, err := strconv.ParseFloat(strings.TrimSpace(row[value]), 64)
			if err != nil {
				return nil, fmt.Errorf("%w: column %q does not hold numbers only", ErrTable, q.Column)
			}
			cell.Value += n
		}
	}
	cells := make([]Cell, 0, len(groups))
	for _, c := range groups {
		cells = append(cells, *c)
	}
	finish(cells, q.Aggregate)
	return &Answer{Question: q, Cells: cells}, nil
}

// resolve replaces the column names of q by those of the table and returns the indices of the column to aggregate and of
// the column to group by, -1 for none.
func (t *Table) resolve(q *Question) (value, by int, err error) {
	value, by = -1, -1
	if q.Column != "" {
		if value, err = t.column(q.Column); err != nil {
			return
		}
		q.Column = t.columns[value]
	}
	if q.By != "" {
		if by, err = t.column(q.By); err != nil {
			return
		}
		q.By = t.columns[by]
	}
	return
}

func (t *Table) column(name string) (int, error) {
	for i, c := range t.columns {
		if strings.EqualFold(c, name) {
			return i, nil
		}
	}
	return -1, fmt.Errorf("%w %q; there are %s", ErrColumn, name, strings.Join(t.columns, ", "))
}

func (t *Table) selectRows(where []Condition) ([][]string, error) {
	rows := t.rows
	for _, c := range where {
		i, err := t.column(c.Column)
		if err != nil {
			return nil, err
		}
		var kept [][]string
		for _, row := range rows {
			if strings.EqualFold(row[i], c.Value) {
				kept = append(kept, row)
			}
		}
		rows = kept
	}
	return rows, nil
}

// finish suppresses small cells, turns sums into means where asked, and sorts by the groups' names.
func finish(cells []Cell, aggregate string) {
	slices.SortFunc(cells, func(a, b Cell) int {
		return cmp.Or(cmp.Compare(a.Records, b.Records), cmp.Compare(a.Group, b.Group))
	})
	hidden := 0
	for i := range cells {
		c := &cells[i]
		small := c.Records < MinGroup
		complement := hidden > 0 && hidden < MinGroup // the total minus the shown groups would give the hidden ones away
		if small || complement {
			hidden += c.Records
			*c = Cell{Group: c.Group, Suppressed: true}
			continue
		}
		switch aggregate {
		case "count":
			c.Value = float64(c.Records)
		case "mean":
			c.Value /= float64(c.Records)
		}
	}
	slices.SortFunc(cells, func(a, b Cell) int { return cmp.Compare(a.Group, b.Group) })
}

// String formats the answer as lines: "group  value" in columns, or the value alone.
func (a *Answer) String() string {
	width := 0
	for _, c := range a.Cells {
		width = max(width, len(c.Group))
	}
	var b strings.Builder
	for _, c := range a.Cells {
		value := strconv.FormatFloat(c.Value, 'f', 2, 64)
		if a.Question.Aggregate == "count" {
			value = strconv.Itoa(c.Records)
		}
		if c.Suppressed {
			value = fmt.Sprintf("refused (too few records, at least %d are needed)", MinGroup)
		}
		if a.Question.By == "" {
			fmt.Fprintf(&b, "%s\n", value)
			continue
		}
		fmt.Fprintf(&b, "%-*s  %s\n", width, c.Group, value)
	}
	return b.String()
}
