// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"errors"
	"slices"

	"sealift/suit"
	"sealift/suit/processor"
	"sealift/suit/report"
)

// Outcomes of steps.
const (
	done         = "ok"
	failed       = "FAILED"
	failedInside = "FAILED inside"
	notReached   = "not reached"
	recorded     = "ran"
	notRecorded  = "not recorded"
)

// follower walks over manifests as the processor does and takes the report's records as it passes their commands.
type follower struct {
	out     *processor.Outcome
	records []*report.Record
	failure *report.Failure // nil if the run succeeded, or failed before any command
	stopped bool
	steps   []Step
}

// maxSteps bounds what is printed.
const maxSteps = 20_000

func steps(out *processor.Outcome, procedure []suit.Member, err error) []Step {
	f := &follower{out: out, steps: []Step{}}
	var e *processor.Error
	if out.Manifest == nil || err != nil && (!errors.As(err, &e) || e.Command == 0) {
		return f.steps
	}
	f.failure = out.Report.Failure
	for _, item := range out.Report.Items {
		if r, ok := item.(*report.Record); ok {
			f.records = append(f.records, r)
		}
	}
	for _, section := range procedure {
		f.section(out.Manifest.Manifest, nil, section)
	}
	return f.steps
}

// section follows the shared sequence and the section, as they run one after the other.
func (f *follower) section(m *suit.Manifest, path []uint64, label suit.Member) {
	seq, ok := m.Section(label)
	if !ok {
		return
	}
	walk := func(seq suit.Sequence, section suit.Member) {
		var current []int
		if all := m.Indices(); len(all) == 1 {
			current = all
		}
		f.sequence(seq, place{m, path, section, label, 0}, current)
	}
	if shared, ok := m.Section(suit.MemberCommon); ok {
		walk(shared, suit.MemberCommon)
	}
	walk(seq, label)
}

// place is where a sequence stands.
type place struct {
	manifest *suit.Manifest
	path     []uint64
	section  suit.Member
	running  suit.Member // the section that runs, also while section is the shared sequence
	depth    int
}

func (f *follower) sequence(seq suit.Sequence, p place, current []int) {
	for i := range seq {
		cmd := &seq[i]
		switch cmd.Code {
		case suit.CodeSetComponentIndex:
			if current = cmd.Index.List; cmd.Index.All {
				current = p.manifest.Indices()
			}
			f.step(cmd, p, -1)
			continue
		case suit.CodeOverrideParameters, suit.CodeSetParameters, suit.CodeOverrideMultiple, suit.CodeCopyParams:
			f.step(cmd, p, -1)
			if n := len(cmd.Multiple); n > 0 {
				current = []int{cmd.Multiple[n-1].Index}
			}
			continue
		}
		for _, index := range current {
			f.component(cmd, p, index)
		}
	}
}

// component follows a command for one component. What is nested in it comes first in the report, and after it here.
func (f *follower) component(cmd *suit.Command, p place, index int) {
	at, before := len(f.steps), f.stopped
	f.steps = append(f.steps, Step{})
	inner := p
	inner.depth++
	for _, alternative := range cmd.Alternatives {
		f.sequence(alternative, inner, []int{index})
	}
	f.sequence(cmd.Sequence, inner, []int{index})
	if cmd.Code == suit.CodeProcessDependency && !f.stopped {
		f.dependency(p, index)
	}
	rest := slices.Clone(f.steps[at+1:])
	f.steps = f.steps[:at]
	inside := !before && f.stopped
	f.step(cmd, p, index)
	if inside {
		f.steps[len(f.steps)-1].Outcome = failedInside
	}
	f.steps = append(f.steps, rest...)
}

func (f *follower) dependency(p place, index int) {
	id, _, _ := p.manifest.Component(index)
	for _, ran := range f.out.Manifests {
		if ran.Name.Equal(id) && len(p.path) < 8 {
			f.section(ran.Manifest.Manifest, append(slices.Clone(p.path), uint64(index)), p.running)
			return
		}
	}
}

func (f *follower) step(cmd *suit.Command, p place, index int) {
	if len(f.steps) >= maxSteps {
		return
	}
	s := Step{Section: p.section.String(), Offset: cmd.Offset, Depth: p.depth, Command: cmd.Code.String()}
	if p.section == suit.MemberCommon {
		s.Section = "shared"
	}
	if len(p.path) > 0 && p.manifest.ComponentID != nil {
		s.Manifest = p.manifest.ComponentID.String()
	}
	if id, _, ok := p.manifest.Component(index); ok {
		s.Component = id.String()
	}
	s.Outcome = f.outcome(cmd, p, index)
	f.steps = append(f.steps, s)
}

func (f *follower) outcome(cmd *suit.Command, p place, index int) string {
	if f.stopped {
		return notReached
	}
	is := func(r *report.Record) bool {
		return slices.Equal(r.Manifest, p.path) && r.Section == p.section && r.Offset == uint64(cmd.Offset) && (index < 0 || r.Component == uint64(index))
	}
	mine, more := false, false
	if len(f.records) > 0 && is(f.records[0]) {
		f.records, mine = f.records[1:], true
	}
	for _, r := range f.records {
		more = more || is(r)
	}
	// The last time that the failed command passes is when it failed; a command whose success is recorded and was not
	// has failed as well.
	if f.failure != nil && is(&f.failure.Record) && !more {
		if silent := cmd.Policy&suit.RecordOnSuccess == 0; silent || mine && len(f.records) == 0 || !mine {
			f.stopped = true
			return failed
		}
	}
	switch {
	case p.depth == 0:
		return done
	case mine:
		return recorded
	}
	return notRecorded
}
