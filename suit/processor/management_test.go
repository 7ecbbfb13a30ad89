// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/sharedtest"
	"sealift/suit"
	"sealift/suit/report"
)

// managedPlatform is a memPlatform with a clock, a battery, an owner, versions, events and metadata.
type managedPlatform struct {
	*memPlatform
	now      time.Time
	level    uint64
	maxPrio  int64
	versions map[string]suit.Version
	events   map[suit.WaitEvent]bool
	waited   []suit.WaitInfo
	metadata map[string]*suit.Metadata
}

func managed(p *memPlatform) *managedPlatform {
	return &managedPlatform{
		memPlatform: p, now: time.Unix(1_400_000_000, 0), level: 20, maxPrio: 0, versions: map[string]suit.Version{},
		events: map[suit.WaitEvent]bool{suit.WaitPower: true}, metadata: map[string]*suit.Metadata{},
	}
}

func (p *managedPlatform) Now() (time.Time, bool)        { return p.now, !p.now.IsZero() }
func (p *managedPlatform) BatteryLevel() (uint64, bool)  { return p.level, true }
func (p *managedPlatform) CanWait(e suit.WaitEvent) bool { return p.events[e] }

func (p *managedPlatform) AuthorizeUpdate(_ context.Context, _ *suit.Verified, priority int64) error {
	if priority > p.maxPrio {
		return fmt.Errorf("not now")
	}
	return nil
}

func (p *managedPlatform) Version(c suit.ComponentID) (suit.Version, bool) {
	v, ok := p.versions[c.String()]
	return v, ok
}

func (p *managedPlatform) Wait(_ context.Context, all suit.WaitInfo) error {
	p.waited = append(p.waited, all)
	return nil
}

func (p *managedPlatform) CreateWith(ctx context.Context, c suit.ComponentID, m *suit.Metadata) (Writer, error) {
	if m.Type == suit.FileSymlink {
		return nil, fmt.Errorf("links are not made here")
	}
	p.metadata[c.String()] = m
	return p.Create(ctx, c)
}

// TestUpdateManagementVectors runs libcsuit's examples of the extension. Its expU2 is signed with the polymorphic ES256:
// stale by RFC 9864, accepted unless StrictAlgorithms. (expU1 and expU3 are not among the vectors: TestUpdateManagementGolden
// has own manifests of what they show.)
func TestUpdateManagementVectors(t *testing.T) {
	device := func() *managedPlatform {
		p := managed(exampleDevice(t))
		p.web["http://example.com/file.bin"] = []byte(firmware)
		p.versions["%00"], p.versions["%01"], p.versions["00"] = suit.Version{1}, suit.Version{1, 0, 1}, suit.Version{0, 9}
		return p
	}
	late := time.Unix(1_800_000_000, 0)
	cases := []struct {
		name, vector string
		change       func(p *managedPlatform, o *Options)
		want         error
	}{
		{"U0", "expU0", nil, nil},
		{"U0 too late", "expU0", func(p *managedPlatform, _ *Options) { p.now = late }, ErrCondition},
		{"U0 no clock", "expU0", func(p *managedPlatform, _ *Options) { p.now = time.Time{} }, ErrCondition},
		{"U0 battery", "expU0", func(p *managedPlatform, _ *Options) { p.level = 9 }, ErrCondition},
		{"U0 declined", "expU0", func(p *managedPlatform, _ *Options) { p.maxPrio = -2 }, ErrCondition},
		{"U0 component 1 is new", "expU0", func(p *managedPlatform, _ *Options) { p.versions["%01"] = suit.Version{1, 0, 2} }, ErrCondition},
		{"U0 version unknown", "expU0", func(p *managedPlatform, _ *Options) { clear(p.versions) }, ErrCondition},
		{"U2", "expU2", nil, nil},
		{"U2 strict", "expU2", func(_ *managedPlatform, o *Options) { o.StrictAlgorithms = true }, suit.ErrUnauthorised},
		{"U2 too new", "expU2", func(p *managedPlatform, _ *Options) { p.versions["%00"] = suit.Version{1, 0, 0} }, ErrCondition},
		{"U2 cannot wait", "expU2", func(p *managedPlatform, _ *Options) { clear(p.events) }, ErrNotSupported},
		{"U2 too late to validate", "expU2", func(p *managedPlatform, _ *Options) { p.now = late }, ErrCondition},
		{"U2 without the option", "expU2", func(_ *managedPlatform, o *Options) { o.UpdateManagement = false }, ErrNotSupported},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			p, o := device(), exampleKeys(t)
			p.versions["%00"] = map[string]suit.Version{"expU0": {1}, "expU2": {0, 9}}[c.vector]
			o.UpdateManagement = true
			if c.change != nil {
				c.change(p, &o)
			}
			out, err := New(p, o).Update(context.Background(), sharedtest.Read(t, "vectors", "libcsuit/"+c.vector+".suit.cbor"))
			checkReport(t, out, err)
			if !errors.Is(err, c.want) {
				t.Fatalf("%v, want %v", err, c.want)
			}
			if c.want == nil && c.vector == "expU2" && (string(p.components["%00"]) != firmware || len(p.waited) != 1 || p.waited[0][0].Event != suit.WaitPower) {
				t.Errorf("%q, waited for %v", p.components["%00"], p.waited)
			}
		})
	}
}

// managedRun builds, signs and runs install over components a and b.
func managedRun(t *testing.T, p Platform, install suit.Sequence) (*Outcome, error) {
	t.Helper()
	b := &suit.Builder{Sequence: 1, ComponentID: suit.NewComponentID("m"), Install: install}
	b.AddComponent(suit.NewComponentID("a"))
	b.AddComponent(suit.NewComponentID("b"))
	o := ownOptions()
	o.UpdateManagement = true
	out, err := New(p, o).Update(context.Background(), sign(t, b))
	checkReport(t, out, err)
	return out, err
}

// TestOverrideMultiple: an alias of set-component-index and override-parameters; the last component stays current.
func TestOverrideMultiple(t *testing.T) {
	p := managed(ownDevice())
	_, err := managedRun(t, p, suit.Sequence{
		suit.OverrideMultiple(map[int]suit.Params{
			0: {suit.ParamContent: []byte("for a"), suit.ParamWaitInfo: suit.WaitInfo{{Event: suit.WaitPower, Value: 1}}.Encode()},
			1: {suit.ParamContent: []byte("for b")},
		}),
		suit.Write(), suit.SetComponentIndex(0), suit.Wait(),
		suit.CopyParams(suit.CopySource{Index: 1, Params: []suit.Param{suit.ParamContent}}), suit.Write(),
	})
	if err != nil || string(p.components["a"]) != "for b" || string(p.components["b"]) != "for b" || len(p.creates) != 2 || len(p.waited) != 1 {
		t.Errorf("%v, %q, created %v, waited %v", err, p.components, p.creates, p.waited)
	}
	for name, bad := range map[string]suit.Sequence{
		"copies what is not set": {suit.SetComponentIndex(0), suit.CopyParams(suit.CopySource{Index: 1, Params: []suit.Param{suit.ParamURI}})},
		"waits for nothing":      {suit.SetComponentIndex(0), suit.Wait()},
	} {
		if _, err := managedRun(t, managed(ownDevice()), bad); !errors.Is(err, ErrRule) {
			t.Error(name, err)
		}
	}
}

// TestComponentMetadata: applied when the component is created; what the platform does not apply is an error.
func TestComponentMetadata(t *testing.T) {
	mode := suit.PermissionRead | suit.PermissionWrite
	encode := func(m suit.Metadata) []byte {
		data, err := m.Encode()
		if err != nil {
			t.Fatal(err)
		}
		return data
	}
	good := suit.Metadata{
		Permissions: &mode, Type: suit.FileRegular, Creator: "author", Modified: time.Unix(1, 0).UTC(), Created: time.Unix(2, 0).UTC(),
		User: []suit.ActorPermissions{{Actor: int64(7), Permissions: suit.PermissionExecute}},
	}
	write := func(meta []byte) suit.Sequence {
		return suit.Sequence{
			suit.SetComponentIndex(0), suit.Override(suit.Params{suit.ParamContent: []byte("x"), suit.ParamComponentMetadata: meta}), suit.Write(),
		}
	}
	p := managed(ownDevice())
	if _, err := managedRun(t, p, write(encode(good))); err != nil {
		t.Fatal(err)
	}
	if got := p.metadata["a"]; got == nil || string(encode(*got)) != string(encode(good)) {
		t.Errorf("%+v", got)
	}
	if _, err := managedRun(t, managed(ownDevice()), write(encode(suit.Metadata{Type: suit.FileSymlink}))); err == nil {
		t.Error("a link was made")
	}
	var e *Error
	for name, meta := range map[string][]byte{
		"malformed": {0xff}, "file type 9": cose.MustMarshal(map[int]int{5: 9}), "unknown member": cose.MustMarshal(map[int]int{9: 1}),
		"untagged time": cose.MustMarshal(map[int]int{6: 1}), "control characters": cose.MustMarshal(map[int]string{8: "a\nb"}),
	} {
		_, err := managedRun(t, managed(ownDevice()), write(meta))
		if !errors.As(err, &e) || e.Reason != report.ReasonParameterUnsupported {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := managedRun(t, ownDevice(), write(encode(good))); !errors.As(err, &e) || e.Reason != report.ReasonParameterUnsupported {
		t.Errorf("a platform without metadata: %v", err)
	}
}

// TestImageNotMatch: another digest, and a component that is not there, do not match; no digest is a failure.
func TestImageNotMatch(t *testing.T) {
	check := func(params suit.Params) error {
		p := managed(ownDevice())
		p.components["a"] = []byte("old")
		_, err := managedRun(t, p, suit.Sequence{
			suit.SetComponentIndex(0, 1), suit.Override(suit.Params{suit.ParamInvokeArgs: []byte{}}), suit.Override(params), suit.ImageNotMatch(),
		})
		return err
	}
	if err := check(suit.Params{suit.ParamDigest: suit.SHA256([]byte("new"))}); err != nil {
		t.Error(err)
	}
	if err := check(suit.Params{suit.ParamDigest: suit.SHA256([]byte("old"))}); !errors.Is(err, ErrCondition) {
		t.Error(err)
	}
	if err := check(suit.Params{suit.ParamSize: 1}); !errors.Is(err, ErrCondition) {
		t.Error(err)
	}
}

// TestManagementNeedsPlatform: a command whose interface the platform lacks refuses the manifest before anything runs.
func TestManagementNeedsPlatform(t *testing.T) {
	for _, cmd := range []suit.Command{suit.UseBefore(), suit.MinimumBattery(), suit.UpdateAuthorized(), suit.VersionCondition(), suit.Wait()} {
		p := ownDevice()
		_, err := managedRun(t, p, suit.Sequence{
			suit.SetComponentIndex(0), suit.Override(suit.Params{suit.ParamContent: []byte("x")}), suit.Write(), cmd,
		})
		var e *Error
		if !errors.As(err, &e) || e.Reason != report.ReasonCommandUnsupported || len(p.creates) != 0 {
			t.Errorf("%v: %v, created %v", cmd.Code, err, p.creates)
		}
	}
}
