// SPDX-License-Identifier: Apache-2.0

package recipe

import (
	"strconv"

	"go.yaml.in/yaml/v4"

	"sealift/cose"
	"sealift/suit"
)

// codes finds commands by their names.
var codes = map[string]suit.CommandCode{}

func init() {
	for c := suit.CodeVendorIdentifier; c <= suit.CodeCopyParams; c++ {
		if c.Known() {
			codes[c.String()] = c
		}
	}
}

// sequence reads a list of commands.
func (d *decoder) sequence(n *yaml.Node, field string, depth int) suit.Sequence {
	var seq suit.Sequence
	if depth > suit.MaxNesting {
		d.refuse(n, field, "nested more than %d deep", suit.MaxNesting)
		return nil
	}
	d.list(n, field, func(n *yaml.Node, field string) { seq = append(seq, d.command(n, field, depth)) })
	if len(seq) == 0 {
		d.refuse(n, field, "a sequence holds one command at least")
	}
	return seq
}

// command reads `fetch`, or a mapping of one command to its argument: a reporting policy for most.
func (d *decoder) command(n *yaml.Node, field string, depth int) suit.Command {
	name, arg := n.Value, (*yaml.Node)(nil)
	if n.Kind == yaml.MappingNode && len(n.Content) == 2 {
		name, arg = n.Content[0].Value, n.Content[1]
	} else if n.Kind != yaml.ScalarNode {
		d.refuse(n, field, "a command is a name, or a mapping of one name to its argument")
		return suit.Command{}
	}
	if name == "custom" && arg != nil {
		return d.custom(arg, field+".custom")
	}
	code, known := codes[name]
	if !known {
		d.refuse(n, field, "unknown command %q", name)
		return suit.Command{}
	}
	cmd := suit.Command{Code: code}
	field += "." + name
	if read := d.arguments(&cmd, depth)[code]; read != nil {
		if arg == nil {
			d.refuse(n, field, "this command needs an argument")
			return cmd
		}
		read(arg, field)
		return cmd
	}
	if cmd.Policy = suit.PolicyDirective; code.Condition() {
		cmd.Policy = suit.PolicyCondition
	}
	if arg != nil {
		p, _ := d.uint(arg, field)
		if cmd.Policy = suit.Policy(p); p > 15 {
			d.refuse(arg, field, "a reporting policy is a number from 0 to 15")
		}
	}
	return cmd
}

// arguments reads the arguments of the commands that have other ones than a reporting policy.
func (d *decoder) arguments(cmd *suit.Command, depth int) map[suit.CommandCode]reader {
	params := func(n *yaml.Node, field string) { cmd.Params = d.params(n, field) }
	return map[suit.CommandCode]reader{
		suit.CodeSetComponentIndex:  func(n *yaml.Node, field string) { cmd.Index = d.indices(n, field) },
		suit.CodeOverrideParameters: params,
		suit.CodeSetParameters:      params,
		suit.CodeTryEach: func(n *yaml.Node, field string) {
			last := -1
			if n.Kind == yaml.SequenceNode {
				last = len(n.Content) - 1
			}
			i := 0
			d.list(n, field, func(n *yaml.Node, field string) {
				if n.Kind == yaml.ScalarNode && n.Value == "nothing" && i == last {
					cmd.OrNothing = true
				} else {
					cmd.Alternatives = append(cmd.Alternatives, d.sequence(n, field, depth+1))
				}
				i++
			})
			if len(cmd.Alternatives) < 2 {
				d.refuse(n, field, "try-each needs two alternatives; the word nothing may stand at the end")
			}
		},
		suit.CodeRunSequence:      func(n *yaml.Node, field string) { cmd.Sequence = d.sequence(n, field, depth+1) },
		suit.CodeOverrideMultiple: func(n *yaml.Node, field string) { d.multiple(cmd, n, field) },
		suit.CodeCopyParams:       func(n *yaml.Node, field string) { d.sources(cmd, n, field) },
	}
}

// indices reads a component, a list of components, or the word all.
func (d *decoder) indices(n *yaml.Node, field string) suit.Index {
	if n.Kind == yaml.ScalarNode && n.Value == "all" {
		return suit.Index{All: true}
	}
	if n.Kind == yaml.ScalarNode {
		return suit.Index{List: []int{d.index(n, field)}}
	}
	var x suit.Index
	d.list(n, field, func(n *yaml.Node, field string) { x.List = append(x.List, d.index(n, field)) })
	return x
}

// perComponent calls read for each component of a mapping.
func (d *decoder) perComponent(n *yaml.Node, field string, read func(index int, n *yaml.Node, field string)) {
	if n.Kind != yaml.MappingNode {
		d.refuse(n, field, "a mapping of components is expected here")
		return
	}
	seen := map[int]bool{}
	for i := 0; i+1 < len(n.Content); i += 2 {
		index := d.index(n.Content[i], field)
		if seen[index] {
			d.refuse(n.Content[i], field, "component %d stands here twice", index)
		}
		seen[index] = true
		read(index, n.Content[i+1], field+"."+strconv.Itoa(index))
	}
}

func (d *decoder) multiple(cmd *suit.Command, n *yaml.Node, field string) {
	sets := map[int]suit.Params{}
	d.perComponent(n, field, func(index int, n *yaml.Node, field string) { sets[index] = d.params(n, field) })
	*cmd = suit.OverrideMultiple(sets)
}

func (d *decoder) sources(cmd *suit.Command, n *yaml.Node, field string) {
	d.perComponent(n, field, func(index int, n *yaml.Node, field string) {
		src := suit.CopySource{Index: index}
		d.list(n, field, func(n *yaml.Node, field string) {
			name, _ := d.scalar(n, field)
			p, ok := paramCodes[name]
			if !ok {
				d.refuse(n, field, "unknown parameter %q", name)
			}
			src.Params = append(src.Params, p)
		})
		cmd.Sources = append(cmd.Sources, src)
	})
}

// custom reads {code: -300, argument: {hex: ...}}: a command that no document defines.
func (d *decoder) custom(n *yaml.Node, field string) suit.Command {
	var cmd suit.Command
	d.mapping(n, field, map[string]reader{
		"code": func(n *yaml.Node, field string) {
			code, _ := d.int(n, field)
			if cmd.Code = suit.CommandCode(code); cmd.Code.Known() || code > -257 {
				d.refuse(n, field, "custom commands have codes below -256")
			}
		},
		"argument": func(n *yaml.Node, field string) {
			cmd.Raw = d.bytes(n, field)
			var v any
			if err := cose.Unmarshal(cmd.Raw, &v); err != nil {
				d.refuse(n, field, "the argument is no CBOR item: %v", err)
			}
		},
	})
	if cmd.Code == 0 || cmd.Raw == nil {
		d.refuse(n, field, "a custom command has a code and an argument")
	}
	return cmd
}
