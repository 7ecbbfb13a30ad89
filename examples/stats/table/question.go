// SPDX-License-Identifier: Apache-2.0

package table

import (
	"errors"
	"fmt"
	"strings"
)

// ErrQuestion says that a question is not one this program understands.
var ErrQuestion = errors.New("cannot understand the question")

// Question is one parsed question: an aggregate over a column, of the records that fit every condition, per group.
type Question struct {
	Aggregate string      // "count", "sum" or "mean"
	Column    string      // empty for count
	Where     []Condition // all must hold
	By        string      // column to group by; empty for one answer over all
}

// Condition asks that a column has exactly this value.
type Condition struct{ Column, Value string }

// ParseQuestion reads a question of the form
//
//	count | sum COLUMN | mean COLUMN  [where COLUMN=VALUE [and COLUMN=VALUE ...]]  [by COLUMN]
//
// Words are separated by spaces; a value with spaces is put in double quotes. Minimum, maximum and median are not among
// the aggregates on purpose: each would show the value of one record.
func ParseQuestion(line string) (Question, error) {
	words, err := split(line)
	if err != nil {
		return Question{}, err
	}
	p := parser{words: words}
	q, err := p.question()
	if err != nil {
		return Question{}, fmt.Errorf("%w: %w", ErrQuestion, err)
	}
	return q, nil
}

type parser struct{ words []string }

// next takes the next word, or an empty one at the end.
func (p *parser) next() string {
	if len(p.words) == 0 {
		return ""
	}
	w := p.words[0]
	p.words = p.words[1:]
	return w
}

// accept takes the next word if it is want.
func (p *parser) accept(want string) bool {
	if len(p.words) > 0 && strings.EqualFold(p.words[0], want) {
		p.words = p.words[1:]
		return true
	}
	return false
}

func (p *parser) question() (Question, error) {
	var q Question
	switch agg := strings.ToLower(p.next()); agg {
	case "count":
		q.Aggregate = agg
	case "sum", "mean":
		q.Aggregate = agg
		if q.Column = p.next(); q.Column == "" {
			return q, fmt.Errorf("%s of which column?", agg)
		}
	case "min", "max", "median":
		return q, fmt.Errorf("%s would show the value of a single record; ask for count, sum or mean", agg)
	default:
		return q, fmt.Errorf("it begins with %q, not with count, sum or mean", agg)
	}
	if p.accept("where") {
		for {
			c, err := condition(p.next())
			if err != nil {
				return q, err
			}
			q.Where = append(q.Where, c)
			if !p.accept("and") {
				break
			}
		}
	}
	if p.accept("by") {
		if q.By = p.next(); q.By == "" {
			return q, errors.New("by which column?")
		}
	}
	if w := p.next(); w != "" {
		return q, fmt.Errorf("nothing is expected at %q", w)
	}
	return q, nil
}

func condition(word string) (Condition, error) {
	column, value, ok := strings.Cut(word, "=")
	if !ok || column == "" {
		return Condition{}, fmt.Errorf("a condition reads column=value, not %q", word)
	}
	return Condition{Column: column, Value: value}, nil
}

// split cuts a line into words; double quotes hold spaces together and are dropped.
func split(line string) ([]string, error) {
	var words []string
	var word strings.Builder
	inWord, quoted := false, false
	for _, r := range line {
		switch {
		case r == '"':
			quoted, inWord = !quoted, true
		case !quoted && (r == ' ' || r == '\t'):
			if inWord {
				words = append(words, word.String())
				word.Reset()
				inWord = false
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if quoted {
		return nil, fmt.Errorf("%w: a quote is not closed", ErrQuestion)
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, nil
}
