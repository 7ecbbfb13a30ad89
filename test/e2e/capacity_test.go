// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"fmt"
	"strings"
	"testing"
)

// A device without room: the refusal names each device and the constraint that excludes it, takes no room itself, and a removal
// makes room again.
func TestNoCapacity(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	u.refused(5, []string{"no device fits", "device-1: device (the request names device nowhere)"}, "deploy", "--device", "nowhere", "text.sealift")

	room := 0
	var full result
	for ; room < 64; room++ {
		if full = u.sealift("", "deploy", "text.sealift"); full.code != 0 {
			break
		}
	}
	want := fmt.Sprintf("device-1: capacity (%d of %d instances are taken)", room, room)
	if room == 0 || full.code != 5 || !strings.Contains(full.stderr, want) {
		t.Fatalf("after %d deployments: exit %d, want 5 and %q\n%s", room, full.code, want, full.stderr)
	}
	all := deployments(t, u)
	if len(all) != room {
		t.Errorf("%d deployments, want %d", len(all), room)
	}
	u.must("", "remove", all[0].ID)
	u.must("", "deploy", "--wait", "text.sealift")
	for _, d := range deployments(t, u) {
		u.must("", "remove", d.ID)
	}
	stillWorks(t, u)
}

// Several deployments of one package at once: as many as asked for, until the device is full, and then those that were made stay.
func TestDeployCount(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	var made []struct {
		ID string `json:"id"`
	}
	decode(t, u.must("", "deploy", "--wait", "--count", "3", "--json", "text.sealift").stdout, &made)
	if len(made) != 3 || made[0].ID == made[1].ID || len(deployments(t, u)) != 3 {
		t.Fatalf("%+v", made)
	}
	for _, d := range made {
		if r := u.must("some\n", "call", d.ID); r.stdout != "some text\n" {
			t.Errorf("%s answers %q", d.ID, r.stdout)
		}
	}
	u.refused(2, []string{"--count"}, "deploy", "--count", "0", "text.sealift")
	u.refused(5, []string{"region", "of 2 deployments were made"}, "deploy", "--count", "2", "--where", "region=moon", "text.sealift")
	for _, d := range deployments(t, u) {
		u.must("", "remove", d.ID)
	}
}
