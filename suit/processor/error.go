// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"fmt"
	"strings"

	"sealift/suit"
	"sealift/suit/report"
)

// Error is why a run stopped, and where.
type Error struct {
	Reason    report.Reason
	Manifest  []uint64 // path of dependency indices from the root
	Section   suit.Member
	Offset    int // of the command in its section
	Command   suit.CommandCode
	Index     int              // of the current component
	Component suit.ComponentID // nil if no command ran
	Err       error

	condition bool        // a condition failed: may be soft
	measured  suit.Params // what the command found
}

// Error prints the place, the reason and the cause.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString("suit: ")
	if len(e.Manifest) > 0 {
		fmt.Fprintf(&b, "dependency %v: ", e.Manifest)
	}
	if e.Section != 0 {
		fmt.Fprintf(&b, "%v: ", e.Section)
	}
	if e.Command != 0 {
		fmt.Fprintf(&b, "%v", e.Command)
		if e.Component != nil {
			fmt.Fprintf(&b, " of %v", e.Component)
		}
		b.WriteString(": ")
	}
	fmt.Fprintf(&b, "%v: %v", e.Reason, e.Err)
	return b.String()
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }
