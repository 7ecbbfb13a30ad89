// SPDX-License-Identifier: Apache-2.0

package cose

import (
	"fmt"

	"github.com/fxamacker/cbor/v2"

	"sealift/cose/wire"
)

// RawMessage is one encoded item, kept as it is.
type RawMessage = cbor.RawMessage

var (
	strictMode        = must(strictOptions().DecMode())
	deterministicMode = must(cbor.CoreDetEncOptions().EncMode())
)

func must[T any](v T, err error) T {
	if err != nil {
		panic(err) // the options are constants of this package
	}
	return v
}

func strictOptions() cbor.DecOptions {
	return cbor.DecOptions{
		DupMapKey:        cbor.DupMapKeyEnforcedAPF,
		IndefLength:      cbor.IndefLengthForbidden,
		MaxNestedLevels:  2 * wire.MaxDepth, // wire.Valid has the say
		MaxArrayElements: wire.MaxItems,
		MaxMapPairs:      wire.MaxItems,
		IntDec:           cbor.IntDecConvertSignedOrFail,
		MapKeyByteString: cbor.MapKeyByteStringAllowed,
		UTF8:             cbor.UTF8RejectInvalid,
	}
}

// Unmarshal decodes exactly one item into v. It refuses indefinite lengths, duplicate map keys (at any depth, also in what
// v has no place for), text that is not UTF-8, trailing bytes, and more than wire.MaxDepth levels or wire.MaxItems
// elements. Integers decoded into an empty interface arrive as int64. The error wraps ErrMalformed.
func Unmarshal(data []byte, v any) error {
	if err := wire.Valid(data); err != nil {
		return malformed(err)
	}
	if err := strictMode.Unmarshal(data, v); err != nil {
		return malformed(err)
	}
	return nil
}

// Marshal encodes v with the core deterministic encoding of RFC 8949 section 4.2.1.
func Marshal(v any) ([]byte, error) {
	b, err := deterministicMode.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encoding CBOR: %w", err)
	}
	return b, nil
}

// MustMarshal is Marshal for values whose type cannot fail to encode; it panics otherwise.
func MustMarshal(v any) []byte { return must(Marshal(v)) }

// malformed wraps err so that it is both itself and ErrMalformed.
func malformed(err error) error { return fmt.Errorf("%w: %w", ErrMalformed, err) }

// malformedf is malformed for a fault that has no error of its own.
func malformedf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrMalformed, fmt.Sprintf(format, args...))
}
