// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/sha512"
	"errors"
	"fmt"
	"slices"

	"sealift/evidence"
	"sealift/evidence/eventlog"
)

// EventType is the type of an event.
type EventType = eventlog.Type

// Event is one extension of a register.
type Event struct {
	RTMR   int // 0 to 3; -1 for an event that extends nothing (EV_NO_ACTION)
	Type   EventType
	Digest [48]byte // SHA-384: what the register was extended with
	// Data describes what was measured. The register covers the digest only: see [Event.DataMatches].
	Data []byte
}

// DataMatches reports whether the digest is the SHA-384 of Data. It is for separators, actions and variables; where it is
// not (a loaded program, a command of the boot loader), Data is a description that anyone may have written.
func (e *Event) DataMatches() bool { return sha512.Sum384(e.Data) == e.Digest }

// EventLog is an event log that was read. Its own content proves nothing: [EventLog.Check] compares it with a quote.
type EventLog struct{ events []Event }

// EventsInsecure returns the events, without any proof that they are those of a quote.
func (l *EventLog) EventsInsecure() []Event { return l.events }

// ParseEventLog reads the memory of a CCEL table (Guest Hypervisor Communication Interface for TDX 1.5, section 4.3.3): the TCG's
// crypto-agile log, with SHA-384 as the only algorithm, and behind it nothing but bytes 0xff or 0x00. It verifies nothing.
//
// The register's index is counted from 1 there; 0 is MRTD, which no event extends.
func ParseEventLog(data []byte) (*EventLog, error) {
	l, err := eventlog.ParseFilled(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrEventLog, err)
	}
	if len(l.Algorithms) != 1 || l.Algorithms[0] != (eventlog.Algorithm{ID: eventlog.SHA384, Size: sha512.Size384}) {
		return nil, fmt.Errorf("%w: algorithms %v, want SHA-384 alone", ErrEventLog, l.Algorithms)
	}
	out := &EventLog{}
	for i, e := range l.Events {
		t := Event{RTMR: int(e.Register) - 1, Type: e.Type, Digest: [48]byte(e.Digests[0]), Data: e.Data}
		switch {
		case e.Type == eventlog.NoAction:
			t.RTMR = -1
		case e.Register < 1 || e.Register > 4:
			return nil, fmt.Errorf("%w: event %d extends register %d, want 1 to 4 (RTMR0 to RTMR3)", ErrEventLog, i+1, e.Register)
		}
		out.events = append(out.events, t)
	}
	return out, nil
}

// Replay returns the registers after all events: each event makes a register the SHA-384 of its value and the digest.
func (l *EventLog) Replay() (rtmr [4][48]byte) {
	for i := range l.events {
		if e := &l.events[i]; e.RTMR >= 0 {
			rtmr[e.RTMR] = sha512.Sum384(append(bytes.Clone(rtmr[e.RTMR][:]), e.Digest[:]...))
		}
	}
	return rtmr
}

// Check replays the log and compares it with the registers of a verified quote. It returns the events that the quote
// vouches for. The error joins a [*evidence.Mismatch] for every register that differs. RTMR3 is not the firmware's:
// where software extends it without the log, name it in except.
func (l *EventLog) Check(v *Verified, except ...int) ([]Event, error) {
	if err := l.compare(v.Report, except); err != nil {
		return nil, err
	}
	return l.events, nil
}

// compare compares the registers after all events with those of a report.
func (l *EventLog) compare(r *Report, except []int) error {
	var wrong []error
	got := l.Replay()
	for i := range got {
		if got[i] == r.RTMR[i] || slices.Contains(except, i) {
			continue
		}
		wrong = append(wrong, &evidence.Mismatch{Code: evidence.CodeBinding, Claim: fmt.Sprintf("RTMR%d", i),
			Expected: fmt.Sprintf("%x", r.RTMR[i][:]), Got: fmt.Sprintf("%x", got[i][:]), Source: "the quote", Err: ErrRegister,
			Hint: "the event log is of another start of this TD, was changed, or lacks events"})
	}
	return errors.Join(wrong...)
}

// IsEventLog reports whether data begins as an event log does, by which it is told from other collateral.
func IsEventLog(data []byte) bool { return eventlog.Is(data) }
