// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"errors"
	"fmt"
	"io/fs"

	"sealift/suit"
)

// The commands of draft-ietf-suit-update-management section 5.

// imageNotMatch holds if the component's digest is another one. A component that does not exist matches nothing; without
// a digest to compare with the condition fails.
func imageNotMatch(s *scope, _ *suit.Command, c *component) error {
	want, ok := s.params(c).Digest()
	if !ok {
		return failed("%v is not set", suit.ParamDigest)
	}
	var got suit.Digest
	var err error
	if c.dependency {
		got, err = s.frame.dependencyDigest(c)
	} else {
		got, err = s.frame.machine.digest(c, want.Alg)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	c.measured = suit.Params{suit.ParamDigest: got}
	if want.Equal(got) {
		return failed("the component is %v", got)
	}
	return nil
}

// useBefore compares in 64 bits. Without a time that can be trusted nothing is before anything.
func useBefore(s *scope, _ *suit.Command, c *component) error {
	limit, ok := s.params(c).Uint(suit.ParamUseBefore)
	if !ok {
		return failed("%v is not set", suit.ParamUseBefore)
	}
	now, ok := s.frame.machine.platform.(Clock).Now()
	if !ok {
		return failed("the time is not known")
	}
	if t := now.Unix(); t >= 0 && uint64(t) >= limit {
		return failed("the time is %d, the manifest is for use before %d", t, limit)
	}
	return nil
}

func minimumBattery(s *scope, _ *suit.Command, c *component) error {
	want, ok := s.params(c).Uint(suit.ParamMinimumBattery)
	if !ok {
		return failed("%v is not set", suit.ParamMinimumBattery)
	}
	level, ok := s.frame.machine.platform.(Battery).BatteryLevel()
	if !ok {
		return failed("the battery's level is not known")
	}
	c.measured = suit.Params{suit.ParamMinimumBattery: level}
	if level < want {
		return failed("the battery has %d mWh, the update needs %d", level, want)
	}
	return nil
}

func updateAuthorized(s *scope, _ *suit.Command, c *component) error {
	priority, ok := s.params(c)[suit.ParamUpdatePriority].(int64)
	if !ok {
		return failed("%v is not set", suit.ParamUpdatePriority)
	}
	m := s.frame.machine
	if err := m.platform.(UpdateAuthorizer).AuthorizeUpdate(m.ctx, s.frame.manifest, priority); err != nil {
		return failed("priority %d: %v", priority, err)
	}
	return nil
}

// versionCondition compares the version of the component, or of a dependency's manifest where that states one
// (suit-set-version).
func versionCondition(s *scope, _ *suit.Command, c *component) error {
	encoded, ok := s.params(c).Bytes(suit.ParamVersion)
	if !ok {
		return failed("%v is not set", suit.ParamVersion)
	}
	want, err := suit.ParseVersionMatch(encoded)
	if err != nil {
		return err
	}
	have, ok := s.version(c)
	if !ok {
		return failed("the component's version is not known")
	}
	c.measured = suit.Params{suit.ParamVersion: suit.VersionMatch{Comparison: suit.VersionEqual, Version: have}.Encode()}
	if !want.Matches(have) {
		return failed("version %v is not %v", have, want)
	}
	return nil
}

func (s *scope) version(c *component) (suit.Version, bool) {
	if child := s.frame.dependencies[c.index]; child != nil && child.manifest.SetVersion != nil {
		return child.manifest.SetVersion, true
	}
	return s.frame.machine.platform.(Versioner).Version(c.id)
}

// wait asks the platform to wait. That it cannot wait for one of the events fails the run before anything is waited for.
func wait(s *scope, _ *suit.Command, c *component) error {
	encoded, ok := s.params(c).Bytes(suit.ParamWaitInfo)
	if !ok {
		return fmt.Errorf("%w: %v is not set", ErrRule, suit.ParamWaitInfo)
	}
	info, err := suit.ParseWaitInfo(encoded)
	if err != nil {
		return err
	}
	m, waiter := s.frame.machine, s.frame.machine.platform.(Waiter)
	for _, condition := range info {
		if !waiter.CanWait(condition.Event) {
			return fmt.Errorf("%w: waiting for %v", ErrNotSupported, condition.Event)
		}
	}
	return waiter.Wait(m.ctx, info)
}

// overrideMultiple is set-component-index and override-parameters for each entry; the last component stays current.
func overrideMultiple(s *scope, cmd *suit.Command, position int) error {
	for i, set := range cmd.Multiple {
		index := suit.Command{Code: cmd.Code, Index: suit.Index{List: []int{set.Index}}}
		if err := setComponentIndex(s, &index, position+i); err != nil {
			return err
		}
		if err := s.setParams(set.Params, true); err != nil {
			return err
		}
	}
	return nil
}

// copyParams overrides parameters of the current components with those of others. A parameter that the source does not
// have is an error: the manifest relies on it.
func copyParams(s *scope, cmd *suit.Command, _ int) error {
	for _, source := range cmd.Sources {
		from := s.component(source.Index)
		have := s.params(from)
		set := make(suit.Params, len(source.Params))
		for _, p := range source.Params {
			v, ok := have[p]
			if !ok {
				return fmt.Errorf("%w: component %d has no %v to copy", ErrRule, source.Index, p)
			}
			set[p] = v
		}
		if err := s.setParams(set, true); err != nil {
			return err
		}
	}
	return nil
}
