// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/usecase"
)

// lifeCells are the cells whose life is followed by default: one of each instance type. SEALIFT_MATRIX=full follows all twelve.
var lifeCells = []usecase.Cell{
	{Instance: usecase.Process, Hardware: usecase.SGX}, {Instance: usecase.Container, Hardware: usecase.SEVSNP}, {Instance: usecase.VM, Hardware: usecase.CCA},
}

// TestLifeOfEveryCell follows a deployment in each cell from its first step to the proof of its removal, with its device killed on the way:
// it is installed, updated, not rolled back, serves on when an update fails, stopped, and started again.
func TestLifeOfEveryCell(t *testing.T) {
	cells := lifeCells
	if everyCell() {
		cells = usecase.Cells()
	}
	u := newUser(t)
	images := filepath.Join(bin, "images")
	vmImage(t, u, images)
	containerImage(t, u, images)
	t.Cleanup(func() { os.RemoveAll(images) })
	up := []string{}
	for _, c := range cells {
		if !slices.Contains(up, string(c.Hardware)) {
			up = append(up, "--hardware", string(c.Hardware))
		}
	}
	devUp(t, u, up...)
	t.Run("cells", func(t *testing.T) {
		for _, c := range cells {
			t.Run(c.String(), func(t *testing.T) {
				t.Parallel()
				mine := &user{t: t, home: u.home, dir: t.TempDir()}
				life(t, mine, c, fmt.Sprintf("%s-%s", c.Instance, c.Hardware))
			})
		}
	})
}

func everyCell() bool { return os.Getenv("SEALIFT_MATRIX") == "full" }

// life is what is done in each cell.
func life(t *testing.T, u *user, c usecase.Cell, app string) {
	version := func(n int, from, to string) {
		t.Helper()
		text := readText(t, newerStats(t, u, "ua,ta,pd", n))
		u.write("stats.yaml", strings.NewReplacer("name: stats", "name: "+app, "[trustzone]", "["+string(c.Hardware)+"]",
			"[process]", "["+string(c.Instance)+"]", from, to).Replace(text))
		u.must("", "pack", "-o", fmt.Sprintf("v%d.sealift", n), "stats.yaml")
	}
	emulator, broker := ofDevice("emulator", c.Hardware), ofDevice("broker", c.Hardware)
	version(1, "", "")
	first := emulator
	if c.Instance == usecase.VM && !everyCell() { // a machine takes its time to come up again; TestVM kills one
		first = broker
	}
	u.killing(first, "admit", "deploy", "--wait", "--timeout", "110s", "v1.sealift")
	answersWith(t, u, app, "production-1")
	version(2, "", "")
	u.killing(broker, "attest", "update", "--wait", "--timeout", "110s", app, "v2.sealift")
	answersWith(t, u, app, "production-2")
	u.refused(5, []string{"the deployment got", "already"}, "update", app, "v1.sealift")
	// A program that starts well enough without PD, which the Agent does not hold against it, and ends with it; where a start may take longer
	// than the Agent waits for its end, one that never starts.
	bad, why := fmt.Sprintf("binary: %s\n  args: [sh, -c, \"exit 3\"]", busybox(t)), "the TA ends at once"
	if c.Instance == usecase.VM {
		bad, why = "binary: "+u.write("bad.wasm", "\x00asm\x01\x00\x00\x00and nothing more"), "the program cannot be run"
	}
	version(3, "binary: "+filepath.Join(u.dir, "stats-ta"), bad)
	u.refused(1, []string{"update failed", why}, "update", app, "v3.sealift", "--wait")
	answersWith(t, u, app, "production-2")

	id := one(t, u, app).ID
	var stopped struct {
		State string
		Held  bool
	}
	decode(t, u.killing(emulator, "stop", "stop", app, "--json"), &stopped)
	if stopped.State != "stopped" || !stopped.Held {
		t.Errorf("stop says %+v", stopped)
	}
	if r := u.must("", "stop", app); !strings.Contains(r.stdout, "stopped already") {
		t.Errorf("a second stop says\n%s", r.stdout)
	}
	if r := u.must("", "status", app); !strings.Contains(r.stdout, "stopped") {
		t.Errorf("status says\n%s", r.stdout)
	}
	u.refused(1, []string{"is stopped", "sealift start"}, "call", app)
	u.refused(1, []string{"is stopped", "sealift start"}, "verify", app)
	killed := []int{kill(t, u, emulator), kill(t, u, broker)}
	eventually(t, time.Minute, "the device is back", func() bool {
		e, b := emulator.find(t, u), broker.find(t, u)
		return e != 0 && b != 0 && !slices.Contains(killed, e) && !slices.Contains(killed, b)
	})
	if s := one(t, u, app).Remote.State; s != "stopped" {
		t.Errorf("after a restart of the device it is %s", s)
	}
	if r := u.killing(broker, "verify", "start", app); !strings.Contains(r, "running") {
		t.Errorf("start says\n%s", r)
	}
	answersWith(t, u, app, "production-2")
	if r := u.must("", "start", app); !strings.Contains(r.stdout, "runs already") {
		t.Errorf("a second start says\n%s", r.stdout)
	}
	if r := u.must("", "top", app); !strings.Contains(r.stdout, "running") || !strings.Contains(r.stdout, "PD 1 files") {
		t.Errorf("top says\n%s", r.stdout)
	}
	removedWithProof(t, u, app, id)
}

// removedWithProof removes a deployment, and checks what is proven of that and that nothing of it is left on the device.
func removedWithProof(t *testing.T, u *user, app, id string) {
	t.Helper()
	r := u.must("", "remove", app)
	for _, want := range []string{"signed that it destroyed", "tee/" + app + "/ta", "pd/" + app + "/staff.csv"} {
		if !strings.Contains(r.stdout, want) {
			t.Errorf("remove does not say %q:\n%s", want, r.stdout)
		}
	}
	var known []struct {
		Removal struct {
			Proven    bool
			AgentKey  string `json:"agent_key"`
			Evidence  struct{ SHA256 string }
			Destroyed []string
		}
	}
	decode(t, u.must("", "status", id, "--json").stdout, &known)
	if len(known) != 1 || !known[0].Removal.Proven || known[0].Removal.Evidence.SHA256 == "" || len(known[0].Removal.Destroyed) != 2 {
		t.Errorf("status says %+v", known)
	}
	if r := u.must("", "inspect", filepath.Join(u.home, "removals", id+".json")); !strings.Contains(r.stdout, "verified: what was destroyed") ||
		!strings.Contains(r.stdout, known[0].Removal.AgentKey) || strings.Contains(r.stdout, "not verified") {
		t.Errorf("inspect says\n%s", r.stdout)
	}
	for _, pattern := range []string{"emulator*/instances/" + id, "emulator*/trash/*", "broker*/ree/components/" + id} {
		if left, _ := filepath.Glob(filepath.Join(u.home, "dev", pattern)); len(left) != 0 {
			t.Errorf("left on the device: %v", left)
		}
	}
}

// one returns the user's deployment of an application.
func one(t *testing.T, u *user, app string) shown {
	t.Helper()
	var all []shown
	decode(t, u.must("", "status", app, "--json").stdout, &all)
	if len(all) != 1 {
		t.Fatalf("deployments of %s: %v", app, all)
	}
	return all[0]
}

// ofDevice finds the process of one device of several by its name and the device's hardware.
func ofDevice(name string, hardware usecase.Hardware) victim {
	socket := "/tee-" + string(hardware) + ".sock"
	if hardware == usecase.TrustZone { // the first one that dev had
		socket = "/tee.sock"
	}
	return victim{name + " of " + string(hardware), func(t *testing.T, u *user) int {
		for _, p := range processes(t) {
			args := strings.Join(p.args, " ")
			if len(p.args) > 2 && p.args[1] == name && p.args[2] == "run" && strings.Contains(args, u.home) && strings.Contains(args, socket) {
				return p.pid
			}
		}
		return 0
	}}
}
