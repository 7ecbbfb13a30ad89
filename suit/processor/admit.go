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

// admit decides whether an authentic manifest may run at all: everything that can be known before the first command.
func (f *frame) admit() error {
	m := f.machine
	if m.manifests++; m.manifests > m.options.Limits.Dependencies {
		return f.refuse(report.ReasonOperationFailed, fmt.Errorf("%w: more than %d manifests", ErrLimit, m.options.Limits.Dependencies))
	}
	if err := f.manifest.Check(); err != nil {
		return f.refuse(ruleReason(err), fmt.Errorf("%w: %w", ErrRule, err))
	}
	if installed, ok := m.platform.InstalledSequence(f.name); ok && f.manifest.Sequence < installed {
		return f.refuse(report.ReasonConditionFailed, fmt.Errorf("%w: %d < %d of %v", ErrRollback, f.manifest.Sequence, installed, f.name))
	}
	if err := f.authorize(); err != nil {
		return err
	}
	if m.options.RequireIdentityConditions && !checksIdentity(f.manifest.Shared) {
		return f.refuse(report.ReasonOperationFailed, fmt.Errorf(
			"%w: the shared sequence checks neither vendor nor class", ErrRule))
	}
	if err := f.prescan(); err != nil {
		return err
	}
	return f.checkAccess()
}

func (f *frame) refuse(reason report.Reason, err error) error {
	return &Error{Reason: reason, Manifest: f.path, Err: err}
}

// ruleReason: an index that does not exist is a component that is not supported; other rules are about form.
func ruleReason(err error) report.Reason {
	var rule *suit.RuleError
	if errors.As(err, &rule) && rule.Code == suit.RuleNoComponent {
		return report.ReasonComponentUnsupported
	}
	return report.ReasonCBORParse
}

// authorize asks for every component and for the place where the manifest itself is stored (suit-manifest section 10,
// suit-trust-domains section 9). One of several signers is enough.
func (f *frame) authorize() error {
	if err := f.authorizeOne(f.name); err != nil {
		return err
	}
	for _, index := range f.indices() {
		id, _, _ := f.manifest.Component(index)
		if err := f.authorizeOne(id); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) authorizeOne(id suit.ComponentID) error {
	err := f.anySigner(func(signer *cose.Key) error { return f.machine.platform.Authorize(signer, id) })
	if err == nil {
		return nil
	}
	reason := report.ReasonComponentUnauthorised
	if errors.Is(err, ErrUnsupportedComponent) {
		reason = report.ReasonComponentUnsupported
	}
	return f.refuse(reason, fmt.Errorf("component %v: %w", id, err))
}

// anySigner asks for each signer until one may; a MAC has none.
func (f *frame) anySigner(ask func(signer *cose.Key) error) error {
	if len(f.manifest.Signers) == 0 {
		return ask(nil)
	}
	var errs []error
	for _, signer := range f.manifest.Signers {
		err := ask(signer)
		if err == nil {
			return nil
		}
		errs = append(errs, err)
	}
	return errors.Join(errs...)
}

// checksIdentity looks for a vendor or class condition in the shared sequence (suit-manifest section 8.4.6).
func checksIdentity(seq suit.Sequence) bool {
	for i := range seq {
		cmd := &seq[i]
		if cmd.Code == suit.CodeVendorIdentifier || cmd.Code == suit.CodeClassIdentifier || checksIdentity(cmd.Sequence) {
			return true
		}
		for _, alt := range cmd.Alternatives {
			if checksIdentity(alt) {
				return true
			}
		}
	}
	return false
}

// prescan walks all sections at hand, also those that another procedure runs, and refuses the manifest if any command
// or parameter in it is not supported: a manifest is rejected in whole (suit-manifest section 6.1).
func (f *frame) prescan() error {
	for _, section := range suit.Sections {
		if seq, ok := f.manifest.Section(section); ok {
			if err := f.prescanSequence(section, seq); err != nil {
				return err
			}
		}
	}
	return nil
}

func (f *frame) prescanSequence(section suit.Member, seq suit.Sequence) error {
	for i := range seq {
		cmd := &seq[i]
		if err := f.prescanCommand(section, cmd); err != nil {
			return err
		}
		for _, alt := range cmd.Alternatives {
			if err := f.prescanSequence(section, alt); err != nil {
				return err
			}
		}
		if err := f.prescanSequence(section, cmd.Sequence); err != nil {
			return err
		}
	}
	return nil
}

func (f *frame) prescanCommand(section suit.Member, cmd *suit.Command) error {
	refuse := func(reason report.Reason, what any) error {
		return &Error{
			Reason: reason, Manifest: f.path, Section: section, Offset: cmd.Offset, Command: cmd.Code,
			Err: fmt.Errorf("%w: %v", ErrNotSupported, what),
		}
	}
	h := handlers[cmd.Code]
	if !h.supported(f.machine.platform, f.machine.options) || h.only != nil && !slices.Contains(h.only, section) {
		return refuse(report.ReasonCommandUnsupported, fmt.Sprintf("%v in %v", cmd.Code, section))
	}
	if p, err := f.prescanParams(cmd.Params); err != nil {
		return refuse(report.ReasonParameterUnsupported, fmt.Sprintf("%v: %v", p, err))
	}
	for _, m := range cmd.Multiple {
		if p, err := f.prescanParams(m.Params); err != nil {
			return refuse(report.ReasonParameterUnsupported, fmt.Sprintf("%v: %v", p, err))
		}
	}
	for _, src := range cmd.Sources {
		for _, p := range src.Params {
			if _, ok := parameters[p]; !ok {
				return refuse(report.ReasonParameterUnsupported, p)
			}
		}
	}
	return nil
}

var errParameter = errors.New("not interpreted here")

func (f *frame) prescanParams(params suit.Params) (suit.Param, error) {
	for p, v := range params {
		info, ok := parameters[p]
		if !ok || !info.supported(f.machine.platform, f.machine.options) {
			return p, errParameter
		}
		if info.check != nil {
			if err := info.check(v); err != nil {
				return p, err
			}
		}
	}
	return 0, nil
}
