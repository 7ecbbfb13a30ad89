// SPDX-License-Identifier: Apache-2.0

package rehearsal

import (
	"slices"

	"sealift/suit"
	"sealift/suit/processor"
)

// Outcomes of steps.
const (
	done         = "ok"
	failed       = "FAILED"
	failedInside = "FAILED inside"
	softly       = "did not hold" // and something else was tried, or nothing was to be done
	notReached   = "not reached"  // the run had failed before
	notRun       = "not run"      // of an alternative that was not needed, or behind what did not hold
)

// maxSteps bounds what is noted and printed.
const maxSteps = 20_000

// observer takes down what the processor tells: the commands in the order in which they begin.
type observer struct {
	events []seen
	open   []int // events that have not ended, the innermost last
}

type seen struct {
	processor.Event
	outcome string
}

func (o *observer) note(e processor.Event) {
	if !e.Ended {
		o.open = append(o.open, len(o.events))
		if len(o.events) < maxSteps {
			o.events = append(o.events, seen{Event: e})
		}
		return
	}
	at := o.open[len(o.open)-1]
	o.open = o.open[:len(o.open)-1]
	if at < len(o.events) {
		o.end(at, e.Err)
	}
}

// end gives an event its outcome. A command that ends well has made what failed inside it harmless.
func (o *observer) end(at int, err error) {
	inside := false
	for i := at + 1; i < len(o.events); i++ {
		e := &o.events[i]
		if e.outcome != failed && e.outcome != failedInside {
			continue
		}
		inside = true
		if err == nil {
			e.outcome = softly
		}
	}
	switch {
	case err == nil:
		o.events[at].outcome = done
	case inside:
		o.events[at].outcome = failedInside
	default:
		o.events[at].outcome = failed
	}
}

// follower walks over the manifests in the order of their commands and takes the events as it passes them, so that what did not run is
// shown in its place.
type follower struct {
	out    *processor.Outcome
	events []seen // still to come
	steps  []Step
}

// steps is empty where no command ran: then the manifest as a whole was refused.
func steps(out *processor.Outcome, procedure []suit.Member, o *observer) []Step {
	f := &follower{out: out, events: o.events, steps: []Step{}}
	if out.Manifest == nil || len(o.events) == 0 {
		return f.steps
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

// component follows a command for one component, and what is nested in it.
func (f *follower) component(cmd *suit.Command, p place, index int) {
	ran := f.step(cmd, p, index)
	inner := p
	inner.depth++
	for _, alternative := range cmd.Alternatives {
		f.sequence(alternative, inner, []int{index})
	}
	f.sequence(cmd.Sequence, inner, []int{index})
	if cmd.Code == suit.CodeProcessDependency && ran {
		f.dependency(p, index)
	}
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

// step adds a command and says whether it ran.
func (f *follower) step(cmd *suit.Command, p place, index int) bool {
	outcome, ran := f.outcome(cmd, p, index)
	if len(f.steps) >= maxSteps {
		return ran
	}
	s := Step{Section: p.section.String(), Offset: cmd.Offset, Depth: p.depth, Command: cmd.Code.String(), Outcome: outcome}
	if p.section == suit.MemberCommon {
		s.Section = "shared"
	}
	if len(p.path) > 0 && p.manifest.ComponentID != nil {
		s.Manifest = p.manifest.ComponentID.String()
	}
	if id, _, ok := p.manifest.Component(index); ok {
		s.Component = id.String()
	}
	f.steps = append(f.steps, s)
	return ran
}

// outcome takes the next event if it is this command's.
func (f *follower) outcome(cmd *suit.Command, p place, index int) (string, bool) {
	if len(f.events) > 0 {
		e := &f.events[0]
		if slices.Equal(e.Path, p.path) && e.Section == p.section && e.Offset == cmd.Offset && e.Index == index {
			f.events = f.events[1:]
			return e.outcome, true
		}
		return notRun, false
	}
	if f.out.Report.Failure != nil {
		return notReached, false
	}
	return notRun, false
}
