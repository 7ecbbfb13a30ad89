// SPDX-License-Identifier: Apache-2.0

package qemu

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestTrials: an outcome is found for the same kernel on the same host, the latest counts, and a damaged file is as good as none.
func TestTrials(t *testing.T) {
	trials := Trials(filepath.Join(t.TempDir(), "cache", "trials"))
	one, two := [32]byte{1}, [32]byte{2}
	if _, known := trials.Find(one); known {
		t.Error("an outcome before any trial")
	}
	for _, r := range []Trial{{KVM: true, Millis: 1500, Time: time.Unix(1, 0).UTC()}, {Why: strings.Repeat("w", 4096)}} {
		if err := trials.Put(one, r); err != nil {
			t.Fatal(err)
		}
		if got, known := trials.Find(one); !known || got.KVM != r.KVM || got.Millis != r.Millis || len(got.Why) > maxText {
			t.Errorf("%+v", got)
		}
	}
	if _, known := trials.Find(two); known || len(trials.All()) != 1 {
		t.Error("an outcome for another kernel")
	}
	for i := range 40 {
		if err := trials.Put([32]byte{3, byte(i)}, Trial{}); err != nil {
			t.Fatal(err)
		}
	}
	if all := trials.All(); len(all) != maxTrials || !strings.HasPrefix(all[maxTrials-1].Kernel, "0327") {
		t.Errorf("%d outcomes", len(all))
	}
	for _, text := range []string{"", "{", "[{\"kvm\": 7}]", strings.Repeat("[", 1<<16)} {
		if err := os.WriteFile(string(trials), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if all := trials.All(); len(all) != 0 {
			t.Errorf("%.20q: %v", text, all)
		}
	}
}

func TestProcessorFlags(t *testing.T) {
	file := filepath.Join(t.TempDir(), "cpuinfo")
	if err := os.WriteFile(file, []byte("processor\t: 0\nflags\t\t: fpu vmx sse\n\nprocessor\t: 1\nflags\t\t: fpu\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if flags, err := processorFlags(file); err != nil || !slices.Equal(flags, []string{"fpu", "vmx", "sse"}) {
		t.Error(flags, err)
	}
	if _, err := processorFlags(os.DevNull); err == nil {
		t.Error("flags of nothing")
	}
}
