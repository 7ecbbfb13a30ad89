// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"slices"
	"strings"

	"sealift/internal/moc/mocapi"
)

// minTold is the size from which a payload's way is told: a smaller one is there before anybody has read that it comes.
const minTold = 4 << 20

// moved notes how much of a payload the Agent has read; the next announcement tells it.
func (r *runner) moved(uri string, n, total int64, done bool) {
	if total < minTold {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if done {
		delete(r.moving, uri)
		return
	}
	if r.moving == nil {
		r.moving = map[string]mocapi.Transfer{}
	}
	r.moving[uri] = mocapi.Transfer{Payload: uri, Bytes: n, Total: total}
}

// transfers lists what is on its way.
func (r *runner) transfers() (list []mocapi.Transfer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, t := range r.moving {
		list = append(list, t)
	}
	slices.SortFunc(list, func(a, b mocapi.Transfer) int { return strings.Compare(a.Payload, b.Payload) })
	return list
}
