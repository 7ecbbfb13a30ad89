// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// disk is a small file system of its own under one process's state folder.
type disk struct {
	t   *testing.T
	dir string
}

// newDisk mounts one at a folder of dev's state, before dev is up.
func newDisk(t *testing.T, u *user, name, size string) *disk {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("a full disk is tried as root only, who may mount a small one")
	}
	dir := filepath.Join(u.home, "dev", name)
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mount("tmpfs", dir, "tmpfs", syscall.MS_NOSUID|syscall.MS_NODEV, "mode=700,size="+size); errors.Is(err, syscall.EPERM) {
		t.Skip("a full disk cannot be tried: root may not mount one in this container")
	} else if err != nil {
		t.Fatal(err)
	}
	// Registered before devUp's: it runs after dev is down.
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Errorf("unmounting: %v", err)
		}
	})
	return &disk{t, dir}
}

// fill leaves no more than the given number of bytes free.
func (d *disk) fill(leave int64) {
	d.t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(d.dir, &st); err != nil {
		d.t.Fatal(err)
	}
	f, err := os.Create(filepath.Join(d.dir, "filled"))
	if err != nil {
		d.t.Fatal(err)
	}
	defer f.Close()
	block := make([]byte, 4096)
	for free := int64(st.Bfree) * st.Bsize; free > leave; free -= int64(len(block)) {
		if _, err := f.Write(block); err != nil {
			if errors.Is(err, syscall.ENOSPC) {
				return
			}
			d.t.Fatal(err)
		}
	}
}

// free gives the space back.
func (d *disk) free() {
	d.t.Helper()
	if err := os.Remove(filepath.Join(d.dir, "filled")); err != nil {
		d.t.Fatal(err)
	}
}

// The device's secure storage is full, before an instance is made and while a TA is installed. The owner is told where there
// is no space; when there is some again, the same deployment goes on by itself.
func TestFullDiskOfTheTEE(t *testing.T) {
	u := newUser(t)
	d := newDisk(t, u, "emulator", "24m")
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	for _, c := range []struct {
		leave int64
		words []string
	}{
		{0, []string{"launching the TEE instance", "no space left"}},
		{1 << 20, []string{"no space left in the sealed store", "tee/text/ta"}},
	} {
		d.fill(c.leave)
		u.refused(3, c.words, "deploy", "--wait", "--timeout", "3s", "text.sealift")
		d.free()
		completes(t, u, "text", "some text")
	}
	stillWorks(t, u)
}

// The REE's disk is full: a UA cannot be installed.
func TestFullDiskOfTheREE(t *testing.T) {
	u := newUser(t)
	d := newDisk(t, u, "broker", "16m")
	devUp(t, u)
	u.must("", "pack", statsPackage(t, u, "ua,ta,pd"))
	d.fill(1 << 20)
	u.refused(3, []string{"installing ree/stats/ua", "no space left"}, "deploy", "--wait", "--timeout", "3s", "stats.sealift")
	if half, _ := filepath.Glob(filepath.Join(d.dir, "ree", "components", ".staging", "*")); len(half) != 0 {
		t.Errorf("half-written: %v", half)
	}
	d.free()
	eventually(t, 30*time.Second, "the deployment goes on", func() bool {
		all := deployments(t, u)
		return len(all) == 1 && all[0].Remote.State == "awaiting-appraisal"
	})
	u.must("", "verify", "stats")
	u.must("", "release", "stats")
	answers(t, u, "stats")
	u.must("", "remove", "stats")
	stillWorks(t, u)
}

// completes waits until a deployment is where the owner has to act, acts, asks and removes.
func completes(t *testing.T, u *user, name, answer string) {
	t.Helper()
	eventually(t, 30*time.Second, "the deployment goes on", func() bool {
		all := deployments(t, u)
		return len(all) == 1 && all[0].Remote.State == "awaiting-appraisal"
	})
	u.must("", "verify", name)
	u.must("", "release", name)
	eventually(t, 30*time.Second, "it runs", func() bool { return deployments(t, u)[0].Remote.State == "running" })
	if r := u.must(answer+"\n", "call", name); r.stdout != answer+"\n" {
		t.Errorf("%s answers %q", name, r.stdout)
	}
	u.must("", "remove", name)
}

// The M/OC's disk is full: while a package is pushed, when a deployment is asked for, and when one is to be removed. What was
// there before stays, and everything can be done again when there is space.
func TestFullDiskOfTheMOC(t *testing.T) {
	u := newUser(t)
	d := newDisk(t, u, "moc", "16m")
	devUp(t, u)
	before := devState(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))

	d.fill(1 << 20)
	u.refused(1, []string{"pushing the package ta", "the M/OC's disk is full"}, "deploy", "--wait", "--timeout", "10s", "text.sealift")
	d.free()
	u.must("", "deploy", "--wait", "text.sealift")

	// A second one needs no new file, but a row in the database.
	d.fill(0)
	u.refused(1, []string{"the M/OC's disk is full"}, "deploy", "--wait", "--timeout", "10s", "text.sealift")
	u.refused(1, []string{"the M/OC's disk is full"}, "remove", "--timeout", "10s", "text")
	if r := u.must("some\n", "call", "text"); r.stdout != "some text\n" {
		t.Errorf("with a full disk at the M/OC, the TA answers %q", r.stdout)
	}
	if all := deployments(t, u); len(all) != 1 || all[0].Remote.State != "running" {
		t.Errorf("deployments: %+v", all)
	}
	d.free()
	u.must("", "remove", "text")
	stillWorks(t, u)
	noneDied(t, before, devState(t, u))
	if left, _ := filepath.Glob(filepath.Join(d.dir, "artifacts", "uploads", "*")); len(left) != 0 {
		t.Errorf("half-written: %v", left)
	}
}

// A device that cannot write at all does not come up, and says why; then it does.
func TestDevUpOnAFullDisk(t *testing.T) {
	u := newUser(t)
	d := newDisk(t, u, "emulator", "1m")
	d.fill(0)
	t.Cleanup(func() { u.sealift("", "dev", "down"); nothingLeft(t) })
	r := u.refused(1, []string{"no space left"}, "dev", "up")
	if strings.Contains(r.stdout, "http://") {
		t.Errorf("it says it is up:\n%s", r.stdout)
	}
	nothingLeft(t)
	d.free()
	u.must("", "dev", "up")
}
