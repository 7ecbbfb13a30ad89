// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"path/filepath"
	"strings"
	"testing"
)

// A second Broker with the identity of the first is refused and ends, whether it takes the same state folder or only the same
// token. The first goes on.
func TestTwoBrokersWithOneIdentity(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	u.must("", "deploy", "--wait", "text.sealift")
	before := devState(t, u)
	dev := filepath.Join(u.home, "dev")
	broker := func(device, token, state string) []string {
		return []string{"broker", "run", "--device", device, "--moc", before.URL, "--token-file", token, "--state", state, "--emulator", emulatorSocket(t, u)}
	}
	own, other := filepath.Join(dev, "device.token"), filepath.Join(u.dir, "other")
	u.refused(1, []string{"another Broker is running on this state folder", "hint"}, broker("device-1", own, filepath.Join(dev, "broker"))...)
	u.refused(1, []string{"another", "device-1", "the M/OC refuses this Broker"}, broker("device-1", own, other)...)
	u.refused(1, []string{"the bearer token is not known"}, broker("device-1", u.write("no.token", "nobody-gave-me-this\n"), other)...)
	u.refused(5, []string{"the M/OC refuses this Broker"}, broker("device-2", own, other)...)
	u.refused(5, []string{"a token of role owner may not do this"}, broker("device-1", filepath.Join(dev, "owner.token"), other)...)
	u.refused(2, []string{"reading the device's token"}, broker("device-1", filepath.Join(u.dir, "none"), other)...)

	noneDied(t, before, devState(t, u))
	if r := u.must("some\n", "call", "text"); r.stdout != "some text\n" {
		t.Errorf("the TA answers %q", r.stdout)
	}
	u.must("", "remove", "text")
	stillWorks(t, u)
}

// A second M/OC, or a second piece of emulated hardware, on a state folder that is in use is refused as well.
func TestTwoOfTheOthers(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	before := devState(t, u)
	dev := filepath.Join(u.home, "dev")
	u.refused(1, []string{"another M/OC works in this state folder"}, "moc", "serve", "--state", filepath.Join(dev, "moc"), "--listen", "127.0.0.1:0")
	u.refused(1, []string{"address already in use"}, "moc", "serve", "--state", filepath.Join(u.dir, "moc"), "--listen", strings.TrimPrefix(before.URL, "http://"))
	u.refused(1, nil, "emulator", "run", "--state", filepath.Join(dev, "emulator"), "--socket", filepath.Join(u.dir, "s"))
	u.refused(1, nil, "emulator", "run", "--state", filepath.Join(u.dir, "emulator"), "--socket", emulatorSocket(t, u))
	noneDied(t, before, devState(t, u))
	stillWorks(t, u)
}

// emulatorSocket finds the socket of dev's emulated hardware on its command line.
func emulatorSocket(t *testing.T, u *user) string {
	t.Helper()
	pid := devProcess(t, u, "emulator")
	for _, p := range processes(t) {
		for i, arg := range p.args {
			if p.pid == pid && arg == "--socket" {
				return p.args[i+1]
			}
		}
	}
	t.Fatal("the emulator has no socket")
	return ""
}
