// SPDX-License-Identifier: Apache-2.0

package runner

import (
	"os/exec"
	"slices"
	"testing"
	"time"
)

// TestReap makes a zombie and lets it be found twice.
func TestReap(t *testing.T) {
	cmd := exec.Command("true")
	if err := cmd.Start(); err != nil {
		t.Skip(err)
	}
	pid := cmd.Process.Pid
	for deadline := time.Now().Add(10 * time.Second); !slices.Contains(zombies(), pid); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("no zombie")
		}
	}
	seen := reapOnce(nil)
	if !seen[pid] || !slices.Contains(zombies(), pid) {
		t.Fatal("it was not left alone at the first look")
	}
	reapOnce(seen)
	if slices.Contains(zombies(), pid) {
		t.Fatal("it was not reaped at the second look")
	}
}
