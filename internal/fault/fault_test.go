// SPDX-License-Identifier: Apache-2.0

package fault_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"testing"

	"sealift/internal/fault"
)

func TestErrorCrossesTheWire(t *testing.T) {
	sent := fault.New(fault.NoDevice, "no device fits: %w", io.EOF).
		WithHint("add a device").WithDetails([]string{"d1: full"})
	data, err := json.Marshal(sent)
	if err != nil {
		t.Fatal(err)
	}
	got := new(fault.Error)
	if err := json.Unmarshal(data, got); err != nil {
		t.Fatal(err)
	}
	if got.Code != sent.Code || got.Message != sent.Message || got.Hint != sent.Hint || got.Exit != fault.ExitPolicy {
		t.Errorf("got %+v, sent %+v", got, sent)
	}
	if raw, ok := got.Details.(json.RawMessage); !ok || string(raw) != `["d1: full"]` {
		t.Errorf("details: %v", got.Details)
	}
	if !errors.Is(sent, io.EOF) {
		t.Error("the wrapped error is lost")
	}
}

func TestFirstCodeWins(t *testing.T) {
	inner := fault.New(fault.DeviceInUse, "taken")
	outer := fault.Wrap(fault.Internal, fmt.Errorf("announcing: %w", inner))
	if outer.Code != fault.DeviceInUse || !fault.Is(outer, fault.DeviceInUse) {
		t.Errorf("code %q", outer.Code)
	}
	if fault.From(nil) != nil {
		t.Error("From(nil) is not nil")
	}
	if got := fault.From(io.EOF); got.Code != fault.Internal || got.Status() != 500 {
		t.Errorf("From(io.EOF) = %+v", got)
	}
}

func TestForeignProblem(t *testing.T) {
	got := new(fault.Error)
	if err := json.Unmarshal([]byte(`{"title":"Bad Gateway","status":502}`), got); err != nil {
		t.Fatal(err)
	}
	if got.Code != fault.Internal || got.Message != "Bad Gateway" {
		t.Errorf("got %+v", got)
	}
	for code := range fault.Codes() {
		if fault.Status(code) < 400 || fault.Exit(code) == 0 {
			t.Errorf("%s: status %d exit %d", code, fault.Status(code), fault.Exit(code))
		}
	}
}
