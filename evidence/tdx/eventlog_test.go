// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"sealift/evidence"
	"sealift/evidence/eventlog"
	"sealift/evidence/intel"
	"sealift/internal/sharedtest"
)

// checkRealLog replays the log of a real machine and compares it with that machine's quote.
func checkRealLog(t *testing.T, data []byte) error {
	v, err := Verify(shared(t, "v4_cos113_google.quote.bin"), nil, now, intel.VendorRoot())
	if err != nil {
		return err
	}
	l, err := ParseEventLog(data)
	if err != nil {
		return err
	}
	events, err := l.Check(v)
	if err != nil {
		return err
	}
	kinds, covered := map[EventType]int{}, 0
	for _, e := range events {
		kinds[e.Type]++
		if e.DataMatches() {
			covered++
		}
	}
	if len(events) != 43 || kinds[0xd] != 20 || covered < 10 {
		return fmt.Errorf("%d events, %v, %d whose digest covers the data", len(events), kinds, covered)
	}
	return nil
}

// smallLog is a log with one event for each register.
func smallLog() []byte {
	le := binary.LittleEndian
	body := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	body = le.AppendUint32(body, 1)
	body = append(body, 0x0c, 0, 48, 0, 0)
	out := le.AppendUint32(le.AppendUint32(nil, 1), uint32(eventlog.NoAction))
	out = append(out, make([]byte, 20)...)
	out = append(le.AppendUint32(out, uint32(len(body))), body...)
	for i := range uint32(4) {
		out = le.AppendUint32(le.AppendUint32(le.AppendUint32(out, i+1), 4), 1)
		out = append(le.AppendUint16(out, eventlog.SHA384), bytes.Repeat([]byte{byte(i + 1)}, 48)...)
		out = append(le.AppendUint32(out, 4), "data"...)
	}
	return out
}

func TestEventLogNamesTheRegister(t *testing.T) {
	l, err := ParseEventLog(smallLog())
	if err != nil {
		t.Fatal(err)
	}
	pki := emulated()
	d := device(t, pki, nil)
	rtmr := l.Replay()
	for i := -1; i < 4; i++ {
		quote := mint(t, d, func(r *Report) {
			r.RTMR = rtmr
			if i >= 0 {
				r.RTMR[i][7] ^= 1
			}
		})
		v, err := Verify(quote, nil, now, pki.Root)
		if err != nil {
			t.Fatal(err)
		}
		events, err := l.Check(v)
		if i < 0 {
			if err != nil || len(events) != 4 {
				t.Errorf("%d events, %v", len(events), err)
			}
			continue
		}
		found := evidence.Mismatches(err)
		if !errors.Is(err, ErrRegister) || len(found) != 1 || found[0].Claim != fmt.Sprintf("RTMR%d", i) {
			t.Errorf("RTMR%d differs: %v", i, err)
		}
		if _, err := l.Check(v, i); err != nil {
			t.Errorf("RTMR%d differs and is excepted: %v", i, err)
		}
	}
}

func TestEventLogRefused(t *testing.T) {
	good := smallLog()
	for n := range good {
		l, err := ParseEventLog(good[:n])
		if err == nil && len(l.events) == 4 {
			t.Fatalf("%d bytes of %d give all events", n, len(good))
		}
		if err != nil && !errors.Is(err, ErrEventLog) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	first := len(good) - 4*(4+4+4+2+48+4+4)
	for name, change := range map[string]func([]byte) []byte{
		"register 0":       func(b []byte) []byte { b[first] = 0; return b },
		"register 5":       func(b []byte) []byte { b[first] = 5; return b },
		"two digests":      func(b []byte) []byte { b[first+8] = 2; return b },
		"SHA-256":          func(b []byte) []byte { b[first+12] = 0x0b; return b },
		"data beyond":      func(b []byte) []byte { b[len(b)-8] = 5; return b },
		"much data":        func(b []byte) []byte { b[len(b)-5] = 0x7f; return b },
		"garbage behind":   func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 1) },
		"more behind":      func(b []byte) []byte { return append(b, 1, 2, 3) },
		"no Spec ID event": func(b []byte) []byte { return b[first:] },
		"two algorithms":   func(b []byte) []byte { b[32+24] = 2; return b },
		"too long":         func(b []byte) []byte { return append(b, make([]byte, eventlog.MaxLog)...) },
	} {
		if _, err := ParseEventLog(change(bytes.Clone(good))); !errors.Is(err, ErrEventLog) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, filling := range []byte{0, 0xff} {
		if l, err := ParseEventLog(append(bytes.Clone(good), bytes.Repeat([]byte{filling}, 100)...)); err != nil || len(l.events) != 4 {
			t.Errorf("filled with 0x%x: %v", filling, err)
		}
	}
}

func FuzzParseEventLog(f *testing.F) {
	f.Add(smallLog())
	f.Add(sharedtest.Read(f, "evidence", "tdx/cos113_ccel_data.bin")[:20000])
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := ParseEventLog(data); err == nil {
			l.Replay()
		}
	})
}
