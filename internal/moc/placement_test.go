// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"errors"
	"strings"
	"testing"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
)

func device(id string, capacity int, labels map[string]string, now time.Time) *store.Device {
	return &store.Device{ID: id, Broker: "b", Lease: now.Add(time.Minute), Seen: now, Last: mocapi.Announcement{BrokerID: "b", Hardware: "trustzone",
		InstanceTypes: []string{"process"}, Capacity: capacity, Labels: labels}}
}

// TestPlacement guards which device gets a deployment, and that a refusal says for each which constraint excluded it.
func TestPlacement(t *testing.T) {
	now := time.Now()
	devices := []*store.Device{
		device("east-1", 8, map[string]string{"region": "east", "zone": "1"}, now),
		device("east-2", 4, map[string]string{"region": "east", "zone": "2"}, now),
		device("west-1", 16, map[string]string{"region": "west"}, now),
	}
	loads := map[string]load{"east-1": {used: 5, same: 0}, "east-2": {used: 0, same: 0}, "west-1": {used: 2, same: 2}}
	loadOf := func(id string) (load, error) { return loads[id], nil }
	for name, c := range map[string]struct {
		labels map[string]string
		place  string
		want   string
	}{
		"the fewest of the application, then room": {nil, "", "east-2"},
		"spread by name":  {nil, mocapi.PlaceSpread, "east-2"},
		"pack":            {nil, mocapi.PlacePack, "east-1"},
		"region":          {map[string]string{"region": "west"}, "", "west-1"},
		"region and zone": {map[string]string{"region": "east", "zone": "1"}, "", "east-1"},
	} {
		w, err := parseWish(&mocapi.DeploymentRequest{Mode: "ta,pd", Labels: c.labels, Place: c.place})
		if err != nil {
			t.Fatal(name, err)
		}
		at, err := w.choose(devices, loadOf, nil, now)
		if err != nil || at.device != c.want {
			t.Errorf("%s: %+v %v, want %s", name, at, err, c.want)
		}
	}
	lacking := device("south", 1, nil, now)
	lacking.Last.InstanceTypes, lacking.Last.Lacks = nil, map[string]string{"process": "a program is missing", "vm": "not asked for"}
	w, err := parseWish(&mocapi.DeploymentRequest{Mode: "ta,pd", Instances: []string{"process"}, Hardware: []string{"trustzone"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.choose([]*store.Device{lacking}, loadOf, nil, now); err == nil ||
		!strings.Contains(err.Error(), "it runs none, the request accepts process; process: a program is missing)") {
		t.Errorf("of a device that lacks something: %v", err)
	}
	w, err = parseWish(&mocapi.DeploymentRequest{Mode: "ta,pd", Labels: map[string]string{"zone": "3"}})
	if err != nil {
		t.Fatal(err)
	}
	_, err = w.choose(devices, loadOf, nil, now)
	var f *fault.Error
	if !errors.As(err, &f) || f.Code != fault.NoDevice {
		t.Fatal(err)
	}
	for _, part := range []string{"east-1: label (its zone is 1, the request wants 3)", "west-1: label (it has no label zone"} {
		if !strings.Contains(f.Message, part) {
			t.Errorf("%q does not say %q", f.Message, part)
		}
	}
}

// TestBadWish guards the form of labels and strategies.
func TestBadWish(t *testing.T) {
	for name, r := range map[string]mocapi.DeploymentRequest{
		"place": {Mode: "ta,pd", Place: "scatter"},
		"name":  {Mode: "ta,pd", Labels: map[string]string{"a b": "c"}},
		"value": {Mode: "ta,pd", Labels: map[string]string{"a": ""}},
		"long":  {Mode: "ta,pd", Labels: map[string]string{"a": strings.Repeat("x", 64)}},
		"line":  {Mode: "ta,pd", Labels: map[string]string{"a": "x\n"}},
	} {
		var f *fault.Error
		if _, err := parseWish(&r); !errors.As(err, &f) || f.Code != fault.BadRequest {
			t.Errorf("%s: %v", name, err)
		}
	}
}
