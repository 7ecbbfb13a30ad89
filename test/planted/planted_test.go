// SPDX-License-Identifier: Apache-2.0

//go:build e2e

// Package planted proves that the tests which hold the product's promises can fail. For each promise it takes a check out
// of the product's source, in an overlay of the build and not on disk, and runs the test that is to notice. A test that
// still passes is worth nothing, and fails here.
package planted

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/internal/sharedtest"
)

// fault is a check taken out.
type fault struct {
	promise string // I1 to I10 of the design, or demo
	name    string // what the product then does
	edits   []edit // one for each layer that checks the same
	pkg     string // the package whose test must notice
	test    string // its name
}

// edit changes one place of the source.
type edit struct {
	file string // relative to the root
	old  string // stands exactly once in file
	new  string
}

func TestPlantedFaultsAreCaught(t *testing.T) {
	root := sharedtest.Root(t)
	for _, f := range faults {
		t.Run(f.promise+"/"+f.name, func(t *testing.T) {
			env := plant(t, root, f)
			// A fault that does not compile would fail every test, and prove nothing.
			if out, err := goTool(t, root, env, append([]string{"build"}, f.packages()...)...); err != nil {
				t.Fatalf("the planted fault does not compile:\n%s", out)
			}
			out, err := goTool(t, root, env, "test", "-tags", "e2e", "-vet=off", "-count=1", "-run", pattern(f.test), "./"+f.pkg)
			if err == nil {
				t.Fatalf("%s: %s in %s does not notice\n%s", f.name, f.test, f.pkg, out)
			}
			if !strings.Contains(out, "--- FAIL: "+f.test+" (") || strings.Contains(out, "\npanic: ") {
				t.Fatalf("the run failed, and not because of %s in %s:\n%s", f.test, f.pkg, out)
			}
			t.Logf("noticed:\n%.2000s", out)
		})
	}
}

// TestEveryPromiseHasAFault holds the table against the design's promises and the demo's faults.
func TestEveryPromiseHasAFault(t *testing.T) {
	var want []string
	for i := 1; i <= 10; i++ {
		want = append(want, fmt.Sprint("I", i))
	}
	for _, name := range []string{"measurement", "ta-swap", "nonce", "signature", "rollback", "pd-early"} {
		want = append(want, "TestDemoBreaks/"+name)
	}
	for _, w := range want {
		if !slices.ContainsFunc(faults, func(f fault) bool { return f.promise == w || f.test == w }) {
			t.Errorf("no fault is planted for %s", w)
		}
	}
}

// TestEveryFaultFits is the quick look after a change: each check that is to be taken out stands where the table says, once.
func TestEveryFaultFits(t *testing.T) {
	root := sharedtest.Root(t)
	for _, f := range faults {
		t.Run(f.promise+"/"+f.name, func(t *testing.T) { plant(t, root, f) })
	}
}

// packages lists what the fault changes.
func (f fault) packages() []string {
	dirs := map[string]bool{}
	for _, e := range f.edits {
		dirs["./"+path.Dir(e.file)] = true
	}
	return slices.Sorted(maps.Keys(dirs))
}

// pattern selects one test, or one test below another.
func pattern(test string) string {
	parts := strings.Split(test, "/")
	for i := range parts {
		parts[i] = "^" + regexp.QuoteMeta(parts[i]) + "$"
	}
	return strings.Join(parts, "/")
}

// plant writes the changed source beside the real one and returns the setting of the go command that uses it: a setting
// of the environment, because tests build programs too.
func plant(t *testing.T, root string, f fault) string {
	t.Helper()
	dir := t.TempDir()
	changed := map[string]string{} // content by path
	for _, e := range f.edits {
		name := filepath.Join(root, filepath.FromSlash(e.file))
		if _, ok := changed[name]; !ok {
			source, err := os.ReadFile(name)
			if err != nil {
				t.Fatal(err)
			}
			changed[name] = string(source)
		}
		if n := strings.Count(changed[name], e.old); n != 1 {
			t.Fatalf("%s holds the check to take out %d times, not once; bring the table of faults up to date: %q", e.file, n, e.old)
		}
		changed[name] = strings.Replace(changed[name], e.old, e.new, 1)
	}
	replace := map[string]string{}
	for name, content := range changed {
		replace[name] = filepath.Join(dir, fmt.Sprintf("changed%d.go", len(replace)))
		if err := os.WriteFile(replace[name], []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	overlay := filepath.Join(dir, "overlay.json")
	data, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(overlay, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(os.Getenv("GOFLAGS") + " '-overlay=" + overlay + "'")
}

// goTool runs the go command with these flags for it and for all that it starts.
func goTool(t *testing.T, root, flags string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", args...)
	cmd.Dir = root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS="+flags)
	out, err := cmd.CombinedOutput()
	return string(out), err
}
