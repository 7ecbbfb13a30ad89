// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"sealift/evidence"
)

// Bounds and numbers of an event log (TCG PC Client Platform Firmware Profile 1.05, section 10; Guest Hypervisor
// Communication Interface for TDX 1.5, section 4.3.3).
const (
	maxLog       = 1 << 20
	maxEvents    = 4096
	maxEventData = 64 << 10
	algSHA384    = 0x000c
	evNoAction   = 3
	endOfLog     = 0xffffffff // in place of a register's index: memory after the log is filled with it
	specID       = "Spec ID Event03\x00"
	headerEvent  = 32 // bytes of the first event before its data
)

// EventType is the type of an event.
type EventType uint32

var eventNames = map[EventType]string{
	0x00000001: "EV_POST_CODE", 0x00000003: "EV_NO_ACTION", 0x00000004: "EV_SEPARATOR", 0x00000005: "EV_ACTION",
	0x00000006: "EV_EVENT_TAG", 0x00000007: "EV_S_CRTM_CONTENTS", 0x00000008: "EV_S_CRTM_VERSION", 0x00000009: "EV_CPU_MICROCODE",
	0x0000000a: "EV_PLATFORM_CONFIG_FLAGS", 0x0000000b: "EV_TABLE_OF_DEVICES", 0x0000000c: "EV_COMPACT_HASH", 0x0000000d: "EV_IPL",
	0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG", 0x80000002: "EV_EFI_VARIABLE_BOOT", 0x80000003: "EV_EFI_BOOT_SERVICES_APPLICATION",
	0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER", 0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER", 0x80000006: "EV_EFI_GPT_EVENT",
	0x80000007: "EV_EFI_ACTION", 0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB", 0x80000009: "EV_EFI_HANDOFF_TABLES",
	0x8000000a: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", 0x8000000b: "EV_EFI_HANDOFF_TABLES2", 0x8000000c: "EV_EFI_VARIABLE_BOOT2",
	0x800000e0: "EV_EFI_VARIABLE_AUTHORITY",
}

// String gives the TCG's name of the type.
func (t EventType) String() string {
	if name := eventNames[t]; name != "" {
		return name
	}
	return fmt.Sprintf("event type 0x%x", uint32(t))
}

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

// ParseEventLog reads the memory of a CCEL table (ACPI for Intel TDX): the crypto-agile log of the TCG, with SHA-384 as
// the only algorithm, and behind it nothing but bytes 0xff or 0x00. It verifies nothing.
func ParseEventLog(data []byte) (*EventLog, error) {
	if len(data) > maxLog {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrEventLog, len(data), maxLog)
	}
	r := &logReader{data: data}
	if err := r.specID(); err != nil {
		return nil, err
	}
	l := &EventLog{}
	for !r.atEnd() {
		e, err := r.event()
		if err != nil {
			return nil, fmt.Errorf("%w: event %d: %w", ErrEventLog, len(l.events)+1, err)
		}
		if l.events = append(l.events, e); len(l.events) > maxEvents {
			return nil, fmt.Errorf("%w: more than %d events", ErrEventLog, maxEvents)
		}
	}
	return l, nil
}

// logReader reads little-endian fields; after the end it gives zeros and remembers that.
type logReader struct {
	data  []byte
	short bool
}

func (r *logReader) next(n int) []byte {
	if n < 0 || n > len(r.data) {
		r.short, r.data = true, nil
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *logReader) uint32() uint32 {
	if b := r.next(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *logReader) uint16() uint16 {
	if b := r.next(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}

// atEnd reports whether only filling is left.
func (r *logReader) atEnd() bool {
	if len(r.data) >= 4 && binary.LittleEndian.Uint32(r.data) != endOfLog && len(bytes.Trim(r.data, "\x00")) > 0 {
		return false
	}
	return len(bytes.Trim(r.data, "\xff")) == 0 || len(bytes.Trim(r.data, "\x00")) == 0
}

// specID reads the first event, which is in the older form of SHA-1 logs and names the algorithms of the others (section
// 10.4.5.1).
func (r *logReader) specID() error {
	first := bytes.Clone(r.next(headerEvent))
	if r.short || binary.LittleEndian.Uint32(first[4:]) != evNoAction || len(bytes.Trim(first[8:28], "\x00")) > 0 {
		return fmt.Errorf("%w: no Spec ID event at its beginning", ErrEventLog)
	}
	body := &logReader{data: r.next(int(min(binary.LittleEndian.Uint32(first[28:]), maxEventData)))}
	if r.short || string(body.next(len(specID))) != specID {
		return fmt.Errorf("%w: no Spec ID event at its beginning", ErrEventLog)
	}
	body.next(8) // platform class, version, size of a UINTN
	algorithms := body.uint32()
	id, size := body.uint16(), body.uint16()
	vendor := body.next(1)
	if body.short || algorithms != 1 || id != algSHA384 || size != sha512.Size384 ||
		len(body.next(int(vendor[0]))) != int(vendor[0]) || len(body.data) > 0 {
		return fmt.Errorf("%w: %d algorithms, the first 0x%x, want SHA-384 alone", ErrEventLog, algorithms, id)
	}
	return nil
}

// event reads a TCG_PCR_EVENT2 (section 10.2.2). The register's index is counted from 1 there; 0 is MRTD, which no event
// extends.
func (r *logReader) event() (Event, error) {
	index, kind, count, alg := r.uint32(), r.uint32(), r.uint32(), r.uint16()
	digest := r.next(sha512.Size384)
	size := r.uint32()
	if r.short || count != 1 || alg != algSHA384 || size > maxEventData {
		return Event{}, fmt.Errorf("%d digests, the first of algorithm 0x%x, %d bytes of data, or the log ends within it",
			count, alg, size)
	}
	data := r.next(int(size))
	if r.short {
		return Event{}, errors.New("the log ends within its data")
	}
	e := Event{RTMR: int(index) - 1, Type: EventType(kind), Digest: [48]byte(digest), Data: bytes.Clone(data)}
	switch {
	case kind == evNoAction:
		e.RTMR = -1
	case index < 1 || index > 4:
		return Event{}, fmt.Errorf("it extends register %d, want 1 to 4 (RTMR0 to RTMR3)", index)
	}
	return e, nil
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
func IsEventLog(data []byte) bool {
	return len(data) > headerEvent+len(specID) && string(data[headerEvent:headerEvent+len(specID)]) == specID
}
