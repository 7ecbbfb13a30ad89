// SPDX-License-Identifier: Apache-2.0

//go:build linux

package broker

import (
	"context"
	"time"

	"sealift/internal/moc/mocapi"
)

// logBytes bounds what is told of all UAs of an instance together.
const logBytes = 512 << 10

// tellLogs tells the M/OC what the UAs of the instances have printed last.
func (b *Broker) tellLogs(ctx context.Context, instances []string) {
	for _, id := range instances {
		l := mocapi.UALogs{BrokerID: b.id, Instance: id, UAs: []mocapi.UALog{}}
		left := logBytes
		for _, log := range b.host.Logs(id, mocapi.MaxUALog) {
			text := log.Text[max(0, len(log.Text)-left):]
			left -= len(text)
			l.UAs = append(l.UAs, mocapi.UALog{Component: log.Component.String(), Text: text})
		}
		ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
		if err := b.cfg.MOC.PutUALogs(ctx, b.cfg.Device, l); err != nil {
			b.cfg.Log.Warn("the M/OC does not take what UAs have printed", "instance", id, "error", err)
		}
		cancel()
	}
}
