// SPDX-License-Identifier: Apache-2.0

package report

import (
	"fmt"

	"sealift/cose"
	"sealift/suit"
)

// Capabilities is a SUIT_Capability_Report (suit-report section 4.4): what a manifest processor supports.
type Capabilities struct {
	Components []ComponentCapability
	Commands   []int64
	Params     []int64
	Algorithms []int64
	Envelope   []int64 // the rest may be left out
	Manifest   []int64
	Common     []int64
	Text       []int64
	TextComp   []int64
	Dependency []int64
}

// ComponentCapability is a component, or with Prefix all components below it.
type ComponentCapability struct {
	Component suit.ComponentID
	Prefix    bool
}

func (c *Capabilities) lists() map[int64]*[]int64 {
	return map[int64]*[]int64{
		2: &c.Commands, 3: &c.Params, 4: &c.Algorithms, 5: &c.Envelope, 6: &c.Manifest, 7: &c.Common, 8: &c.Text,
		9: &c.TextComp, 10: &c.Dependency,
	}
}

const (
	capComponents   = 1
	capLastRequired = 4
)

func (c *Capabilities) wire() map[int64]any {
	components := make([][]any, 0, len(c.Components))
	for _, comp := range c.Components {
		entry := []any{}
		for _, seg := range comp.Component {
			entry = append(entry, seg)
		}
		if comp.Prefix {
			entry = append(entry, true)
		}
		components = append(components, entry)
	}
	out := map[int64]any{capComponents: components}
	for label, list := range c.lists() {
		if *list != nil {
			out[label] = *list
		}
	}
	return out
}

func (c *Capabilities) parse(data []byte) error {
	var fields map[int64]cose.RawMessage
	if err := cose.Unmarshal(data, &fields); err != nil {
		return fmt.Errorf("%w: capability report: %w", ErrMalformed, err)
	}
	for label := int64(capComponents); label <= capLastRequired; label++ {
		if fields[label] == nil {
			return fmt.Errorf("%w: capability report without member %d", ErrMalformed, label)
		}
	}
	lists := c.lists()
	for label, raw := range fields {
		if label == capComponents {
			if err := c.parseComponents(raw); err != nil {
				return err
			}
			continue
		}
		list, ok := lists[label]
		if !ok {
			return fmt.Errorf("%w: capability report member %d", ErrMalformed, label)
		}
		if err := cose.Unmarshal(raw, list); err != nil {
			return fmt.Errorf("%w: capability report: %w", ErrMalformed, err)
		}
	}
	return nil
}

func (c *Capabilities) parseComponents(raw cose.RawMessage) error {
	var entries [][]any
	if err := cose.Unmarshal(raw, &entries); err != nil {
		return fmt.Errorf("%w: component capabilities: %w", ErrMalformed, err)
	}
	for _, entry := range entries {
		comp := ComponentCapability{Component: suit.ComponentID{}}
		for i, part := range entry {
			switch x := part.(type) {
			case []byte:
				comp.Component = append(comp.Component, x)
				continue
			case bool:
				if x && i == len(entry)-1 {
					comp.Prefix = true
					continue
				}
			}
			return fmt.Errorf("%w: component capability", ErrMalformed)
		}
		c.Components = append(c.Components, comp)
	}
	return nil
}
