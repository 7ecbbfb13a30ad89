// SPDX-License-Identifier: Apache-2.0

package home

import (
	"errors"
	"fmt"
	"math"
)

// appState is what the owner remembers of one application.
type appState struct {
	Sequence uint64 `json:"sequence"` // the last sequence number that a manifest of this application got
}

// NextSequence takes the next sequence number of an application. It is on disk before it is returned, so a number is never
// given twice, and an Agent that refuses older numbers (suit-manifest section 8.4.2) never refuses a newer package.
func (h *Home) NextSequence(app string) (uint64, error) {
	unlock, err := h.lock()
	if err != nil {
		return 0, err
	}
	defer unlock()
	var s appState
	if err := h.readJSON(kindApp, app, &s); err != nil && !errors.Is(err, ErrNotFound) {
		return 0, err
	}
	if s.Sequence == math.MaxUint64 {
		return 0, fmt.Errorf("the sequence numbers of %s are used up", app)
	}
	s.Sequence++
	if err := h.writeJSON(kindApp, app, s); err != nil {
		return 0, err
	}
	return s.Sequence, nil
}

// RaiseSequence makes later sequence numbers of an application greater than seq. A package that was made with another
// folder is deployed with its own number, which this folder must not fall behind.
func (h *Home) RaiseSequence(app string, seq uint64) error {
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	var s appState
	if err := h.readJSON(kindApp, app, &s); err != nil && !errors.Is(err, ErrNotFound) {
		return err
	}
	if s.Sequence >= seq {
		return nil
	}
	return h.writeJSON(kindApp, app, appState{Sequence: seq})
}
