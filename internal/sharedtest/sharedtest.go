// SPDX-License-Identifier: Apache-2.0

// Package sharedtest finds the test data that lies beside the project's root and is not part of it: wire-format
// vectors of other implementations, and Evidence of real devices. A test that needs such data reads it through this
// package; where the folder is missing the test skips with a plain message, but under CI (CI=true) that is a failure.
package sharedtest

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Dir returns the absolute path of the data folder name ("vectors" or "evidence").
func Dir(t testing.TB, name string) string {
	t.Helper()
	dir := filepath.Join(Root(t), "..", "shared", name)
	if st, err := os.Stat(dir); err == nil && st.IsDir() {
		return dir
	}
	if os.Getenv("CI") == "true" {
		t.Fatalf("the folder ../shared/%s is missing, and CI must not skip its tests", name)
	}
	t.Skipf("the folder ../shared/%s is not beside the project's root: its tests are skipped", name)
	return ""
}

// Missing skips a test for which this machine lacks something, and says what. Under CI (CI=true), where the set-up has to have
// provided it, that is a failure.
func Missing(t testing.TB, format string, args ...any) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("CI must not skip this: "+format, args...)
	}
	t.Skipf(format, args...)
}

// Root returns the project's root folder: the one that holds go.mod.
func Root(t testing.TB) string {
	t.Helper()
	_, file, _, ok := runtime.Caller(0)
	if !ok {
		t.Fatal("the path of the source is unknown")
	}
	return filepath.Dir(filepath.Dir(filepath.Dir(file)))
}

// Read returns the content of the file at path within the data folder name.
func Read(t testing.TB, name, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(Dir(t, name), filepath.FromSlash(path)))
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// Manifest returns the rows of MANIFEST.tsv in the data folder name, each as a map from column title to value.
func Manifest(t testing.TB, name string) []map[string]string {
	t.Helper()
	lines := strings.Split(strings.TrimRight(string(Read(t, name, "MANIFEST.tsv")), "\n"), "\n")
	titles := strings.Split(lines[0], "\t")
	var rows []map[string]string
	for _, line := range lines[1:] {
		row := make(map[string]string, len(titles))
		for i, cell := range strings.Split(line, "\t") {
			if i < len(titles) {
				row[titles[i]] = cell
			}
		}
		rows = append(rows, row)
	}
	return rows
}
