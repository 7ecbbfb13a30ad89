// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// The stories of bad input, one per file: bad package files (badpack), TAs that misbehave (badta), full disks (fulldisk), an
// M/OC that is away (mocdown), two Brokers with one identity (twobrokers), wrong tokens (tokens), bytes that are no protocol
// (garbage, forged), a device without room (capacity), an artifact that was changed (bitflip), and commands at the wrong time
// (lifecycle). Each ends with a good package that still deploys.

// textPackage writes a package file of a TA that answers from a line of data, and returns its path. The text is what the
// answer to any question must hold.
func textPackage(t *testing.T, u *user, name, text string) string {
	t.Helper()
	file := taPackage(t, u, name, "stdio", "grep", "-f", "/dev/stdin", fmt.Sprintf("${PD}/%s.txt", name))
	u.write(name+".txt", text+"\n")
	return file
}

// taPackage writes a package file whose TA is busybox with the arguments.
func taPackage(t *testing.T, u *user, name, serve string, args ...string) string {
	t.Helper()
	u.write(name+".txt", "the data of "+name+"\n")
	list, err := json.Marshal(args)
	if err != nil {
		t.Fatal(err)
	}
	return u.write(name+".yaml", fmt.Sprintf("name: %s\nmode: ta,pd\nta:\n  binary: %s\n  args: %s\n  serve: %s\npd: [%s.txt]\nhardware: [trustzone]\ninstances: [process]\n",
		name, busybox(t), list, serve, name))
}

// stillWorks deploys a good package, asks it and removes it: nothing that went before has harmed the M/OC or the device.
func stillWorks(t *testing.T, u *user) {
	t.Helper()
	u.t = t
	u.must("", "pack", textPackage(t, u, "good", "all is well"))
	u.must("", "deploy", "--wait", "--timeout", "60s", "good.sealift")
	if r := u.must("well\n", "call", "good"); !strings.Contains(r.stdout, "all is well") {
		t.Errorf("the good package answers %q\n%s", r.stdout, r.stderr)
	}
	u.must("", "remove", "good")
	if left := deployments(t, u); len(left) != 0 {
		t.Errorf("deployments that nobody has asked for: %v", left)
	}
}

// shown is a deployment as status shows it.
type shown struct {
	ID      string `json:"id"`
	App     string `json:"app"`
	Unknown bool   `json:"unknown"`
	Remote  struct {
		State     string `json:"state"`
		TEE       string `json:"tee"`
		Installed []struct {
			Component string `json:"component"`
		} `json:"installed"`
	} `json:"remote"`
}

// deployments lists the owner's.
func deployments(t *testing.T, u *user) []shown {
	t.Helper()
	var all []shown
	decode(t, u.must("", "status", "--json").stdout, &all)
	return all
}

// eventually repeats a check until it says that all is well, for at most the time given.
func eventually(t *testing.T, limit time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(limit); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("not within %s: %s", limit, what)
}

// noneDied fails unless the processes of dev are those that they were.
func noneDied(t *testing.T, before, after devInfo) {
	t.Helper()
	for i, p := range after.Processes {
		if q := before.Processes[i]; p.PID == 0 || p.PID != q.PID {
			t.Errorf("%s died: %+v, then %+v", p.Name, q, p)
		}
	}
}

// token reads a bearer token of dev.
func token(t *testing.T, u *user, role string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(u.home, "dev", role+".token"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}
