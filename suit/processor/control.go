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
	for i, index := range s.current {
		if i > 0 { // the first was counted with the command
			if err := s.step(); err != nil {
				return err
			}
		}
		s.merge(s.component(index).state, params, override)
	}
	return nil
}

// merge sets parameters of one component.
func (s *scope) merge(st *state, params suit.Params, override bool) {
	m := s.frame.machine
	_, strict := params[suit.ParamStrictOrder]
	_, soft := params[suit.ParamSoftFailure]
	if st.params == nil && !strict && !soft {
		m.replace(st, params) // shared with the command until something is added
		return
	}
	merged := m.writable(st)
	for p, v := range params {
		if _, set := merged[p]; set && !override || p == suit.ParamStrictOrder || p == suit.ParamSoftFailure {
			continue
		}
		merged[p] = v
	}
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
		softly := last != nil && isConditionFailure(last) && inner.soft
		if softly {
			m.restore(before)
		}
		m.release()
		c.measured = nil // by the alternative, not by try-each
		if !softly {
			return last
		}
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
	c.measured = nil
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
	clash := s.sources[target]
	for _, i := range source {
		s.sources[i] = true
		clash = clash || s.targets[i]
	}
	if clash {
		return fmt.Errorf("%w: component %d is source and target without strict-order", ErrRule, target)
	}
	return nil
}
