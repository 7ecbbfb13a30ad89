// SPDX-License-Identifier: Apache-2.0

package processor

import "sealift/suit"

// Event says that a command begins or has ended, for Options.Observe. Events nest as commands do: those of an alternative, of a run-sequence
// and of a dependency's section lie between the two of the command that runs them.
type Event struct {
	Manifest suit.ComponentID // name of the manifest
	Path     []uint64         // dependency indices from the root to it; shared, do not change
	Section  suit.Member      // MemberCommon for the shared sequence
	Offset   int              // of the command in its sequence of commands, as in a report
	Command  suit.CommandCode
	// Index and Component say for which component it runs; -1 and nil for commands that concern the scope.
	Index     int
	Component suit.ComponentID
	// Ended is false at the beginning. Err is how it ended. That of a condition in an alternative or a run-sequence may be soft: then the
	// command around it ends without one.
	Ended bool
	Err   error
}

// observe tells Options.Observe, where there is one.
func (s *scope) observe(cmd *suit.Command, index int, ended bool, err error) {
	tell := s.frame.machine.options.Observe
	if tell == nil {
		return
	}
	e := Event{Manifest: s.frame.name, Path: s.frame.path, Section: s.section, Offset: cmd.Offset, Command: cmd.Code, Index: index, Ended: ended, Err: err}
	if index >= 0 {
		e.Component, _, _ = s.frame.manifest.Component(index)
	}
	tell(e)
}
