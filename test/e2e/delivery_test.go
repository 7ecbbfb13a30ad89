// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bufio"
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// While an owner takes PD to the TEE itself, each process in turn is killed, the owner's own as well. What was begun comes to its end by
// itself, or is tried again when the owner says so; the trace equals the plan, and the TA answers. The table is large, so that the kill
// falls into the delivery.
func TestKillDuringDelivery(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.write("rows.csv", "alice,41\nbob,17\n")
	u.write("large.csv", strings.Repeat("a line of a large table that nobody reads\n", 1<<20))
	u.write("finder.yaml", `name: finder
mode: ta,pd
hardware: [trustzone]
instances: [process]
ta:
  binary: `+busybox(t)+`
  args: [grep, -f, /dev/stdin, "${PD}/rows.csv"]
  serve: stdio
pd: [rows.csv, large.csv]
`)
	const owner = "owner"
	for _, v := range []victim{outside("moc", "serve"), outside("broker", "run"), outside("emulator", "run"), inTEE("agent", "sealift-agent"), {name: owner}} {
		t.Run(v.name, func(t *testing.T) {
			u.t = t
			u.must("", "pack", "finder.yaml")
			cmd := exec.Command(filepath.Join(bin, "sealift"), "deploy", "--wait", "--delivery", "channel", "--timeout", "90s", "finder.sealift")
			cmd.Dir, cmd.Env = u.dir, append(os.Environ(), "SEALIFT_HOME="+u.home)
			stderr, err := cmd.StderrPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			var talk bytes.Buffer
			for lines := bufio.NewScanner(stderr); lines.Scan(); {
				fmt.Fprintln(&talk, lines.Text())
				if fields := strings.Fields(lines.Text()); len(fields) > 2 && fields[2] == "attest" {
					awaitDelivery(t, u)
					if v.name == owner {
						_ = cmd.Process.Signal(syscall.SIGKILL)
					} else {
						kill(t, u, v)
					}
				}
			}
			err = cmd.Wait()
			if v.name == owner {
				if err == nil {
					t.Fatal("the owner was not killed")
				}
				if r := u.must("", "status", "finder"); !strings.Contains(r.stdout, "sealift release") {
					t.Errorf("status does not say what to do:\n%s", r.stdout)
				}
				u.must("", "release", "--wait", "finder")
			} else if err != nil {
				t.Fatalf("%s killed: %v\n%s\n%s", v.name, err, &talk, logs(u))
			}
			var list []struct {
				Remote struct {
					ID          string `json:"id"`
					State       string `json:"state"`
					Plan, Trace []step
				} `json:"remote"`
			}
			decode(t, u.must("", "status", "finder", "--json").stdout, &list)
			if d := list[0].Remote; d.State != "running" || names(d.Trace) != names(d.Plan) {
				t.Errorf("state %s, plan %s, trace %s", d.State, names(d.Plan), names(d.Trace))
			}
			if r := u.must("bob\n", "call", "finder"); r.stdout != "bob,17\n" {
				t.Errorf("the TA answers %q", r.stdout)
			}
			u.must("", "remove", "finder")
		})
	}
}

// awaitDelivery waits until the M/OC knows that the owner is delivering.
func awaitDelivery(t *testing.T, u *user) {
	t.Helper()
	for range 200 {
		if r := u.sealift("", "status", "finder"); strings.Contains(r.stdout, "awaiting-delivery") || strings.Contains(r.stdout, "running") {
			return
		}
	}
	t.Error("the owner does not come to deliver")
}
