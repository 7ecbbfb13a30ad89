// SPDX-License-Identifier: Apache-2.0

package owner

import (
	"bytes"
	"crypto/rand"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/image/initramfs"
	"sealift/internal/launch"
	"sealift/internal/owner/archive"
	"sealift/internal/owner/home"
	"sealift/internal/owner/packfile"
	"sealift/internal/sharedtest"
	"sealift/suit"
	"sealift/usecase"
)

// TestBootedWith: which instances are booted with a guest payload, and what an owner reads in a configuration.
func TestBootedWith(t *testing.T) {
	digest := suit.SHA256([]byte("a payload"))
	private, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(private.Public())
	if err != nil {
		t.Fatal(err)
	}
	pkg := func(mode usecase.Mode, kind string) *archive.Description {
		return &archive.Description{Mode: mode, Components: []archive.Component{{Kind: usecase.TA, Digest: digest, Launch: &launch.Spec{Kind: kind}}}}
	}
	for _, mode := range usecase.Modes() {
		first := slices.Contains([]usecase.Mode{usecase.ModeBundleUATA, usecase.ModeUATAPD, usecase.ModeTAPD}, mode)
		if got := bootedWith(pkg(mode, launch.KindGuest), usecase.VM); (got != nil) != first || first && !bytes.Equal(got, digest.Bytes) {
			t.Errorf("mode %s: %x", mode, got)
		}
	}
	if bootedWith(pkg(usecase.ModeTAPD, launch.KindProgram), usecase.VM) != nil || bootedWith(pkg(usecase.ModeTAPD, launch.KindGuest), usecase.Container) != nil {
		t.Error("something else is booted with its TA")
	}

	config := agentconfig.Config{Version: agentconfig.Version, Deployment: "d1", Hardware: "tdx", Instance: "vm", TAMKeys: []*cose.Key{key},
		TAMURI: "http://tam", Owners: []agentconfig.Owner{{Key: key, App: "app"}}}
	want := configWanted{deployment: "d1", app: "app", owner: key, tam: []*cose.Key{key}, cells: []usecase.Cell{{Instance: usecase.VM, Hardware: usecase.TDX}},
		mode: usecase.ModeTAPD, pkg: pkg(usecase.ModeTAPD, launch.KindGuest)}
	for name, c := range map[string]struct {
		layer []byte
		ok    bool
	}{"the signed one": {digest.Bytes, true}, "none": {nil, false}, "another": {make([]byte, 32), false}} {
		config.Layer = c.layer
		expect, _ := expectConfig(config.Marshal(), want)
		i := slices.IndexFunc(expect.ConfigChecks, func(f appraisal.Finding) bool { return f.Code == CodeConfigLayer })
		if i < 0 || expect.ConfigChecks[i].OK != c.ok || (*expect.ConfigDigest == config.Digest()) != c.ok || expect.Launch == nil {
			t.Errorf("%s: %+v", name, expect.ConfigChecks)
		}
	}
	shared, sharing := config, want
	sharing.sharing, shared.Owners = true, []agentconfig.Owner{{Key: key, App: agentconfig.AnyApp}}
	for _, layer := range [][]byte{nil, digest.Bytes} {
		shared.Layer = layer
		if expect, _ := expectConfig(shared.Marshal(), sharing); (*expect.ConfigDigest == shared.Digest()) != (layer == nil) || expect.Launch != nil {
			t.Errorf("a shared vm that is booted with %x: %+v", layer, expect.ConfigChecks)
		}
	}
	config.Layer, want.pkg = digest.Bytes, pkg(usecase.ModeTAPD, launch.KindProgram)
	if expect, _ := expectConfig(config.Marshal(), want); *expect.ConfigDigest == config.Digest() || expect.Launch != nil {
		t.Error("a payload that nobody asked for is accepted")
	}
}

// TestPackGuest: one payload whatever it is made from, and what cannot be one is refused when it is packed.
func TestPackGuest(t *testing.T) {
	h, err := home.Open(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	o := &Owner{Home: h}
	program, err := os.ReadFile("/bin/busybox")
	if err != nil {
		sharedtest.Missing(t, "busybox-static: %v", err)
	}
	dir := t.TempDir()
	write := func(name string, data []byte) {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, data, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	write("root/app", program)
	write("root/script", []byte("#!/bin/sh\n"))
	if err := os.MkdirAll(filepath.Join(dir, "root/proc"), 0o755); err != nil { // a mount point of a root file system
		t.Fatal(err)
	}
	pack := func(guest string, entrypoint ...string) (string, error) {
		return o.packGuest(&packfile.File{Arch: runtime.GOARCH, TA: &packfile.TA{Guest: filepath.Join(dir, guest), Entrypoint: entrypoint}})
	}
	for name, entrypoint := range map[string]string{"no program /none": "/none", "script": "/script"} {
		if _, err := pack("root", entrypoint); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%s: %v", entrypoint, err)
		}
	}
	if err := os.Remove(filepath.Join(dir, "root/script")); err != nil {
		t.Fatal(err)
	}
	folder, err := pack("root", "/app")
	if err != nil {
		t.Fatal(err)
	}
	alone, err := pack("root/app") // /app
	if err != nil || alone != folder {
		t.Errorf("%s and %s, %v", alone, folder, err)
	}
	data, err := os.ReadFile(folder)
	if err != nil || initramfs.CheckLayer(bytes.NewReader(data)) != nil {
		t.Error(err)
	}
	write("root/dev/x", []byte("x"))
	if _, err := pack("root", "/app"); err == nil || !strings.Contains(err.Error(), "a TA has its own") {
		t.Error(err)
	}
}
