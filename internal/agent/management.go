// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"time"

	"sealift/suit"
	"sealift/suit/processor"
)

// What an instance can know of draft-ietf-suit-update-management (docs/design/0009): versions, by what installed manifests say, and that it
// does not know the time. It has no battery, nobody to ask for consent, and sees no events that could be waited for, so
// manifests with those commands are refused before anything of them runs.
var (
	_ processor.Versioner = (*transaction)(nil)
	_ processor.Clock     = (*transaction)(nil)
)

// Version implements processor.Versioner: the version in the manifest by which the component was installed (suit-set-version). While a new
// version of that manifest is processed it is still the former one's.
func (t *transaction) Version(id suit.ComponentID) (suit.Version, bool) {
	m := t.next.manifest(id)
	if c := t.next.component(id); c != nil {
		m = t.next.manifestOf(c)
	}
	if m == nil || len(m.Version) == 0 {
		return nil, false
	}
	return m.Version, true
}

// Now implements processor.Clock. The machine's clock belongs to the operator, and what the TAM signs only tells that it is not earlier
// than something: neither can show that a date has not passed.
func (t *transaction) Now() (time.Time, bool) { return time.Time{}, false }
