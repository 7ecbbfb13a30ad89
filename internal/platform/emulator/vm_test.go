// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	imagebuild "sealift/internal/image/build"
	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
	"sealift/internal/platform/qemu"
	"sealift/internal/sharedtest"
)

// kernel is the one that scripts/setup.sh has fetched.
func kernel(t testing.TB) *imagebuild.Kernel {
	t.Helper()
	if _, err := qemu.Find(); err != nil {
		sharedtest.Missing(t, "%v", err)
	}
	k, err := imagebuild.ReadKernel(filepath.Join(sharedtest.Root(t), ".cache", "kernel"))
	if err != nil {
		sharedtest.Missing(t, "scripts/setup.sh was not run: %v", err)
	}
	return k
}

// guestImage writes the image of a vm with the test agent.
func guestImage(t testing.TB, k *imagebuild.Kernel, vm imagebuild.VM) string {
	t.Helper()
	program, err := os.ReadFile(agentPath(t))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := imagebuild.Guest(&out, program, k, vm); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "vm.img")
	if err := os.WriteFile(path, out.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

var small = imagebuild.VM{Cmdline: imagebuild.DefaultCmdline, VCPUs: 1, MemoryMiB: 192}

func TestVM(t *testing.T) {
	path := guestImage(t, kernel(t), small)
	w := serve(t, t.TempDir(), emulator.Options{})
	begin := time.Now()
	if err := w.tryLaunch("v1", path, "config", platform.Limits{}); err != nil {
		t.Fatalf("%v\n%s", err, w.log)
	}
	t.Logf("up after %s", time.Since(begin))
	a := w.attach("v1")
	if i := a.do("info", "", 0).Info; i == nil || string(i.Config) != "config" {
		t.Errorf("%+v", i)
	}
	a.do("store-write", "x=the data", 0)
	if got := a.do("store-read", "x", 0); string(got.Data) != "the data" {
		t.Errorf("%q", got.Data)
	}
	t.Log(a.do("ls", "/", 0).Text, "|", a.do("ls", "/dev", 0).Text, "|", a.do("ls", "/sys/class/net", 0).Text)
	if os.Getenv("SHOWLOG") != "" {
		t.Log(w.log.String())
	}
	if !strings.Contains(w.log.String(), "test agent is up") {
		t.Error("the agent's words are not in the log")
	}
}
