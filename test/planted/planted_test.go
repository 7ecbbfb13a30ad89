// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package planted proves that the tests which hold the product's promises can fail. For each promise it takes one check
// out of the product's source, in an overlay of the build and not on disk, and runs the test that is to notice. A test
// that still passes is worth nothing, and fails here.
package planted

import (
	"context"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/internal/sharedtest"
)

// fault is one check taken out.
type fault struct {
	promise string // I1 to I10 of the design, or the fault of the demo
	name    string
	file    string // relative to the root
	old     string // stands exactly once in file
	new     string
	pkg     string // the package whose tests must notice
	run     string // -run
}

func TestPlantedFaultsAreCaught(t *testing.T) {
	root := sharedtest.Root(t)
	for _, f := range faults {
		t.Run(f.promise+"/"+f.name, func(t *testing.T) {
			overlay := plant(t, root, f)
			if out, err := goRun(t, root, "build", "-overlay", overlay, "./..."); err != nil {
				t.Fatalf("the planted fault does not compile:\n%s", out)
			}
			out, err := goRun(t, root, "test", "-overlay", overlay, "-count=1", "-run", f.run, "./"+f.pkg)
			if err == nil {
				t.Fatalf("%s stays unnoticed: %s passed with the check taken out of %s\n%s", f.name, f.run, f.file, out)
			}
			if !strings.Contains(out, "--- FAIL") {
				t.Fatalf("no test failed, the run did:\n%s", out)
			}
		})
	}
}

// plant writes the changed source and the overlay that puts it in the place of the real one.
func plant(t *testing.T, root string, f fault) string {
	t.Helper()
	path := filepath.Join(root, filepath.FromSlash(f.file))
	source, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(source), f.old); n != 1 {
		t.Fatalf("%s holds the check to take out %d times, not once: %q", f.file, n, f.old)
	}
	dir := t.TempDir()
	changed := filepath.Join(dir, "changed.go")
	overlay := filepath.Join(dir, "overlay.json")
	data, err := json.Marshal(map[string]map[string]string{"Replace": {path: changed}})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(changed, []byte(strings.Replace(string(source), f.old, f.new, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return overlay
}

func goRun(t *testing.T, root string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	return string(out), err
}
