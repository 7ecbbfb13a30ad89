// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sealift/suit"
	"sealift/suit/report"
)

// machine is the state of one run.
type machine struct {
	ctx      context.Context
	platform Platform
	options  *Options
	out      *Outcome
	root     *frame

	firstFrame  frame // room for the root
	firstState  state // and for one component
	firstListed [1]component
	sink        boundedWriter // of the transfer that runs
	pending     *pending      // what was streamed and does not count yet

	commands  int   // executed so far
	written   int64 // bytes so far
	manifests int   // admitted so far

	records []report.Record // room for the next ones

	// states is keyed by the printed component identifier, so that a dependent and its dependency share the parameters of
	// a component that both list (suit-trust-domains section 5.4.1).
	states map[string]*state

	// For alternatives of try-each that fail: what their parameters were before. See snapshot.
	undo  []undone
	open  int // snapshots that may be restored
	epoch int // of the last snapshot
}

func newMachine(ctx context.Context, p *Processor) *machine {
	out := &struct { // in one piece: a manifest of usual size needs no more
		Outcome
		report.Report
		items   [2 * recordBatch]report.Item
		touched [1]Touched
		ran     [1]Ran
	}{}
	out.Outcome.Report, out.Outcome.Touched, out.Outcome.Manifests = &out.Report, out.touched[:0], out.ran[:0]
	out.Report.Items = out.items[:0]
	return &machine{ctx: ctx, platform: p.platform, options: &p.options, out: &out.Outcome, epoch: 1}
}

// state is what a run knows of a component.
type state struct {
	params suit.Params
	epoch  int // in which params was made for this component alone; 0: it is a command's own
	// envelope of a dependency that this run fetched.
	envelope []byte
	// digest was computed while this run wrote the component; matched: it passed image-match since.
	digest  suit.Digest
	matched bool
	// unauthenticated: decrypted by a cipher that does not authenticate, and not matched yet.
	unauthenticated bool
	touched         int         // position in out.Touched, from 1
	measured        suit.Params // see digestRecord; never changed in place
}

// digestRecord is what a record says that measured a digest; commands often find the same one again.
func (st *state) digestRecord(d suit.Digest) suit.Params {
	if have, ok := st.measured.Digest(); !ok || !have.Equal(d) {
		st.measured = suit.Params{suit.ParamDigest: d}
	}
	return st.measured
}

type undone struct {
	state  *state
	params suit.Params
	epoch  int
}

// writable returns parameters of a component that may be changed in place.
func (m *machine) writable(st *state) suit.Params {
	if st.epoch == m.epoch {
		return st.params
	}
	m.replace(st, st.params.Clone())
	if st.params == nil {
		st.params = suit.Params{}
	}
	st.epoch = m.epoch
	return st.params
}

// replace gives a component other parameters, which nobody may change in place.
func (m *machine) replace(st *state, params suit.Params) {
	if m.open > 0 {
		m.undo = append(m.undo, undone{st, st.params, st.epoch})
	}
	st.params, st.epoch = params, 0
}

// snapshot marks the parameters of all components, restore goes back to a mark, and release ends one. The cost is that of
// the changes in between, whatever the number of components.
func (m *machine) snapshot() int {
	m.open++
	m.epoch++
	return len(m.undo)
}

func (m *machine) restore(mark int) {
	for i := len(m.undo) - 1; i >= mark; i-- {
		u := m.undo[i]
		u.state.params, u.state.epoch = u.params, u.epoch
	}
	m.undo = m.undo[:mark]
}

func (m *machine) release() {
	if m.open--; m.open == 0 {
		m.undo = m.undo[:0]
	}
}

// frame is one manifest of a run.
type frame struct {
	machine  *machine
	manifest *suit.Verified
	name     suit.ComponentID // under which it is stored
	path     []uint64         // dependency indices from the root
	parent   *frame
	stored   bool  // came out of Platform.Dependency
	top      scope // of the section that runs

	all          []int              // component indices
	listed       []component        // by index
	others       map[int]*component // dependencies beyond them
	dependencies map[int]*frame     // whose integrity was checked in this run
	processed    map[int]bool       // in the section that runs now
	unlinked     map[string]bool
}

// scope is one command sequence that runs: the shared sequence, a section, an alternative, a run-sequence.
type scope struct {
	frame   *frame
	section suit.Member
	nesting nesting
	current []int         // component indices
	soft    bool          // parameter soft-failure
	strict  bool          // parameter strict-order
	rest    suit.Sequence // the commands after the one that runs
	// sources and targets so far, while strict is false
	sources, targets map[int]bool
}

type nesting int

const (
	atTop nesting = iota
	inAlternative
	inRunSequence
)

// runSection runs the shared sequence and then the section (suit-manifest section 6.4). A manifest without the section
// has nothing to do in it; a section that was severed and is not at hand cannot be skipped.
func (f *frame) runSection(label suit.Member) error {
	seq, ok := f.manifest.Section(label)
	if !ok {
		if _, severed := f.manifest.Missing[label]; severed {
			return &Error{Reason: report.ReasonSeveringUnsupported, Manifest: f.path, Section: label, Err: suit.ErrSevered}
		}
		return nil
	}
	clear(f.processed)
	if shared, ok := f.manifest.Section(suit.MemberCommon); ok {
		f.top = f.newScope(suit.MemberCommon)
		if err := f.top.run(shared); err != nil {
			return err
		}
	}
	f.top = f.newScope(label)
	if err := f.top.run(seq); err != nil {
		return err
	}
	return f.lockstep(label)
}

// lockstep: at the end of each section every dependency that has the section was processed (suit-trust-domains 5.3).
func (f *frame) lockstep(label suit.Member) error {
	if f.machine.options.LenientDependencies {
		return nil
	}
	for index, child := range f.dependencies {
		if _, has := child.manifest.Section(label); has && !f.processed[index] {
			return &Error{Reason: report.ReasonOperationFailed, Manifest: f.path, Section: label, Err: fmt.Errorf(
				"%w %d has this section and was not processed", ErrDependency, index)}
		}
	}
	return nil
}

// indices are the component indices of the manifest, in ascending order.
func (f *frame) indices() []int {
	if f.all == nil {
		f.all = f.manifest.Indices()
	}
	return f.all
}

func (f *frame) newScope(section suit.Member) scope {
	s := scope{frame: f, section: section, strict: true}
	if indices := f.indices(); len(indices) == 1 {
		s.current = indices // the only case in which set-component-index may be left out
	}
	return s
}

// nested returns the scope of a sequence inside s for one component.
func (s *scope) nested(kind nesting, index int) *scope {
	return &scope{
		frame: s.frame, section: s.section, nesting: kind, current: []int{index}, soft: kind == inAlternative, strict: s.strict,
	}
}

func (s *scope) run(seq suit.Sequence) error {
	for i := range seq {
		s.frame.machine.follow(&seq[i])
		s.rest = seq[i+1:]
		if err := s.command(&seq[i], i); err != nil {
			return err
		}
	}
	return nil
}

// command runs one command for each current component, in order.
func (s *scope) command(cmd *suit.Command, position int) error {
	h := handlers[cmd.Code]
	if h.scope != nil {
		if err := s.count(cmd, -1); err != nil {
			return err
		}
		s.observe(cmd, -1, false, nil)
		err := s.located(cmd, -1, h.scope(s, cmd, position))
		s.observe(cmd, -1, true, err)
		return err
	}
	for _, index := range s.current {
		if err := s.count(cmd, index); err != nil {
			return err
		}
		c := s.component(index)
		c.measured = nil
		s.observe(cmd, index, false, nil)
		err := s.located(cmd, index, h.component(s, cmd, c))
		s.observe(cmd, index, true, err)
		s.record(cmd, c, err)
		if err != nil {
			return err
		}
	}
	return nil
}

// count ends runs that were cancelled or execute too much.
func (s *scope) count(cmd *suit.Command, index int) error { return s.located(cmd, index, s.step()) }

func (s *scope) step() error {
	m := s.frame.machine
	if err := m.ctx.Err(); err != nil {
		return err
	}
	if m.commands++; m.commands > m.options.Limits.Commands {
		return fmt.Errorf("%w: more than %d commands", ErrLimit, m.options.Limits.Commands)
	}
	return nil
}

// located makes an *Error out of a handler's error. One that a nested command located already keeps its place.
func (s *scope) located(cmd *suit.Command, index int, err error) error {
	if err == nil {
		return nil
	}
	var e *Error
	if errors.As(err, &e) && e.Section != 0 {
		return e
	}
	e = &Error{Reason: report.ReasonOperationFailed, Err: err}
	var inner *Error
	if errors.As(err, &inner) {
		*e = *inner
	}
	e.Manifest, e.Section, e.Offset, e.Command = s.frame.path, s.section, cmd.Offset, cmd.Code
	if index >= 0 {
		e.Index = index
		e.Component, _, _ = s.frame.manifest.Component(index)
	}
	return e
}

// component is a component as one manifest lists it.
type component struct {
	index      int
	id         suit.ComponentID
	key        string // the identifier, printed
	dependency bool
	state      *state
	measured   suit.Params // what the last command found, for its record
}

// component is looked up once per run: every command of every component needs it.
func (s *scope) component(index int) *component {
	f := s.frame
	if f.listed == nil {
		if len(f.manifest.Components) == 1 && f == f.machine.root {
			f.listed = f.machine.firstListed[:]
		} else {
			f.listed = make([]component, len(f.manifest.Components))
		}
	}
	if index < len(f.listed) {
		c := &f.listed[index]
		if c.state == nil {
			f.lookUp(c, index)
		}
		return c
	}
	c, ok := f.others[index]
	if !ok {
		c = &component{}
		f.lookUp(c, index)
		if f.others == nil {
			f.others = map[int]*component{}
		}
		f.others[index] = c
	}
	return c
}

func (f *frame) lookUp(c *component, index int) {
	id, dependency, _ := f.manifest.Component(index)
	*c = component{index: index, id: id, key: id.String(), dependency: dependency}
	m := f.machine
	if m.states == nil {
		m.states = map[string]*state{}
	}
	if c.state = m.states[c.key]; c.state == nil {
		c.state = &state{}
		if len(m.states) == 0 {
			c.state = &m.firstState
		}
		m.states[c.key] = c.state
	}
}

// params returns the parameters of a component.
func (s *scope) params(c *component) suit.Params { return c.state.params }

// record writes a record where the command's reporting policy asks for it (suit-manifest section 8.4.7).
func (s *scope) record(cmd *suit.Command, c *component, err error) {
	want := suit.RecordOnSuccess
	if err != nil {
		want = suit.RecordOnFailure
		var e *Error
		if errors.As(err, &e) && e.measured == nil {
			e.measured = c.measured
		}
	}
	if cmd.Policy&want == 0 {
		return
	}
	m := s.frame.machine
	if len(m.records) == 0 {
		m.records = make([]report.Record, recordBatch)
	}
	record := &m.records[0]
	m.records = m.records[1:]
	*record = report.Record{
		Manifest: slices.Clone(s.frame.path), Section: s.section, Offset: uint64(cmd.Offset), Component: uint64(c.index),
		Properties: c.measured,
	}
	m.out.Report.Items = append(m.out.Report.Items, record)
}

// recordBatch is how many records are allocated at once.
const recordBatch = 8
