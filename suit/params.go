// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"fmt"
	"maps"
	"math"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose"
)

// Params is a map of SUIT_Parameters (suit-manifest section 8.4.8). The Go type of each value is the one named beside
// the parameter in codes.go; an int where a uint64 is asked for is accepted by the encoder. Values of parameters
// that no document defines are kept as the CBOR decoder delivers them.
type Params map[Param]any

// Clone returns a copy that shares the values.
func (p Params) Clone() Params { return maps.Clone(p) }

// Bytes returns the value of a parameter that holds a byte string.
func (p Params) Bytes(k Param) ([]byte, bool) { b, ok := p[k].([]byte); return b, ok }

// Uint returns the value of a parameter that holds an unsigned number.
func (p Params) Uint(k Param) (uint64, bool) { u, ok := p[k].(uint64); return u, ok }

// Digest returns parameter image-digest.
func (p Params) Digest() (Digest, bool) { d, ok := p[ParamDigest].(Digest); return d, ok }

// URI returns parameter uri.
func (p Params) URI() (string, bool) { s, ok := p[ParamURI].(string); return s, ok }

// MarshalCBOR encodes the map deterministically and refuses values of the wrong type.
func (p Params) MarshalCBOR() ([]byte, error) {
	wire := make(map[int64]any, len(p))
	for k, v := range p {
		w, err := k.wire(v)
		if err != nil {
			return nil, err
		}
		wire[int64(k)] = w
	}
	return cose.Marshal(wire)
}

// UnmarshalCBOR decodes a map of parameters and checks the type of every value that a document defines.
func (p *Params) UnmarshalCBOR(data []byte) error {
	var wire map[int64]any
	if err := cose.Unmarshal(data, &wire); err != nil {
		return fmt.Errorf("%w: parameters: %w", ErrMalformed, err)
	}
	out := make(Params, len(wire))
	for k, w := range wire {
		v, err := Param(k).value(w)
		if err != nil {
			return err
		}
		out[Param(k)] = v
	}
	*p = out
	return nil
}

// normal returns v in the type that decoding would give, so that built and parsed commands compare equal.
func (k Param) normal(v any) any {
	info, ok := params[k]
	if !ok {
		return v
	}
	switch n := v.(type) {
	case int:
		if info.kind == kindUint && n >= 0 {
			return uint64(n)
		}
		if info.kind == kindInt {
			return int64(n)
		}
	case int64:
		if info.kind == kindUint && n >= 0 {
			return uint64(n)
		}
	case *Digest:
		if n != nil {
			return *n
		}
	}
	return v
}

func (k Param) typeError(v any) error {
	return fmt.Errorf("%w: parameter %v has a value of type %T", ErrMalformed, k, v)
}

// wire turns a value into what the CBOR encoder takes.
func (k Param) wire(v any) (any, error) {
	info, ok := params[k]
	if !ok {
		return v, nil
	}
	v = k.normal(v)
	switch x := v.(type) {
	case []byte:
		isUUID := info.kind == kindUUID || info.kind == kindVendor
		if isUUID && len(x) != 16 {
			return nil, fmt.Errorf("%w: parameter %v has %d bytes, not 16", ErrMalformed, k, len(x))
		}
		if isUUID || info.kind == kindBytes {
			return x, nil
		}
	case PEN:
		if info.kind == kindVendor {
			return cbor.Tag{Number: TagPEN, Content: []byte(x)}, nil
		}
	case Digest:
		if info.kind == kindDigest {
			return cose.Marshal(x)
		}
	case uint64:
		if info.kind == kindUint && x <= math.MaxInt64 {
			return x, nil
		}
	case int64:
		if info.kind == kindInt {
			return x, nil
		}
	case bool:
		if info.kind == kindBool {
			return x, nil
		}
	case string:
		if info.kind == kindText {
			return x, nil
		}
	}
	return nil, k.typeError(v)
}

// value checks what the CBOR decoder delivered and turns it into the parameter's Go type.
func (k Param) value(w any) (any, error) {
	info, ok := params[k]
	if !ok {
		return w, nil
	}
	switch x := w.(type) {
	case []byte:
		switch info.kind {
		case kindBytes:
			return x, nil
		case kindUUID, kindVendor:
			if len(x) == 16 {
				return x, nil
			}
		case kindDigest:
			var d Digest
			if err := d.UnmarshalCBOR(x); err != nil {
				return nil, err
			}
			return d, nil
		}
	case cbor.Tag:
		if pen, ok := x.Content.([]byte); ok && info.kind == kindVendor && x.Number == TagPEN {
			return PEN(pen), nil
		}
	case int64:
		if info.kind == kindInt {
			return x, nil
		}
		if info.kind == kindUint && x >= 0 {
			return uint64(x), nil
		}
	case uint64:
		if info.kind == kindUint && x <= math.MaxInt64 {
			return x, nil
		}
	case bool:
		if info.kind == kindBool {
			return x, nil
		}
	case string:
		if info.kind == kindText {
			return x, nil
		}
	}
	return nil, k.typeError(w)
}
