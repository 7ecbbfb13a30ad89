// SPDX-License-Identifier: Apache-2.0

package corim

import (
	"fmt"
	"slices"
	"strings"

	"sealift/cose"
	"sealift/suit"
)

// Names of members that are skipped.
var (
	comidNames   = map[int64]string{0: "language", 2: "entities", 3: "linked tags"}
	triplesNames = map[int64]string{1: "endorsed values", 2: "identity keys", 3: "attestation keys", 4: "domain dependencies",
		5: "domain memberships", 6: "CoSWID", 8: "conditional endorsement series", 10: "conditional endorsements"}
	valueNames = map[int64]string{1: "svn", 3: "flags", 6: "MAC address", 7: "IP address", 8: "serial number", 9: "ueid", 10: "uuid",
		12: "raw integer", 13: "keys", 15: "range of integers"}
)

// readCoMID reads a concise-mid-tag.
func (m *Manifest) readCoMID(data []byte) error {
	t, err := readTable("CoMID", data)
	if err != nil {
		return err
	}
	t.only(m, "CoMID", comidNames, 0, 1, 2, 4)
	triples, err := readTable("triples", t[int64(4)])
	if err != nil {
		return err
	}
	triples.only(m, "CoMID", triplesNames, 0)
	var records []cose.RawMessage
	if err := triples.get("reference triples", int64(0), &records); err != nil {
		return err
	}
	for _, raw := range records {
		var pair []cose.RawMessage
		if err := cose.Unmarshal(raw, &pair); err != nil || len(pair) != 2 {
			return fmt.Errorf("%w: a reference triple is a pair of environment and measurements", ErrMalformed)
		}
		class, err := m.environment(pair[0])
		if err != nil {
			return err
		}
		if err := m.measurements(class, pair[1]); err != nil {
			return err
		}
	}
	return nil
}

// environment reads what the reference values are for.
func (m *Manifest) environment(data []byte) (Reference, error) {
	var r Reference
	t, err := readTable("environment", data)
	if err != nil {
		return r, err
	}
	t.only(m, "environment", map[int64]string{1: "instance", 2: "group"}, 0)
	if t[int64(0)] == nil {
		return r, nil
	}
	class, err := readTable("class", t[int64(0)])
	if err != nil {
		return r, err
	}
	if err := class.get("vendor", int64(1), &r.Vendor); err != nil {
		return r, err
	}
	if err := class.get("model", int64(2), &r.Model); err != nil {
		return r, err
	}
	class.only(m, "class", map[int64]string{3: "layer", 4: "index"}, 0, 1, 2)
	id := class[int64(0)]
	if id == nil {
		return r, nil
	}
	if tag, inner, ok := untag(id); ok && (tag == tagImplID || tag == tagBytes) {
		if err := cose.Unmarshal(inner, &r.ImplementationID); err == nil && len(r.ImplementationID) == 32 {
			return r, nil
		}
	}
	r.ImplementationID = nil
	m.ignore("class: an identifier that is no implementation ID")
	return r, nil
}

func (m *Manifest) measurements(class Reference, data []byte) error {
	var list []cose.RawMessage
	if err := cose.Unmarshal(data, &list); err != nil || len(list) == 0 {
		return fmt.Errorf("%w: a reference triple without measurements", ErrMalformed)
	}
	for _, raw := range list {
		t, err := readTable("measurement", raw)
		if err != nil {
			return err
		}
		r := class
		if err := m.key(&r, t[int64(0)]); err != nil {
			return err
		}
		values, err := readTable("measurement values", t[int64(1)])
		if err != nil {
			return err
		}
		if err := m.values(r, values); err != nil {
			return err
		}
		if len(m.References) > maxReferences {
			return fmt.Errorf("%w: more than %d reference values", ErrMalformed, maxReferences)
		}
	}
	return nil
}

// key reads the measured element: the identifier of a software component, the label of a configuration, or a text.
func (m *Manifest) key(r *Reference, raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	tag, inner, tagged := untag(raw)
	var text string
	switch {
	case tagged && tag == tagRefvalID:
		t, err := readTable("identifier of a component", inner)
		if err != nil {
			return err
		}
		for key, into := range map[int64]any{1: &r.Name, 4: &r.Version, 5: &r.SignerID} {
			if err := t.get("identifier of a component", key, into); err != nil {
				return err
			}
		}
	case tagged && tag == tagConfigID:
		if err := cose.Unmarshal(inner, &text); err != nil {
			return fmt.Errorf("%w: label of a configuration: %w", ErrMalformed, err)
		}
		r.Name = "platform configuration " + text
	case cose.Unmarshal(raw, &text) == nil:
		r.Name = text
	default:
		m.ignore("a measured element that is neither a component nor a text")
	}
	return nil
}

// values reads digests, a raw value, or registers.
func (m *Manifest) values(r Reference, t table) error {
	t.only(m, strings.TrimSpace("measurement "+r.Name), valueNames, 0, 2, 4, 5, 11, 14)
	if raw := t[int64(0)]; raw != nil {
		version, err := readTable("version", raw)
		if err != nil {
			return err
		}
		if err := version.get("version", int64(0), &r.Version); err != nil {
			return err
		}
	}
	var name string
	if err := t.get("name", int64(11), &name); err != nil {
		return err
	}
	if name != "" { // the successors of the profiles give the component's type here, and a constant as key
		r.Name = name
	}
	if raw := t[int64(14)]; raw != nil {
		return m.registers(r, raw)
	}
	if raw := t[int64(4)]; raw != nil && t[int64(5)] == nil {
		tag, inner, ok := untag(raw)
		if !ok || tag != tagBytes || cose.Unmarshal(inner, &r.Raw) != nil {
			m.ignore("measurement %s: a raw value that is no tagged byte string", r.Name)
			return nil
		}
	} else if raw != nil {
		m.ignore("measurement %s: a raw value with a mask", r.Name)
		return nil
	}
	var err error
	if r.Digests, err = m.digests(r.Name, t[int64(2)]); err != nil {
		return err
	}
	if len(r.Digests) == 0 && r.Raw == nil {
		m.ignore("measurement %s: it has no digest of a known algorithm", r.Name)
		return nil
	}
	m.References = append(m.References, r)
	return nil
}

// registers reads integrity-registers: "rim" and "rem0" to "rem3" of a realm.
func (m *Manifest) registers(r Reference, data []byte) error {
	t, err := readTable("integrity registers", data)
	if err != nil {
		return err
	}
	var names []string
	for key := range t {
		name, ok := key.(string)
		if !ok {
			m.ignore("integrity register %v: it has no name", key)
			continue
		}
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		one := r
		one.Name = strings.ToUpper(name)
		if one.Digests, err = m.digests(one.Name, t[name]); err != nil {
			return err
		}
		if len(one.Digests) > 0 {
			m.References = append(m.References, one)
		}
	}
	return nil
}

// algorithms maps the numbers of the Named Information Hash Algorithm Registry (RFC 6920) and the names to those of COSE.
var algorithms = map[any]cose.Algorithm{int64(1): suit.AlgSHA256, int64(7): suit.AlgSHA384, int64(8): suit.AlgSHA512,
	"sha-256": suit.AlgSHA256, "sha-384": suit.AlgSHA384, "sha-512": suit.AlgSHA512}

func (m *Manifest) digests(name string, raw []byte) ([]suit.Digest, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	var list []cose.RawMessage
	if err := cose.Unmarshal(raw, &list); err != nil {
		return nil, fmt.Errorf("%w: digests: %w", ErrMalformed, err)
	}
	var out []suit.Digest
	for _, item := range list {
		var pair []cose.RawMessage
		var alg any
		var value []byte
		if err := cose.Unmarshal(item, &pair); err != nil || len(pair) != 2 || cose.Unmarshal(pair[0], &alg) != nil ||
			cose.Unmarshal(pair[1], &value) != nil {
			return nil, fmt.Errorf("%w: a digest is a pair of algorithm and bytes", ErrMalformed)
		}
		known, found := algorithmOf(alg)
		if !found {
			m.ignore("measurement %s: a digest with algorithm %v", name, alg)
			continue
		}
		if h, err := suit.NewHash(known); err != nil || h.Size() != len(value) {
			return nil, fmt.Errorf("%w: a digest of %d bytes with algorithm %v", ErrMalformed, len(value), alg)
		}
		out = append(out, suit.Digest{Alg: known, Bytes: value})
	}
	return out, nil
}

func algorithmOf(v any) (cose.Algorithm, bool) {
	switch v.(type) {
	case int64, string: // other types may not be comparable
		alg, found := algorithms[v]
		return alg, found
	}
	return 0, false
}
