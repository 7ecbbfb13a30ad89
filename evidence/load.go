// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto/sha512"
	"fmt"
	"hash"
	"slices"

	"sealift/cose"
	"sealift/suit"
)

// maxLoads bounds the record of what was loaded.
const maxLoads = 1024

// Load is a program that the Agent has loaded since the TEE started. Where the hardware has a register that can only be
// extended while the TEE runs (RTMR3 on tdx and csv, REM0 on cca), the Agent extends it before it starts a program for the
// first time, and lists in its claims what it extended it by. So the hardware, and not only the Agent, vouches that nothing was
// loaded and then forgotten: a program that was updated or removed meanwhile is still in the list.
type Load struct {
	Component suit.ComponentID // ["tee", app, name]
	Digest    suit.Digest      // of the program
	Sequence  uint64           // sequence number of the manifest that installed it
}

type wireLoad struct {
	_         struct{} `cbor:",toarray"`
	Component [][]byte
	Digest    wireDigest
	Sequence  uint64
}

// Event is what the register is extended by: SHA-384 over the deterministic CBOR of ["sealift-load-v1", component identifier,
// [algorithm, digest], sequence number].
func (l Load) Event() [48]byte {
	return sha512.Sum384(cose.MustMarshal([]any{"sealift-load-v1", [][]byte(l.Component), []any{int64(l.Digest.Alg), l.Digest.Bytes}, l.Sequence}))
}

// Extend returns the value that a register has after an event: H(value || event).
func Extend(newHash func() hash.Hash, value []byte, event [48]byte) []byte {
	h := newHash()
	h.Write(value)
	h.Write(event[:])
	return h.Sum(nil)
}

// ReplayLoads returns the value of a register that began with zeros and was extended by each load.
func ReplayLoads(newHash func() hash.Hash, loads []Load) []byte {
	value := make([]byte, newHash().Size())
	for _, l := range loads {
		value = Extend(newHash, value, l.Event())
	}
	return value
}

// checkLoads compares the record of what was loaded with the hardware's register. A register that the record explains needs no
// reference value: it is taken out of the measurements.
func checkLoads(c *Claims, hw *signed, f *findings) {
	if len(c.Loads) == 0 {
		return // whatever the register holds then is a measurement as any other
	}
	if hw.Register == "" || hw.RegisterHash == nil {
		f.add(Mismatch{Code: CodeBinding, Claim: "record of loaded programs", Expected: "none", Got: fmt.Sprintf("%d entries", len(c.Loads)),
			Source: "the format of this hardware's Evidence", Hint: "this hardware has no register that could vouch for it"})
		return
	}
	got := make([]byte, hw.RegisterHash().Size())
	i := slices.IndexFunc(hw.Measurements, func(m Measurement) bool { return m.Name == hw.Register })
	if i >= 0 {
		got = hw.Measurements[i].Value
	}
	if want := ReplayLoads(hw.RegisterHash, c.Loads); !bytes.Equal(want, got) {
		f.add(Mismatch{Code: CodeBinding, Claim: hw.Register, Expected: text(want), Got: text(got),
			Source: "the record of loaded programs in the claims, replayed",
			Hint:   "something was loaded that the Agent does not name, or it names something that was not loaded"})
		return
	}
	hw.Measurements = slices.Delete(slices.Clone(hw.Measurements), i, i+1)
}

func toWireLoads(loads []Load) []wireLoad {
	var out []wireLoad
	for _, l := range loads {
		id := [][]byte(l.Component)
		if id == nil {
			id = [][]byte{}
		}
		out = append(out, wireLoad{Component: id, Digest: toWire(l.Digest), Sequence: l.Sequence})
	}
	return out
}

func fromWireLoads(ws []wireLoad) []Load {
	var out []Load
	for _, w := range ws {
		out = append(out, Load{Component: suit.ComponentID(w.Component), Digest: fromWire(w.Digest), Sequence: w.Sequence})
	}
	return out
}

func (l Load) validate() error {
	if err := validComponent(l.Component); err != nil {
		return fmt.Errorf("%w: claims: record of loaded programs: %w", ErrMalformed, err)
	}
	if err := validDigest(l.Digest); err != nil {
		return fmt.Errorf("%w: claims: record of loaded programs: %s: %w", ErrMalformed, l.Component, err)
	}
	return nil
}

func validComponent(id suit.ComponentID) error {
	if len(id) == 0 || len(id) > 16 {
		return fmt.Errorf("a component identifier has %d parts", len(id))
	}
	for _, part := range id {
		if len(part) == 0 || len(part) > maxText {
			return fmt.Errorf("a part of a component identifier has %d bytes", len(part))
		}
	}
	return nil
}
