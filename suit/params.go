// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"fmt"
	"maps"
	"math"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose"
	"sealift/cose/wire"
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
	r := wire.NewReader(data)
	out, err := readParamMap(r)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("%w: parameters: %w", ErrMalformed, err)
	}
	*p = out
	return nil
}

// readParams reads the argument of a command that sets parameters: there is at least one.
func readParams(r *wire.Reader) (Params, error) {
	p, err := readParamMap(r)
	if err == nil && r.Err() == nil && len(p) == 0 {
		err = fmt.Errorf("%w: no parameters", ErrMalformed)
	}
	return p, err
}

func readParamMap(r *wire.Reader) (Params, error) {
	n := r.Map()
	p := make(Params, n)
	for range n {
		k := Param(r.Int())
		v, err := k.read(r)
		if err != nil {
			return nil, err
		}
		p[k] = v
	}
	return p, nil
}

// normal returns the parameters with the types that decoding would give.
func (p Params) normal() Params {
	out := make(Params, len(p))
	for k, v := range p {
		out[k] = k.normal(v)
	}
	return out
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

// read reads a value in the parameter's Go type. What r complains about is for the caller to see.
func (k Param) read(r *wire.Reader) (any, error) {
	info, ok := params[k]
	if !ok {
		var v any
		raw := r.Raw()
		if r.Err() != nil {
			return nil, nil
		}
		return v, decode(raw, &v)
	}
	switch info.kind {
	case kindBytes:
		return r.Bytes(), nil
	case kindUUID, kindVendor:
		return k.readIdentifier(r, info.kind)
	case kindDigest:
		return readDigest(wire.NewReader(r.Bytes()))
	case kindUint:
		n := r.Uint()
		if n > math.MaxInt64 {
			return nil, fmt.Errorf("%w: parameter %v is %d", ErrMalformed, k, n)
		}
		return n, nil
	case kindInt:
		return r.Int(), nil
	case kindBool:
		return r.Bool(), nil
	}
	return r.Text(), nil
}

func (k Param) readIdentifier(r *wire.Reader, kind paramKind) (any, error) {
	if kind == kindVendor && r.Kind() == wire.KindTag {
		if tag := r.Tag(); tag != TagPEN {
			return nil, fmt.Errorf("%w: parameter %v has tag %d", ErrMalformed, k, tag)
		}
		return PEN(r.Bytes()), nil
	}
	id := r.Bytes()
	if len(id) != 16 && r.Err() == nil {
		return nil, fmt.Errorf("%w: parameter %v has %d bytes, not 16", ErrMalformed, k, len(id))
	}
	return id, nil
}
