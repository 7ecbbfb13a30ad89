// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"crypto/sha256"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/internal/image"
	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
	"sealift/internal/platform/sandbox/cgroup"
	"sealift/internal/sharedtest"
)

// podImage writes the image of a container with the test agent in it, and returns its path.
func podImage(t *testing.T, runtime string) string {
	t.Helper()
	agent, err := os.Open(agentPath(t))
	if err != nil {
		t.Fatal(err)
	}
	defer agent.Close()
	st, err := agent.Stat()
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "container.img")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	img := &image.Image{Instance: image.Container, Parts: []image.Part{
		{Name: image.PartAgent, Size: st.Size()}, {Name: image.PartRuntime, Size: int64(len(runtime))},
	}}
	if err := image.Write(f, img, map[string]io.Reader{image.PartAgent: agent, image.PartRuntime: strings.NewReader(runtime)}); err != nil {
		t.Fatal(err)
	}
	return path
}

// stateGroup is the control group of the emulator whose state lies in dir.
func stateGroup(t *testing.T, dir string) (parent *cgroup.Group, name string) {
	t.Helper()
	parent, err := cgroup.Find()
	if err != nil {
		sharedtest.Missing(t, "control groups that this user can make: %v", err)
	}
	return parent, "sealift-emulator-" + fmt.Sprintf("%x", sha256.Sum256([]byte(dir)))[:16]
}

// TestPod guards the pod sandbox: its limits bind Agent and all together, are not the Agent's to change, and nothing of it stays.
func TestPod(t *testing.T) {
	dir := t.TempDir()
	parent, name := stateGroup(t, dir)
	// What a killed emulator left: it goes when the next one starts.
	left, err := parent.Child(name, cgroup.Limits{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := left.Child("dead", cgroup.Limits{}); err != nil {
		t.Fatal(err)
	}
	w := serve(t, dir, emulator.Options{})
	if left.Exists() {
		t.Error("the leftover is still there")
	}
	const memory = 192 << 20
	img := podImage(t, "a runtime")
	if err := w.tryLaunch("pod", img, "config", platform.Limits{MemoryBytes: memory, Processes: 100}); err != nil {
		t.Fatal(err)
	}
	a := w.attach("pod")
	group := parent.At(name).At("pod")
	if !group.Exists() {
		t.Fatal("it has no control group")
	}
	limit := cgroup.MountRoot + "/memory/memory.limit_in_bytes"
	if len(group.Mounts()) == 1 {
		limit = cgroup.MountRoot + "/memory.max"
	}
	if r := a.must("read", limit, 0); strings.TrimSpace(string(r.Data)) != fmt.Sprint(memory) {
		t.Errorf("its limit is %q", r.Data)
	}
	for _, what := range []string{limit + "=999999999999", filepath.Join(filepath.Dir(limit), "agent", filepath.Base(limit)) + "=1", "/x=1"} {
		if r := a.do("write", what, 0); r.Error == "" {
			t.Errorf("it could write %s", what)
		}
	}
	if r := a.do("fill", "/oci/small", 16); r.Error != "" {
		t.Errorf("16 of 192 MiB: %s", r.Error)
	}
	// Files in memory count: 96 MiB in one place and 160 in the other are more than all together.
	first := a.do("fill", "/oci/large", 90)
	_, err = a.try(order{Do: "fill", Arg: "/run/large", Number: 160})
	until(t, "the end of an instance with too much memory", func() bool { return !w.state("pod").Running })
	if exit := w.state("pod").Exit; !strings.Contains(exit, "memory limit") {
		t.Errorf("it ended with %q; %+v %v", exit, first, err)
	}
	if group.Exists() {
		t.Error("its control group outlives it")
	}
	if err := w.tryLaunch("pod", img, "config", platform.Limits{}); err != nil {
		t.Fatal(err)
	}
	if err := w.driver.Destroy(t.Context(), "pod"); err != nil || group.Exists() {
		t.Errorf("destroyed: %v, the group is there: %v", err, group.Exists())
	}
	if err := w.tryLaunch("other", img, "config", platform.Limits{}); err != nil {
		t.Fatal(err)
	}
	w.stop()
	if parent.At(name).Exists() {
		t.Error("control groups outlive the emulator")
	}
}

// TestProcessGroup guards that the limits of a process instance bind Agent and all that it starts together.
func TestProcessGroup(t *testing.T) {
	dir := t.TempDir()
	parent, name := stateGroup(t, dir)
	w := serve(t, dir, emulator.Options{})
	if err := w.tryLaunch("plain", agentPath(t), "config", platform.Limits{MemoryBytes: 128 << 20}); err != nil {
		t.Fatal(err)
	}
	group := parent.At(name).At("plain")
	if !group.Exists() {
		t.Fatal("it has no control group")
	}
	_, err := w.attach("plain").try(order{Do: "fill", Arg: "/run/large", Number: 160})
	until(t, "the end of an instance with too much memory", func() bool { return !w.state("plain").Running })
	if exit := w.state("plain").Exit; !strings.Contains(exit, "memory limit") {
		t.Errorf("it ended with %q; %v", exit, err)
	}
	if group.Exists() {
		t.Error("its control group outlives it")
	}
}
