// SPDX-License-Identifier: Apache-2.0

// Package payload reads out of a manifest, without running it, which payloads its commands fetch and with what digests
// they will be compared. It follows all sections in the order of the update procedure with the shared sequence before
// each (suit-manifest section 6.4) and takes every alternative of try-each, because it cannot know which one a device
// will take.
package payload

import (
	"slices"

	"sealift/suit"
)

// Payload is what one fetch directive asks for.
type Payload struct {
	URI        string
	Section    suit.Member
	Offset     int // of the directive in its section
	Index      int // of the component that it is written to
	Component  suit.ComponentID
	Target     suit.ComponentID // that its content ends in: Component, or what copies from it
	Dependency bool
	Digest     suit.Digest // parameter image-digest of the component; zero if none is set
	Size       uint64      // parameter image-size, 0 if none is set
	Encrypted  bool        // encryption-info is set for it, or for a component that copies from it
	Args       []byte      // parameter invoke-args of the component, nil if none is set
}

// maxPayloads bounds what a hostile manifest can make of nested loops.
const maxPayloads = 4096

// Of lists the payloads of a manifest, each URI and component once.
func Of(m *suit.Manifest) []Payload {
	w := &walker{manifest: m, params: map[int]suit.Params{}}
	shared, _ := m.Section(suit.MemberCommon)
	for _, section := range suit.Sections {
		if seq, ok := m.Section(section); ok && section != suit.MemberCommon {
			w.section = section
			w.sequence(shared, w.start())
			w.sequence(seq, w.start())
		}
	}
	for i := range w.out {
		p := &w.out[i]
		params := w.params[p.Index]
		if d, ok := params.Digest(); ok && p.Digest.IsZero() {
			p.Digest = d // set after the fetch, for the condition that follows it
		}
		p.Args, _ = params.Bytes(suit.ParamInvokeArgs)
	}
	return w.out
}

type walker struct {
	manifest *suit.Manifest
	section  suit.Member
	params   map[int]suit.Params
	out      []Payload
	steps    int
}

// start is the current component of a new sequence: the only one there is, if so.
func (w *walker) start() []int {
	if all := w.manifest.Indices(); len(all) == 1 {
		return all
	}
	return nil
}

// maxSteps bounds the walk; a manifest that is run has a bound of the same size.
const maxSteps = 1 << 16

func (w *walker) sequence(seq suit.Sequence, current []int) {
	for i := range seq {
		cmd := &seq[i]
		switch cmd.Code {
		case suit.CodeSetComponentIndex:
			if current = cmd.Index.List; cmd.Index.All {
				current = w.manifest.Indices()
			}
			continue
		case suit.CodeOverrideMultiple:
			for _, m := range cmd.Multiple {
				w.set(m.Index, m.Params, true)
				current = []int{m.Index}
			}
			continue
		}
		for _, index := range current {
			if w.steps++; w.steps > maxSteps {
				return
			}
			w.command(cmd, index)
		}
	}
}

func (w *walker) command(cmd *suit.Command, index int) {
	switch cmd.Code {
	case suit.CodeOverrideParameters, suit.CodeSetParameters:
		w.set(index, cmd.Params, cmd.Code == suit.CodeOverrideParameters)
	case suit.CodeCopyParams:
		for _, src := range cmd.Sources {
			copied := suit.Params{}
			for _, p := range src.Params {
				if v, ok := w.params[src.Index][p]; ok {
					copied[p] = v
				}
			}
			w.set(index, copied, true)
		}
	case suit.CodeTryEach:
		for _, alternative := range cmd.Alternatives {
			w.sequence(alternative, []int{index})
		}
	case suit.CodeRunSequence:
		w.sequence(cmd.Sequence, []int{index})
	case suit.CodeFetch:
		w.fetch(cmd, index)
	case suit.CodeCopy:
		w.copied(index)
		if _, encrypted := w.params[index].Bytes(suit.ParamEncryptionInfo); encrypted {
			src, _ := w.params[index].Uint(suit.ParamSource)
			for i := range w.out {
				w.out[i].Encrypted = w.out[i].Encrypted || uint64(w.out[i].Index) == src
			}
		}
	}
}

// copied notes where the payload of a component goes.
func (w *walker) copied(index int) {
	src, ok := w.params[index].Uint(suit.ParamSource)
	id, _, known := w.manifest.Component(index)
	for i := range w.out {
		if ok && known && uint64(w.out[i].Index) == src {
			w.out[i].Target = id
		}
	}
}

func (w *walker) set(index int, params suit.Params, override bool) {
	merged := w.params[index].Clone()
	if merged == nil {
		merged = suit.Params{}
	}
	for k, v := range params {
		if _, set := merged[k]; override || !set {
			merged[k] = v
		}
	}
	w.params[index] = merged
}

func (w *walker) fetch(cmd *suit.Command, index int) {
	params := w.params[index]
	p := Payload{Section: w.section, Offset: cmd.Offset, Index: index}
	p.URI, _ = params.URI()
	p.Component, p.Dependency, _ = w.manifest.Component(index)
	p.Target = p.Component
	p.Digest, _ = params.Digest()
	p.Size, _ = params.Uint(suit.ParamSize)
	_, p.Encrypted = params.Bytes(suit.ParamEncryptionInfo)
	same := func(o Payload) bool { return o.URI == p.URI && o.Index == p.Index }
	if !slices.ContainsFunc(w.out, same) && len(w.out) < maxPayloads {
		w.out = append(w.out, p)
	}
}
