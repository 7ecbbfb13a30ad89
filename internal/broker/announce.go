// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"encoding/hex"
	"errors"
	"reflect"
	"slices"
	"strings"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// watchInterval is how often the device's own state is compared with what was announced. It costs no message.
const watchInterval = 500 * time.Millisecond

// notify asks for an announcement now.
func (b *Broker) notify() {
	select {
	case b.changed <- struct{}{}:
	default:
	}
}

// announceLoop tells the M/OC what the device is and holds: at once, when that changes, and often enough to keep the lease.
func (b *Broker) announceLoop(ctx context.Context, fail context.CancelCauseFunc) {
	tick := time.NewTicker(watchInterval)
	defer tick.Stop()
	retry := b.newBackoff()
	var last mocapi.Announcement
	var sent time.Time
	for {
		a := b.announcement()
		if time.Since(sent) >= mocapi.LeaseTime/3 || !reflect.DeepEqual(a, last) {
			if err := b.cfg.MOC.Announce(ctx, b.cfg.Device, a); err != nil {
				b.mocError(ctx, fail, "announcing the device", err)
				if !retry.wait(ctx) {
					return
				}
				continue
			}
			if sent.IsZero() {
				close(b.known)
				if b.cfg.Ready != nil {
					b.cfg.Ready(Ready{BrokerID: b.id, Relay: a.RelayAddr, Info: b.info})
				}
			}
			retry.reset()
			last, sent = a, time.Now()
		}
		select {
		case <-ctx.Done():
			return
		case <-b.changed:
		case <-tick.C:
		}
	}
}

// mocError handles a failed call to the M/OC: another Broker on the same device ends this one, everything else is tried
// again.
func (b *Broker) mocError(ctx context.Context, fail context.CancelCauseFunc, doing string, err error) {
	if ctx.Err() != nil {
		return
	}
	if fault.Is(err, fault.DeviceInUse) || fault.Is(err, fault.Unauthorized) || fault.Is(err, fault.Forbidden) {
		fail(err)
		return
	}
	b.cfg.Log.Warn("the M/OC cannot be asked", "doing", doing, "error", err)
}

// announcement describes the device as it is now.
func (b *Broker) announcement() mocapi.Announcement {
	b.mu.Lock()
	defer b.mu.Unlock()
	types, images, lacks := b.offered()
	a := mocapi.Announcement{
		BrokerID: b.id, Hardware: string(b.info.Hardware), Emulated: b.info.Emulated,
		RootFingerprint: hex.EncodeToString(b.info.RootFingerprint[:]), InstanceTypes: types, Lacks: lacks, Images: images, Labels: b.cfg.Labels,
		Capacity: b.info.Capacity, RelayAddr: b.relay.Addr().String(), Generation: b.applied,
		Instances: []mocapi.InstanceStatus{},
	}
	for id, r := range b.runners {
		st := mocapi.InstanceStatus{ID: id}
		st.Running, st.LastError = r.status()
		st.GaveUp, st.FailedTA = r.hopeless()
		st.Stopped, st.Held = r.rests()
		st.TAs = r.remarkable()
		st.Transfers = r.transfers()
		for _, u := range b.host.Status(id) {
			st.UAs = append(st.UAs, mocapi.UAStatus{Component: u.Component.String(), Running: u.Running, Ports: u.Ports})
		}
		a.Instances = append(a.Instances, st)
	}
	for id, why := range b.leaving {
		a.Instances = append(a.Instances, mocapi.InstanceStatus{ID: id, LastError: why})
	}
	slices.SortFunc(a.Instances, func(x, y mocapi.InstanceStatus) int { return strings.Compare(x.ID, y.ID) })
	return a
}

// leave gives the lease up, so that a Broker that follows need not wait for its end.
func (b *Broker) leave() {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	a := b.announcement()
	a.Leaving = true
	if err := b.cfg.MOC.Announce(ctx, b.cfg.Device, a); err != nil && !errors.Is(err, context.Canceled) {
		b.cfg.Log.Warn("leaving the M/OC", "error", err)
	}
}
