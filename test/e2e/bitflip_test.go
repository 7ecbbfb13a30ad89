// SPDX-License-Identifier: Apache-2.0

//go:build e2e && linux

package e2e

import (
	"os"
	"path/filepath"
	"testing"
	"time"
)

// One bit of a TA is flipped in the M/OC's store. The Agent refuses what it gets, runs nothing of it, and keeps no half of it. The M/OC looks
// into its store, ends the deployment by the reason's name, and drops what is damaged: the next deployment of the package pushes it again, and
// then the failed one can be started.
func TestFlippedBitInTheArtifactStore(t *testing.T) {
	u := newUser(t)
	devUp(t, u)
	u.must("", "pack", textPackage(t, u, "text", "some text"))
	// The first deployment brings the artifact to the M/OC; what is there is not pushed again.
	u.must("", "deploy", "--wait", "text.sealift")
	u.must("", "remove", "text")
	blob := largest(t, filepath.Join(u.home, "dev", "moc", "artifacts", "blobs"))
	flip(t, blob, 1_000_000)

	u.refused(1, []string{"the operator's store does not have the payload sha256:", "manifest/text/ta", "does not match its digest", "sealift start"},
		"deploy", "--wait", "text.sealift")
	failed := deployments(t, u)[0]
	if len(failed.Remote.Installed) != 0 || failed.Remote.State != "failed" {
		t.Errorf("%s, with %v installed", failed.Remote.State, failed.Remote.Installed)
	}
	for _, p := range processes(t) {
		if filepath.Base(p.args[0]) == "ta" {
			t.Errorf("a TA runs: %v", p)
		}
	}
	u.must("", "deploy", "text.sealift") // pushes it again
	for _, d := range deployments(t, u) {
		if d.ID != failed.ID {
			u.must("", "remove", d.ID)
		}
	}
	u.must("", "start", "text")
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
