// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"testing"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// oneComponent is a manifest whose install section is what the test is about.
func oneComponent(install ...suit.Command) *suit.Builder {
	return &suit.Builder{Sequence: 1, Components: []suit.ComponentID{suit.NewComponentID("c")}, Install: install}
}

func content(s string) suit.Command {
	return suit.Override(suit.Params{suit.ParamContent: []byte(s)})
}

func soft(v bool) suit.Command { return suit.Override(suit.Params{suit.ParamSoftFailure: v}) }

// TestSequences: what try-each, run-sequence, soft-failure and the two ways to set parameters leave in the component.
func TestSequences(t *testing.T) {
	cases := []struct {
		name    string
		install suit.Sequence
		want    string // "" for a run that fails
	}{
		{"write", suit.Sequence{content("a"), suit.Write()}, "a"},
		{"override wins", suit.Sequence{content("a"), content("b"), suit.Write()}, "b"},
		{"set does not", suit.Sequence{content("a"), suit.SetParameters(suit.Params{suit.ParamContent: []byte("b")}), suit.Write()}, "a"},
		{"set where unset", suit.Sequence{suit.SetParameters(suit.Params{suit.ParamContent: []byte("b")}), suit.Write()}, "b"},
		{"first alternative", suit.Sequence{suit.TryEach(suit.Sequence{content("a")}, suit.Sequence{content("b")}), suit.Write()}, "a"},
		{"second alternative", suit.Sequence{suit.TryEach(suit.Sequence{suit.Abort()}, suit.Sequence{content("b")}), suit.Write()}, "b"},
		{"parameters of a failed alternative are gone", suit.Sequence{content("x"), suit.TryEachOrNothing(suit.Sequence{content("a"), suit.Abort()}, suit.Sequence{suit.Abort()}), suit.Write()}, "x"},
		{"soft-failure false in an alternative", suit.Sequence{content("x"), suit.TryEachOrNothing(suit.Sequence{soft(false), suit.Abort()}, suit.Sequence{suit.Abort()}), suit.Write()}, ""},
		{"all alternatives fail", suit.Sequence{content("x"), suit.TryEach(suit.Sequence{suit.Abort()}, suit.Sequence{suit.Abort()}), suit.Write()}, ""},
		{"a directive's failure is never soft", suit.Sequence{suit.TryEachOrNothing(suit.Sequence{suit.Write()}, suit.Sequence{suit.Abort()}), content("x"), suit.Write()}, ""},
		{"run-sequence fails", suit.Sequence{content("x"), suit.RunSequence(suit.Abort()), suit.Write()}, ""},
		{"run-sequence fails softly", suit.Sequence{content("x"), suit.RunSequence(soft(true), content("y"), suit.Abort()), suit.Write()}, "y"},
		{"soft-failure does not reach inside", suit.Sequence{content("x"), suit.RunSequence(soft(true), suit.RunSequence(suit.Abort())), suit.Write()}, "x"},
		{"run-sequence in an alternative", suit.Sequence{suit.TryEach(suit.Sequence{suit.RunSequence(suit.Abort())}, suit.Sequence{content("b")}), suit.Write()}, "b"},
		{"check-content", suit.Sequence{content("a"), suit.Write(), suit.CheckContent()}, "a"},
		{"check-content differs", suit.Sequence{content("a"), suit.Write(), content("b"), suit.CheckContent()}, ""},
		{"check-content shorter", suit.Sequence{content("ab"), suit.Write(), content("a"), suit.CheckContent()}, ""},
		{"check-content of nothing", suit.Sequence{content("a"), suit.CheckContent()}, ""},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p := newMemPlatform()
			out, err := New(p, ownOptions()).Update(context.Background(), sign(t, oneComponent(c.install...)))
			checkReport(t, out, err)
			if c.want == "" && err == nil {
				t.Fatal("should fail")
			}
			if c.want != "" && (err != nil || string(p.components["c"]) != c.want) {
				t.Fatalf("component is %q, want %q: %v", p.components["c"], c.want, err)
			}
		})
	}
}

// TestIndex: true means all in index order, a list means its order, and nested sequences do not move the index outside.
func TestIndex(t *testing.T) {
	build := func(cmds ...suit.Command) *suit.Builder {
		b := &suit.Builder{Sequence: 1, Install: cmds}
		for _, name := range []string{"a", "b", "c"} {
			b.AddComponent(suit.NewComponentID(name))
		}
		return b
	}
	cases := []struct {
		name string
		cmds []suit.Command
		want []string
	}{
		{"all", []suit.Command{suit.SetAllComponents(), content("x"), suit.Write()}, []string{"a", "b", "c"}},
		{"list", []suit.Command{suit.SetComponentIndex(2, 0), content("x"), suit.Write()}, []string{"c", "a"}},
		{"run-sequence per component", []suit.Command{suit.SetComponentIndex(2, 1), suit.RunSequence(content("x"), suit.Write())}, []string{"c", "b"}},
		{"index of the caller", []suit.Command{suit.SetComponentIndex(0), content("x"), suit.RunSequence(suit.SetComponentIndex(1)), suit.Write()}, []string{"a"}},
	}
	for _, c := range cases {
		p := newMemPlatform()
		update(t, p, build(c.cmds...), nil)
		if len(p.creates) != len(c.want) {
			t.Fatalf("%s: wrote %v", c.name, p.creates)
		}
		for i := range c.want {
			if p.creates[i] != c.want[i] {
				t.Errorf("%s: wrote %v, want %v", c.name, p.creates, c.want)
			}
		}
	}
}

// TestStrictOrder keeps the two rules of sequences without order.
func TestStrictOrder(t *testing.T) {
	loose := suit.Override(suit.Params{suit.ParamStrictOrder: false})
	build := func(cmds ...suit.Command) *suit.Builder {
		b := &suit.Builder{Sequence: 1, Install: append(suit.Sequence{suit.SetComponentIndex(0), content("x"), suit.Write()}, cmds...)}
		b.AddComponent(suit.NewComponentID("a"))
		b.AddComponent(suit.NewComponentID("b"))
		b.AddComponent(suit.NewComponentID("c"))
		return b
	}
	chain := []suit.Command{
		suit.SetComponentIndex(1), suit.Override(suit.Params{suit.ParamSource: 0}), suit.Copy(),
		suit.SetComponentIndex(2), suit.Override(suit.Params{suit.ParamSource: 1}), suit.Copy(),
	}
	update(t, newMemPlatform(), build(chain...), nil)
	if e := refused(t, newMemPlatform(), build(append([]suit.Command{loose}, chain...)...), ownOptions()); !errors.Is(e, ErrRule) {
		t.Error(e)
	}
	if e := refused(t, newMemPlatform(), build(suit.RunSequence(loose, suit.SetComponentIndex(1))), ownOptions()); !errors.Is(e, ErrRule) {
		t.Error(e)
	}
}

// TestSlots runs the try-each of the drafts' A/B example with a device that has slots.
func TestSlots(t *testing.T) {
	p := newMemPlatform()
	p.slots["c"] = 1
	p.web["http://x/0"], p.web["http://x/1"] = []byte("zero"), []byte("one")
	alternative := func(slot int, uri, body string) suit.Sequence {
		return suit.Sequence{
			suit.Override(suit.Params{suit.ParamComponentSlot: slot}), suit.ComponentSlot(),
			suit.Override(suit.Params{suit.ParamURI: uri, suit.ParamDigest: suit.SHA256([]byte(body))}),
		}
	}
	b := oneComponent(suit.TryEach(alternative(0, "http://x/0", "zero"), alternative(1, "http://x/1", "one")), suit.Fetch(), suit.ImageMatch())
	update(t, p, b, nil)
	if string(p.components["c"]) != "one" {
		t.Errorf("installed %q", p.components["c"])
	}
	out, err := New(plainPlatform{p}, ownOptions()).Update(context.Background(), sign(t, b))
	if err == nil || out.Report.Failure.Reason != report.ReasonCommandUnsupported {
		t.Errorf("a platform without slots: %v", err)
	}
}

// TestUnauthenticatedCipher: AES-CTR without any digest over ciphertext or plaintext is refused.
func TestUnauthenticatedCipher(t *testing.T) {
	for _, alg := range []cose.Algorithm{cose.AlgA128CTR, cose.AlgA128GCM} {
		p := ownDevice()
		info, ciphertext := encrypted(t, p, alg, []byte("records"))
		p.web["http://x/enc"] = ciphertext
		unchecked := func() *suit.Builder {
			b := encryptedBuilder(info, suit.SHA256(ciphertext), "http://x/enc")
			b.Install = append(b.Install[:3:3], b.Install[4:]...) // without image-match
			return b
		}
		if alg == cose.AlgA128GCM {
			update(t, p, unchecked(), nil)
			continue
		}
		if e := refused(t, p, unchecked(), ownOptions()); !errors.Is(e, ErrRule) {
			t.Error(e)
		}
		b := unchecked()
		copied := b.Install[:6:6]
		b.Install = append(copied, append(suit.Sequence{
			suit.Override(suit.Params{suit.ParamDigest: suit.SHA256([]byte("records"))}), suit.ImageMatch(),
		}, b.Install[6:]...)...)
		update(t, p, b, nil)
	}
}

// TestTamperedCiphertext: a flipped bit in the ciphertext is found by the digest, and without one by the cipher.
func TestTamperedCiphertext(t *testing.T) {
	p := ownDevice()
	info, ciphertext := encrypted(t, p, cose.AlgA128GCM, []byte("records"))
	b := encryptedBuilder(info, suit.SHA256(ciphertext), "http://x/enc")
	ciphertext[0] ^= 1
	p.web["http://x/enc"] = ciphertext
	if e := refused(t, p, b, ownOptions()); !errors.Is(e, ErrCondition) {
		t.Error(e)
	}
	b.Install = append(b.Install[:3:3], b.Install[4:]...)
	if e := refused(t, p, b, ownOptions()); e.Command != suit.CodeCopy || p.aborted == 0 {
		t.Errorf("%v, aborted %d", e, p.aborted)
	}
}

// TestNI: what a ni URI names is checked even where the manifest has no image-digest.
func TestNI(t *testing.T) {
	body := []byte("payload")
	uri := "ni:///sha-256;" + base64.RawURLEncoding.EncodeToString(suit.SHA256(body).Bytes)
	p := newMemPlatform()
	p.web[uri] = body
	b := oneComponent(suit.Override(suit.Params{suit.ParamURI: uri}), suit.Fetch())
	update(t, p, b, nil)
	p.web[uri] = []byte("Payload")
	if e := refused(t, p, b, ownOptions()); !errors.Is(e, suit.ErrDigest) || p.aborted != 1 {
		t.Error(e)
	}
}

// TestLimits: each bound of Limits ends a run.
func TestLimits(t *testing.T) {
	long := oneComponent(suit.Override(suit.Params{suit.ParamURI: "http://x/y"}), suit.Fetch())
	var many suit.Sequence
	for range 100 {
		many = append(many, content("x"))
	}
	cases := []struct {
		name string
		b    *suit.Builder
		set  func(l *Limits)
	}{
		{"envelope", long, func(l *Limits) { l.EnvelopeBytes = 50 }},
		{"payload", long, func(l *Limits) { l.PayloadBytes = 99 }},
		{"total", long, func(l *Limits) { l.TotalBytes = 99 }},
		{"commands", oneComponent(many...), func(l *Limits) { l.Commands = 99 }},
	}
	for _, c := range cases {
		p := newMemPlatform()
		p.web["http://x/y"] = bytes.Repeat([]byte{7}, 100)
		o := ownOptions()
		update(t, p, c.b, nil)
		c.set(&o.Limits)
		if e := refused(t, newMemPlatformWith(p), c.b, o); !errors.Is(e, ErrLimit) {
			t.Errorf("%s: %v", c.name, e)
		}
	}
}

func newMemPlatformWith(from *memPlatform) *memPlatform {
	p := newMemPlatform()
	p.web = from.web
	return p
}

// TestCancelAndDiskFull: a cancelled run and a failing store end as errors, and leave what was there.
func TestCancelAndDiskFull(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	p := ownDevice()
	if _, err := New(p, ownOptions()).Update(ctx, sign(t, taBuilder(1, []byte("x")))); !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	update(t, p, taBuilder(1, []byte("one")), nil)
	p.failOn = "tee/app/ta"
	e := refused(t, p, taBuilder(2, []byte("two")), ownOptions())
	if e.Reason != report.ReasonOperationFailed || string(p.components["tee/app/ta"]) != "one" {
		t.Errorf("%v, component %q", e, p.components["tee/app/ta"])
	}
}

// TestRecords: the reporting policy decides which commands stand in the report, and the failing one is named exactly.
func TestRecords(t *testing.T) {
	b := oneComponent(content("x"), suit.Write().WithPolicy(suit.RecordOnSuccess), suit.CheckContent().WithPolicy(0))
	out := update(t, newMemPlatform(), b, nil)
	if len(out.Report.Items) != 2 { // the write and the component
		t.Errorf("%d items", len(out.Report.Items))
	}
	b.Install = append(b.Install, suit.Override(suit.Params{suit.ParamDigest: suit.SHA256([]byte("y"))}), suit.RunSequence(suit.ImageMatch()))
	envelope := sign(t, b)
	out, err := New(newMemPlatform(), ownOptions()).Update(context.Background(), envelope)
	checkReport(t, out, err)
	f := out.Report.Failure
	if f == nil || f.Record.Section != suit.MemberInstall || f.Code != int64(suit.CodeImageMatch) {
		t.Fatalf("failure %+v", f)
	}
	if got, _ := f.Record.Properties.Digest(); !got.Equal(suit.SHA256([]byte("x"))) {
		t.Errorf("the record says %v was found", got)
	}
	section, err := b.Install.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if section[f.Record.Offset] != byte(suit.CodeImageMatch) {
		t.Errorf("offset %d is not the command's: %x", f.Record.Offset, section)
	}
}
