// SPDX-License-Identifier: Apache-2.0

//go:build linux

package demo

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"sealift/examples/stats"
	"sealift/internal/fault"
)

// Example returns the path of the example's TA, and writes its records to dir.
func Example(dir string) (ta, records string, err error) {
	programs, err := examplePrograms(dir)
	if err != nil {
		return "", "", err
	}
	records = filepath.Join(dir, stats.RecordsFile)
	return filepath.Join(programs, stats.TAProgram), records, os.WriteFile(records, stats.Records, 0o600)
}

// examplePrograms returns the folder with the example's programs: examples beside this program, or, in a source tree, a
// folder into which they are built now.
func examplePrograms(work string) (string, error) {
	exe, err := os.Executable()
	if err != nil {
		return "", fmt.Errorf("finding this program: %w", err)
	}
	dir := filepath.Join(filepath.Dir(exe), "examples")
	if err := havePrograms(dir); err == nil {
		return dir, nil
	}
	root, err := sourceTree()
	if err != nil {
		return "", fault.New(fault.Internal, "the example's programs are not in %s, and this is no source tree: %w", dir, err).
			WithHint("make build writes them")
	}
	dir = filepath.Join(work, "programs")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", dir+string(filepath.Separator),
		"./examples/stats/"+stats.TAProgram, "./examples/stats/"+stats.UAProgram)
	build.Dir, build.Env = root, append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building the example: %w\n%s", err, out)
	}
	return dir, havePrograms(dir)
}

func havePrograms(dir string) error {
	for _, name := range []string{stats.TAProgram, stats.UAProgram} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			return err
		}
	}
	return nil
}

// sourceTree finds the folder of this module above the current one.
func sourceTree() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		text, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(text), "module sealift\n") {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod of sealift at or above the current folder")
		}
		dir = parent
	}
}
