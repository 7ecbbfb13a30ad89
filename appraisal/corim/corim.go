// SPDX-License-Identifier: Apache-2.0

// Package corim takes reference values out of Concise Reference Integrity Manifests (draft-ietf-rats-corim), for policies. Only
// that: reference triples of CoMID tags (tag 506), as the profiles for CCA and PSA write them (draft-ydb-rats-cca-endorsements,
// draft-fdb-rats-psa-endorsements, and their successors with text keys). Everything else in a manifest (endorsed values,
// keys, CoSWID, dependencies) is skipped and named in [Manifest.Ignored], so that nobody takes it for imported.
//
// What is taken is read strictly: one CBOR item, no duplicate keys, no indefinite lengths, bounded everywhere.
package corim

import (
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"sealift/cose"
	"sealift/cose/wire"
	"sealift/suit"
)

// Errors of reading.
var (
	ErrMalformed = errors.New("corim: malformed")
	ErrSignature = errors.New("corim: not signed by a known key")
)

// Bounds.
const (
	maxManifest   = 4 << 20
	maxReferences = 4096
	maxIgnored    = 256
)

// CBOR tags of draft-ietf-rats-corim and of the profiles of CCA and PSA.
const (
	tagCoRIM      = 500
	tagUnsigned   = 501
	tagSigned     = 502
	tagSign1      = 18
	tagCoSWID     = 505
	tagCoMID      = 506
	tagBytes      = 560
	tagImplID     = 600
	tagRefvalID   = 601
	tagConfigID   = 602
	tagUUID       = 37
	contentCoRIM  = "application/corim-unsigned+cbor"
	contentCoRIM2 = "application/rim+cbor"
)

// Manifest is what was taken out of a CoRIM.
type Manifest struct {
	ID        string
	Profiles  []string
	NotBefore time.Time // zero where it is not stated
	NotAfter  time.Time
	Signer    *cose.Key // whose signature verified; nil without one
	Signed    bool

	References []Reference
	Ignored    []string // what was skipped, for people
}

// Reference is a reference value for one measured component of one class of devices.
type Reference struct {
	ImplementationID []byte // of the class, where it has one
	Vendor, Model    string
	Name             string // the component's type: "BL", "RIM"
	Version          string
	SignerID         []byte
	Digests          []suit.Digest
	Raw              []byte // a raw value instead of digests: a platform's configuration
}

// Parse reads a CoRIM, signed or not. Where keys are given it must be signed with one of them; without keys a signature is
// not verified, which Ignored says.
func Parse(data []byte, keys ...*cose.Key) (*Manifest, error) {
	if len(data) > maxManifest {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), maxManifest)
	}
	if err := wire.Valid(data); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	m := &Manifest{}
	for range 3 { // 500(501(...)), 500(502(18(...)))
		tag, inner, tagged := untag(data)
		switch {
		case tagged && (tag == tagCoRIM || tag == tagSigned):
			data = inner
		case tagged && tag == tagUnsigned:
			if len(keys) > 0 {
				return nil, fmt.Errorf("%w: it has no signature", ErrSignature)
			}
			return m, m.read(inner)
		case tagged && tag == tagSign1:
			payload, err := m.open(data, keys)
			if err != nil {
				return nil, err
			}
			if tag, inner, ok := untag(payload); ok && tag == tagUnsigned {
				return m, m.read(inner)
			}
			return nil, fmt.Errorf("%w: the payload is not tagged %d", ErrMalformed, tagUnsigned)
		default:
			return nil, fmt.Errorf("%w: want tag %d, %d, %d or %d", ErrMalformed, tagCoRIM, tagUnsigned, tagSigned, tagSign1)
		}
	}
	return nil, fmt.Errorf("%w: too many tags", ErrMalformed)
}

// open verifies a signed CoRIM.
func (m *Manifest) open(data []byte, keys []*cose.Key) ([]byte, error) {
	m.Signed = true
	msg, err := cose.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if c := msg.ContentType(); msg.Multi() || msg.Detached() || c != contentCoRIM && c != contentCoRIM2 {
		return nil, fmt.Errorf("%w: a COSE message with content type %v", ErrMalformed, c)
	}
	if len(keys) == 0 {
		m.ignore("the signature: no key was given to verify it with")
		return msg.PayloadInsecure(), nil
	}
	signed, err := msg.Verify(keys, cose.VerifyOptions{Legacy: true, AnyKID: true})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	m.Signer = signed.Key
	return signed.Payload, nil
}

func (m *Manifest) ignore(format string, args ...any) {
	if len(m.Ignored) < maxIgnored {
		m.Ignored = append(m.Ignored, fmt.Sprintf(format, args...))
	}
}

// untag splits a tagged item.
func untag(data []byte) (tag uint64, inner []byte, ok bool) {
	r := wire.NewReader(data)
	if r.Kind() != wire.KindTag {
		return 0, nil, false
	}
	tag = r.Tag()
	inner = r.Raw()
	return tag, inner, r.Err() == nil
}

// table is a map whose keys are numbers or texts.
type table map[any]cose.RawMessage

func readTable(what string, data []byte) (table, error) {
	var t table
	if err := cose.Unmarshal(data, &t); err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
	}
	return t, nil
}

// get decodes a member; a missing one leaves into as it is.
func (t table) get(what string, key any, into any) error {
	raw, found := t[key]
	if !found {
		return nil
	}
	if err := cose.Unmarshal(raw, into); err != nil {
		return fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
	}
	return nil
}

// only reports members that are not among those known.
func (t table) only(m *Manifest, what string, known map[int64]string, taken ...int64) {
	for key := range t {
		n, isNumber := key.(int64)
		name := fmt.Sprint(key)
		if isNumber {
			skip := false
			for _, k := range taken {
				skip = skip || k == n
			}
			if skip {
				continue
			}
			if known[n] != "" {
				name = known[n]
			}
		}
		m.ignore("%s: %s", what, name)
	}
}

// read reads a corim-map.
func (m *Manifest) read(data []byte) error {
	t, err := readTable("corim-map", data)
	if err != nil {
		return err
	}
	if m.ID = idText(t[int64(0)]); m.ID == "" {
		return fmt.Errorf("%w: no id", ErrMalformed)
	}
	if m.Profiles, err = profiles(t[int64(3)]); err != nil {
		return err
	}
	if err := m.validity(t[int64(4)]); err != nil {
		return err
	}
	t.only(m, "manifest", map[int64]string{2: "dependent manifests", 5: "entities"}, 0, 1, 3, 4, 5)
	var tags []cose.RawMessage
	if err := t.get("tags", int64(1), &tags); err != nil {
		return err
	}
	if len(tags) == 0 {
		return fmt.Errorf("%w: no tags", ErrMalformed)
	}
	for i, raw := range tags {
		tag, inner, ok := untag(raw)
		if !ok || tag != tagCoMID {
			name := fmt.Sprintf("tag %d", tag)
			if tag == tagCoSWID {
				name = "CoSWID"
			}
			m.ignore("tag %d of the manifest: %s", i+1, name)
			continue
		}
		var comid []byte
		if err := cose.Unmarshal(inner, &comid); err != nil {
			return fmt.Errorf("%w: CoMID: %w", ErrMalformed, err)
		}
		if err := m.readCoMID(comid); err != nil {
			return err
		}
	}
	return nil
}

// idText reads an identifier: a text, or a UUID with or without its tag.
func idText(raw []byte) string {
	if tag, inner, ok := untag(raw); ok && tag == tagUUID {
		raw = inner
	}
	var text string
	if cose.Unmarshal(raw, &text) == nil {
		return text
	}
	var id []byte
	if cose.Unmarshal(raw, &id) == nil && len(id) == 16 {
		return fmt.Sprintf("%x-%x-%x-%x-%x", id[:4], id[4:6], id[6:8], id[8:10], id[10:])
	}
	return ""
}

// profiles reads the profile: one, or in earlier drafts a list, of URIs (with or without tag 32) or OIDs.
func profiles(raw cose.RawMessage) ([]string, error) {
	if len(raw) == 0 {
		return nil, nil
	}
	list := []cose.RawMessage{raw}
	if raw[0]>>5 == 4 {
		list = nil
		if err := cose.Unmarshal(raw, &list); err != nil {
			return nil, fmt.Errorf("%w: profile: %w", ErrMalformed, err)
		}
	}
	var out []string
	for _, item := range list {
		if tag, inner, ok := untag(item); ok && (tag == 32 || tag == 111) {
			item = inner
		}
		var text string
		var oid []byte
		switch {
		case cose.Unmarshal(item, &text) == nil:
			out = append(out, text)
		case cose.Unmarshal(item, &oid) == nil:
			out = append(out, "OID "+hex.EncodeToString(oid))
		default:
			return nil, fmt.Errorf("%w: a profile is a URI or an OID", ErrMalformed)
		}
	}
	return out, nil
}

// validity reads rim-validity: times with tag 1.
func (m *Manifest) validity(raw []byte) error {
	if len(raw) == 0 {
		return nil
	}
	t, err := readTable("rim-validity", raw)
	if err != nil {
		return err
	}
	for key, into := range map[int64]*time.Time{0: &m.NotBefore, 1: &m.NotAfter} {
		item, found := t[key]
		if !found {
			continue
		}
		if tag, inner, ok := untag(item); ok && tag == 1 {
			item = inner
		}
		var sec int64
		if err := cose.Unmarshal(item, &sec); err != nil || sec <= 0 || sec >= 1<<37 {
			return fmt.Errorf("%w: rim-validity is no time in seconds", ErrMalformed)
		}
		*into = time.Unix(sec, 0).UTC()
	}
	return nil
}

// String names a reference value for people.
func (r *Reference) String() string {
	parts := []string{r.Vendor, r.Model, r.Name, r.Version}
	return strings.Join(strings.Fields(strings.Join(parts, " ")), " ")
}
