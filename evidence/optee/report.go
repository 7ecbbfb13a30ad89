// SPDX-License-Identifier: Apache-2.0

package optee

import (
	"bytes"
	"crypto/sha256"
	"fmt"

	"sealift/cose"
)

// maxEvidence bounds the Evidence: three outputs under an RSA-4096 key have less than 2 kB.
const maxEvidence = 4 << 10

// Report is the content of the Evidence. Nothing in it is verified.
type Report struct {
	Key     [32]byte // SHA-256 of the device key's SubjectPublicKeyInfo
	Binding [64]byte
	Config  [32]byte // SHA-256 of the configuration
	Outputs []Output // one to three, each command at most once, in ascending order
}

// Output is what one command of the PTA answered.
type Output struct {
	Command   Command
	Digest    [sha256.Size]byte
	Signature []byte // as long as the key's modulus
}

type wireReport struct {
	_       struct{} `cbor:",toarray"`
	Label   string
	Key     []byte
	Binding []byte
	Config  []byte
	Outputs []wireOutput
}

// wireOutput keeps the PTA's output as the PTA wrote it: digest || signature.
type wireOutput struct {
	_       struct{} `cbor:",toarray"`
	Command uint32
	Data    []byte
}

// ParseOutput reads what the PTA wrote into its output buffer: 32 bytes of digest, then the signature.
func ParseOutput(c Command, data []byte) (Output, error) {
	o := Output{Command: c}
	if c < TAHeader || c > TEEMemory {
		return o, fmt.Errorf("%w: %v gives no signed digest", ErrMalformed, c)
	}
	if n := len(data) - len(o.Digest); n < minKeyBits/8 || n > maxKeyBits/8 {
		return o, fmt.Errorf("%w: output of %v has %d bytes, want 32 and a signature of %d to %d", ErrMalformed, c, len(data),
			minKeyBits/8, maxKeyBits/8)
	}
	o.Signature = bytes.Clone(data[copy(o.Digest[:], data):])
	return o, nil
}

// Marshal returns the Evidence in deterministic CBOR.
func (r *Report) Marshal() []byte {
	w := wireReport{Label: label, Key: r.Key[:], Binding: r.Binding[:], Config: r.Config[:], Outputs: []wireOutput{}}
	for _, o := range r.Outputs {
		w.Outputs = append(w.Outputs, wireOutput{Command: uint32(o.Command), Data: append(o.Digest[:], o.Signature...)})
	}
	return cose.MustMarshal(w)
}

// Parse reads Evidence strictly, in deterministic encoding only. Nothing in the result is verified.
func Parse(data []byte) (*Report, error) {
	if len(data) > maxEvidence {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), maxEvidence)
	}
	var w wireReport
	if err := cose.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if w.Label != label {
		return nil, fmt.Errorf("%w: label %q, want %q", ErrMalformed, w.Label, label)
	}
	r := &Report{}
	for _, f := range []struct {
		name      string
		into, got []byte
	}{{"key fingerprint", r.Key[:], w.Key}, {"binding", r.Binding[:], w.Binding}, {"configuration digest", r.Config[:], w.Config}} {
		if len(f.got) != len(f.into) {
			return nil, fmt.Errorf("%w: %s has %d bytes, want %d", ErrMalformed, f.name, len(f.got), len(f.into))
		}
		copy(f.into, f.got)
	}
	if len(w.Outputs) == 0 {
		return nil, fmt.Errorf("%w: no output of any command", ErrMalformed)
	}
	var last Command
	for _, wo := range w.Outputs {
		o, err := ParseOutput(Command(wo.Command), wo.Data)
		if err != nil {
			return nil, err
		}
		if o.Command <= last {
			return nil, fmt.Errorf("%w: %v comes after %v", ErrMalformed, o.Command, last)
		}
		last = o.Command
		r.Outputs = append(r.Outputs, o)
	}
	if !bytes.Equal(r.Marshal(), data) {
		return nil, fmt.Errorf("%w: not in deterministic encoding", ErrMalformed)
	}
	return r, nil
}
