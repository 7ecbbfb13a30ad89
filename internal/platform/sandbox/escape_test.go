// SPDX-License-Identifier: Apache-2.0

//go:build linux

package sandbox_test

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"unsafe"

	"sealift/internal/platform/sandbox"
)

// starter is a way to get the inmate into a sandbox: the words before its verb.
type starter struct {
	name  string
	words []string
}

// starters are all ways that this machine allows: as this user, as an ordinary user, as root with another user inside, and each
// time also nested in an Agent's sandbox.
func starters(t *testing.T) []starter {
	program := inmatePath(t)
	users := []starter{{"this user", []string{program}}}
	if os.Getuid() == 0 {
		setpriv, err := exec.LookPath("setpriv")
		if err != nil {
			t.Log("no setpriv: not tried as an ordinary user")
		} else {
			users = append(users, starter{"ordinary user",
				[]string{setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups", program}})
		}
	}
	var all []starter
	for _, u := range users {
		uid := []string{}
		if u.name == "this user" && someUser() != 0 {
			uid = append(uid, fmt.Sprintf("+uid=%d", someUser()))
		}
		ta := append(append([]string{}, u.words...), append([]string{"nest"}, uid...)...)
		agent := append(append([]string{}, ta...), "+agent")
		nested := append(append([]string{}, agent...), "nest")
		all = append(all, starter{u.name + ", TA", ta}, starter{u.name + ", TA in Agent", nested})
	}
	return all
}

func (s starter) try(t *testing.T, verb ...string) string {
	t.Helper()
	words := append(append([]string{}, s.words...), verb...)
	cmd := exec.CommandContext(t.Context(), words[0], words[1:]...)
	cmd.Dir = "/"
	out, _ := cmd.CombinedOutput()
	return strings.TrimSpace(string(out))
}

// host is what there is outside to be reached.
type host struct {
	secret, open  string // a file, and a socket that everybody may connect to
	tcp, abstract string
	pid           int
	address       string
	victim        *exec.Cmd
	secretBytes   []byte
}

func newHost(t *testing.T) *host {
	t.Helper()
	dir := t.TempDir()
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		_ = os.Chmod(d, 0o755)
	}
	h := &host{secret: filepath.Join(dir, "secret"), open: filepath.Join(dir, "s"), secretBytes: []byte("host's secret")}
	if err := os.WriteFile(h.secret, h.secretBytes, 0o666); err != nil {
		t.Fatal(err)
	}
	_ = os.Chmod(h.secret, 0o666)
	listen := func(network, address string) string {
		l, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		go func() {
			for {
				c, err := l.Accept()
				if err != nil {
					return
				}
				c.Close()
			}
		}()
		return l.Addr().String()
	}
	listen("unix", h.open)
	_ = os.Chmod(h.open, 0o777)
	h.abstract = fmt.Sprintf("sealift-sandbox-test-%d", os.Getpid())
	listen("unix", "@"+h.abstract)
	h.tcp = listen("tcp", "127.0.0.1:0")
	h.victim = exec.Command(inmatePath(t), "sleep")
	if err := h.victim.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.victim.Process.Kill(); _ = h.victim.Wait() })
	h.pid = h.victim.Process.Pid
	h.address = strconv.FormatUint(uint64(uintptr(unsafe.Pointer(&h.secretBytes[0]))), 16)
	return h
}

// TestEscapes guards the walls: each attempt is denied inside, also inside a sandbox in a sandbox, as root and as an ordinary
// user. Where an attempt needs no special rights it is made outside too and has to succeed there, so that a test that tries
// nothing cannot pass.
func TestEscapes(t *testing.T) {
	h := newHost(t)
	victim, self := strconv.Itoa(h.pid), strconv.Itoa(os.Getpid())
	root := os.Getuid() == 0
	attempts := []struct {
		verb    []string
		outside bool // succeeds outside
	}{
		{[]string{"read", h.secret}, true},
		{[]string{"write", h.secret}, true},
		{[]string{"read", "/etc/passwd"}, true},
		{[]string{"ls", filepath.Dir(h.secret)}, true},
		{[]string{"read", "/proc/" + self + "/environ"}, root},
		{[]string{"read", "/proc/1/root" + h.secret}, false},
		{[]string{"read", "/proc/sys/kernel/ostype"}, true},
		{[]string{"unixdial", h.open}, true},
		{[]string{"abstract", h.abstract}, true},
		{[]string{"tcpdial", h.tcp}, true},
		{[]string{"inet"}, true},
		{[]string{"inet6"}, false},
		{[]string{"raw"}, root},
		{[]string{"netlink"}, true},
		{[]string{"vsock"}, false},
		{[]string{"userns"}, false}, // unshare(CLONE_NEWUSER) is not for processes with threads
		{[]string{"mountns"}, root},
		{[]string{"clonens"}, true},
		{[]string{"clone3"}, true},
		{[]string{"setns"}, root},
		{[]string{"mount"}, false},
		{[]string{"umount"}, false},
		{[]string{"remount"}, false},
		{[]string{"chroot"}, root},
		{[]string{"mknod", filepath.Join(filepath.Dir(h.secret), "disk")}, root},
		{[]string{"mknod", "/tmp/disk-of-the-sandbox-test"}, false},
		{[]string{"ptrace", victim}, root},
		{[]string{"kill", victim}, true},
		{[]string{"killall"}, true},
		{[]string{"pidmem", victim}, root},
		{[]string{"vmread", self, h.address}, root},
		{[]string{"bpf"}, false},
		{[]string{"keyctl"}, true},
		{[]string{"perf"}, root},
		{[]string{"iouring"}, false},
		{[]string{"userfault"}, false},
		{[]string{"handle"}, root},
		{[]string{"reboot"}, false},
		{[]string{"sethost"}, false},
		{[]string{"settime"}, false},
		{[]string{"setuid"}, false},
		{[]string{"selfwrite"}, false},
		{[]string{"exec", "/tmp/program-of-the-sandbox-test"}, true},
	}
	dangerous := map[string]bool{"mount": true, "umount": true, "remount": true, "reboot": true, "sethost": true, "settime": true,
		"setuid": true, "selfwrite": true}
	inside := starters(t)
	outside := starter{"outside", []string{inmatePath(t)}}
	for _, a := range attempts {
		for _, s := range inside {
			if got := s.try(t, a.verb...); !strings.HasPrefix(got, "denied: ") {
				t.Errorf("%s: %s: %s", s.name, strings.Join(a.verb, " "), got)
			}
		}
		if a.outside && !dangerous[a.verb[0]] {
			if got := outside.try(t, a.verb...); !strings.HasSuffix(got, "allowed") {
				t.Errorf("outside: %s: %s", strings.Join(a.verb, " "), got)
			}
		}
	}
	_ = os.Remove("/tmp/program-of-the-sandbox-test")
	if data, _ := os.ReadFile(h.secret); string(data) != "was here" { // written by the attempt outside, and only by it
		t.Errorf("the host's file holds %q", data)
	}
}

// TestOrdinaryThings guards that the walls leave room to work in.
func TestOrdinaryThings(t *testing.T) {
	for _, s := range starters(t) {
		for _, verb := range [][]string{
			{"unix"}, {"write", "/tmp/x"}, {"fill", "/tmp/x", "8"}, {"memory", "32"}, {"forkbomb", "2"}, {"openfiles", "30"},
			{"read", "/proc/self/status"}, {"read", "/dev/null"}, {"write", "/dev/null"},
		} {
			if got := s.try(t, verb...); got != "allowed" {
				t.Errorf("%s: %v: %s", s.name, verb, got)
			}
		}
	}
}

// TestLimits guards that a program cannot use up the machine.
func TestLimits(t *testing.T) {
	for _, s := range starters(t) {
		for _, verb := range [][]string{{"forkbomb", "400"}, {"memory", "300"}, {"pieces", "800"}, {"openfiles", "400"}, {"fill", "/tmp/x", "64"}} {
			if got := s.try(t, verb...); strings.HasSuffix(got, "allowed") || got == "" {
				t.Errorf("%s: %v: %.300s", s.name, verb, got)
			}
		}
	}
	outside := starter{"outside", []string{inmatePath(t)}}
	for _, verb := range [][]string{{"forkbomb", "60"}, {"memory", "300"}, {"openfiles", "400"}} {
		if got := outside.try(t, verb...); got != "allowed" {
			t.Errorf("outside: %v: %.300s", verb, got)
		}
	}
	if out, err := run(t, sandbox.Spec{Limits: sandbox.Limits{CPUSeconds: 1}}, "", "burn"); err == nil {
		t.Errorf("a loop ended well: %s", out)
	}
}
