// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"bytes"
	"crypto/rand"
	"testing"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/launch"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/manifest"
	"sealift/internal/store"
	"sealift/suit"
	"sealift/usecase"
)

// TestGuestPayload: the digest of what a guest is booted with comes from the signed manifest, in the modes and on the instance type where
// that is so, and no update changes it.
func TestGuestPayload(t *testing.T) {
	private, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	signer, err := cose.NewSigner(private)
	if err != nil {
		t.Fatal(err)
	}
	digest := suit.SHA256([]byte("a payload"))
	build := func(kind string, kinds ...usecase.Payload) *store.Package {
		var list []manifest.Program
		for _, k := range kinds {
			p := manifest.Program{App: "app", Kind: k, Sequence: 1, Digest: suit.SHA256([]byte(k)), Size: 9,
				Cells: []usecase.Cell{{Instance: usecase.VM, Hardware: usecase.TDX}}}
			if k == usecase.TA {
				p.Digest, p.Launch = digest, launch.Spec{Kind: kind, Entrypoint: map[string][]string{launch.KindGuest: {"/app"}}[kind]}
			}
			list = append(list, p)
		}
		envelope, err := manifest.Programs(list...).Build(rand.Reader, signer)
		if err != nil {
			t.Fatal(err)
		}
		return &store.Package{PackageRef: mocapi.PackageRef{Role: "ta"}, Envelope: envelope}
	}
	guest, program := build(launch.KindGuest, usecase.TA), build(launch.KindProgram, usecase.TA)
	both := build(launch.KindGuest, usecase.UA, usecase.TA)
	for name, c := range map[string]struct {
		mode     usecase.Mode
		instance usecase.Instance
		wanted   map[string]*store.Package
		booted   bool
	}{
		"a package of its own":  {usecase.ModeTAPD, usecase.VM, map[string]*store.Package{"ta": guest}, true},
		"with its UA":           {usecase.ModeBundleUATA, usecase.VM, map[string]*store.Package{"bundle": both}, true},
		"a program":             {usecase.ModeTAPD, usecase.VM, map[string]*store.Package{"ta": program}, false},
		"after the attestation": {usecase.ModeBundleUAPD, usecase.VM, map[string]*store.Package{"ta": guest}, false},
		"a container":           {usecase.ModeTAPD, usecase.Container, map[string]*store.Package{"ta": guest}, false},
		"sealed":                {usecase.ModeBundleTAPD, usecase.VM, nil, false},
	} {
		d := &store.Deployment{Wanted: c.wanted, Deployment: mocapi.Deployment{Mode: string(c.mode), Instance: string(c.instance)}}
		got, err := guestPayload(d)
		if err != nil || (got != nil) != c.booted || c.booted && !bytes.Equal(got, digest.Bytes) {
			t.Errorf("%s: %x, %v", name, got, err)
		}
	}

	sharing := &store.Deployment{Wanted: map[string]*store.Package{"ta": guest}, Deployment: mocapi.Deployment{Mode: "ta,pd", Instance: "vm", Sharing: mocapi.SharingOwner}}
	if got, err := guestPayload(sharing); got != nil || err != nil || rebooting(sharing, guest) != nil {
		t.Errorf("a vm that applications share is booted with %x, %v", got, err)
	}

	d := &store.Deployment{Deployment: mocapi.Deployment{Mode: "ta,pd", Instance: "vm"}}
	d.Config = agentconfig.Config{Version: agentconfig.Version, Deployment: "d", Hardware: "tdx", Instance: "vm", TAMKeys: []*cose.Key{signer.Key()},
		TAMURI: "http://tam", Owners: []agentconfig.Owner{{Key: signer.Key(), App: "app"}}, Layer: digest.Bytes}.Marshal()
	if got := layerURI(d); got != manifest.URI(digest) {
		t.Errorf("the device is to boot with %q", got)
	}
	if rebooting(d, program) == nil || rebooting(d, guest) == nil || rebooting(d, nil) != nil {
		t.Error("an update changes what a guest is booted with, or data cannot be updated")
	}
	d.Config = nil
	if rebooting(d, guest) == nil || rebooting(d, program) != nil {
		t.Error("a guest payload would come to a guest that was booted without, or a program could not be updated")
	}
}
