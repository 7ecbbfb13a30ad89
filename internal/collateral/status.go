// SPDX-License-Identifier: Apache-2.0

package collateral

import (
	"cmp"
	"slices"
	"time"
)

// Forecast says until when a piece of collateral serves.
type Forecast struct {
	State string    `json:"state"` // StateOK ... StateUseless
	Kind  string    `json:"kind"`
	Key   string    `json:"key"`
	What  string    `json:"what"`
	At    time.Time `json:"at,omitzero"`   // when it stops, or stopped, serving
	Why   string    `json:"why,omitempty"` // what ends then
	Do    string    `json:"do,omitempty"`  // what to do
}

// States of a Forecast.
const (
	StateOK      = "ok"      // serves beyond the horizon
	StateEnding  = "ending"  // stops serving within the horizon
	StateStale   = "stale"   // has stopped serving
	StateEarly   = "early"   // does not serve yet
	StateUseless = "useless" // cannot be read, or lies in the wrong place
)

// Status forecasts, as of now, what will stop verifying within horizon: for each key the best that is kept decides. Worst
// comes first.
func (s *Store) Status(now time.Time, horizon time.Duration) ([]Forecast, error) {
	items, err := s.List()
	if err != nil {
		return nil, err
	}
	best := map[[2]string]Forecast{}
	var out []Forecast
	for _, item := range items {
		f := ForecastOf(item, now, horizon)
		if f.State == StateUseless {
			out = append(out, f)
			continue
		}
		id := [2]string{item.Kind, item.Key}
		if old, have := best[id]; !have || better(f, old) {
			best[id] = f
		}
	}
	for _, f := range best {
		out = append(out, f)
	}
	return Worst(out), nil
}

// Worst sorts forecasts, the worst first.
func Worst(out []Forecast) []Forecast {
	slices.SortFunc(out, func(a, b Forecast) int {
		return cmp.Or(cmp.Compare(rank(b.State), rank(a.State)), a.At.Compare(b.At), cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Key, b.Key),
			cmp.Compare(a.What, b.What))
	})
	return out
}

func rank(state string) int {
	return slices.Index([]string{StateOK, StateEnding, StateEarly, StateStale, StateUseless}, state)
}

func better(a, b Forecast) bool {
	if ra, rb := rank(a.State), rank(b.State); ra != rb {
		return ra < rb
	}
	return a.At.IsZero() || !b.At.IsZero() && a.At.After(b.At)
}

// ForecastOf says until when one item serves.
func ForecastOf(i Item, now time.Time, horizon time.Duration) Forecast {
	f := Forecast{State: StateOK, Kind: i.Kind, Key: i.Key, What: i.What, At: i.Until, Why: i.Ends}
	const renew = "fetch it again, or add a newer file"
	switch {
	case i.Error != "":
		f.State, f.Why, f.Do = StateUseless, i.Error, "remove "+i.File
		f.What = cmp.Or(f.What, i.File)
	case i.From.After(now):
		f.State, f.At, f.Why = StateEarly, i.From, "it is valid only from then on"
	case !i.Until.IsZero() && i.Until.Before(now):
		f.State, f.Do = StateStale, renew
	case !i.Until.IsZero() && i.Until.Before(now.Add(horizon)):
		f.State, f.Do = StateEnding, renew
	}
	return f
}
