// SPDX-License-Identifier: Apache-2.0

// Package eventlog reads the crypto-agile event log of the TCG: what firmware, boot loader and kernel say that they have extended
// the registers of a TPM, or of a TD, by (TCG PC Client Platform Firmware Profile 1.05, section 10).
//
// A log by itself proves nothing. Whoever has replayed it into registers that hardware signed knows that the digests are those of
// the boot, in their order. What stands beside a digest (the event's type and its data) is covered by no signature: see
// [Event.Matches].
package eventlog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"slices"
)

// Bounds. Logs of today's machines have 5 to 40 KiB and some 100 events.
const (
	MaxLog        = 1 << 20
	maxEvents     = 4096
	maxEventData  = 64 << 10
	maxAlgorithms = 8
	maxDigest     = 64 // bytes: SHA-512
)

// ErrMalformed reports bytes that are no event log.
var ErrMalformed = errors.New("eventlog: malformed event log")

// Algorithms, by their numbers in the TCG's registry.
const (
	SHA1   = 0x0004
	SHA256 = 0x000b
	SHA384 = 0x000c
	SHA512 = 0x000d
)

// Type is the type of an event (section 10.4.1).
type Type uint32

// Types that decide something here.
const (
	NoAction        Type = 0x00000003 // extends nothing
	Separator       Type = 0x00000004
	EventTag        Type = 0x00000006 // a number and data, both of an operating system's choice
	BootApplication Type = 0x80000003
	EFIAction       Type = 0x80000007
)

var typeNames = map[Type]string{
	0x00000001: "EV_POST_CODE", NoAction: "EV_NO_ACTION", Separator: "EV_SEPARATOR", 0x00000005: "EV_ACTION",
	EventTag: "EV_EVENT_TAG", 0x00000007: "EV_S_CRTM_CONTENTS", 0x00000008: "EV_S_CRTM_VERSION", 0x00000009: "EV_CPU_MICROCODE",
	0x0000000a: "EV_PLATFORM_CONFIG_FLAGS", 0x0000000b: "EV_TABLE_OF_DEVICES", 0x0000000c: "EV_COMPACT_HASH", 0x0000000d: "EV_IPL",
	0x80000001: "EV_EFI_VARIABLE_DRIVER_CONFIG", 0x80000002: "EV_EFI_VARIABLE_BOOT", BootApplication: "EV_EFI_BOOT_SERVICES_APPLICATION",
	0x80000004: "EV_EFI_BOOT_SERVICES_DRIVER", 0x80000005: "EV_EFI_RUNTIME_SERVICES_DRIVER", 0x80000006: "EV_EFI_GPT_EVENT",
	EFIAction: "EV_EFI_ACTION", 0x80000008: "EV_EFI_PLATFORM_FIRMWARE_BLOB", 0x80000009: "EV_EFI_HANDOFF_TABLES",
	0x8000000a: "EV_EFI_PLATFORM_FIRMWARE_BLOB2", 0x8000000b: "EV_EFI_HANDOFF_TABLES2", 0x8000000c: "EV_EFI_VARIABLE_BOOT2",
	0x800000e0: "EV_EFI_VARIABLE_AUTHORITY",
}

// String gives the TCG's name of the type.
func (t Type) String() string {
	if name := typeNames[t]; name != "" {
		return name
	}
	return fmt.Sprintf("event type 0x%x", uint32(t))
}

// Algorithm is a hash function by which every event of a log is listed.
type Algorithm struct {
	ID   uint16 // the TCG's number
	Size int    // bytes of a digest
}

// Event is one extension of a register.
type Event struct {
	Register uint32   // its index
	Type     Type     // NoAction: it extends nothing
	Digests  [][]byte // one by each algorithm of the log, in their order
	// Data describes what was measured. The register covers the digests only: see [Event.Matches].
	Data []byte
}

// Matches reports whether the event's digest number i is the hash of Data. It is for separators, actions and variables; where it is
// not (a loaded program, a command line), Data is a description that anyone may have written.
func (e *Event) Matches(i int, newHash func() hash.Hash) bool {
	h := newHash()
	h.Write(e.Data)
	return bytes.Equal(h.Sum(nil), e.Digests[i])
}

// Log is an event log that was read. Its own content proves nothing.
type Log struct {
	Algorithms []Algorithm
	Events     []Event
}

// Index returns where in each event the digest by that algorithm is; -1 if the log has none.
func (l *Log) Index(algorithm uint16) int {
	return slices.IndexFunc(l.Algorithms, func(a Algorithm) bool { return a.ID == algorithm })
}

// Replay returns the values that the registers below n have after all events, each by H(value || digest) from zeros, for the digest
// number i of the events. Events of higher registers are left out.
func (l *Log) Replay(i int, newHash func() hash.Hash, n uint32) [][]byte {
	out := make([][]byte, n)
	for r := range out {
		out[r] = make([]byte, newHash().Size())
	}
	for _, e := range l.Events {
		if e.Type == NoAction || e.Register >= n {
			continue
		}
		h := newHash()
		h.Write(out[e.Register])
		h.Write(e.Digests[i])
		out[e.Register] = h.Sum(out[e.Register][:0])
	}
	return out
}

// Parse reads a log: the Spec ID event, and the others to the end of data. Every event has one digest by each algorithm, in the order
// of the Spec ID event. It verifies nothing.
func Parse(data []byte) (*Log, error) {
	return parse(data, func(rest []byte) bool { return len(rest) == 0 })
}

// ParseFilled is [Parse] for the memory of a firmware's table, in which bytes 0xff or 0x00 may follow the log.
func ParseFilled(data []byte) (*Log, error) {
	return parse(data, func(rest []byte) bool {
		return len(rest) == 0 || (rest[0] == 0xff || rest[0] == 0) && bytes.Count(rest, rest[:1]) == len(rest)
	})
}

func parse(data []byte, atEnd func([]byte) bool) (*Log, error) {
	if len(data) > MaxLog {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), MaxLog)
	}
	r := &reader{data: data}
	l := &Log{}
	if err := l.readSpecID(r); err != nil {
		return nil, err
	}
	for !atEnd(r.data) {
		e, err := l.readEvent(r)
		if err != nil {
			return nil, fmt.Errorf("%w: event %d: %w", ErrMalformed, len(l.Events)+1, err)
		}
		if l.Events = append(l.Events, e); len(l.Events) > maxEvents {
			return nil, fmt.Errorf("%w: more than %d events", ErrMalformed, maxEvents)
		}
	}
	return l, nil
}

// The first event is in the form of older logs: register, type, a SHA-1 digest, size of the data (section 10.2.1).
const (
	headSize = 32
	specID   = "Spec ID Event03\x00"
)

// Is reports whether data begins as an event log does.
func Is(data []byte) bool {
	return len(data) > headSize+len(specID) && string(data[headSize:headSize+len(specID)]) == specID
}

// readSpecID reads the first event, which names the algorithms of the others (section 10.4.5.1).
func (l *Log) readSpecID(r *reader) error {
	head := r.next(headSize)
	if r.short || Type(binary.LittleEndian.Uint32(head[4:])) != NoAction || len(bytes.Trim(head[8:28], "\x00")) > 0 {
		return fmt.Errorf("%w: no Spec ID event at its beginning", ErrMalformed)
	}
	body := &reader{data: r.next(int(min(binary.LittleEndian.Uint32(head[28:]), maxEventData)))}
	if r.short || string(body.next(len(specID))) != specID {
		return fmt.Errorf("%w: no Spec ID event at its beginning", ErrMalformed)
	}
	body.next(8) // platform class, version, size of a UINTN
	n := body.uint32()
	if body.short || n == 0 || n > maxAlgorithms {
		return fmt.Errorf("%w: a Spec ID event with %d algorithms", ErrMalformed, n)
	}
	for range n {
		a := Algorithm{ID: body.uint16(), Size: int(body.uint16())}
		if body.short || a.Size == 0 || a.Size > maxDigest || l.Index(a.ID) >= 0 {
			return fmt.Errorf("%w: algorithm 0x%x with digests of %d bytes in the Spec ID event", ErrMalformed, a.ID, a.Size)
		}
		l.Algorithms = append(l.Algorithms, a)
	}
	vendor := body.next(1)
	if body.short || len(body.next(int(vendor[0]))) != int(vendor[0]) || len(body.data) > 0 {
		return fmt.Errorf("%w: a Spec ID event of another size than it says", ErrMalformed)
	}
	return nil
}

// readEvent reads a TCG_PCR_EVENT2 (section 10.2.2).
func (l *Log) readEvent(r *reader) (Event, error) {
	e := Event{Register: r.uint32(), Type: Type(r.uint32())}
	if n := r.uint32(); r.short || n != uint32(len(l.Algorithms)) {
		return e, fmt.Errorf("%d digests, want %d, or the log ends within it", n, len(l.Algorithms))
	}
	for _, a := range l.Algorithms {
		if id := r.uint16(); r.short || id != a.ID {
			return e, fmt.Errorf("a digest of algorithm 0x%x, want 0x%x, or the log ends within it", id, a.ID)
		}
		e.Digests = append(e.Digests, bytes.Clone(r.next(a.Size)))
	}
	size := r.uint32()
	if r.short || size > maxEventData {
		return e, fmt.Errorf("%d bytes of data, at most %d, or the log ends within it", size, maxEventData)
	}
	if e.Data = bytes.Clone(r.next(int(size))); r.short {
		return e, errors.New("the log ends within its data")
	}
	return e, nil
}

// reader reads little-endian fields; after the end it gives zeros and remembers that.
type reader struct {
	data  []byte
	short bool
}

func (r *reader) next(n int) []byte {
	if n < 0 || n > len(r.data) {
		r.short, r.data = true, nil
		return nil
	}
	out := r.data[:n]
	r.data = r.data[n:]
	return out
}

func (r *reader) uint32() uint32 {
	if b := r.next(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if b := r.next(2); b != nil {
		return binary.LittleEndian.Uint16(b)
	}
	return 0
}
