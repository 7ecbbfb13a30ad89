// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"cmp"
	"fmt"
	"maps"
	"math"
	"slices"

	"sealift/cose"
	"sealift/cose/wire"
)

// Manifest is a SUIT_Manifest (suit-manifest section 8.4), parsed. It says nothing about who made it; see Verified.
// A command sequence that is absent, or severed and not in the envelope, is nil; Missing tells which.
type Manifest struct {
	// Envelope is where the manifest stood, Digest the digest of its bytes as the wrapper states it.
	Envelope *Envelope
	Digest   Digest

	Sequence     uint64      // suit-manifest-sequence-number
	ReferenceURI string      // where the full manifest can be found, or ""
	ComponentID  ComponentID // where a root manifest is stored: its name in TEEP; nil if absent
	Components   []ComponentID
	Dependencies []Dependency // by ascending Index
	SetVersion   Version      // of what the manifest installs (suit-update-management), or nil

	Shared                Sequence
	Validate              Sequence
	Load                  Sequence
	Invoke                Sequence
	DependencyResolution  Sequence
	PayloadFetch          Sequence
	CandidateVerification Sequence
	Install               Sequence
	Uninstall             Sequence

	Text   cose.RawMessage // encoded SUIT_Text_Map, or nil
	CoSWID cose.RawMessage // encoded CoSWID, or nil

	// Missing holds the digests of severed members that are not in the envelope.
	Missing map[Member]Digest
	// Severed holds the digests of all severed members, present or not.
	Severed map[Member]Digest
}

// Dependency is an entry of suit-dependencies (suit-trust-domains section 5.1). The manifest's component index space
// holds the dependency at Index: inside Components if Index < len(Components), else beyond them with Prefix as its
// identifier (all published examples have the second form, and so has what a Builder writes).
type Dependency struct {
	Index  int
	Prefix ComponentID
}

// Section returns the commands of a member, and whether the manifest has them at hand.
func (m *Manifest) Section(label Member) (Sequence, bool) {
	if p := m.section(label); p != nil && *p != nil {
		return *p, true
	}
	return nil, false
}

func (m *Manifest) section(label Member) *Sequence {
	switch label {
	case MemberCommon:
		return &m.Shared
	case MemberValidate:
		return &m.Validate
	case MemberLoad:
		return &m.Load
	case MemberInvoke:
		return &m.Invoke
	case MemberDependencyResolution:
		return &m.DependencyResolution
	case MemberPayloadFetch:
		return &m.PayloadFetch
	case MemberCandidateVerification:
		return &m.CandidateVerification
	case MemberInstall:
		return &m.Install
	case MemberUninstall:
		return &m.Uninstall
	}
	return nil
}

// Sections lists the members that hold command sequences, the shared sequence (MemberCommon) first.
var Sections = []Member{
	MemberCommon, MemberDependencyResolution, MemberPayloadFetch, MemberCandidateVerification, MemberInstall,
	MemberValidate, MemberLoad, MemberInvoke, MemberUninstall,
}

// Component returns the identifier at an index of the manifest's index space, and whether it is a dependency.
func (m *Manifest) Component(index int) (id ComponentID, dependency, ok bool) {
	if i, ok := m.dependency(index); ok {
		if index < len(m.Components) {
			return m.Components[index], true, true
		}
		return m.Dependencies[i].Prefix, true, true
	}
	if index < 0 || index >= len(m.Components) {
		return nil, false, false
	}
	return m.Components[index], false, true
}

// dependency finds the dependency at a component index.
func (m *Manifest) dependency(index int) (int, bool) {
	return slices.BinarySearchFunc(m.Dependencies, index, func(d Dependency, index int) int { return cmp.Compare(d.Index, index) })
}

// has reports whether a component index is valid.
func (m *Manifest) has(index int) bool {
	if index >= 0 && index < len(m.Components) {
		return true
	}
	_, ok := m.dependency(index)
	return ok
}

// Indices lists the valid component indices in ascending order, dependencies included.
func (m *Manifest) Indices() []int {
	out := make([]int, 0, len(m.Components)+len(m.Dependencies))
	for i := range m.Components {
		out = append(out, i)
	}
	for _, d := range m.Dependencies {
		if d.Index >= len(m.Components) {
			out = append(out, d.Index)
		}
	}
	return out
}

// parse decodes the content of the manifest's byte string. The version is looked at first: nothing of another
// version is interpreted.
func (m *Manifest) parse(e *Envelope, digest Digest, limits Limits) error {
	content, err := bstr(e.manifest)
	if err != nil {
		return err
	}
	fields, err := readFields(content)
	if err != nil {
		return fmt.Errorf("%w: manifest: %w", ErrMalformed, err)
	}
	var version uint64
	if err := decodeUint(fields.get(int64(MemberVersion)), &version); err != nil {
		return fmt.Errorf("manifest version: %w", err)
	}
	if version != 1 {
		return fmt.Errorf("%w: %d", ErrVersion, version)
	}
	m.Envelope, m.Digest = e, digest
	for _, need := range []Member{MemberSequenceNumber, MemberCommon} {
		if fields.get(int64(need)) == nil {
			return fmt.Errorf("%w: manifest without %v", ErrMalformed, need)
		}
	}
	budget := &parseBudget{limits: limits.withDefaults()}
	for _, f := range fields {
		if err := m.member(Member(f.label), f.item, budget); err != nil {
			return fmt.Errorf("%v: %w", Member(f.label), err)
		}
	}
	return m.strayMembers()
}

// fields are the members of a map with integer labels, in the order in which they are written.
type fields []field

type field struct {
	label int64
	item  cose.RawMessage
}

func readFields(data []byte) (fields, error) {
	r := wire.NewReader(data)
	n := r.Map()
	out := make(fields, n)
	for i := range out {
		out[i] = field{r.Int(), r.Raw()}
	}
	return out, r.Err()
}

func (f fields) get(label int64) cose.RawMessage {
	for i := range f {
		if f[i].label == label {
			return f[i].item
		}
	}
	return nil
}

// strayMembers refuses an envelope that carries severed members which the manifest does not name: nobody signed them.
func (m *Manifest) strayMembers() error {
	for label := range m.Envelope.severed {
		if _, ok := m.Severed[label]; !ok {
			return fmt.Errorf("%w: the envelope holds %v, which the manifest did not sever", ErrMalformed, label)
		}
	}
	return nil
}

func (m *Manifest) member(label Member, item cose.RawMessage, budget *parseBudget) (err error) {
	info, known := members[label]
	switch {
	case !known:
		return fmt.Errorf("%w: manifest member", ErrMalformed)
	case label == MemberVersion:
		return nil
	case label == MemberSequenceNumber:
		return decodeUint(item, &m.Sequence)
	case label == MemberReferenceURI:
		r := wire.NewReader(item)
		m.ReferenceURI = r.Text()
		return malformed(r.Err())
	case label == MemberComponentID:
		m.ComponentID, err = componentID(item)
		return err
	case info.severable:
		if item, err = m.severable(label, item); err != nil || item == nil {
			return err
		}
	}
	content, err := bstr(item)
	if err != nil {
		return err
	}
	switch label {
	case MemberCommon:
		return m.common(content, budget)
	case MemberSetVersion:
		m.SetVersion, err = ParseVersion(content)
	case MemberText:
		m.Text, err = wellFormed(content)
	case MemberCoSWID:
		m.CoSWID, err = wellFormed(content)
	default:
		*m.section(label), err = budget.sequence(content, 0, 0)
	}
	return err
}

// severable resolves a severable member: inline it is a byte string, severed a SUIT_Digest over the encoded byte string
// that the envelope holds under the same label (suit-manifest section 8.5). It returns nil if that is missing.
func (m *Manifest) severable(label Member, item cose.RawMessage) (cose.RawMessage, error) {
	if major(item) == 2 {
		return item, nil
	}
	var want Digest
	if err := want.UnmarshalCBOR(item); err != nil {
		return nil, err
	}
	if m.Severed == nil {
		m.Severed = map[Member]Digest{}
	}
	m.Severed[label] = want
	item, ok := m.Envelope.severed[label]
	if !ok {
		if m.Missing == nil {
			m.Missing = map[Member]Digest{}
		}
		m.Missing[label] = want
		return nil, nil
	}
	got, err := want.Of(item)
	if err != nil {
		return nil, err
	}
	if !want.Equal(got) {
		return nil, fmt.Errorf("%w: severed member", ErrDigest)
	}
	return item, nil
}

func (m *Manifest) common(content []byte, budget *parseBudget) error {
	fields, err := readFields(content)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	for _, f := range fields {
		switch f.label {
		case commonComponents:
			err = m.components(f.item)
		case commonDependencies:
			err = m.dependencies(f.item)
		case commonShared:
			var seq []byte
			if seq, err = bstr(f.item); err == nil {
				m.Shared, err = budget.sequence(seq, 0, 0)
			}
		default:
			err = fmt.Errorf("%w: common member %d", ErrMalformed, f.label)
		}
		if err != nil {
			return err
		}
	}
	switch n := len(m.Components) + len(m.Dependencies); {
	case n == 0:
		return fmt.Errorf("%w: no components and no dependencies", ErrMalformed)
	case n > budget.limits.Components:
		return exceeded("components and dependencies", budget.limits.Components)
	}
	return m.checkDependencies()
}

func (m *Manifest) components(item cose.RawMessage) error {
	r := wire.NewReader(item)
	n := r.Array()
	if err := r.Err(); err != nil {
		return malformed(err)
	}
	if n == 0 {
		return fmt.Errorf("%w: empty component list", ErrMalformed)
	}
	m.Components = make([]ComponentID, n)
	for i := range m.Components {
		var err error
		if m.Components[i], err = readComponentID(r); err != nil {
			return err
		}
	}
	if n == 1 {
		return nil
	}
	seen := make(map[string]bool, n)
	for _, id := range m.Components {
		key := id.String()
		if seen[key] {
			return fmt.Errorf("%w: component %v is listed twice", ErrMalformed, id)
		}
		seen[key] = true
	}
	return nil
}

func (m *Manifest) dependencies(item cose.RawMessage) error {
	var list map[uint64]map[int64]cose.RawMessage
	if err := decode(item, &list); err != nil {
		return err
	}
	if len(list) == 0 {
		return fmt.Errorf("%w: empty dependency list", ErrMalformed)
	}
	for _, index := range slices.Sorted(maps.Keys(list)) {
		d := Dependency{Index: int(index)}
		if index > math.MaxInt32 {
			return fmt.Errorf("%w: dependency index %d", ErrMalformed, index)
		}
		for key, item := range list[index] {
			if key != dependencyPrefix {
				return fmt.Errorf("%w: dependency metadata %d", ErrMalformed, key)
			}
			var err error
			if d.Prefix, err = componentID(item); err != nil {
				return err
			}
		}
		m.Dependencies = append(m.Dependencies, d)
	}
	return nil
}

// checkDependencies makes sure that every dependency has an identifier of its own. A prefix on a dependency that is
// listed among the components would rename the dependency's components, which this implementation does not offer.
func (m *Manifest) checkDependencies() error {
	if len(m.Dependencies) == 0 {
		return nil
	}
	seen := map[string]bool{}
	for _, id := range m.Components {
		seen[id.String()] = true
	}
	for _, d := range m.Dependencies {
		switch {
		case d.Index < len(m.Components) && d.Prefix != nil:
			return fmt.Errorf("%w: prefix of dependency %d", ErrUnsupported, d.Index)
		case d.Index < len(m.Components):
			continue
		case d.Prefix == nil || seen[d.Prefix.String()]:
			return fmt.Errorf("%w: dependency %d has no identifier of its own", ErrMalformed, d.Index)
		}
		seen[d.Prefix.String()] = true
	}
	return nil
}

func decode(item cose.RawMessage, v any) error { return malformed(cose.Unmarshal(item, v)) }

func decodeUint(item cose.RawMessage, v *uint64) error {
	r := wire.NewReader(item)
	*v = r.Uint()
	return malformed(r.Err())
}

// malformed is nil for nil.
func malformed(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("%w: %w", ErrMalformed, err)
}

func componentID(item cose.RawMessage) (ComponentID, error) {
	return readComponentID(wire.NewReader(item))
}

func readComponentID(r *wire.Reader) (ComponentID, error) {
	id := make(ComponentID, r.Array())
	for i := range id {
		id[i] = r.Bytes()
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: component identifier: %w", ErrMalformed, err)
	}
	return id, nil
}

// wellFormed keeps an item that is not interpreted here, after a check that it is one CBOR item.
func wellFormed(content []byte) (cose.RawMessage, error) {
	var item cose.RawMessage
	return item, decode(content, &item)
}
