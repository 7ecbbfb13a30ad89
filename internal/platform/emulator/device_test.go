// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator

import (
	"bytes"
	"encoding/pem"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/evidence/emuroot/emutest"
	"sealift/internal/image"
	"sealift/internal/platform"
)

// options of a device whose vendor is there already: one for SEV-SNP takes seconds to make.
func options(t *testing.T, dir string, hw evidence.Hardware) Options {
	t.Helper()
	o := Options{Hardware: hw}.withDefaults()
	emutest.Save(t, hw, o.Now(), filepath.Join(dir, "pki"))
	return o
}

// TestEveryHardware guards that the emulated device of each architecture signs what the real verifier accepts, and is the same device
// with the same sealing keys after a restart.
func TestEveryHardware(t *testing.T) {
	for _, hw := range evidence.AllHardware() {
		t.Run(string(hw), func(t *testing.T) {
			dir := t.TempDir()
			o := options(t, dir, hw)
			d, err := openDevice(dir, o)
			if err != nil {
				t.Fatal(err)
			}
			m := measurement{agent: [32]byte{1}, launch: string(bytes.Repeat([]byte{2}, image.Hash(hw)().Size())), config: [32]byte{3}}
			b := [64]byte{4}
			token, err := d.token(b, m, nil, bytes.Repeat([]byte{5}, 32))
			if err != nil {
				t.Fatal(err)
			}
			pemRoot, err := os.ReadFile(filepath.Join(dir, "pki", "root.pem"))
			if err != nil {
				t.Fatal(err)
			}
			root, err := evidence.ParseAnchorPEM(pemRoot)
			if err != nil || root.Fingerprint() != d.root || root.Hardware != hw {
				t.Fatalf("root %v: %v", root, err)
			}
			v, err := evidence.VerifyHardware(evidence.HardwareEvidence{Data: token.Token, MediaType: token.MediaType, Collateral: token.Chain}, b[:],
				evidence.Input{Now: time.Now(), Verifiers: all.New(), Anchors: evidence.Anchors{Roots: []evidence.Anchor{root}}})
			if err != nil {
				t.Fatal(err)
			}
			if !v.Emulated || !bytes.Equal(v.Config, m.config[:]) || !bytes.Equal(v.InstanceID, d.dev.InstanceID[:]) {
				t.Errorf("%+v", v)
			}
			launched := false
			for _, x := range v.Measurements {
				launched = launched || x.Name == image.Measurement(hw) && string(x.Value) == m.launch
			}
			if !launched {
				t.Errorf("measurements %v", v.Measurements)
			}
			again, err := openDevice(dir, o)
			if err != nil || again.dev.InstanceID != d.dev.InstanceID {
				t.Fatalf("after a restart: %v", err)
			}
			one, err := d.sealingKey([]byte("salt"), m, "x")
			two, err2 := again.sealingKey([]byte("salt"), m, "x")
			if err != nil || err2 != nil || !bytes.Equal(one, two) {
				t.Errorf("the sealing key changed: %v %v", err, err2)
			}
			o.Hardware = evidence.TrustZone
			if hw == evidence.TrustZone {
				o.Hardware = evidence.CSV
			}
			if _, err := openDevice(dir, o); err == nil {
				t.Error("a state folder changed its hardware")
			}
			o.Hardware = "other"
			if _, err := openDevice(t.TempDir(), o); !errors.Is(err, platform.ErrUnsupported) {
				t.Errorf("unknown hardware: %v", err)
			}
		})
	}
}

// TestOldDeviceRecord guards that a device of the first version stays the same device.
func TestOldDeviceRecord(t *testing.T) {
	dir := t.TempDir()
	o := options(t, dir, evidence.TrustZone)
	d, err := openDevice(dir, o)
	if err != nil {
		t.Fatal(err)
	}
	data, err := d.dev.Marshal() // certificate, then key
	if err != nil {
		t.Fatal(err)
	}
	cert, rest := pem.Decode(data)
	block, _ := pem.Decode(rest)
	if err := writeRecord(filepath.Join(dir, "device.cbor"), deviceRecord{Version: 1, Hardware: "trustzone", Secret: d.secret,
		IAK: pem.EncodeToMemory(block), Chain: [][]byte{cert.Bytes}}); err != nil {
		t.Fatal(err)
	}
	for _, when := range []string{"migrated", "after that"} {
		again, err := openDevice(dir, o)
		if err != nil || again.dev.InstanceID != d.dev.InstanceID || !bytes.Equal(again.secret, d.secret) {
			t.Fatalf("%s: %v", when, err)
		}
	}
	var r deviceRecord
	if err := readRecord(filepath.Join(dir, "device.cbor"), &r); err != nil || r.Version != deviceVersion || r.IAK != nil {
		t.Errorf("%+v: %v", r.Version, err)
	}
	for name, bad := range map[string]deviceRecord{
		"of other hardware": {Version: 2, Hardware: "csv", Secret: d.secret, Device: data},
		"half a device":     {Version: 2, Hardware: "trustzone", Secret: d.secret, Device: data[:len(data)/2]},
		"no secret":         {Version: 2, Hardware: "trustzone", Device: data},
		"old, no key":       {Version: 1, Hardware: "trustzone", Secret: d.secret, Chain: [][]byte{cert.Bytes}},
		"of the future":     {Version: 3, Hardware: "trustzone", Secret: d.secret, Device: data},
	} {
		if err := writeRecord(filepath.Join(dir, "device.cbor"), bad); err != nil {
			t.Fatal(err)
		}
		if _, err := openDevice(dir, o); !errors.Is(err, errState) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
