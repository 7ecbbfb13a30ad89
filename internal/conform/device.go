// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"encoding/hex"
	"fmt"
	"slices"
	"time"

	"sealift/internal/moc/mocapi"
)

// Device is the kit as a device of one of our M/OCs: it announces itself as a Broker does, so that an owner can deploy something to it.
// The deployment's TAM URI and its measured configuration are then what the Agent needs that the kit plays.
type Device struct {
	MOC  *mocapi.Client // with the device's token
	Name string
	// AgentDigest is that of the Agent's program, Root the fingerprint of the hardware's vendor root.
	AgentDigest, Root [32]byte
	// Hardware and Instance are names of the use case, for example "trustzone" and "process".
	Hardware, Instance string
	Emulated           bool
}

// announcement is what a Broker with that identity says of the device, which has room for so many deployments.
func (d *Device) announcement(broker string, capacity int) mocapi.Announcement {
	return mocapi.Announcement{BrokerID: broker, Hardware: d.Hardware, Emulated: d.Emulated, RootFingerprint: hex.EncodeToString(d.Root[:]),
		InstanceTypes: []string{d.Instance}, Capacity: capacity, Images: map[string]string{d.Instance: "sha256:" + hex.EncodeToString(d.AgentDigest[:])},
		Instances: []mocapi.InstanceStatus{}}
}

// Await announces the device, calls announced, and waits until the M/OC places a new deployment on it. Those that are there already count
// as used up: they stay until their owner removes them. There is room for one more, and the device leaves when that is there, so
// that nothing else is placed on it.
func (d *Device) Await(ctx context.Context, announced func() error) (*mocapi.WantedInstance, error) {
	broker := hex.EncodeToString(random(16))
	if err := d.MOC.Announce(ctx, d.Name, d.announcement(broker, 0)); err != nil {
		return nil, fmt.Errorf("%w: announcing the device: %w", ErrPeer, err)
	}
	defer func() {
		a := d.announcement(broker, 0)
		a.Leaving = true
		bye, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		_ = d.MOC.Announce(bye, d.Name, a) // else its lease runs out
	}()
	work, err := d.MOC.Work(ctx, d.Name, broker, 0, 0)
	if err != nil {
		return nil, fmt.Errorf("%w: asking for work: %w", ErrPeer, err)
	}
	used := work.Instances
	room := d.announcement(broker, len(used)+1)
	if err := d.MOC.Announce(ctx, d.Name, room); err != nil {
		return nil, fmt.Errorf("%w: announcing the device: %w", ErrPeer, err)
	}
	if err := announced(); err != nil {
		return nil, err
	}
	for {
		if work, err = d.MOC.Work(ctx, d.Name, broker, work.Generation, mocapi.LeaseTime/3); err != nil {
			return nil, fmt.Errorf("%w: asking for work: %w", ErrPeer, err)
		}
		for i := range work.Instances {
			w := &work.Instances[i]
			if !slices.ContainsFunc(used, func(u mocapi.WantedInstance) bool { return u.ID == w.ID }) {
				return w, nil
			}
		}
		if err := d.MOC.Announce(ctx, d.Name, room); err != nil { // renews the lease
			return nil, fmt.Errorf("%w: announcing the device: %w", ErrPeer, err)
		}
	}
}
