// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/test/canary"
	"sealift/usecase"
)

// The operator's side sees nothing of the PD (promise I2): no file of M/OC, Broker and emulated device, no memory of the
// M/OC's and the Broker's processes, and no byte that those read or write holds a canary that lies in the PD. The same
// scans do find a canary that is planted.
func TestNothingOfThePDOutsideTheTEE(t *testing.T) {
	const text = "canary-in-the-data-7d1b9e42c6"
	secret, err := canary.New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t)
	devUp(t, u)
	var listen []int
	for _, name := range []string{"moc", "broker"} {
		listen = append(listen, devProcess(t, u, name))
	}
	capture, err := canary.Listen(t.TempDir(), listen...)
	if err != nil {
		t.Fatal(err)
	}

	// The canary stands between other lines, as a secret in a table does.
	table, err := os.ReadFile(ouiTable)
	if err != nil {
		t.Fatal(err)
	}
	half := len(table) / 2
	pd := u.write("oui.csv", string(table[:half])+"\n"+text+"\n"+string(table[half:]))
	u.must("", "pack", ouiPackage(t, u, pd))
	u.must("", "deploy", "--wait", "oui.sealift")
	if r := u.must("canary-in-the-data\n", "call", "oui"); !strings.Contains(r.stdout, text) {
		t.Fatalf("the TA does not see its own data:\n%s", r.stdout)
	}

	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	if found, size, err := capture.Scan(secret); err != nil || len(found) != 0 || size < int64(len(table)) {
		t.Errorf("between processes: %v in %d bytes, %v", found, size, err)
	}
	memory := func() (found []canary.Hit, size int64) {
		for _, pid := range listen {
			f, n, err := secret.ScanProcess(pid)
			if err != nil {
				t.Fatal(err)
			}
			found, size = append(found, f...), size+n
		}
		return found, size
	}
	if found, size := memory(); len(found) != 0 || size < 10<<20 {
		t.Errorf("in memory: %v in %d bytes", found, size)
	}
	operator := filepath.Join(u.home, "dev")
	if found, files, err := secret.ScanTree(operator); err != nil || len(found) != 0 || files < 5 {
		t.Errorf("on disk: %v in %d files, %v", found, files, err)
	}

	// The same scans find a canary that is there: in a file of the device, and in what the M/OC reads and keeps.
	if err := os.WriteFile(filepath.Join(operator, "planted"), []byte(fmt.Sprintf("%x", text)), 0o600); err != nil {
		t.Fatal(err)
	}
	if found, _, err := secret.ScanTree(operator); err != nil || len(found) != 1 {
		t.Errorf("the scan does not find a planted file: %v, %v", found, err)
	}
	capture, err = canary.Listen(t.TempDir(), listen...)
	if err != nil {
		t.Fatal(err)
	}
	halfRequest(t, u, text)
	if found, _ := memory(); len(found) == 0 {
		t.Error("the scan of memory does not find a canary that the M/OC was sent")
	}
	if err := capture.Stop(); err != nil {
		t.Fatal(err)
	}
	if found, _, err := capture.Scan(secret); err != nil || len(found) == 0 {
		t.Errorf("the scan of the traffic does not find a canary that the M/OC was sent: %v", err)
	}
}

// The same holds in the modes in which something else travels with the PD, or beside it: the UA itself is one of those who see nothing. Where
// the owner takes the PD to the TEE itself, not even ciphertext of it lies anywhere outside.
func TestNothingOfThePDOutsideInOtherModes(t *testing.T) {
	const text = "canary-department-5f20c9ae61"
	secret, err := canary.New([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	u := newUser(t)
	devUp(t, u)
	var listen []int
	for _, name := range []string{"moc", "broker"} {
		listen = append(listen, devProcess(t, u, name))
	}
	table, err := os.ReadFile(filepath.Join("..", "..", "examples", "stats", "staff.csv"))
	if err != nil {
		t.Fatal(err)
	}
	record := strings.Split(strings.Split(string(table), "\n")[1], ",")
	header := strings.Split(strings.Split(string(table), "\n")[0], ",")
	record[slices.Index(header, "department")] = text
	pd := u.write("staff.csv", string(table)+strings.Join(record, ",")+"\n")
	for _, run := range []struct{ mode, delivery string }{
		{"ua+ta,pd", usecase.DeliverySealed}, {"ta+pd,ua", usecase.DeliverySealed}, {"ua+pd,ta", usecase.DeliverySealed},
		{"ua+ta+pd", usecase.DeliverySealed}, {"ua,ta,pd", usecase.DeliveryChannel}, {"ua+ta+pd", usecase.DeliveryChannel},
	} {
		t.Run(run.mode+" "+run.delivery, func(t *testing.T) {
			capture, err := canary.Listen(t.TempDir(), listen...)
			if err != nil {
				t.Fatal(err)
			}
			description, err := os.ReadFile(statsPackage(t, u, run.mode))
			if err != nil {
				t.Fatal(err)
			}
			at := strings.Index(string(description), "pd: [")
			u.write("stats.yaml", string(description[:at])+"pd: ["+pd+"]\n")
			u.must("", "pack", "stats.yaml")
			stored := operatorStores(t, u)
			u.must("", "deploy", "--wait", "--delivery", run.delivery, "stats.sealift")
			if r := u.must("mean salary by department\n", "call", "stats"); !strings.Contains(r.stdout, text) {
				t.Fatalf("the TA does not see its own data:\n%s", r.stdout)
			}
			if more := operatorStores(t, u) - stored; (more > 0) != (run.delivery == usecase.DeliverySealed) {
				t.Errorf("%d more packages with PD are in the operator's registry", more)
			}
			if err := capture.Stop(); err != nil {
				t.Fatal(err)
			}
			if found, size, err := capture.Scan(secret); err != nil || len(found) != 0 || size < int64(len(table)) {
				t.Errorf("between processes: %v in %d bytes, %v", found, size, err)
			}
			scanned := 0
			for _, p := range processes(t) {
				if !slices.Contains(listen, p.pid) && filepath.Base(p.args[0]) != "stats-ua" {
					continue
				}
				scanned++
				if found, _, err := secret.ScanProcess(p.pid); err != nil || len(found) != 0 {
					t.Errorf("in the memory of %v: %v, %v", p.args, found, err)
				}
			}
			if scanned != len(listen)+1 {
				t.Errorf("the memory of %d processes was looked at, M/OC, Broker and UA are %d", scanned, len(listen)+1)
			}
			if found, files, err := secret.ScanTree(filepath.Join(u.home, "dev")); err != nil || len(found) != 0 || files < 5 {
				t.Errorf("on disk: %v in %d files, %v", found, files, err)
			}
			u.must("", "remove", "stats")
		})
	}
}

// operatorStores counts the packages with PD in the operator's registry.
func operatorStores(t *testing.T, u *user) (n int) {
	t.Helper()
	for _, role := range []string{"pd", "bundle"} {
		entries, err := filepath.Glob(filepath.Join(u.home, "dev", "moc", "artifacts", "repositories", "owner", "stats", role, "_manifests", "*"))
		if err != nil {
			t.Fatal(err)
		}
		n += len(entries)
	}
	return n
}

// halfRequest sends the M/OC a request whose end never comes, so that it holds what it has read of it.
func halfRequest(t *testing.T, u *user, text string) {
	t.Helper()
	conn, err := net.Dial("tcp", strings.TrimPrefix(devState(t, u).URL, "http://"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	if _, err := fmt.Fprintf(conn, "GET /healthz HTTP/1.1\r\nHost: localhost\r\nX-Note: %s\r\n", text); err != nil {
		t.Fatal(err)
	}
	time.Sleep(200 * time.Millisecond) // until it is read
}

// devInfo is what `dev status --json` tells.
type devInfo struct {
	URL       string `json:"url"`
	Processes []struct {
		Name string `json:"name"`
		PID  int    `json:"pid"`
	} `json:"processes"`
}

func devState(t *testing.T, u *user) devInfo {
	t.Helper()
	var info devInfo
	decode(t, u.must("", "dev", "status", "--json").stdout, &info)
	return info
}

// devProcess returns the process id of one of dev's processes.
func devProcess(t *testing.T, u *user, name string) int {
	t.Helper()
	for _, p := range devState(t, u).Processes {
		if p.Name == name && p.PID > 0 {
			return p.PID
		}
	}
	t.Fatalf("dev status does not list a running %s", name)
	return 0
}
