// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"slices"
	"strings"
	"testing"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// TestTransfers: what a Broker says of payloads on their way gets the names of the components that the manifests have, and
// what is in no manifest of the deployment is not told on.
func TestTransfers(t *testing.T) {
	w := newWorld(t)
	d, _ := w.deploy()
	uri := "ni:///sha-256;" + b64("a TA")
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true, Transfers: []mocapi.Transfer{
		{Payload: uri, Bytes: 2, Total: 4}, {Payload: "http://x/\x1b[2J", Bytes: 1, Total: 2}, {Payload: uri, Bytes: 5, Total: 4},
	}})
	got := w.get(d.ID).InstanceStatus.Transfers
	if len(got) != 1 || got[0].Component != "tee/app/ta" || !strings.HasPrefix(got[0].Payload, "sha256:") || got[0].Bytes != 2 || got[0].Total != 4 {
		t.Errorf("told %+v", got)
	}
	w.announce(mocapi.InstanceStatus{ID: d.ID, Running: true})
	if got := w.get(d.ID).InstanceStatus.Transfers; len(got) != 0 {
		t.Errorf("still told: %+v", got)
	}
	a := mocapi.Announcement{BrokerID: "b", Hardware: "trustzone", RootFingerprint: strings.Repeat("00", 32), Instances: []mocapi.InstanceStatus{
		{ID: d.ID, Transfers: slices.Repeat([]mocapi.Transfer{{Payload: uri}}, 65)}}}
	wantCode(t, w.device.Announce(w.ctx, "d1", a), fault.BadRequest)
}
