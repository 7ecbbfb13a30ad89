// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"fmt"
	"math"

	"sealift/cose"
)

// Bounds on what a manifest may hold, checked while parsing. They are far above real manifests and keep the work that
// a hostile one causes small.
const (
	MaxCommands = 4096 // in one manifest, nested ones included
	MaxNesting  = 8    // of try-each and run-sequence
)

// parseBudget counts commands over all sequences of a manifest.
type parseBudget struct{ commands int }

// ParseSequence decodes a SUIT_Command_Sequence.
func ParseSequence(data []byte) (Sequence, error) {
	return (&parseBudget{}).sequence(data, 0, 0)
}

// sequence decodes the commands of a sequence that begins base bytes into the content of its section.
func (b *parseBudget) sequence(data []byte, depth, base int) (Sequence, error) {
	if depth > MaxNesting {
		return nil, fmt.Errorf("%w: sequences nested deeper than %d", ErrMalformed, MaxNesting)
	}
	var items []cose.RawMessage
	if err := cose.Unmarshal(data, &items); err != nil {
		return nil, fmt.Errorf("%w: command sequence: %w", ErrMalformed, err)
	}
	if len(items) == 0 || len(items)%2 != 0 {
		return nil, fmt.Errorf("%w: command sequence of %d items", ErrMalformed, len(items))
	}
	if b.commands += len(items) / 2; b.commands > MaxCommands {
		return nil, fmt.Errorf("%w: more than %d commands", ErrMalformed, MaxCommands)
	}
	offset := base + len(data)
	for _, item := range items {
		offset -= len(item)
	}
	seq := make(Sequence, 0, len(items)/2)
	for i := 0; i < len(items); i += 2 {
		cmd, err := b.command(items[i], items[i+1], depth, offset+len(items[i]))
		if err != nil {
			return nil, fmt.Errorf("command at offset %d: %w", offset, err)
		}
		cmd.Offset = offset
		seq = append(seq, cmd)
		offset += len(items[i]) + len(items[i+1])
	}
	return seq, nil
}

func (b *parseBudget) command(code, arg cose.RawMessage, depth, argAt int) (cmd Command, err error) {
	var n int64
	if err := cose.Unmarshal(code, &n); err != nil {
		return cmd, fmt.Errorf("%w: command code: %w", ErrMalformed, err)
	}
	cmd.Code = CommandCode(n)
	switch commands[cmd.Code].arg {
	case argPolicy:
		err = cmd.parsePolicy(arg)
	case argIndex:
		err = cmd.Index.parse(arg)
	case argParams:
		if err = cmd.Params.UnmarshalCBOR(arg); err == nil && len(cmd.Params) == 0 {
			err = fmt.Errorf("%w: %v without parameters", ErrMalformed, cmd.Code)
		}
	case argTryEach:
		err = b.tryEach(&cmd, arg, depth, argAt)
	case argSequence:
		var content []byte
		if content, err = bstr(arg); err == nil {
			cmd.Sequence, err = b.sequence(content, depth+1, argAt+len(arg)-len(content))
		}
	default:
		// Decoding into a value checks also what the encoder will check, such as the content of bignum tags.
		var value any
		err = decode(arg, &value)
		cmd.Raw = arg
	}
	return cmd, err
}

func (c *Command) parsePolicy(arg cose.RawMessage) error {
	var n uint64
	if err := cose.Unmarshal(arg, &n); err != nil || n > 15 {
		return fmt.Errorf("%w: reporting policy of %v", ErrMalformed, c.Code)
	}
	c.Policy = Policy(n)
	return nil
}

func (x *Index) parse(arg cose.RawMessage) error {
	if len(arg) == 1 && arg[0] == 0xf5 { // true
		x.All = true
		return nil
	}
	var list []uint64
	if major(arg) == 0 {
		list = make([]uint64, 1)
		if err := cose.Unmarshal(arg, &list[0]); err != nil {
			return fmt.Errorf("%w: component index: %w", ErrMalformed, err)
		}
	} else if err := cose.Unmarshal(arg, &list); err != nil || len(list) == 0 {
		return fmt.Errorf("%w: component index", ErrMalformed)
	}
	for _, n := range list {
		if n > math.MaxInt32 {
			return fmt.Errorf("%w: component index %d", ErrMalformed, n)
		}
		x.List = append(x.List, int(n))
	}
	return nil
}

// tryEach decodes [2* bstr .cbor SUIT_Command_Sequence, ?nil]; nil anywhere but last is refused.
func (b *parseBudget) tryEach(cmd *Command, arg cose.RawMessage, depth, argAt int) error {
	var items []cose.RawMessage
	if err := cose.Unmarshal(arg, &items); err != nil {
		return fmt.Errorf("%w: try-each: %w", ErrMalformed, err)
	}
	at := argAt + len(arg)
	for _, item := range items {
		at -= len(item)
	}
	if n := len(items); n > 0 && len(items[n-1]) == 1 && items[n-1][0] == 0xf6 { // nil
		cmd.OrNothing = true
		items = items[:n-1]
	}
	if len(items) < 2 {
		return fmt.Errorf("%w: try-each needs two alternatives", ErrMalformed)
	}
	for _, item := range items {
		content, err := bstr(item)
		if err != nil {
			return err
		}
		seq, err := b.sequence(content, depth+1, at+len(item)-len(content))
		if err != nil {
			return err
		}
		at += len(item)
		cmd.Alternatives = append(cmd.Alternatives, seq)
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
