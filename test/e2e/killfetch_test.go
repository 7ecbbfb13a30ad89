// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"testing"
	"time"
)

// largePayload is enough to be caught in the middle.
const largePayload = 192 << 20

var goesOnLine = regexp.MustCompile(`msg="a payload goes on where it was" .*kept=(\d+) `)

// Broker and Agent are killed in the middle of a large payload. What the device has of it is not moved again, and the deployment
// completes.
func TestKillInTheMiddleOfAPayload(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	program, err := os.ReadFile(filepath.Join(bin, "examples", "stats-ta"))
	if err != nil {
		t.Fatal(err)
	}
	large := u.write("large-ta", string(program))
	if err := os.Truncate(large, largePayload); err != nil {
		t.Fatal(err)
	}
	data, err := filepath.Abs(filepath.Join("..", "..", "examples", "stats", "staff.csv"))
	if err != nil {
		t.Fatal(err)
	}
	u.must("", "pack", u.write("stats.yaml", fmt.Sprintf(
		"name: stats\nmode: ta,pd\nhardware: [trustzone]\ninstances: [process]\nta:\n  binary: %s\n  serve: socket\npd: [%s]\n", large, data)))
	deploy := exec.Command(filepath.Join(bin, "sealift"), "deploy", "--wait", "--json", "--timeout", "100s", "stats.sealift")
	deploy.Dir, deploy.Env = u.dir, append(os.Environ(), "SEALIFT_HOME="+u.home)
	var stdout, stderr bytes.Buffer
	deploy.Stdout, deploy.Stderr = &stdout, &stderr
	if err := deploy.Start(); err != nil {
		t.Fatal(err)
	}
	at := []int64{}
	for _, v := range []victim{outside("broker", "run"), inTEE("agent", "sealift-agent")} {
		from := int64(0)
		if len(at) > 0 {
			from = at[len(at)-1]
		}
		if !arriving(u, from+8<<20) {
			t.Errorf("the payload does not arrive: %s", v.name)
			break
		}
		kill(t, u, v)
		at = append(at, arrived(u))
	}
	if err := deploy.Wait(); err != nil {
		t.Fatalf("deploy: %v\n%s\n%s", err, &stderr, logs(u))
	}
	var deployed struct {
		ID  string `json:"id"`
		TEE string `json:"tee"`
	}
	decode(t, stdout.String(), &deployed)
	installedOnce(t, u, deployed.TEE)
	answers(t, u, deployed.ID)
	broker, err := filepath.Glob(filepath.Join(u.home, "dev", "log", "broker*"))
	if err != nil || len(broker) == 0 {
		t.Fatal("no log of the Broker: ", err)
	}
	log, err := os.ReadFile(broker[0])
	if err != nil {
		t.Fatal(err)
	}
	went := goesOnLine.FindAllSubmatch(log, -1)
	if len(at) != 2 || at[0] == 0 || at[1] == 0 || len(went) < 2 {
		t.Fatalf("killed when %d bytes were there; it went on %d times\n%s", at, len(went), log)
	}
	for i, m := range went[:2] {
		if kept, err := strconv.ParseInt(string(m[1]), 10, 64); err != nil || kept < at[i] {
			t.Errorf("it went on at %s, and %d bytes were there when the process was killed: %v", m[1], at[i], err)
		}
	}
}

// arriving waits until more than from bytes of a payload have arrived, and not all.
func arriving(u *user, from int64) bool {
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); time.Sleep(time.Millisecond) {
		if arrived(u) > from {
			return true
		}
	}
	return false
}

// arrived is how much the Broker has of a payload that is on its way; 0 if none is.
func arrived(u *user) int64 {
	parts, _ := filepath.Glob(filepath.Join(u.home, "dev", "*", "payloads", "*.part"))
	for _, part := range parts {
		if st, err := os.Stat(part); err == nil {
			return st.Size()
		}
	}
	return 0
}
