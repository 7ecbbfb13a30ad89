// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"errors"
	"fmt"

	"sealift/internal/launch"
	"sealift/suit"
)

var errMemory = errors.New("agent: the other TAs leave too little memory")

// fits refuses a TA whose manifest asks for more memory than those of the other installed TAs leave of what the configuration and the
// instance give to all.
// A TA that asks for nothing reserves nothing: it gets what there is.
func (t *transaction) fits(c *component, args []byte) error {
	spec, err := launch.Parse(args)
	if err != nil || spec.MemoryBytes == 0 {
		return err
	}
	most, used := t.a.limits.TAMemoryBytes, uint64(0)
	if has := t.a.opts.Memory; has > 0 {
		most = min(most, has)
	}
	for i := range t.next.Components {
		other := &t.next.Components[i]
		if class(other.ID) != classTEE || sameTA(other.ID, c.ID) {
			continue
		}
		if s, err := launch.Parse(other.Args); err == nil {
			used = min(used, most) + min(s.MemoryBytes, most)
		}
	}
	if asked := min(spec.MemoryBytes, most); asked > most-min(used, most) {
		return fmt.Errorf("%w: %s asks for %d bytes, and the others have %d of %d", errMemory, c.ID, asked, used, most)
	}
	return nil
}

// sameTA says whether two identifiers are of one TA: the version that serves, and the one that waits for its data.
func sameTA(a, b suit.ComponentID) bool {
	return len(a) >= 3 && len(b) >= 3 && suit.ComponentID(a[:3]).Equal(suit.ComponentID(b[:3]))
}
