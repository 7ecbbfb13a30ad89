// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"errors"
	"fmt"
	"math"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// macEnvelope authenticates manifest content that a Builder would not make.
func macEnvelope(t testing.TB, members map[int64]any) []byte {
	t.Helper()
	manifest := cose.MustMarshal(cose.MustMarshal(members))
	digest := cose.MustMarshal(suit.SHA256(manifest))
	block, err := cose.Mac0(fuzzKey, nil, digest, true)
	if err != nil {
		t.Fatal(err)
	}
	return cose.MustMarshal(map[any]any{2: cose.MustMarshal([][]byte{digest, block}), 3: cose.RawMessage(manifest)})
}

func macOptions() Options { return Options{MACKeys: [][]byte{fuzzKey}} }

var justA = map[int64]any{2: [][][]byte{{[]byte("a")}}}

// TestDeepNesting: a million levels, of sequences inside sequences and of arrays inside arrays, cost no more than reading.
func TestDeepNesting(t *testing.T) {
	const levels = 1_000_000
	seq := cose.MustMarshal([]any{14, 15})
	// Each level is [32, bstr]: built from inside out in one buffer, written backwards.
	buf := make([]byte, 0, 8*levels)
	rev := func(b []byte) {
		for i := len(b) - 1; i >= 0; i-- {
			buf = append(buf, b[i])
		}
	}
	rev(seq)
	for range levels {
		n := len(buf)
		rev([]byte{0x82, 0x18, 32, 0x5a, byte(n >> 24), byte(n >> 16), byte(n >> 8), byte(n)})
	}
	deep := make([]byte, len(buf))
	for i, c := range buf {
		deep[len(buf)-1-i] = c
	}
	arrays := append(bytes.Repeat([]byte{0x81}, levels), 0x80)
	for name, members := range map[string]map[int64]any{
		"run-sequence": {1: 1, 2: 1, 3: cose.MustMarshal(justA), 20: deep},
		"arrays":       {1: 1, 2: 1, 3: cose.MustMarshal(justA), 20: arrays},
		"text":         {1: 1, 2: 1, 3: cose.MustMarshal(justA), 20: seq, 23: arrays},
	} {
		start := time.Now()
		e := refusedBytes(t, ownDevice(), macEnvelope(t, members), macOptions())
		if e.Reason != report.ReasonCBORParse || !errors.Is(e, suit.ErrMalformed) {
			t.Errorf("%s: %v", name, e)
		}
		if name == "run-sequence" && !errors.Is(e, suit.ErrLimit) {
			t.Errorf("the limit is not named: %v", e)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s took %v", name, d)
		}
	}
	if _, err := suit.ParseEnvelope(arrays); !errors.Is(err, suit.ErrMalformed) {
		t.Error(err)
	}
}

// TestPathTricks: identifiers are opaque here. What reaches the platform is what the manifest lists, segment by segment, and
// no two identifiers look alike to it.
func TestPathTricks(t *testing.T) {
	tricks := []suit.ComponentID{
		suit.NewComponentID("..", "..", "etc", "passwd"), suit.NewComponentID("a/../b"), suit.NewComponentID(""), {[]byte("a\x00b")},
		suit.NewComponentID("a", "b"), suit.NewComponentID("a/b"), suit.NewComponentID("a%2Fb"), suit.NewComponentID("."), {[]byte{0xff}},
		suit.NewComponentID("a", "", "b"), suit.NewComponentID(strings.Repeat("x", 4096)),
	}
	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("m"), Components: tricks}
	for i := range tricks {
		b.Install = append(b.Install, suit.SetComponentIndex(i), suit.Override(suit.Params{suit.ParamContent: []byte{byte(i)}}), suit.Write())
	}
	p := ownDevice()
	update(t, p, b, nil)
	if len(p.components) != len(tricks) {
		t.Errorf("%d components written, %d listed", len(p.components), len(tricks))
	}
	for i, id := range tricks {
		if got := p.components[id.String()]; len(got) != 1 || got[0] != byte(i) {
			t.Errorf("%v holds %x", id, got)
		}
		back, err := suit.ParseComponentID(id.String())
		if err != nil || !back.Equal(id) {
			t.Errorf("%v: %v", id, err)
		}
	}
	deny := ownDevice()
	deny.deny = func(_ *cose.Key, c suit.ComponentID) error {
		if bytes.Equal(c[0], []byte("..")) {
			return fmt.Errorf("%w: %v", ErrUnsupportedComponent, c)
		}
		return nil
	}
	if e := refused(t, deny, b, ownOptions()); e.Reason != report.ReasonComponentUnsupported || len(deny.creates) != 0 {
		t.Error(e)
	}
}

// TestSizeLies: image-size that is not the payload's, at both ends, and payloads that never end.
func TestSizeLies(t *testing.T) {
	payload := []byte("binary")
	run := func(size uint64, uri string, o Options, p *memPlatform) error {
		b := taBuilder(1, payload)
		b.Install = suit.Sequence{suit.Override(suit.Params{suit.ParamURI: uri, suit.ParamSize: size}), suit.Fetch(), suit.ImageMatch()}
		_, err := New(p, o).Update(t.Context(), sign(t, b))
		return err
	}
	for size, want := range map[uint64]error{
		0: ErrLimit, 5: ErrLimit, 7: ErrCondition, 1 << 40: ErrCondition, math.MaxInt64: ErrCondition, 6: nil,
	} {
		p := ownDevice()
		if err := run(size, "#ta", ownOptions(), p); !errors.Is(err, want) {
			t.Errorf("size %d: %v, want %v", size, err, want)
		}
	}
	p := ownDevice()
	p.web["http://x/y"] = bytes.Repeat([]byte("z"), 1<<20)
	o := ownOptions()
	o.Limits.TotalBytes = 1000
	if err := run(math.MaxInt64, "http://x/y", o, p); !errors.Is(err, ErrLimit) || p.written > 1000 {
		t.Errorf("%v, %d bytes written", err, p.written)
	}
	over := map[int64]any{1: 1, 2: 1, 3: cose.MustMarshal(justA), 20: cose.MustMarshal([]any{20, map[int]any{14: uint64(math.MaxUint64)}})}
	if e := refusedBytes(t, ownDevice(), macEnvelope(t, over), macOptions()); !errors.Is(e, suit.ErrMalformed) {
		t.Error(e)
	}
	// A byte string that claims more than there is.
	good := sign(t, taBuilder(1, payload))
	lie := bytes.Replace(good, append([]byte{0x46}, payload...), append([]byte{0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, payload...), 1)
	if _, err := suit.ParseEnvelope(lie); !errors.Is(err, suit.ErrMalformed) || bytes.Equal(lie, good) {
		t.Error(err)
	}
}

// TestLastSequenceNumber: 2^64-1 is a number like any other, and nothing comes after it.
func TestLastSequenceNumber(t *testing.T) {
	p := ownDevice()
	update(t, p, taBuilder(math.MaxUint64, []byte("last")), nil)
	update(t, p, taBuilder(math.MaxUint64, []byte("last")), nil)
	for _, n := range []uint64{0, 1, math.MaxInt64, math.MaxUint64 - 1} {
		if e := refused(t, p, taBuilder(n, []byte("older")), ownOptions()); !errors.Is(e, ErrRollback) {
			t.Errorf("%d: %v", n, e)
		}
	}
	if string(p.components["tee/app/ta"]) != "last" {
		t.Errorf("%q", p.components["tee/app/ta"])
	}
	for name, n := range map[string]any{"2^64": cose.RawMessage{0xc2, 0x49, 1, 0, 0, 0, 0, 0, 0, 0, 0}, "-1": -1, "1.0": 1.5} {
		bad := map[int64]any{1: 1, 2: n, 3: cose.MustMarshal(justA), 20: cose.MustMarshal([]any{14, 15})}
		if e := refusedBytes(t, ownDevice(), macEnvelope(t, bad), macOptions()); !errors.Is(e, suit.ErrMalformed) {
			t.Errorf("%s: %v", name, e)
		}
	}
}

// big makes a manifest with that many components and ten times as many commands: indices, parameters, alternatives.
func big(components int) *suit.Builder {
	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("m")}
	for i := range components {
		b.AddComponent(suit.NewComponentID("c", fmt.Sprint(i)))
		b.Install = append(b.Install,
			suit.SetComponentIndex(i), suit.Override(suit.Params{suit.ParamContent: []byte{1}}), suit.Write(),
			suit.TryEach(
				suit.Sequence{suit.Override(suit.Params{suit.ParamSize: 9}), suit.Abort()},
				suit.Sequence{suit.Override(suit.Params{suit.ParamSize: 1}), suit.CheckContent()}),
			suit.RunSequence(suit.CheckContent()),
		)
	}
	return b
}

func bigOptions() Options {
	o := ownOptions()
	o.Limits = Limits{Components: 10_000, Written: 200_000, Commands: 200_000}
	return o
}

// countingPlatform counts what it is asked.
type countingPlatform struct {
	*memPlatform
	calls int
}

func (p *countingPlatform) Authorize(k *cose.Key, c suit.ComponentID) error {
	p.calls++
	return p.memPlatform.Authorize(k, c)
}

// TestLinear: twice the components and commands cost twice the commands, twice the questions and twice the allocations. The
// bounds that stand in the way are configurable, and named when hit.
func TestLinear(t *testing.T) {
	measure := func(components int) (commands, calls int, allocs float64) {
		envelope := sign(t, big(components))
		p := &countingPlatform{memPlatform: ownDevice()}
		proc := New(p, bigOptions())
		m := newMachine(t.Context(), proc)
		if err := m.procedure(envelope, procedureUpdate); err != nil {
			t.Fatal(err)
		}
		calls = p.calls
		allocs = testing.AllocsPerRun(1, func() {
			if _, err := proc.Update(t.Context(), envelope); err != nil {
				t.Fatal(err)
			}
		})
		return m.commands, calls, allocs
	}
	c1, q1, a1 := measure(500)
	c2, q2, a2 := measure(1000)
	t.Logf("1000 components: %d commands executed, %d questions, %.0f allocations", c2, q2, a2)
	if c2 != 2*c1 || c2 != 10_000 || q2 != 2*q1-1 || a2 > 2.2*a1 {
		t.Errorf("500: %d %d %.0f, 1000: %d %d %.0f", c1, q1, a1, c2, q2, a2)
	}
	envelope := sign(t, big(1000))
	for name, l := range map[string]Limits{
		"components and dependencies": {Components: 999}, "commands in a manifest": {Written: 9999}, "levels of nested": {Nested: -1},
		"more than 9999 commands": {Commands: 9999}, "bytes": {TotalBytes: 999}, "envelope of": {EnvelopeBytes: 1000},
	} {
		o := bigOptions()
		for field, v := range map[*int]int{&o.Limits.Components: l.Components, &o.Limits.Written: l.Written, &o.Limits.Nested: l.Nested, &o.Limits.Commands: l.Commands} {
			if v != 0 {
				*field = v
			}
		}
		o.Limits.TotalBytes, o.Limits.EnvelopeBytes = l.TotalBytes, l.EnvelopeBytes
		_, err := New(ownDevice(), o).Update(t.Context(), envelope)
		if !errors.Is(err, ErrLimit) && !errors.Is(err, suit.ErrLimit) || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// TestAllIndices: commands over all components are counted per component, so that few bytes cannot cause much work.
func TestAllIndices(t *testing.T) {
	b := big(1000)
	for range 1000 {
		b.Install = append(b.Install, suit.SetAllComponents(), suit.Override(suit.Params{suit.ParamSize: 1}))
	}
	if e := refused(t, ownDevice(), b, bigOptions()); !errors.Is(e, ErrLimit) {
		t.Error(e)
	}
}

// BenchmarkBig runs 1,000 components and 10,000 commands.
func BenchmarkBig(b *testing.B) {
	for _, n := range []int{250, 500, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			envelope := sign(b, big(n))
			proc := New(ownDevice(), bigOptions())
			for b.Loop() {
				if _, err := proc.Update(b.Context(), envelope); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/component")
		})
	}
}
