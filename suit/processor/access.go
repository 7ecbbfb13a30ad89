// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"errors"
	"fmt"
	"slices"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// Access is one thing that a manifest does to one component: run a command on it, or set a parameter of it (then Param is
// not 0, and Command is the one that sets it).
type Access struct {
	Component  suit.ComponentID
	Dependency bool
	Section    suit.Member // MemberCommon for the shared sequence
	Command    suit.CommandCode
	Param      suit.Param
}

// AccessFunc decides whether the signer (nil for a MAC) may do it; an error says why not. One of several signers is
// enough for each access (suit-manifest section 10).
type AccessFunc func(signer *cose.Key, a Access) error

// ErrAccess is what an ACL refuses with.
var ErrAccess = errors.New("processor: the signer has no right to this")

// Rule grants rights to one signer.
type Rule struct {
	// Signer is who has the rights; nil for manifests authenticated by MAC.
	Signer *cose.Key
	// Components are prefixes of component identifiers; an empty identifier stands for all.
	Components []suit.ComponentID
	// Commands and Params are what may be used there; nil for all.
	Commands []suit.CommandCode
	Params   []suit.Param
}

// ACL is a list of rules, one of which has to grant an access. An empty list grants nothing.
type ACL []Rule

// Allow is the ACL as an AccessFunc.
func (l ACL) Allow(signer *cose.Key, a Access) error {
	for i := range l {
		if l[i].Signer.Equal(signer) && l[i].grants(a) {
			return nil
		}
	}
	if a.Param != 0 {
		return fmt.Errorf("%w: set %v of %v", ErrAccess, a.Param, a.Component)
	}
	return fmt.Errorf("%w: %v of %v", ErrAccess, a.Command, a.Component)
}

func (r *Rule) grants(a Access) bool {
	if a.Param != 0 && r.Params != nil && !slices.Contains(r.Params, a.Param) {
		return false
	}
	if a.Param == 0 && r.Commands != nil && !slices.Contains(r.Commands, a.Command) {
		return false
	}
	return slices.ContainsFunc(r.Components, a.Component.HasPrefix)
}

// accessFactor bounds the questions that one manifest causes, as a multiple of the commands that it may execute.
const accessFactor = 16

// accessCheck walks the sections of a manifest with the component indices that would be current, and asks for each command
// and parameter. Indices are constants in the manifest, so this is known before anything runs.
type accessCheck struct {
	frame   *frame
	section suit.Member
	asked   map[question]bool
	left    int
}

// question is what an AccessFunc was asked already.
type question struct {
	index   int
	section suit.Member
	command suit.CommandCode
	param   suit.Param
}

// checkAccess applies Options.Access.
func (f *frame) checkAccess() error {
	if f.machine.options.Access == nil {
		return nil
	}
	check := &accessCheck{frame: f, asked: map[question]bool{}, left: accessFactor * f.machine.options.Limits.Commands}
	for _, section := range suit.Sections {
		seq, ok := f.manifest.Section(section)
		if !ok {
			continue
		}
		check.section = section
		if _, err := check.sequence(seq, f.newScope(section).current); err != nil {
			return err
		}
	}
	return nil
}

// sequence returns the indices that are current at its end.
func (a *accessCheck) sequence(seq suit.Sequence, current []int) ([]int, error) {
	for i := range seq {
		cmd := &seq[i]
		var err error
		if current, err = a.command(cmd, current); err != nil {
			return nil, err
		}
		// A nested sequence runs once for each current component; what it does to them is the union.
		for _, alt := range cmd.Alternatives {
			if _, err := a.sequence(alt, current); err != nil {
				return nil, err
			}
		}
		if _, err := a.sequence(cmd.Sequence, current); err != nil {
			return nil, err
		}
	}
	return current, nil
}

func (a *accessCheck) command(cmd *suit.Command, current []int) ([]int, error) {
	switch cmd.Code {
	case suit.CodeSetComponentIndex:
		if cmd.Index.All {
			return a.frame.indices(), nil
		}
		return cmd.Index.List, nil
	case suit.CodeTryEach, suit.CodeRunSequence, suit.CodeCopyParams, suit.CodeOverrideMultiple:
		// These do nothing of their own but set parameters.
	case suit.CodeOverrideParameters, suit.CodeSetParameters:
	default:
		for _, index := range current {
			if err := a.ask(cmd, index, 0); err != nil {
				return nil, err
			}
		}
	}
	for _, index := range current {
		if err := a.params(cmd, cmd.Params, index); err != nil {
			return nil, err
		}
		for _, source := range cmd.Sources {
			for _, p := range source.Params {
				if err := a.ask(cmd, index, p); err != nil {
					return nil, err
				}
			}
		}
	}
	for _, set := range cmd.Multiple {
		if err := a.params(cmd, set.Params, set.Index); err != nil {
			return nil, err
		}
		current = []int{set.Index}
	}
	return current, nil
}

func (a *accessCheck) params(cmd *suit.Command, params suit.Params, index int) error {
	for p := range params {
		if p == suit.ParamStrictOrder || p == suit.ParamSoftFailure {
			continue // state of the processor, not of a component
		}
		if err := a.ask(cmd, index, p); err != nil {
			return err
		}
	}
	return nil
}

func (a *accessCheck) ask(cmd *suit.Command, index int, p suit.Param) error {
	f := a.frame
	if a.left--; a.left < 0 {
		return f.refuse(report.ReasonOperationFailed, fmt.Errorf("%w: more than %d questions of access", ErrLimit, accessFactor*f.machine.options.Limits.Commands))
	}
	q := question{index, a.section, cmd.Code, p}
	if a.asked[q] {
		return nil
	}
	a.asked[q] = true
	id, dependency, _ := f.manifest.Component(index)
	access := Access{Component: id, Dependency: dependency, Section: a.section, Command: cmd.Code, Param: p}
	err := f.anySigner(func(signer *cose.Key) error { return f.machine.options.Access(signer, access) })
	if err == nil {
		return nil
	}
	return &Error{
		Reason: report.ReasonComponentUnauthorised, Manifest: f.path, Section: a.section, Offset: cmd.Offset, Command: cmd.Code,
		Index: index, Component: id, Err: err,
	}
}
