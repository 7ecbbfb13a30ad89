// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"cmp"
	"encoding/hex"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/usecase"
)

// Bounds of an announcement.
const (
	maxInstances = 4096
	maxShort     = 256
	maxTAs       = 256 // of an instance
	maxLack      = 1024
)

func (s *Server) listDevices(c *call) (any, error) {
	all, err := s.store.Devices(c.Context())
	if err != nil {
		return nil, err
	}
	out := []mocapi.Device{}
	for _, d := range all {
		used, err := s.store.Used(c.Context(), d.ID)
		if err != nil {
			return nil, err
		}
		a := d.Last
		out = append(out, mocapi.Device{ID: d.ID, Hardware: a.Hardware, Emulated: a.Emulated, RootFingerprint: a.RootFingerprint,
			InstanceTypes: a.InstanceTypes, Capacity: a.Capacity, Used: used, RelayAddr: a.RelayAddr, Images: a.Images, Labels: a.Labels,
			Live: d.Live(s.cfg.Now()), LastSeen: d.Seen, Generation: d.Generation, Applied: a.Generation})
	}
	return out, nil
}

// ownDevice checks that a device's token speaks for the device in the path.
func ownDevice(c *call) error {
	if id := c.PathValue("id"); id != c.id.Name {
		return fault.New(fault.Forbidden, "the token of device %s does not speak for %q", c.id.Name, id)
	}
	return nil
}

// announce notes what a Broker says, gives it the lease, and moves deployments on by what the device holds.
func (s *Server) announce(c *call) (any, error) {
	if err := ownDevice(c); err != nil {
		return nil, err
	}
	a, err := decode[mocapi.Announcement](c)
	if err != nil {
		return nil, err
	}
	if err := checkAnnouncement(&a); err != nil {
		return nil, err
	}
	now := s.cfg.Now()
	err = s.store.Write(c.Context(), func(tx *store.Tx) error {
		d, err := tx.Device(c.id.Name)
		if errors.Is(err, store.ErrNotFound) {
			d, err = &store.Device{ID: c.id.Name}, nil
		}
		if err != nil {
			return err
		}
		if d.Live(now) && d.Broker != a.BrokerID {
			return deviceInUse(d, now)
		}
		d.Last, d.Broker, d.Seen, d.Lease = a, a.BrokerID, now.UTC(), now.Add(mocapi.LeaseTime).UTC()
		if a.Leaving {
			d.Broker, d.Lease = "", time.Time{}
		}
		return tx.PutDevice(d)
	})
	if err != nil {
		return nil, err
	}
	return nil, s.applyAnnouncement(c, &a)
}

func deviceInUse(d *store.Device, now time.Time) error {
	return fault.New(fault.DeviceInUse, "another Broker serves device %s", d.ID).
		WithHint("stop it, or wait: its lease ends in %s if it is dead", d.Lease.Sub(now).Round(time.Second))
}

func checkAnnouncement(a *mocapi.Announcement) error {
	bad := func(format string, args ...any) error { return fault.New(fault.BadRequest, format, args...) }
	if a.BrokerID == "" {
		return bad("the announcement has no broker_id")
	}
	if _, err := usecase.ParseHardware(a.Hardware); err != nil {
		return bad("the announcement: %w", err)
	}
	for _, i := range a.InstanceTypes {
		if _, err := usecase.ParseInstance(i); err != nil {
			return bad("the announcement: %w", err)
		}
	}
	if fp, err := hex.DecodeString(a.RootFingerprint); err != nil || len(fp) != 32 {
		return bad("root_fingerprint is not the hexadecimal form of a SHA-256")
	}
	if a.Capacity < 0 || len(a.Instances) > maxInstances || len(a.InstanceTypes) > 3 || len(a.Images) > 3 {
		return bad("the announcement has a negative capacity or too many instances")
	}
	for _, i := range a.Instances {
		if len(i.TAs) > maxTAs {
			return bad("the announcement has too many TAs of instance %q", i.ID)
		}
		for _, t := range i.Transfers {
			if len(i.Transfers) > maxTransfers || len(t.Payload) > maxPayload {
				return bad("the announcement has too many transfers of instance %q, or a name that is too long", i.ID)
			}
		}
	}
	for instance, why := range a.Lacks {
		if _, err := usecase.ParseInstance(instance); err != nil || len(why) > maxLack {
			return bad("what the device lacks for %.32q is no sentence", instance)
		}
	}
	for instance, digest := range a.Images {
		if _, err := usecase.ParseInstance(instance); err != nil {
			return bad("the announcement: %w", err)
		}
		if len(digest) > maxShort {
			return bad("the digest of an image has more than %d bytes", maxShort)
		}
	}
	if err := checkLabels(a.Labels); err != nil {
		return bad("the announcement: %w", err)
	}
	for _, text := range []string{a.BrokerID, a.RelayAddr} {
		if len(text) > maxShort {
			return bad("a member of the announcement has more than %d bytes", maxShort)
		}
	}
	return nil
}

// applyAnnouncement takes over what the device says of each deployment on it. A dropped one that the device no longer has
// is removed.
func (s *Server) applyAnnouncement(c *call, a *mocapi.Announcement) error {
	on, err := s.store.DeploymentsOn(c.Context(), c.id.Name)
	if err != nil {
		return err
	}
	for _, d := range on {
		i := slices.IndexFunc(a.Instances, func(st mocapi.InstanceStatus) bool { return st.ID == d.TEE })
		gone := (i < 0 || course.Needed(d, on)) && d.Private.Dropped != 0 && a.Generation >= d.Private.Dropped
		var status *mocapi.InstanceStatus
		if i >= 0 {
			status = statusOf(d, a.Instances[i])
		}
		if !gone && d.Private.Seen == (d.Private.Seen || i >= 0) && d.RelayAddr == a.RelayAddr && reflect.DeepEqual(status, d.InstanceStatus) {
			continue
		}
		if gone {
			err = s.removed(c, d)
		} else {
			_, err = s.store.Update(c.Context(), d.ID, func(tx *store.Tx, d *store.Deployment) error {
				return instanceStatus(tx, d, status, a.RelayAddr)
			})
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// statusOf is what the status of an instance says of one of its deployments.
func statusOf(d *store.Deployment, st mocapi.InstanceStatus) *mocapi.InstanceStatus {
	st.Transfers = nameTransfers(d, st.Transfers)
	if d.Sharing == "" {
		return &st
	}
	own := func(component, kind string) bool { return strings.HasPrefix(component, kind+"/"+d.App+"/") }
	st.UAs = slices.DeleteFunc(slices.Clone(st.UAs), func(u mocapi.UAStatus) bool { return !own(u.Component, classes[usecase.UA]) })
	st.TAs = slices.DeleteFunc(slices.Clone(st.TAs), func(t mocapi.TAStatus) bool { return !own(t.Component, classes[usecase.TA]) })
	st.FailedTA, st.Held = "", false
	for _, t := range st.TAs {
		st.FailedTA, st.Held = cmp.Or(t.Failed, st.FailedTA), st.Held || t.Held
	}
	idle := st.Held || !slices.ContainsFunc(d.Installed, func(c mocapi.InstalledComponent) bool { return own(c.Component, classes[usecase.TA]) })
	st.Stopped = st.Stopped || !d.Private.Stopped.IsZero() && idle // the instance runs for the others
	return &st
}

// startHint is for a deployment that the device has given up.
const startHint = "sealift start %s tries again; sealift update brings a newer package"

// instanceStatus notes what the device says of an instance. An instance that cannot be launched is a problem that may pass, until the
// device gives it up; so does a TA that keeps ending, after the first installation.
func instanceStatus(tx *store.Tx, d *store.Deployment, status *mocapi.InstanceStatus, relay string) error {
	d.InstanceStatus, d.RelayAddr = status, relay
	d.Private.Seen = d.Private.Seen || status != nil
	switch {
	case !d.Private.Stopped.IsZero():
		course.Observe(d)
	case status == nil:
	case d.Private.Failed:
		if d.Problem != nil && d.Problem.Code == fault.InstanceFailed && status.Running && status.FailedTA == "" {
			course.Recovered(d)
		}
	case status.GaveUp:
		course.Fail(d, fault.New(fault.InstanceFailed, "device %s gave up: %s", d.Device, status.LastError).WithHint(startHint, d.ID), time.Time{})
	case status.FailedTA != "" && len(d.Trace) == len(d.Plan):
		course.Fail(d, fault.New(fault.InstanceFailed, "device %s: %s", d.Device, status.FailedTA).WithHint(startHint, d.ID), time.Time{})
	case !status.Running && status.LastError != "":
		d.Problem = fault.New(fault.InstanceFailed, "device %s: %s", d.Device, status.LastError)
	case status.Running && d.Problem != nil && d.Problem.Code == fault.InstanceFailed:
		d.Problem = nil
	}
	return course.Refresh(tx, d)
}

// removed ends a deployment: what belongs to it is deleted, packages with PD from the artifact store too.
func (s *Server) removed(c *call, was *store.Deployment) error {
	_, released := course.Roles(usecase.Mode(was.Mode))
	_, err := s.store.Update(c.Context(), was.ID, func(tx *store.Tx, d *store.Deployment) error {
		if err := tx.AddEvent(d.ID, "state", "%s -> %s", d.State, mocapi.StateRemoved); err != nil {
			return err
		}
		d.State, d.InstanceStatus, d.Installed, d.Problem = mocapi.StateRemoved, nil, []mocapi.InstalledComponent{}, nil
		d.Private.Appraised, d.Appraised, d.Private.Asked = nil, false, nil
		clear(d.Wanted)
		d.Packages = []mocapi.PackageRef{}
		return tx.Forget(d.ID)
	})
	if err != nil {
		return err
	}
	used, err := s.store.UsedDigests(c.Context())
	if err != nil {
		return err
	}
	for _, role := range released {
		if p := was.Wanted[role]; p != nil && !used[p.Digest] {
			if err := s.artifacts.Delete(p.Repository, p.Digest); err != nil {
				s.cfg.Log.Warn("deleting a released package", "deployment", was.ID, "package", p.Digest, "error", err)
			}
		}
	}
	return nil
}

// work tells a Broker what its device should hold.
func (s *Server) work(c *call) (any, error) {
	if err := ownDevice(c); err != nil {
		return nil, err
	}
	broker := c.URL.Query().Get("broker")
	since, err := sinceOf(c)
	if err != nil {
		return nil, err
	}
	w, err := poll(s, c, store.TopicDevice(c.id.Name), func() (mocapi.Work, bool, error) {
		d, err := s.store.Device(c.Context(), c.id.Name)
		if errors.Is(err, store.ErrNotFound) {
			return mocapi.Work{}, false, fault.New(fault.DeviceUnknown, "device %s has not announced itself", c.id.Name)
		}
		if err != nil {
			return mocapi.Work{}, false, err
		}
		now := s.cfg.Now()
		if d.Broker != broker && d.Live(now) {
			return mocapi.Work{}, false, deviceInUse(d, now)
		}
		if d.Broker != broker {
			return mocapi.Work{}, false, fault.New(fault.DeviceUnknown, "this Broker has not announced device %s", c.id.Name)
		}
		// Another generation, not only a newer one: the Broker may remember one of a state that this M/OC has lost.
		w, err := s.workOf(c, d)
		return w, d.Generation != since || s.uaLogs.asked(c.id.Name), err
	})
	if err == nil {
		w.Logs = s.uaLogs.take(c.id.Name)
	}
	return w, err
}

// workOf lists what is not dropped. The generation was read before the list, so the list is at least as new.
func (s *Server) workOf(c *call, dev *store.Device) (mocapi.Work, error) {
	w := mocapi.Work{Generation: dev.Generation, Instances: []mocapi.WantedInstance{}}
	on, err := s.store.DeploymentsOn(c.Context(), dev.ID)
	if err != nil {
		return w, fmt.Errorf("listing the work of %s: %w", dev.ID, err)
	}
	at := map[string]int{}
	for _, d := range on {
		if d.Private.Dropped != 0 {
			continue
		}
		i, known := at[d.TEE]
		if !known {
			i, at[d.TEE] = len(w.Instances), len(w.Instances)
			w.Instances = append(w.Instances, mocapi.WantedInstance{ID: d.TEE, Instance: d.Instance, Config: d.Config, Layer: layerURI(d),
				TAMURI: s.tamURI() + "/" + d.TEE, App: d.App, Stopped: true})
		}
		in := &w.Instances[i]
		if in.Stopped = in.Stopped && !d.Private.Stopped.IsZero(); d.ID == d.TEE {
			in.Wake = d.Private.Wake
		} else if d.Private.Stopped.IsZero() {
			in.Further = append(in.Further, mocapi.WantedSession{TAMURI: d.TAMURI, Wake: d.Private.Wake})
		}
	}
	return w, nil
}
