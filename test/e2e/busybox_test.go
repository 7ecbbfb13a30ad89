// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/test/canary"
)

const ouiTable = "/usr/share/ieee-data/oui.csv"

// busybox returns the path of a busybox that is linked statically: a TA that this project did not make.
func busybox(t *testing.T) string {
	t.Helper()
	for _, path := range []string{"/bin/busybox", "/usr/bin/busybox"} {
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	t.Fatal("busybox is missing: run scripts/setup.sh")
	return ""
}

// ouiPackage writes a package file of a TA and data that others made, and returns its name.
func ouiPackage(t *testing.T, u *user, pd string) string {
	t.Helper()
	return u.write("oui.yaml", fmt.Sprintf(`name: oui
mode: ta,pd
ta:
  binary: %s
  args: [grep, -i, -f, /dev/stdin, "${PD}/oui.csv"]
  serve: stdio
pd:
  - name: oui.csv
    path: %s
hardware: [trustzone]
instances: [process]
`, busybox(t), pd))
}

// devUp gives the user a local M/OC and device for the time of the test.
func devUp(t *testing.T, u *user, args ...string) {
	t.Helper()
	t.Cleanup(func() {
		u.sealift("", "dev", "down")
		nothingLeft(t)
	})
	u.must("", append([]string{"dev", "up"}, args...)...)
}

// The story of the first user: somebody else's program, somebody else's data, from dev up to remove.
func TestForeignProgramAndData(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", ouiPackage(t, u, ouiTable))
	if r := u.must("", "plan", "oui.sealift"); !strings.Contains(r.stdout, "pd-to-ta") {
		t.Errorf("the plan does not say where PD goes:\n%s", r.stdout)
	}
	r := u.must("", "deploy", "--wait", "oui.sealift")
	if !strings.Contains(r.stdout+r.stderr, "EMULATED") {
		t.Errorf("deploy does not say EMULATED:\n%s\n%s", r.stdout, r.stderr)
	}
	for vendor, want := range map[string]string{"cisco systems": "Cisco Systems, Inc", "no such vendor at all": ""} {
		r := u.sealift(vendor+"\n", "call", "oui")
		lines := strings.Count(r.stdout, "\n")
		if want != "" && (lines < 100 || lines != strings.Count(r.stdout, want)+strings.Count(r.stdout, strings.ToUpper(want))) {
			t.Logf("%d lines for %q; the first: %.200s", lines, vendor, r.stdout)
		}
		if (want == "") != (r.stdout == "") {
			t.Errorf("call with %q: exit %d, %d lines\n%s", vendor, r.code, lines, r.stderr)
		}
	}
	u.must("", "remove", "oui")
	if r := u.sealift("cisco\n", "call", "oui"); r.code == 0 || r.stdout != "" {
		t.Errorf("after remove, call answers: exit %d\n%.200s", r.code, r.stdout)
	}
	// A line of the data that is long enough not to be met by chance, looked for in all that the device and M/OC keep.
	secret, err := canary.New([]byte("Cisco Systems, Inc\",80 West Tasman Drive"))
	if err != nil {
		t.Fatal(err)
	}
	found, files, err := secret.ScanTree(filepath.Join(u.home, "dev"))
	if err != nil || files == 0 || len(found) != 0 {
		t.Errorf("after remove: %v in %d files, %v", found, files, err)
	}
}
