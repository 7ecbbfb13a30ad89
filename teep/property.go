// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"bytes"
	"slices"

	"sealift/cose"
	"sealift/cose/wire"
)

// Labels of system-property-claims: 0 is the component identifier, the others are SUIT parameters.
const (
	claimComponentID = 0
	claimImageDigest = 3
)

// SystemProperty says what is known of one installed component: the system-property-claims of suit-report section 5.
type SystemProperty struct {
	Component ComponentID
	Digest    *Digest     // parameter 3, image-digest; nil where the component's content is not to be told
	Params    []Parameter // all other parameters, as they are
}

// Parameter is one SUIT parameter in its encoded form.
type Parameter struct {
	Label int64
	Value cose.RawMessage
}

// pair is an entry of a map being written: its key, encoded, and its value, encoded.
type pair struct{ key, value []byte }

// append writes the claims as a map with its keys in deterministic order.
func (p SystemProperty) append(b []byte) []byte {
	pairs := make([]pair, 0, 2+len(p.Params))
	pairs = append(pairs, pair{wire.AppendUint(nil, claimComponentID), appendComponentID(nil, p.Component)})
	if p.Digest != nil {
		digest := wire.AppendInt(wire.AppendArray(nil, 2), int64(p.Digest.Alg))
		digest = wire.AppendBytes(digest, p.Digest.Bytes)
		pairs = append(pairs, pair{wire.AppendUint(nil, claimImageDigest), wire.AppendBytes(nil, digest)})
	}
	for _, param := range p.Params {
		pairs = append(pairs, pair{wire.AppendInt(nil, param.Label), param.Value})
	}
	slices.SortFunc(pairs, func(x, y pair) int { return bytes.Compare(x.key, y.key) })
	b = wire.AppendMap(b, len(pairs))
	for _, kv := range pairs {
		b = append(append(b, kv.key...), kv.value...)
	}
	return b
}

// systemProperty reads one entry of a tc-list.
func (d *decoder) systemProperty() SystemProperty {
	var p SystemProperty
	found := false
	for range d.r.Map() {
		switch label := d.r.Int(); label {
		case claimComponentID:
			p.Component, found = d.componentID(), true
		case claimImageDigest:
			p.Digest = d.digest(d.r.Bytes())
		default:
			p.Params = append(p.Params, Parameter{label, d.r.Raw()})
		}
	}
	if !found {
		d.fail(labelTCList, "entry without component identifier", "suit-report section 5")
	}
	return p
}

// digest reads the content of an image-digest parameter.
func (d *decoder) digest(content []byte) *Digest {
	r := wire.NewReader(content)
	n := r.Array()
	digest := &Digest{Alg: cose.Algorithm(r.Int()), Bytes: r.Bytes()}
	if r.Err() != nil || n != 2 || len(digest.Bytes) == 0 || len(digest.Bytes) > maxDigest {
		d.fail(labelTCList, "malformed digest", "suit-manifest section 8.3")
	}
	return digest
}
