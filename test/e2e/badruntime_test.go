// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// vmUp gives the user a device that runs virtual machines, from an image made with the arguments.
func vmUp(t *testing.T, u *user, args ...string) {
	t.Helper()
	images := filepath.Join(bin, "images")
	vmImage(t, u, images, args...)
	t.Cleanup(func() { os.RemoveAll(images) })
	devUp(t, u, "--hardware", "cca")
}

// What runs instances is missing, or what is asked for cannot be: the refusal comes before anything is started, and names it.
func TestNothingToRunItWith(t *testing.T) {
	u := newUser(t)
	file := statsPackage(t, u, "ta,pd")
	text := mustRead(t, u, file)
	for _, pair := range []string{"sgx", "trustzone"} {
		u.write("stats.yaml", strings.NewReplacer("[trustzone]", "["+pair+"]", "[process]", "[vm]").Replace(text))
		u.refused(2, []string{pair + "/vm", "the nearest that fit are", "cca/vm"}, "pack", "stats.yaml")
	}

	vmImage(t, u, filepath.Join(bin, "images"))
	t.Cleanup(func() { os.RemoveAll(filepath.Join(bin, "images")) })
	t.Setenv("PATH", t.TempDir()) // there is no QEMU in it
	devUp(t, u, "--hardware", "cca")
	vmPackage(t, u, "ta,pd", "cca")
	u.refused(5, []string{"no device fits", "device-cca: instance (it runs none, ", "the program qemu-system-x86_64 is missing (Debian: apt-get install qemu-system-x86)"}, "deploy", "--wait", "stats.sealift")
	if all := deployments(t, u); len(all) != 0 {
		t.Errorf("deployments: %v", all)
	}
}

// A guest that does not come up: the owner learns what its console said last, and a removal leaves nothing.
func TestGuestThatPanics(t *testing.T) {
	u := newUser(t)
	vmUp(t, u, "--cmdline", "console=ttyS0 panic=-1 rdinit=/none")
	vmPackage(t, u, "ta,pd", "cca")
	u.refused(3, []string{"the device says", "Kernel panic"}, "deploy", "--wait", "--timeout", "30s", "stats.sealift")
	u.must("", "remove", "stats")
	if left := qemus(t); len(left) != 0 {
		t.Errorf("still running: %v", left)
	}
}

// A guest that hangs: a call ends in time, and a removal does not wait for its Agent for ever and leaves nothing.
func TestGuestThatHangs(t *testing.T) {
	u := newUser(t)
	vmUp(t, u)
	vmPackage(t, u, "ta,pd", "cca")
	u.must("", "deploy", "--wait", "stats.sealift")
	running := qemus(t)
	if len(running) != 1 {
		t.Fatalf("virtual machines: %v", running)
	}
	if err := syscall.Kill(running[0], syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	u.refused(3, nil, "call", "--timeout", "3s", "stats")
	u.must("", "remove", "stats")
	if left := qemus(t); len(left) != 0 {
		t.Errorf("still running: %v", left)
	}
}

// A device that is lost in the middle of a deployment: who waits is told since when nobody has heard from it, also by a removal,
// and when it is back all goes on.
func TestDeviceLost(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", statsPackage(t, u, "ta,pd"))
	broker := outside("broker", "run").find(t, u)
	if broker == 0 {
		t.Fatal("no broker")
	}
	signal := func(s syscall.Signal) {
		if err := syscall.Kill(broker, s); err != nil {
			t.Fatal(err)
		}
	}
	signal(syscall.SIGSTOP)
	defer signal(syscall.SIGCONT)
	const lost = "the M/OC has not heard from device device-1 since"
	u.must("", "deploy", "stats.sealift")
	id := deployments(t, u)[0].ID
	u.refused(1, []string{"device-1 is not lost"}, "remove", "--lost", id)
	u.refused(3, []string{"is still pending", lost}, "deploy", "--wait", "--timeout", "32s", "stats.sealift")
	if r := u.must("", "status", id); !strings.Contains(r.stdout, "the device has not been heard of since") {
		t.Errorf("status says\n%s", r.stdout)
	}
	u.refused(5, []string{"no device fits", "device-1"}, "deploy", "stats.sealift") // it takes no more
	u.refused(3, []string{"has not reported", lost, "remove --lost"}, "remove", "--timeout", "2s", id)
	for _, d := range deployments(t, u) {
		if d.ID != id {
			if r := u.must("", "remove", "--lost", d.ID); !strings.Contains(r.stdout, "there is no proof") {
				t.Errorf("remove --lost says\n%s", r.stdout)
			}
		}
	}
	signal(syscall.SIGCONT)
	u.must("", "remove", id)
	stillWorks(t, u)
}

// Two owners with an application of one name, and TAs of one name, on one device: each reaches its own, and neither the other's.
func TestOneNameTwice(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	other := newUser(t)
	other.must("", "policy", "init", "--name", "theirs", "--hardware", "trustzone", "--accept-emulated",
		"--agent", filepath.Join(bin, "sealift-agent"), "--root", filepath.Join(u.home, "dev", "emulator", "pki", "root.pem"))
	secret := strings.TrimSpace(u.must("", "moc", "token", "--state", filepath.Join(u.home, "dev", "moc"), "--role", "owner", "--name", "other").stdout)
	other.must("", "context", "set", devState(t, u).URL, "--token", secret, "--name", "shared")
	for who, words := range map[*user]string{u: "of the one", other: "of the other"} {
		who.must("", "pack", textPackage(t, who, "text", words))
	}
	u.must("", "deploy", "--wait", "text.sealift")
	other.must("", "deploy", "--wait", "--policy", "theirs", "text.sealift")
	for who, words := range map[*user]string{u: "of the one\n", other: "of the other\n"} {
		if r := who.must("of\n", "call", "text"); r.stdout != words {
			t.Errorf("%q, want %q", r.stdout, words)
		}
	}
	other.must("", "remove", "text")
	if r := u.must("of\n", "call", "text"); r.stdout != "of the one\n" {
		t.Errorf("after the other's removal: %q", r.stdout)
	}
	u.must("", "remove", "text")
}
