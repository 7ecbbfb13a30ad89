// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"crypto/rand"
	"errors"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/fault"
	"sealift/internal/launch"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/manifest"
	"sealift/internal/store"
	"sealift/suit"
	"sealift/usecase"
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

// TestJoin guards what keeps an application out of an instance that its owner shares: each constraint is named.
func TestJoin(t *testing.T) {
	now := time.Now()
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(key)
	if err != nil {
		t.Fatal(err)
	}
	ta := func(app string, mib uint64) map[string]*store.Package {
		envelope, err := manifest.Program{App: app, Kind: usecase.TA, Sequence: 1, Cells: []usecase.Cell{{Instance: "process", Hardware: "trustzone"}},
			Digest: suit.SHA256([]byte("x")), Size: 1, Launch: launch.Spec{MemoryBytes: mib << 20}}.Build().Build(rand.Reader, signer)
		if err != nil {
			t.Fatal(err)
		}
		return map[string]*store.Package{"ta": {Envelope: suit.WithoutTag(envelope)}}
	}
	type scene struct {
		w   *wish
		dev *store.Device
		in  *store.Deployment // that is in the instance
		tee *tee
	}
	for name, c := range map[string]struct {
		change     func(*scene)
		constraint string
	}{
		"fits":          {func(*scene) {}, ""},
		"fits in half":  {func(s *scene) { s.w.memory = 50 << 20 }, ""},
		"asks for less": {func(s *scene) { s.w.memory, s.in.Wanted = 0, ta("one", 4096) }, ""},
		"memory":        {func(s *scene) { s.w.memory = 50<<20 + 1 }, "memory"},
		"name":          {func(s *scene) { s.w.app = "one" }, "name"},
		"another key":   {func(s *scene) { s.tee.config.Owners[0].Key = nil }, "sharing"},
		"not shared":    {func(s *scene) { s.tee.config.Owners[0].App = "one" }, "sharing"},
		"start of the TA": {func(s *scene) {
			s.w.mode, s.in.Hardware, s.dev.Last.Hardware = usecase.ModeBundleUATA, "sgx", "sgx"
			s.w.hardware = usecase.AllHardware()
		}, "ta-start"},
		"its own start": {func(s *scene) { s.w.mode, s.tee.config.TAOnRequest = usecase.ModeBundleUATA, true }, "ta-start"},
		"no matter":     {func(s *scene) { s.tee.config.TAOnRequest = true }, ""},
		"instance type": {func(s *scene) { s.in.Instance = "container" }, "instance"},
		"label":         {func(s *scene) { s.w.labels = map[string]string{"zone": "2"} }, "label"},
		"dead":          {func(s *scene) { s.dev.Lease = now }, "live"},
		"stopped":       {func(s *scene) { s.in.Private.Stopped = now }, "stopped"},
		"removed":       {func(s *scene) { s.in.Private.Deleted = now }, "removal"},
		"manifests":     {func(s *scene) { s.tee.config.Limits.Manifests = 3 }, "programs"},
	} {
		in := &store.Deployment{Deployment: mocapi.Deployment{ID: "d1", TEE: "d1", App: "one", Mode: "ta,pd", Hardware: "trustzone", Instance: "process", Device: "east"},
			Wanted: ta("one", 50)}
		s := &scene{&wish{mode: usecase.ModeTAPD, app: "two", owner: signer.Key(), hardware: []usecase.Hardware{"trustzone"}, instances: []usecase.Instance{"process"}},
			device("east", 1, map[string]string{"zone": "1"}, now), in, &tee{id: "d1", members: []*store.Deployment{in}, config: &agentconfig.Config{
				Owners: []agentconfig.Owner{{Key: signer.Key(), App: agentconfig.AnyApp}}, Limits: agentconfig.Limits{TAMemoryBytes: 100 << 20}}}}
		c.change(s)
		at, excluded := s.w.join([]*tee{s.tee}, []*store.Device{s.dev}, now)
		if (at != nil) != (c.constraint == "") || c.constraint != "" && (len(excluded) != 1 || excluded[0].Constraint != c.constraint || excluded[0].TEE != "d1") {
			t.Errorf("%s: %+v %+v", name, at, excluded)
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
