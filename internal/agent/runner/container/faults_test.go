// SPDX-License-Identifier: Apache-2.0

//go:build linux

package container_test

import (
	"archive/tar"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"sealift/internal/agent/runner"
	"sealift/internal/agent/runner/container"
	"sealift/internal/launch"
	"sealift/internal/oci"
	"sealift/internal/oci/ocitest"
)

// TestCannotStart guards the errors of images that are whole and cannot be run.
func TestCannotStart(t *testing.T) { each(t, testCannotStart) }

func testCannotStart(t *testing.T, p *pod) {
	missing := busybox(t, "/no/such/program")
	ta, err := p.start(t, missing, launch.Spec{Serve: launch.ServeStdio})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, ta, ""); !errors.Is(err, runner.ErrProgram) || !strings.Contains(err.Error(), "/no/such/program") {
		t.Errorf("missing program: %v", err)
	}
	if _, err := p.start(t, missing, launch.Spec{}); !errors.Is(err, runner.ErrProgram) {
		t.Errorf("missing program of a server: %v", err)
	}
	ta, err = p.start(t, busybox(t), launch.Spec{Serve: launch.ServeStdio})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, ta, ""); !errors.Is(err, runner.ErrProgram) {
		t.Errorf("nothing to start: %v", err)
	}
	other := busybox(t, "/bin/sh")
	other.Config.Architecture = "s390x"
	if _, err := p.start(t, other, launch.Spec{}); !errors.Is(err, runner.ErrProgram) || !errors.Is(err, oci.ErrPlatform) {
		t.Errorf("another architecture: %v", err)
	}
	node := busybox(t, "/bin/sh")
	node.Layers = append(node.Layers, ocitest.Layer(t, &tar.Header{Typeflag: tar.TypeBlock, Name: "dev/sda"}))
	if _, err := p.start(t, node, launch.Spec{}); !errors.Is(err, runner.ErrProgram) || !errors.Is(err, oci.ErrEntry) {
		t.Errorf("a device node: %v", err)
	}
}

// TestRuntimeKilled guards that a container does not outlive its runtime program.
func TestRuntimeKilled(t *testing.T) { each(t, testRuntimeKilled) }

func testRuntimeKilled(t *testing.T, p *pod) {
	ta, err := p.start(t, busybox(t, "/bin/sh", "-c", "echo up; exec sleep 1000"), launch.Spec{Serve: launch.ServeStdio})
	if err != nil {
		t.Fatal(err)
	}
	caller, done := open(t, ta)
	if up := make([]byte, 3); first(io.ReadFull(caller, up)) != 3 {
		t.Fatalf("it does not run: %v\n%s", <-done, ta.Log())
	}
	killed := 0
	for _, pid := range p.pids("memfd:" + p.runtime) {
		if err := syscall.Kill(pid, syscall.SIGKILL); err == nil {
			killed++
		}
	}
	if killed == 0 {
		t.Fatal("no runtime program was found")
	}
	if err := <-done; err == nil {
		t.Error("the request ended well")
	}
	if pids := p.pids(""); len(pids) > 0 {
		t.Errorf("%v run on", pids)
	}
}

func first(n int, _ error) int { return n }

// TestRuntimeHangs guards against a runtime program that never starts the container.
func TestRuntimeHangs(t *testing.T) {
	defer container.SetStartTime(200 * time.Millisecond)()
	file := filepath.Join(t.TempDir(), "runc")
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, self, 0o700); err != nil {
		t.Fatal(err)
	}
	p := newPodWith(t, file)
	ta, err := p.start(t, busybox(t, "/bin/sh"), launch.Spec{Serve: launch.ServeStdio})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ask(t, ta, ""); !errors.Is(err, runner.ErrRuntime) {
		t.Errorf("%v", err)
	}
}
