// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"crypto/rand"
	"errors"
	"reflect"
	"testing"

	"sealift/cose"
)

// TestVersionMatch: the draft's own examples of suit-parameter-version, and its order of pre-releases.
func TestVersionMatch(t *testing.T) {
	cases := []struct {
		op   Comparison
		want Version
		have Version
		ok   bool
	}{
		{VersionEqual, Version{1}, Version{1, 2, 3}, true},
		{VersionEqual, Version{1}, Version{2}, false},
		{VersionGreaterEqual, Version{1, 0}, Version{1, 0, 7}, true},
		{VersionLesser, Version{1, 10}, Version{1, 9, 99}, true},
		{VersionLesser, Version{1, 10}, Version{1, 10, 0}, false},
		{VersionLesserEqual, Version{1, 10}, Version{1, 10, 5}, true},
		{VersionGreater, Version{1, 2}, Version{1, 2, 9}, false},
		{VersionGreater, Version{1, 2}, Version{1, 3}, true},
		{VersionLesser, Version{2, 0, 0}, Version{2, 0, PreReleaseCandidate, 1}, true},
		{VersionGreater, Version{1, 9}, Version{2, 0, PreReleaseCandidate, 1}, true},
		{VersionLesser, Version{2, 0, PreReleaseCandidate}, Version{2, 0, PreReleaseBeta}, true},
		{VersionLesser, Version{2, 0, PreReleaseBeta}, Version{2, 0, PreReleaseAlpha, 7}, true},
		{VersionGreaterEqual, Version{1, 0, 0}, Version{1}, true},
		{9, Version{1}, Version{1}, false},
	}
	for _, c := range cases {
		if got := (VersionMatch{c.op, c.want}).Matches(c.have); got != c.ok {
			t.Errorf("%v %v: %v", c.have, VersionMatch{c.op, c.want}, got)
		}
	}
	if s := (Version{1, 2, -1, 3}).String(); s != "1.2-rc.3" {
		t.Error(s)
	}
}

func TestVersionEncoding(t *testing.T) {
	m := VersionMatch{VersionLesser, Version{1, 0, PreReleaseAlpha, 4}}
	back, err := ParseVersionMatch(m.Encode())
	if err != nil || !reflect.DeepEqual(back, m) {
		t.Errorf("%v %v", back, err)
	}
	for name, v := range map[string]any{
		"empty": []any{1, []int{}}, "comparison 0": []any{0, []int{1}}, "comparison 6": []any{6, []int{1}}, "text": []any{1, "1.0"},
		"one element": []any{1}, "pre-release first": []any{1, []int{-1}}, "two pre-releases": []any{1, []int{1, -1, -1}},
		"pre-release -4": []any{1, []int{1, -4}}, "too long": []any{1, make([]int, 17)},
	} {
		if m, err := ParseVersionMatch(cose.MustMarshal(v)); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v %v", name, m, err)
		}
	}
}

func TestWaitInfo(t *testing.T) {
	all := WaitInfo{
		{Event: WaitAuthorization, Value: -3}, {Event: WaitPower, Value: 1}, {Event: WaitNetwork, Value: 2},
		{Event: WaitOtherDeviceVersion, Device: []byte("other"), Versions: []VersionMatch{{VersionGreaterEqual, Version{1, 2}}}},
		{Event: WaitTime, Value: 1_700_000_000}, {Event: WaitTimeOfDay, Value: 3600}, {Event: WaitDayOfWeek, Value: 6},
		{Event: WaitTimeOfDayUTC, Value: 86399}, {Event: WaitDayOfWeekUTC, Value: 0},
	}
	back, err := ParseWaitInfo(all.Encode())
	if err != nil || !reflect.DeepEqual(back, all) {
		t.Errorf("%+v %v", back, err)
	}
	for name, c := range map[string]struct {
		v    any
		want error
	}{
		"no events": {map[int]int{}, ErrMalformed}, "unknown event": {map[int]int{10: 1}, ErrUnsupported},
		"Monday of next week": {map[int]int{7: 8}, ErrMalformed}, "midnight twice": {map[int]int{6: 86400}, ErrMalformed},
		"before 1970": {map[int]int{5: -1}, ErrMalformed}, "no versions": {map[int]any{4: []any{[]byte("x"), []int{}}}, ErrMalformed},
		"text": {map[int]string{2: "on"}, ErrMalformed},
	} {
		if got, err := ParseWaitInfo(cose.MustMarshal(c.v)); !errors.Is(err, c.want) {
			t.Errorf("%s: %v %v", name, got, err)
		}
	}
}

// TestManagementMembers: set-version and coswid inside a manifest, the latter severed.
func TestManagementMembers(t *testing.T) {
	signer := newSigner(t, cose.AlgESP256)
	b := everything()
	b.SetVersion, b.CoSWID = Version{1, 2, PreReleaseBeta}, cose.MustMarshal(map[int]any{0: "tag", 12: 0})
	b.Load = Sequence{
		OverrideMultiple(map[int]Params{1: {ParamMinimumBattery: 5}, 0: {ParamUpdatePriority: -1, ParamUseBefore: 9}}),
		CopyParams(CopySource{1, []Param{ParamMinimumBattery}}), UseBefore(), MinimumBattery(), UpdateAuthorized(), VersionCondition(), Wait(),
	}
	b.Sever = append(b.Sever, MemberCoSWID)
	data, err := b.Build(rand.Reader, signer)
	if err != nil {
		t.Fatal(err)
	}
	m := open(t, data, signer)
	if !reflect.DeepEqual(m.SetVersion, b.SetVersion) || !bytes.Equal(m.CoSWID, b.CoSWID) {
		t.Errorf("%v %x", m.SetVersion, m.CoSWID)
	}
	if got := withoutOffsets(m.Load); !reflect.DeepEqual(got, b.Load) {
		t.Errorf("%+v\n%+v", got, b.Load)
	}
	b.SetVersion = Version{-1}
	if _, err := b.Build(rand.Reader, signer); !errors.Is(err, ErrMalformed) {
		t.Error(err)
	}
	b.SetVersion = nil
	b.Load = Sequence{OverrideMultiple(map[int]Params{9: {ParamSize: 1}})}
	if _, err := b.Build(rand.Reader, signer); !errors.Is(err, ErrRule) {
		t.Error(err)
	}
}

// FuzzManagement: what the decoders of versions, wait events and metadata take encodes to what they take to be the same.
func FuzzManagement(f *testing.F) {
	f.Add(VersionMatch{VersionLesser, Version{1, 0, PreReleaseAlpha, 4}}.Encode())
	f.Add(WaitInfo{{Event: WaitPower, Value: 1}, {Event: WaitOtherDeviceVersion, Device: []byte("x"), Versions: []VersionMatch{{VersionEqual, Version{1}}}}}.Encode())
	mode := PermissionRead
	meta, err := (&Metadata{Permissions: &mode, Creator: "a", User: []ActorPermissions{{int64(1), 2}}, Type: FileSymlink}).Encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(meta)
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := ParseVersionMatch(data); err == nil {
			if again, err := ParseVersionMatch(m.Encode()); err != nil || !reflect.DeepEqual(again, m) {
				t.Fatalf("%v %v: %v", m, again, err)
			}
		}
		if w, err := ParseWaitInfo(data); err == nil {
			if again, err := ParseWaitInfo(w.Encode()); err != nil || !reflect.DeepEqual(again, w) {
				t.Fatalf("%v %v: %v", w, again, err)
			}
		}
		if m, err := ParseMetadata(data); err == nil {
			out, err := m.Encode()
			if err != nil {
				t.Fatal(err)
			}
			if again, err := ParseMetadata(out); err != nil || !reflect.DeepEqual(again, m) {
				t.Fatalf("%+v %+v: %v", m, again, err)
			}
		}
	})
}
