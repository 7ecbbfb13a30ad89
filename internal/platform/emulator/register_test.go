// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator

import (
	"bytes"
	"crypto/ecdh"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"slices"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/all"
	"sealift/evidence/emuroot/emutest"
	"sealift/internal/image"
	"sealift/suit"
)

// TestRegister guards the register of what was loaded: Evidence whose claims name exactly that, in that order, is accepted without a
// reference value for the register; one that leaves out, adds, or swaps is refused, and the register is named.
func TestRegister(t *testing.T) {
	load := func(name string, b byte) evidence.Load {
		return evidence.Load{Component: suit.NewComponentID("tee", "app", name), Sequence: 1,
			Digest: suit.Digest{Alg: suit.AlgSHA256, Bytes: bytes.Repeat([]byte{b}, 32)}}
	}
	one, two := load("one", 1), load("two", 2)
	newer := one
	newer.Sequence = 2
	for _, hw := range evidence.AllHardware() {
		t.Run(string(hw), func(t *testing.T) {
			w := newRegisterWorld(t, hw)
			err := w.run.extend(make([]byte, 48))
			if registers[hw] == "" {
				if err == nil {
					t.Error("extended a register that there is none")
				}
				w.refused(t, "a record without a register", one)
				return
			}
			w.run.register = nil
			if v := w.accepted(t, "nothing loaded"); v != nil && hasMeasurement(v, registers[hw]) {
				t.Error("a register that was not extended needs a reference value")
			}
			if w.run.extend(make([]byte, 47)) == nil {
				t.Error("an event of 47 bytes")
			}
			for _, l := range []evidence.Load{one, two} {
				event := l.Event()
				if err := w.run.extend(event[:]); err != nil {
					t.Fatal(err)
				}
			}
			if v := w.accepted(t, "what was loaded", one, two); v != nil && (hasMeasurement(v, registers[hw]) || len(v.Claims.Loads) != 2) {
				t.Errorf("%v, %v", v.Measurements, v.Claims.Loads)
			}
			if v := w.accepted(t, "no record"); v != nil && !hasMeasurement(v, registers[hw]) {
				t.Error("a register that nothing explains needs no reference value")
			}
			w.refused(t, "one left out", one)
			w.refused(t, "one added", one, two, newer)
			w.refused(t, "another order", two, one)
			w.refused(t, "another version", newer, two)
		})
	}
}

func hasMeasurement(v *evidence.Verified, name string) bool {
	return slices.ContainsFunc(v.Measurements, func(m evidence.Measurement) bool { return m.Name == name })
}

// registerWorld is an instance, and an Agent that says of itself what the test wants.
type registerWorld struct {
	run    *run
	hw     evidence.Hardware
	config []byte
	anchor evidence.Anchor
	key    *cose.Key
	enc    *cose.Key
}

func newRegisterWorld(t *testing.T, hw evidence.Hardware) *registerWorld {
	t.Helper()
	dir := t.TempDir()
	d, err := openDevice(dir, options(t, dir, hw))
	if err != nil {
		t.Fatal(err)
	}
	pki := emutest.PKI(t, hw, time.Now())
	w := &registerWorld{hw: hw, config: []byte("the configuration"), anchor: pki.Anchor()}
	m := measurement{launch: string(bytes.Repeat([]byte{2}, image.Hash(hw)().Size())), config: sha256.Sum256(w.config)}
	w.run = &run{device: d, m: m, bootSeed: bytes.Repeat([]byte{5}, 32)}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	enc, err := ecdh.P256().GenerateKey(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if w.key, err = cose.NewKey(&key.PublicKey); err != nil {
		t.Fatal(err)
	}
	if w.enc, err = cose.NewKey(enc.PublicKey()); err != nil {
		t.Fatal(err)
	}
	return w
}

// verify lets the Agent give Evidence with that record, and the owner verify it.
func (w *registerWorld) verify(t *testing.T, loads []evidence.Load) (*evidence.Verified, error) {
	t.Helper()
	challenge := bytes.Repeat([]byte{9}, 2*evidence.NonceSize)
	id := w.run.device.dev.InstanceID
	claims := evidence.Claims{Nonce: challenge, UEID: id[:], OEMID: make([]byte, 16), HWModel: []byte("emu"), HWVersion: "1",
		AgentKID: w.key.KID(), AgentEncKey: w.enc, ConfigDigest: sha256.Sum256(w.config), Loads: loads}
	record := claims.Marshal()
	b := evidence.Binding(w.hw.BindingName(true), challenge, w.key.Thumbprint(), sha256.Sum256(record))
	token, err := w.run.evidence(b[:])
	if err != nil {
		t.Fatal(err)
	}
	bundle := evidence.Bundle{Hardware: token.Token, HardwareType: token.MediaType, Collateral: token.Chain, Claims: record, Config: w.config}.Marshal()
	return evidence.Verify(bundle, evidence.Input{Challenge: challenge, AgentKey: w.key, Now: time.Now(), Verifiers: all.New(),
		Anchors: evidence.Anchors{Roots: []evidence.Anchor{w.anchor}}})
}

func (w *registerWorld) accepted(t *testing.T, what string, loads ...evidence.Load) *evidence.Verified {
	t.Helper()
	v, err := w.verify(t, loads)
	if err != nil {
		t.Errorf("%s: %v", what, err)
	}
	return v
}

func (w *registerWorld) refused(t *testing.T, what string, loads ...evidence.Load) {
	t.Helper()
	_, err := w.verify(t, loads)
	want := registers[w.hw]
	if want == "" {
		want = "record of loaded programs"
	}
	if !slices.ContainsFunc(evidence.Mismatches(err), func(m *evidence.Mismatch) bool { return m.Claim == want }) {
		t.Errorf("%s: %v", what, err)
	}
}
