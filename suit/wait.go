// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"strconv"

	"sealift/cose/wire"
)

// WaitEvent is a SUIT_Wait_Event (suit-update-management section 4.5).
type WaitEvent int64

// Wait events. Times of day are seconds since 00:00:00, days of the week are counted from Sunday.
const (
	WaitAuthorization      WaitEvent = iota + 1 // priority, as parameter update-priority
	WaitPower                                   // power state
	WaitNetwork                                 // network state
	WaitOtherDeviceVersion                      // another device has one of these versions
	WaitTime                                    // seconds since 1970
	WaitTimeOfDay                               // local time
	WaitDayOfWeek                               // local time
	WaitTimeOfDayUTC
	WaitDayOfWeekUTC
)

var waitNames = []string{
	"", "authorization", "power", "network", "other-device-version", "time", "time-of-day", "day-of-week", "time-of-day-utc", "day-of-week-utc",
}

// String is the event's name in the draft.
func (e WaitEvent) String() string {
	if e < WaitAuthorization || e > WaitDayOfWeekUTC {
		return "wait-event(" + strconv.FormatInt(int64(e), 10) + ")"
	}
	return waitNames[e]
}

// WaitCondition is one event with its argument.
type WaitCondition struct {
	Event WaitEvent
	Value int64 // all events but WaitOtherDeviceVersion
	// Device and Versions are the argument of WaitOtherDeviceVersion; all Versions have to match.
	Device   []byte
	Versions []VersionMatch
}

// WaitInfo is what parameter wait-info holds: all of the conditions have to hold, in ascending order of their events.
type WaitInfo []WaitCondition

const maxWaitEvents = 16

// ParseWaitInfo decodes the content of parameter wait-info. An event that no document defines is ErrUnsupported: nobody
// could wait for it.
func ParseWaitInfo(data []byte) (WaitInfo, error) {
	r := wire.NewReader(data)
	n := r.Map()
	if r.Err() == nil && (n == 0 || n > maxWaitEvents) {
		return nil, fmt.Errorf("%w: wait-info of %d events", ErrMalformed, n)
	}
	info := make(WaitInfo, 0, n)
	for range n {
		c := WaitCondition{Event: WaitEvent(r.Int())}
		if err := c.read(r); err != nil {
			return nil, err
		}
		info = append(info, c)
	}
	if err := r.Err(); err != nil {
		return nil, fmt.Errorf("%w: wait-info: %w", ErrMalformed, err)
	}
	slices.SortFunc(info, func(a, b WaitCondition) int { return cmp.Compare(a.Event, b.Event) })
	return info, nil
}

func (c *WaitCondition) read(r *wire.Reader) error {
	if r.Err() != nil {
		return nil
	}
	if c.Event < WaitAuthorization || c.Event > WaitDayOfWeekUTC {
		return fmt.Errorf("%w: %v", ErrUnsupported, c.Event)
	}
	if c.Event == WaitOtherDeviceVersion {
		return c.readOther(r)
	}
	c.Value = r.Int()
	if c.Event >= WaitTime && c.Value < 0 || c.Value > c.Event.max() {
		return fmt.Errorf("%w: %v %d", ErrMalformed, c.Event, c.Value)
	}
	return nil
}

func (e WaitEvent) max() int64 {
	switch e {
	case WaitTimeOfDay, WaitTimeOfDayUTC:
		return 24*60*60 - 1
	case WaitDayOfWeek, WaitDayOfWeekUTC:
		return 6
	}
	return math.MaxInt64
}

func (c *WaitCondition) readOther(r *wire.Reader) error {
	if n := r.Array(); r.Err() == nil && n != 2 {
		return fmt.Errorf("%w: %v of %d elements", ErrMalformed, c.Event, n)
	}
	c.Device = r.Bytes()
	n := r.Array()
	if r.Err() == nil && (n == 0 || n > maxWaitEvents) {
		return fmt.Errorf("%w: %v with %d versions", ErrMalformed, c.Event, n)
	}
	for range n {
		m, err := readVersionMatch(r)
		if err != nil {
			return err
		}
		c.Versions = append(c.Versions, m)
	}
	return nil
}

// Encode is the inverse of ParseWaitInfo: a value for parameter wait-info.
func (w WaitInfo) Encode() []byte {
	b := wire.AppendMap(nil, len(w))
	for _, c := range w {
		b = wire.AppendInt(b, int64(c.Event))
		if c.Event != WaitOtherDeviceVersion {
			b = wire.AppendInt(b, c.Value)
			continue
		}
		b = wire.AppendBytes(wire.AppendArray(b, 2), c.Device)
		b = wire.AppendArray(b, len(c.Versions))
		for _, m := range c.Versions {
			b = m.append(b)
		}
	}
	return b
}
