// SPDX-License-Identifier: Apache-2.0

package moc_test

import (
	"testing"
	"time"

	"sealift/internal/fault"
	"sealift/internal/moc/mocapi"
)

// TestUALogs: the wish of an owner reaches the Broker with its work, once, and the answer reaches the owner: of its own UAs alone.
func TestUALogs(t *testing.T) {
	w := newWorld(t)
	d, _ := w.deploy()
	work, err := w.device.Work(w.ctx, "d1", "b1", 0, 0)
	must(t, err)
	if len(work.Logs) != 0 {
		t.Errorf("nobody has asked, and the work has %q", work.Logs)
	}
	_, err = w.other.UALogs(w.ctx, d.ID)
	wantCode(t, err, fault.NotFound)

	type answer struct {
		logs mocapi.UALogs
		err  error
	}
	answers := make(chan answer, 2)
	for range 2 { // both get the one answer
		go func() {
			logs, err := w.owner.UALogs(w.ctx, d.ID)
			answers <- answer{logs, err}
		}()
	}
	asked := 0
	for got := 0; got < 2; {
		work, err := w.device.Work(w.ctx, "d1", "b1", work.Generation, 5*time.Second)
		must(t, err)
		if len(work.Logs) == 1 && work.Logs[0] == d.TEE {
			asked++
			must(t, w.device.PutUALogs(w.ctx, "d1", mocapi.UALogs{BrokerID: "b1", Instance: d.TEE, UAs: []mocapi.UALog{
				{Component: "ree/" + d.App + "/ua", Text: []byte("hello\n")}, {Component: "ree/another/ua", Text: []byte("secret")}}}))
		}
		for range 2 {
			select {
			case a := <-answers:
				got++
				if a.err != nil || len(a.logs.UAs) != 1 || string(a.logs.UAs[0].Text) != "hello\n" {
					t.Errorf("told %+v, %v", a.logs, a.err)
				}
			default:
			}
		}
	}
	if asked == 0 || asked > 2 {
		t.Errorf("the Broker was asked %d times", asked)
	}
	big := mocapi.UALogs{BrokerID: "b1", Instance: d.TEE, UAs: []mocapi.UALog{{Text: make([]byte, mocapi.MaxUALog+1)}}}
	wantCode(t, w.device.PutUALogs(w.ctx, "d1", big), fault.BadRequest)
	wantCode(t, w.device.PutUALogs(w.ctx, "d1", mocapi.UALogs{BrokerID: "another"}), fault.DeviceInUse)
	must(t, w.device.PutUALogs(w.ctx, "d1", mocapi.UALogs{BrokerID: "b1", Instance: "nobody asked"}))
}
