// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"errors"
	"fmt"

	"sealift/suit"
)

// setComponentIndex chooses the current components. The pre-scan has seen that they exist.
func setComponentIndex(s *scope, cmd *suit.Command, position int) error {
	if !s.strict && s.nesting == inRunSequence && position > 0 {
		return fmt.Errorf("%w: without strict-order only the first command of run-sequence sets the index", ErrRule)
	}
	if cmd.Index.All {
		s.current = s.frame.indices()
	} else {
		s.current = cmd.Index.List
	}
	return nil
}

func overrideParameters(s *scope, cmd *suit.Command, _ int) error {
	return s.setParams(cmd.Params, true)
}
func setParameters(s *scope, cmd *suit.Command, _ int) error { return s.setParams(cmd.Params, false) }

// setParams merges parameters into each current component. strict-order and soft-failure belong to the scope instead
// (suit-manifest section 8.4.8.13 and 8.4.8.14).
func (s *scope) setParams(params suit.Params, override bool) error {
	for p, v := range params {
		switch p {
		case suit.ParamStrictOrder:
			s.strict = v.(bool)
		case suit.ParamSoftFailure:
			if s.nesting == atTop {
				return fmt.Errorf("%w: soft-failure outside try-each and run-sequence", ErrRule)
			}
			s.soft = v.(bool)
		}
	}
	m := s.frame.machine
	for _, index := range s.current {
		c := s.component(index)
		merged := s.params(c).Clone()
		if merged == nil {
			merged = suit.Params{}
		}
		for p, v := range params {
			if _, set := merged[p]; set && !override || p == suit.ParamStrictOrder || p == suit.ParamSoftFailure {
				continue
			}
			merged[p] = v
		}
		m.params[c.key] = merged
	}
	return nil
}

// soft reports whether err is the failure of a condition, which may be soft, and not that of a directive.
func isConditionFailure(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.condition
}

// tryEach runs the alternatives until one succeeds. An alternative that fails softly leaves no parameters behind.
func tryEach(s *scope, cmd *suit.Command, c *component) error {
	m := s.frame.machine
	var last error
	for _, alternative := range cmd.Alternatives {
		before := m.snapshot()
		inner := s.nested(inAlternative, c.index)
		last = inner.run(alternative)
		if last == nil {
			return nil
		}
		if !isConditionFailure(last) || !inner.soft {
			return last
		}
		m.restore(before)
	}
	if cmd.OrNothing {
		return nil
	}
	return failed("no alternative succeeded, the last because: %v", last)
}

// runSequence runs a sequence for one component. What it did to parameters stays; the component index is the caller's.
func runSequence(s *scope, cmd *suit.Command, c *component) error {
	inner := s.nested(inRunSequence, c.index)
	err := inner.run(cmd.Sequence)
	if err != nil && isConditionFailure(err) && inner.soft {
		return nil
	}
	return err
}

// unordered keeps the rule for sequences without strict-order: they may run in any order, so no component may be both
// read and written in them (suit-manifest section 8.4.8.13).
func (s *scope) unordered(target int, source ...int) error {
	if s.strict {
		return nil
	}
	if s.targets == nil {
		s.targets, s.sources = map[int]bool{}, map[int]bool{}
	}
	s.targets[target] = true
	for _, i := range source {
		s.sources[i] = true
	}
	for i := range s.sources {
		if s.targets[i] {
			return fmt.Errorf("%w: component %d is source and target without strict-order", ErrRule, i)
		}
	}
	return nil
}
