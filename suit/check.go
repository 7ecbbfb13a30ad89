// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"errors"
	"fmt"
)

// Rule classifies what a RuleError is about.
type Rule int

// Rules.
const (
	RuleStart       Rule = iota + 1 // set-component-index comes first
	RuleNoComponent                 // a component index does not exist
	RuleShared                      // not allowed in the shared sequence
	RuleSoftFailure                 // soft-failure outside try-each and run-sequence
)

// RuleError is one place where a manifest breaks a rule about command sequences. It is an ErrRule.
type RuleError struct {
	Section Member // MemberCommon for the shared sequence
	Offset  int    // of the command in its section
	Command CommandCode
	Code    Rule
	Rule    string
}

// Error says where and which rule.
func (e *RuleError) Error() string {
	return fmt.Sprintf("suit: %v, offset %d, %v: %s", e.Section, e.Offset, e.Command, e.Rule)
}

// Is makes errors.Is(err, ErrRule) true.
func (e *RuleError) Is(target error) bool { return target == ErrRule }

// Check applies the rules that hold for every processor, whatever it supports: indices exist, sequences of manifests with
// several components begin with set-component-index, and the shared sequence holds nothing that changes components.
// All violations are reported (errors.Join of *RuleError).
func (m *Manifest) Check() error {
	components := len(m.Components)
	for _, d := range m.Dependencies {
		if d.Index >= len(m.Components) {
			components++
		}
	}
	var errs []error
	for _, section := range Sections {
		seq, ok := m.Section(section)
		if !ok {
			continue
		}
		if err := m.checkStart(section, seq, components); err != nil {
			errs = append(errs, err)
		}
		c := checker{section: section, manifest: m}
		c.sequence(seq, false)
		errs = append(errs, c.errs...)
	}
	return errors.Join(errs...)
}

// checkStart: with more than one component every section begins with set-component-index (suit-manifest section 8.4.10.1).
// override-multiple, which is an alias of it in front of parameters, is tolerated in its place.
func (m *Manifest) checkStart(section Member, seq Sequence, components int) error {
	first := seq[0].Code
	if components <= 1 || first == CodeSetComponentIndex || first == CodeOverrideMultiple {
		return nil
	}
	return &RuleError{section, seq[0].Offset, first, RuleStart, "a sequence over several components begins with set-component-index"}
}

type checker struct {
	section  Member
	manifest *Manifest
	errs     []error
}

func (c *checker) fail(cmd *Command, code Rule, rule string) {
	c.errs = append(c.errs, &RuleError{c.section, cmd.Offset, cmd.Code, code, rule})
}

func (c *checker) sequence(seq Sequence, nested bool) {
	for i := range seq {
		cmd := &seq[i]
		if c.section == MemberCommon {
			c.shared(cmd)
		}
		for _, n := range cmd.Index.List {
			c.index(cmd, n)
		}
		for _, src := range cmd.Sources {
			c.index(cmd, src.Index)
		}
		c.params(cmd, cmd.Params, nested)
		for _, m := range cmd.Multiple {
			c.index(cmd, m.Index)
			c.params(cmd, m.Params, nested)
		}
		for _, alt := range cmd.Alternatives {
			c.sequence(alt, true)
		}
		c.sequence(cmd.Sequence, true)
	}
}

func (c *checker) index(cmd *Command, n int) {
	if !c.manifest.has(n) {
		c.fail(cmd, RuleNoComponent, fmt.Sprintf("there is no component %d", n))
	}
}

// shared: the shared sequence holds conditions, set-component-index, override-parameters, try-each and run-sequence, and
// nothing custom (suit-manifest section 8.4.6).
func (c *checker) shared(cmd *Command) {
	if cmd.Code.Known() && !commands[cmd.Code].shared {
		c.fail(cmd, RuleShared, "not allowed in the shared sequence")
	}
	if !cmd.Code.Known() && cmd.Code < 0 {
		c.fail(cmd, RuleShared, "no custom commands in the shared sequence")
	}
	c.custom(cmd, cmd.Params)
	for _, m := range cmd.Multiple {
		c.custom(cmd, m.Params)
	}
}

func (c *checker) custom(cmd *Command, params Params) {
	for p := range params {
		if p < 0 {
			c.fail(cmd, RuleShared, "no custom parameters in the shared sequence")
		}
	}
}

func (c *checker) params(cmd *Command, params Params, nested bool) {
	if _, ok := params[ParamSoftFailure]; ok && !nested {
		c.fail(cmd, RuleSoftFailure, "soft-failure is for try-each and run-sequence only")
	}
	if src, ok := params.Uint(ParamSource); ok && !c.manifest.has(int(src)) {
		c.fail(cmd, RuleNoComponent, fmt.Sprintf("there is no source component %d", src))
	}
}
