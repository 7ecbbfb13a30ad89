// SPDX-License-Identifier: Apache-2.0

//go:build linux

package ree

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"sealift/internal/launch"
	"sealift/internal/sharedtest"
	"sealift/suit"
)

// serving are the start parameters of an inmate that makes the attempts which it is sent.
var serving = launch.Spec{Args: []string{"serve", "${HOST}:${PORT}"}, Ports: []launch.Port{{Name: "http"}}, MemoryBytes: 512 << 20, MaxProcs: 64}

// attempts sends the UA at addr one line for each attempt, and returns what it says of each.
func attempts(t *testing.T, addr string, tries ...string) map[string]string {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	_ = c.SetDeadline(time.Now().Add(time.Minute))
	io.WriteString(c, strings.Join(tries, "\n")+"\n")
	c.(*net.TCPConn).CloseWrite()
	told := map[string]string{}
	for scan := bufio.NewScanner(c); scan.Scan(); {
		var r struct{ Try, Answer string }
		if err := json.Unmarshal(scan.Bytes(), &r); err != nil {
			t.Fatalf("%v: %s", err, scan.Text())
		}
		told[r.Try] = r.Answer
	}
	return told
}

// TestUAIsConfined: what a UA must not reach it does not, and the same program does outside.
func TestUAIsConfined(t *testing.T) {
	dir := t.TempDir()
	secret := filepath.Join(dir, "broker.key")
	if err := os.WriteFile(secret, []byte("the Broker's"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := newHost(t, filepath.Join(dir, "ree"))
	install(t, h, program(t))
	if err := h.Start(t.Context(), "d1", uaID, serving.Marshal()); err != nil {
		t.Fatal(err)
	}
	other, neighbour := suit.NewComponentID("ree", "other", "ua"), key{"d1", "other", "ua"}
	installAs(t, h, other, program(t))
	if err := h.Start(t.Context(), "d1", other, spec); err != nil {
		t.Fatal(err)
	}
	ours, theirs := h.Status("d1")[0], h.Status("d1")[1]
	file := filepath.Join(h.store.path(neighbour, workDir), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	pid, addr := strconv.Itoa(theirs.PID), ours.Ports["http"]
	abstract, err := net.Listen("unix", fmt.Sprintf("@sealift-ua-%d", os.Getpid()))
	if err != nil {
		t.Fatal(err)
	}
	defer abstract.Close()

	allowed := []string{"write " + insideWork + "/mine", "read " + insideWork + "/mine", "write /tmp/mine", "unixdial " + insideTA, "unixdial " + insideAsk,
		"tcpdial " + theirs.Ports["http"], "inet6"}
	denied := []struct {
		try     string
		outside bool
	}{
		{"read " + secret, true}, {"ls " + dir, true}, {"read " + file, true}, {"read " + h.store.path(neighbour, programFile), true},
		{"unixdial " + h.uas[neighbour].relay.path, true}, {"read /etc/passwd", true}, {"ls /home", true}, {"ls /sys/fs/cgroup", true},
		{"abstract " + abstract.Addr().String()[1:], true}, {"write /ua", false}, {"write /etc/hosts", false}, {"write " + insideTA, false},
		{"exec " + insideWork + "/copy", false}, {"exec /tmp/copy", false},
		{"kill " + pid, true}, {"ptrace " + pid, true}, {"pidmem " + pid, true}, {"othermem relay", true},
		{"userns", false}, {"mountns", true}, {"clonens", true}, {"clone3", true}, {"mount", false}, {"chroot", true}, {"become 4321", true},
		{"raw", true}, {"netlink", true}, {"vsock", false}, {"mptcp", true}, {"listen 127.0.0.1:0", true}, {"bpf", false}, {"keyctl", true},
		{"iouring", false}, {"module", false}, {"reboot", false}, {"forkbomb 200", false},
	}
	var tries []string
	for _, d := range denied {
		tries = append(tries, d.try)
	}
	told := attempts(t, addr, append(tries, allowed...)...)
	for _, a := range allowed {
		if told[a] != "allowed" {
			t.Errorf("%s: %q", a, told[a])
		}
	}
	for _, d := range denied {
		if !strings.HasPrefix(told[d.try], "denied: ") {
			t.Errorf("%s: %q", d.try, told[d.try])
		}
		if !d.outside || os.Getuid() != 0 {
			continue
		}
		words := append([]string{filepath.Join(built.dir, "inmate")}, strings.Fields(d.try)...)
		if strings.HasPrefix(d.try, "mount") {
			words = append([]string{"unshare", "-m"}, words...)
		}
		out, _ := exec.Command(words[0], words[1:]...).CombinedOutput()
		if !strings.HasSuffix(strings.TrimSpace(string(out)), "allowed") {
			t.Errorf("outside: %s: %s", d.try, out)
		}
	}
	if st := h.Status("d1")[0]; !st.Running || st.Restarts != 0 {
		t.Errorf("after all that: %+v", st)
	}
	if mine, its := userOf(t, ours.PID), userOf(t, theirs.PID); os.Getuid() == 0 && (mine == its || mine == "0" || its == "0") {
		t.Errorf("the UAs run as the users %s and %s", mine, its)
	}
}

// userOf returns the real user of a process, which is confined.
func userOf(t *testing.T, pid int) (uid string) {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(status)) {
		f := strings.Fields(line)
		switch {
		case len(f) > 1 && f[0] == "Uid:":
			uid = f[1]
		case len(f) == 2 && (f[0] == "NoNewPrivs:" && f[1] != "1" || f[0] == "Seccomp:" && f[1] != "2" || f[0] == "CapBnd:" && f[1] != "0000000000000000"):
			t.Errorf("process %d: %s", pid, line)
		}
	}
	return uid
}

// TestUALimits guards that the limit of memory binds, and is told as what it is.
func TestUALimits(t *testing.T) {
	h := newHost(t, t.TempDir())
	if h.noGroups != nil {
		sharedtest.Missing(t, "control groups that this user can make: %v", h.noGroups)
	}
	install(t, h, program(t))
	s := launch.Spec{Args: []string{"memory", "400"}, MemoryBytes: 64 << 20, Ports: []launch.Port{{Name: "p"}}}
	if err := h.Start(t.Context(), "d1", uaID, s.Marshal()); err == nil || !strings.Contains(err.Error(), "memory limit of 64 MiB") {
		t.Errorf("it ended with %v", err)
	}
}
