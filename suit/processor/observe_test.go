// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"sealift/suit"
)

// TestObserve: every command that runs is told, nested as it runs, with how it ended; what does not run is not.
func TestObserve(t *testing.T) {
	var log []string
	depth := 0
	observe := func(e Event) {
		if e.Ended {
			depth--
			if e.Err != nil {
				log = append(log, strings.Repeat(" ", depth)+"!")
			}
			return
		}
		log = append(log, fmt.Sprintf("%s%v %v", strings.Repeat(" ", depth), e.Command, e.Component))
		depth++
	}
	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("m")}
	b.AddComponent(suit.NewComponentID("a"))
	b.Install = suit.Sequence{
		suit.Override(suit.Params{suit.ParamContent: []byte("x")}),
		suit.TryEach(
			suit.Sequence{suit.CheckContent(), suit.Write()}, // "a" is not there yet
			suit.Sequence{suit.RunSequence(suit.Write())},
			suit.Sequence{suit.Abort()},
		),
	}
	update(t, ownDevice(), b, func(o *Options) { o.Observe = observe })
	want := "override-parameters \ntry-each a\n check-content a\n !\n run-sequence a\n  write a"
	if got := strings.Join(log, "\n"); got != want || depth != 0 {
		t.Errorf("depth %d,\n%s\nwant\n%s", depth, got, want)
	}

	log = nil
	b.Install = append(b.Install, suit.Abort(), suit.Write())
	_, err := New(ownDevice(), func() Options { o := ownOptions(); o.Observe = observe; return o }()).Update(t.Context(), sign(t, b))
	if got := strings.Join(log, "\n"); !errors.Is(err, ErrCondition) || got != want+"\nabort a\n!" || depth != 0 {
		t.Errorf("%v, depth %d\n%s", err, depth, got)
	}
}
