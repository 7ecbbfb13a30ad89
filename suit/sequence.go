// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"fmt"
	"math"

	"sealift/cose"
	"sealift/cose/wire"
)

// Bounds on what a manifest may hold, checked while parsing, where Limits does not say otherwise. They are far above real
// manifests and keep the work that a hostile one causes small.
const (
	MaxCommands   = 16384 // in one manifest, nested ones included
	MaxComponents = 1024  // components and dependencies of one manifest
	MaxNesting    = 8     // of try-each and run-sequence
)

// Limits are bounds on one manifest; a zero field means the constant of that name. What exceeds one is ErrLimit, and
// ErrMalformed as well, because nothing of such a manifest is interpreted.
type Limits struct {
	Components int
	Commands   int
	Nesting    int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field *int
		def   int
	}{{&l.Components, MaxComponents}, {&l.Commands, MaxCommands}, {&l.Nesting, MaxNesting}} {
		if *f.field == 0 {
			*f.field = f.def
		}
	}
	return l
}

// exceeded names the limit that was hit.
func exceeded(name string, limit int) error {
	return fmt.Errorf("%w: %w: more than %d %s", ErrMalformed, ErrLimit, limit, name)
}

// parseBudget counts commands over all sequences of a manifest.
type parseBudget struct {
	limits   Limits
	commands int
}

// ParseSequence decodes a SUIT_Command_Sequence.
func ParseSequence(data []byte) (Sequence, error) {
	return (&parseBudget{limits: Limits{}.withDefaults()}).sequence(data, 0, 0)
}

// sequence decodes the commands of a sequence that begins base bytes into the content of its section.
func (b *parseBudget) sequence(data []byte, depth, base int) (Sequence, error) {
	if depth > b.limits.Nesting {
		return nil, exceeded("levels of nested sequences", b.limits.Nesting)
	}
	r := wire.NewReader(data)
	n := r.Array()
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: command sequence: %w", ErrMalformed, err)
	}
	if n == 0 || n%2 != 0 {
		return nil, fmt.Errorf("%w: command sequence of %d items", ErrMalformed, n)
	}
	if b.commands += n / 2; b.commands > b.limits.Commands {
		return nil, exceeded("commands in a manifest", b.limits.Commands)
	}
	seq := make(Sequence, n/2)
	for i := range seq {
		cmd, at := &seq[i], r.Offset()
		cmd.Offset = base + at
		cmd.Code = CommandCode(r.Int())
		err := r.Err()
		if err == nil {
			if err = b.argument(cmd, r, depth, base); err == nil {
				err = r.Err()
			}
		}
		if err != nil {
			return nil, fmt.Errorf("%w: command at offset %d: %w", ErrMalformed, base+at, err)
		}
	}
	return seq, nil
}

// argument decodes the argument of cmd. What r complains about is for the caller to see.
func (b *parseBudget) argument(cmd *Command, r *wire.Reader, depth, base int) (err error) {
	switch commands[cmd.Code].arg {
	case argPolicy:
		if cmd.Policy = Policy(r.Uint()); cmd.Policy > 15 {
			err = fmt.Errorf("%w: reporting policy %d of %v", ErrMalformed, cmd.Policy, cmd.Code)
		}
	case argIndex:
		err = cmd.Index.read(r)
	case argParams:
		cmd.Params, err = readParams(r)
	case argTryEach:
		err = b.tryEach(cmd, r, depth, base)
	case argSequence:
		cmd.Sequence, err = b.nested(r, depth, base)
	case argMultiple:
		err = cmd.readMultiple(r)
	case argSources:
		err = cmd.readSources(r)
	default:
		// Decoding into a value checks also what the encoder will check, such as the content of bignum tags.
		var value any
		cmd.Raw = r.Raw()
		err = decode(cmd.Raw, &value)
	}
	return err
}

// nested decodes a sequence that is wrapped in the next byte string.
func (b *parseBudget) nested(r *wire.Reader, depth, base int) (Sequence, error) {
	content := r.Bytes()
	if err := r.Err(); err != nil {
		return nil, err
	}
	return b.sequence(content, depth+1, base+r.Offset()-len(content))
}

func (x *Index) read(r *wire.Reader) error {
	switch r.Kind() {
	case wire.KindBool:
		if x.All = r.Bool(); !x.All {
			return fmt.Errorf("%w: component index false", ErrMalformed)
		}
		return nil
	case wire.KindUint:
		n, err := readIndex(r)
		x.List = []int{n}
		return err
	}
	n := r.Array()
	if r.Err() != nil || n == 0 {
		return fmt.Errorf("%w: component index", ErrMalformed)
	}
	x.List = make([]int, n)
	for i := range x.List {
		var err error
		if x.List[i], err = readIndex(r); err != nil {
			return err
		}
	}
	return nil
}

func readIndex(r *wire.Reader) (int, error) {
	n := r.Uint()
	if n > math.MaxInt32 {
		return 0, fmt.Errorf("%w: component index %d", ErrMalformed, n)
	}
	return int(n), nil
}

// tryEach decodes [2* bstr .cbor SUIT_Command_Sequence, ?nil]; nil anywhere but last is refused.
func (b *parseBudget) tryEach(cmd *Command, r *wire.Reader, depth, base int) error {
	n := r.Array()
	if r.Err() != nil {
		return nil // the caller says so
	}
	for i := range n {
		if i == n-1 && r.Kind() == wire.KindNull {
			r.Null()
			cmd.OrNothing = true
			break
		}
		seq, err := b.nested(r, depth, base)
		if err != nil {
			return err
		}
		cmd.Alternatives = append(cmd.Alternatives, seq)
	}
	if len(cmd.Alternatives) < 2 {
		return fmt.Errorf("%w: try-each needs two alternatives", ErrMalformed)
	}
	return nil
}

// readMultiple decodes SUIT_Override_Mult_Arg in the order in which it is written: the last component stays current.
func (c *Command) readMultiple(r *wire.Reader) error {
	n := r.Map()
	if r.Err() != nil || n == 0 {
		return fmt.Errorf("%w: %v without components", ErrMalformed, c.Code)
	}
	c.Multiple = make([]IndexedParams, n)
	for i := range c.Multiple {
		var err error
		if c.Multiple[i].Index, err = readIndex(r); err != nil {
			return err
		}
		if c.Multiple[i].Params, err = readParams(r); err != nil {
			return err
		}
	}
	return nil
}

// readSources decodes SUIT_Directive_Copy_Params.
func (c *Command) readSources(r *wire.Reader) error {
	n := r.Map()
	if r.Err() != nil || n == 0 {
		return fmt.Errorf("%w: %v without components", ErrMalformed, c.Code)
	}
	c.Sources = make([]CopySource, n)
	for i := range c.Sources {
		src := &c.Sources[i]
		var err error
		if src.Index, err = readIndex(r); err != nil {
			return err
		}
		m := r.Array()
		if r.Err() != nil || m == 0 {
			return fmt.Errorf("%w: %v without parameters", ErrMalformed, c.Code)
		}
		src.Params = make([]Param, m)
		for j := range src.Params {
			src.Params[j] = Param(r.Int())
		}
	}
	return nil
}

// Marshal encodes the sequence.
func (s Sequence) Marshal() ([]byte, error) {
	if len(s) == 0 {
		return nil, fmt.Errorf("%w: empty command sequence", ErrMalformed)
	}
	items := make([]cose.RawMessage, 0, 2*len(s))
	for i := range s {
		arg, err := s[i].argument()
		if err != nil {
			return nil, fmt.Errorf("%v: %w", s[i].Code, err)
		}
		code, err := cose.Marshal(int64(s[i].Code))
		if err != nil {
			return nil, err
		}
		items = append(items, code, arg)
	}
	return cose.Marshal(items)
}

func (c *Command) argument() (cose.RawMessage, error) {
	switch commands[c.Code].arg {
	case argPolicy:
		return cose.Marshal(uint64(c.Policy))
	case argIndex:
		return c.Index.marshal()
	case argParams:
		if len(c.Params) == 0 {
			return nil, fmt.Errorf("%w: no parameters", ErrMalformed)
		}
		return c.Params.MarshalCBOR()
	case argTryEach:
		return c.marshalTryEach()
	case argSequence:
		return wrapped(c.Sequence)
	case argMultiple:
		return c.marshalMultiple()
	case argSources:
		return c.marshalSources()
	}
	if len(c.Raw) == 0 {
		return nil, fmt.Errorf("%w: command without argument", ErrMalformed)
	}
	return c.Raw, nil
}

func (x Index) marshal() (cose.RawMessage, error) {
	if x.All {
		return cose.Marshal(true)
	}
	for _, n := range x.List {
		if n < 0 || n > math.MaxInt32 {
			return nil, fmt.Errorf("%w: component index %d", ErrMalformed, n)
		}
	}
	switch len(x.List) {
	case 0:
		return nil, fmt.Errorf("%w: no component index", ErrMalformed)
	case 1:
		return cose.Marshal(x.List[0])
	}
	return cose.Marshal(x.List)
}

func (c *Command) marshalTryEach() (cose.RawMessage, error) {
	if len(c.Alternatives) < 2 {
		return nil, fmt.Errorf("%w: try-each needs two alternatives", ErrMalformed)
	}
	var items []cose.RawMessage
	for _, seq := range c.Alternatives {
		item, err := wrapped(seq)
		if err != nil {
			return nil, err
		}
		items = append(items, item)
	}
	if c.OrNothing {
		items = append(items, cose.RawMessage{0xf6})
	}
	return cose.Marshal(items)
}

func (c *Command) marshalMultiple() (cose.RawMessage, error) {
	if len(c.Multiple) == 0 {
		return nil, fmt.Errorf("%w: no components", ErrMalformed)
	}
	b := wire.AppendMap(nil, len(c.Multiple))
	for _, m := range c.Multiple {
		if m.Index < 0 || m.Index > math.MaxInt32 || len(m.Params) == 0 {
			return nil, fmt.Errorf("%w: %d parameters for component %d", ErrMalformed, len(m.Params), m.Index)
		}
		params, err := m.Params.MarshalCBOR()
		if err != nil {
			return nil, err
		}
		b = append(wire.AppendUint(b, uint64(m.Index)), params...)
	}
	return b, nil
}

func (c *Command) marshalSources() (cose.RawMessage, error) {
	if len(c.Sources) == 0 {
		return nil, fmt.Errorf("%w: no components", ErrMalformed)
	}
	b := wire.AppendMap(nil, len(c.Sources))
	for _, src := range c.Sources {
		if src.Index < 0 || src.Index > math.MaxInt32 || len(src.Params) == 0 {
			return nil, fmt.Errorf("%w: %d parameters of component %d", ErrMalformed, len(src.Params), src.Index)
		}
		b = wire.AppendArray(wire.AppendUint(b, uint64(src.Index)), len(src.Params))
		for _, p := range src.Params {
			b = wire.AppendInt(b, int64(p))
		}
	}
	return b, nil
}

// wrapped encodes a sequence and wraps it in a byte string.
func wrapped(s Sequence) (cose.RawMessage, error) {
	data, err := s.Marshal()
	if err != nil {
		return nil, err
	}
	return cose.Marshal(data)
}

// major returns the CBOR major type of an encoded item.
func major(item cose.RawMessage) byte {
	if len(item) == 0 {
		return 0xff
	}
	return item[0] >> 5
}

// bstr returns the content of an encoded byte string, without copying. The item comes out of the strict decoder, so it
// is well-formed and its length is definite.
func bstr(item cose.RawMessage) ([]byte, error) {
	if major(item) != 2 {
		return nil, fmt.Errorf("%w: not a byte string", ErrMalformed)
	}
	head := 1
	if n := item[0] & 0x1f; n >= 24 {
		head += 1 << (n - 24)
	}
	return item[head:], nil
}
