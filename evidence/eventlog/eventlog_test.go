// SPDX-License-Identifier: Apache-2.0

package eventlog

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"testing"
)

// event is a TCG_PCR_EVENT2 with digests by SHA-1 and SHA-256.
func event(register uint32, kind Type, data string) []byte {
	le := binary.LittleEndian
	out := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, register), uint32(kind)), 2)
	out = append(le.AppendUint16(out, SHA1), make([]byte, 20)...)
	sum := sha256.Sum256([]byte(data))
	out = append(le.AppendUint16(out, SHA256), sum[:]...)
	return append(le.AppendUint32(out, uint32(len(data))), data...)
}

// head is the Spec ID event.
func head() []byte {
	le := binary.LittleEndian
	body := append([]byte(specID), 0, 0, 0, 0, 0, 2, 0, 2)
	body = le.AppendUint32(body, 2)
	body = le.AppendUint16(le.AppendUint16(body, SHA1), 20)
	body = append(le.AppendUint16(le.AppendUint16(body, SHA256), 32), 3, 'v', 'e', 'n')
	out := append(le.AppendUint32(le.AppendUint32(nil, 0), uint32(NoAction)), make([]byte, 20)...)
	return append(le.AppendUint32(out, uint32(len(body))), body...)
}

func small() []byte {
	return bytes.Join([][]byte{head(), event(0, NoAction, "says something"), event(4, BootApplication, "kernel"),
		event(0, Separator, "\x00\x00\x00\x00"), event(4, Separator, "\x00\x00\x00\x00"), event(23, EventTag, "far")}, nil)
}

func TestParse(t *testing.T) {
	data := small()
	l, err := Parse(data)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Events) != 5 || l.Index(SHA256) != 1 || l.Index(SHA384) != -1 || l.Events[1].Type.String() != "EV_EFI_BOOT_SERVICES_APPLICATION" {
		t.Fatalf("%+v", l)
	}
	if !l.Events[1].Matches(1, sha256.New) || l.Events[1].Matches(0, sha256.New) {
		t.Error("the digest is that of the data, by SHA-256 alone")
	}
	kernel, zeros := sha256.Sum256([]byte("kernel")), sha256.Sum256(make([]byte, 4))
	step := sha256.Sum256(append(make([]byte, 32), kernel[:]...))
	want := sha256.Sum256(append(step[:], zeros[:]...))
	if got := l.Replay(1, sha256.New, 16); !bytes.Equal(got[4], want[:]) || !bytes.Equal(got[5], make([]byte, 32)) || len(got) != 16 {
		t.Errorf("replayed: %x", got)
	}
	if !Is(data) || Is(data[1:]) || Is(nil) {
		t.Error("what an event log begins with")
	}
	if _, err := Parse(append(small(), 0)); !errors.Is(err, ErrMalformed) {
		t.Errorf("filling where none belongs: %v", err)
	}
}

func TestRefused(t *testing.T) {
	good := small()
	first := len(head())
	for n := range good {
		l, err := ParseFilled(good[:n])
		if err == nil && len(l.Events) == 5 || err != nil && !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	for name, change := range map[string]func([]byte) []byte{
		"one digest":         func(b []byte) []byte { b[first+8] = 1; return b },
		"three digests":      func(b []byte) []byte { b[first+8] = 3; return b },
		"another algorithm":  func(b []byte) []byte { b[first+12] = SHA256; return b },
		"much data":          func(b []byte) []byte { b[first+12+22+34+2] = 0x7f; return b },
		"no algorithms":      func(b []byte) []byte { b[headSize+24] = 0; return b },
		"nine algorithms":    func(b []byte) []byte { b[headSize+24] = 9; return b },
		"one algorithm":      func(b []byte) []byte { b[headSize+24] = 1; return b },
		"an algorithm twice": func(b []byte) []byte { b[headSize+32] = SHA1; return b },
		"no digest":          func(b []byte) []byte { b[headSize+30] = 0; return b },
		"a digest of SHA-1":  func(b []byte) []byte { b[8] = 1; return b },
		"vendor's data":      func(b []byte) []byte { b[headSize+36] = 2; return b },
		"older log":          func(b []byte) []byte { b[headSize+14] = '2'; return b },
		"garbage behind":     func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 1) },
		"mixed filling":      func(b []byte) []byte { return append(b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0) },
		"other filling":      func(b []byte) []byte { return append(b, 0xfe, 0xfe, 0xfe, 0xfe) },
		"too long":           func(b []byte) []byte { return append(b, make([]byte, MaxLog)...) },
		"too many events":    func(b []byte) []byte { return append(b, bytes.Repeat(event(1, EventTag, ""), maxEvents)...) },
	} {
		if _, err := ParseFilled(change(bytes.Clone(good))); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// encode writes what was read: the first event as it was, and the others.
func encode(data []byte, l *Log) []byte {
	le := binary.LittleEndian
	out := bytes.Clone(data[:headSize+int(le.Uint32(data[28:]))])
	for _, e := range l.Events {
		out = le.AppendUint32(le.AppendUint32(le.AppendUint32(out, e.Register), uint32(e.Type)), uint32(len(e.Digests)))
		for i, a := range l.Algorithms {
			out = append(le.AppendUint16(out, a.ID), e.Digests[i]...)
		}
		out = append(le.AppendUint32(out, uint32(len(e.Data))), e.Data...)
	}
	return out
}

func FuzzParse(f *testing.F) {
	f.Add(small())
	f.Add(append(small(), 0xff, 0xff))
	f.Fuzz(func(t *testing.T, data []byte) {
		if l, err := Parse(data); err == nil {
			if !bytes.Equal(encode(data, l), data) {
				t.Error("it re-encodes to other bytes")
			}
			if i := l.Index(SHA256); i >= 0 {
				l.Replay(i, sha256.New, 24)
			}
		}
		_, _ = ParseFilled(data)
	})
}
