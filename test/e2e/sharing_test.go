// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"strings"
	"testing"
)

// TestSharedInstance: programs that this project did not make, one and the same with different data, share a TEE instance; a third application
// with a UA joins while the Agent is killed. Each keeps to itself; what becomes of one is nothing to the others; with the last the
// instance goes.
func TestSharedInstance(t *testing.T) {
	for _, instance := range []string{"process", "container"} {
		t.Run(instance, func(t *testing.T) {
			u := newUser(t)
			if instance == "container" {
				containerUp(t, u)
			} else {
				devUp(t, u)
			}
			pack := func(file string) {
				t.Helper()
				text := strings.ReplaceAll(mustRead(t, u, file), "[process]", "["+instance+"]")
				u.must("", "pack", u.write("package.yaml", text))
			}
			asked := func(app, want string) {
				t.Helper()
				if r := u.must("line\n", "call", app); r.stdout != want+"\n" {
					t.Errorf("%s answers %q, want %q", app, r.stdout, want)
				}
			}
			pack(textPackage(t, u, "one", "the line of one"))
			u.must("", "deploy", "--wait", "one.sealift")
			pack(textPackage(t, u, "two", "the line of two"))
			u.refused(1, []string{"is for that application alone", "--sharing owner"}, "deploy", "--share-with", "one", "two.sealift")
			u.must("", "remove", "one")

			u.must("", "deploy", "--wait", "--sharing", "owner", "one.sealift")
			u.must("", "deploy", "--wait", "--share-with", "one", "two.sealift")
			u.refused(1, []string{"has an application \"one\" already"}, "deploy", "--share-with", "two", "one.sealift")
			all := deployments(t, u)
			if len(all) != 2 || all[0].Remote.TEE != all[1].Remote.TEE || all[0].ID == all[1].ID {
				t.Fatalf("%+v", all)
			}
			if r := u.must("", "verify", "one"); !strings.Contains(r.stdout, "TA tee/two/ta") || !strings.Contains(r.stdout, "all its applications") {
				t.Errorf("the owner is not told what shares the instance:\n%s", r.stdout)
			}
			pack(statsPackage(t, u, "ua,ta,pd"))
			killAt(t, u, inTEE("agent", "sealift-agent"), "ta-to-instance", "--share-with", "one")
			asked("one", "the line of one")
			asked("two", "the line of two")

			pack(textPackage(t, u, "one", "a newer line of one"))
			u.must("", "update", "--wait", "one", "one.sealift")
			asked("one", "a newer line of one")
			if r := u.must("", "remove", "one"); !strings.Contains(r.stdout+r.stderr, "pd/one/one.txt, tee/one/ta") {
				t.Errorf("no proof of the removal: %s%s", r.stdout, r.stderr)
			}
			asked("two", "the line of two")
			u.must("", "remove", "two")
			for _, p := range processes(t) {
				if strings.Contains(p.exe, "memfd:") {
					t.Errorf("left over: %v", p)
				}
			}
			stillWorks(t, u)
		})
	}
}
