// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// One bit of a TA is flipped in the M/OC's store. The Agent refuses what it gets, says so, runs nothing of it, and keeps no
// half of it; with the right bytes back, the same deployment goes on.
func TestFlippedBitInTheArtifactStore(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	// The first deployment brings the artifact to the M/OC; what is there is not pushed again.
	u.must("", "deploy", "--wait", "text.sealift")
	u.must("", "remove", "text")
	blob := largest(t, filepath.Join(u.home, "dev", "moc", "artifacts", "blobs"))
	flip(t, blob, 1_000_000)

	u.refused(3, []string{"the device says", "ERR_MANIFEST_PROCESSING_FAILED", "tee/text/ta", "digest mismatch"}, "deploy", "--wait", "--timeout", "4s", "text.sealift")
	if d := deployments(t, u)[0]; len(d.Remote.Installed) != 0 || d.Remote.State != "installing" {
		t.Errorf("%s, with %v installed", d.Remote.State, d.Remote.Installed)
	}
	for _, p := range processes(t) {
		if filepath.Base(p.args[0]) == "ta" {
			t.Errorf("a TA runs: %v", p)
		}
	}
	flip(t, blob, 1_000_000)
	completes(t, u, "text", "some text")
	stillWorks(t, u)
}

func largest(t *testing.T, dir string) (path string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var size int64
	for _, e := range entries {
		if info, err := e.Info(); err == nil && info.Size() > size {
			path, size = filepath.Join(dir, e.Name()), info.Size()
		}
	}
	return path
}

// flip changes one bit of a file, and nothing else: not its time either.
func flip(t *testing.T, path string, at int64) {
	t.Helper()
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	b := make([]byte, 1)
	if _, err := f.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 0x10
	if _, err := f.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
	if err := os.Chtimes(path, time.Time{}, info.ModTime()); err != nil {
		t.Fatal(err)
	}
}
