// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"sealift/cose"
	"sealift/evidence/psa"
	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
)

// TestEvidence guards the chain from the bytes that the Broker brings to the signed token: the token names exactly those bytes
// and verifies under the emulated vendor's root.
func TestEvidence(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	w.launch("one", "config of one")
	a := w.attach("one")
	info := a.must("info", "", 0).Info
	image, err := os.ReadFile(agentPath(t))
	if err != nil {
		t.Fatal(err)
	}
	if info.AgentDigest != sha256.Sum256(image) || info.ConfigDigest != sha256.Sum256([]byte("config of one")) {
		t.Error("the digests are not those of what was launched")
	}
	if info.Hardware != "emu:trustzone" || info.Instance != "one" || string(info.Config) != "config of one" || info.UEID[0] != 1 {
		t.Errorf("info: %+v", info)
	}
	r := a.must("evidence", hexBinding(7), 0)
	token := verifyToken(t, r, w.info.RootFingerprint)
	agent, _ := token.Component("AGENT")
	config, _ := token.Component("CONFIG")
	if !bytes.Equal(agent.Value, info.AgentDigest[:]) || !bytes.Equal(config.Value, info.ConfigDigest[:]) {
		t.Error("the token measures something else")
	}
	if !bytes.Equal(token.Nonce, bytes.Repeat([]byte{7}, 64)) || !bytes.Equal(token.InstanceID, info.UEID[:]) ||
		token.Lifecycle != psa.LifecycleSecured || len(token.BootSeed) != 32 {
		t.Errorf("token: %+v", token)
	}
	if r := a.do("info", "", 0); r.Error != "" {
		t.Error(r.Error)
	}
	st := w.state("one")
	if !st.Running || st.AgentDigest != info.AgentDigest || st.ConfigDigest != info.ConfigDigest {
		t.Errorf("state: %+v", st)
	}
}

// verifyToken checks a token's signature and its key's certificate, up to a root with that fingerprint.
func verifyToken(t *testing.T, r report, root [32]byte) *psa.Token {
	t.Helper()
	leaf, err := x509.ParseCertificate(r.Chain[0])
	if err != nil {
		t.Fatal(err)
	}
	m, err := psa.Parse(r.Data)
	if err != nil {
		t.Fatal(err)
	}
	key, err := cose.NewKey(leaf.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	v, err := m.Verify(key)
	if err != nil {
		t.Fatal(err)
	}
	if root == [32]byte{} || !strings.Contains(leaf.Subject.String(), "EMULATED") {
		t.Errorf("root %x, leaf %s", root, leaf.Subject)
	}
	return v.Token
}

// TestLaunchIsIdempotent guards that the same bytes change nothing and other bytes are refused while it runs.
func TestLaunchIsIdempotent(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	w.launch("one", "c")
	a := w.attach("one")
	seed := verifyToken(t, a.must("evidence", hexBinding(1), 0), w.info.RootFingerprint).BootSeed
	w.launch("one", "c")
	again := verifyToken(t, a.must("evidence", hexBinding(1), 0), w.info.RootFingerprint).BootSeed
	if !bytes.Equal(seed, again) {
		t.Error("the second launch started it anew")
	}
	wantErr(t, w.tryLaunch("one", agentPath(t), "other", platform.Limits{}), platform.ErrConflict)
	wantErr(t, w.tryLaunch("one", taPath(t), "c", platform.Limits{}), platform.ErrConflict)
	if !w.state("one").Running {
		t.Error("a refused launch ended the instance")
	}
}

// TestKeysAndCounters guards which instance gets which secrets.
func TestKeysAndCounters(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, dir, emulator.Options{})
	w.launch("one", "c")
	w.launch("two", "c")
	one, two := w.attach("one"), w.attach("two")
	key := one.must("key", "state", 0).Data
	if len(key) != 32 || bytes.Equal(key, make([]byte, 32)) {
		t.Fatalf("key %x", key)
	}
	same := func(what string, got []byte, want bool) {
		t.Helper()
		if bytes.Equal(got, key) != want {
			t.Errorf("%s: the same key is %v, want %v", what, !want, want)
		}
	}
	same("asked again", one.must("key", "state", 0).Data, true)
	same("another label", one.must("key", "other", 0).Data, false)
	same("another instance", two.must("key", "state", 0).Data, false)
	if one.must("increment", "", 0).Number != 1 || one.must("increment", "", 1).Number != 2 || two.must("counter", "", 0).Number != 0 {
		t.Error("counters")
	}
	if r := one.do("increment", "", 0); !strings.Contains(r.Error, "another value than expected") {
		t.Errorf("an increment from an old value: %q", r.Error)
	}
	for _, bad := range []string{"", strings.Repeat("x", 65)} {
		if r := one.do("key", bad, 0); r.Error == "" {
			t.Errorf("a label of %d bytes was accepted", len(bad))
		}
	}
	exitAndWait(w, one, "one")
	w.launch("one", "c2")
	other := w.attach("one")
	same("another configuration", other.must("key", "state", 0).Data, false)
	if n := other.must("counter", "", 0).Number; n != 0 {
		t.Errorf("another configuration's counter is at %d", n)
	}
	exitAndWait(w, other, "one")

	root := w.info
	w.stop()
	w = serve(t, dir, emulator.Options{})
	if w.info.RootFingerprint != root.RootFingerprint {
		t.Error("the restarted emulator has another root")
	}
	if s := w.state("one"); s.Running {
		t.Error("an instance survived its emulator")
	}
	w.launch("one", "c")
	one = w.attach("one")
	same("after a restart of everything", one.must("key", "state", 0).Data, true)
	if n := one.must("counter", "", 0).Number; n != 2 {
		t.Errorf("after a restart the counter is at %d, want 2", n)
	}
}

func exitAndWait(w *world, a *agent, id string) {
	w.t.Helper()
	_, _ = a.try(order{Do: "exit"})
	until(w.t, id+" has ended", func() bool { return !w.state(id).Running })
}

// TestStop guards that a stopped instance runs nothing, keeps its secrets, and takes no place while it is stopped.
func TestStop(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{Capacity: 1})
	stop := func(id string) {
		t.Helper()
		if err := w.driver.Stop(t.Context(), id); err != nil {
			t.Fatalf("stopping %s: %v", id, err)
		}
	}
	stop("none")
	w.launch("one", "c")
	a := w.attach("one")
	key := a.must("key", "state", 0).Data
	a.must("increment", "", 0)
	wantErr(t, w.tryLaunch("two", agentPath(t), "c", platform.Limits{}), platform.ErrCapacity)
	for range 2 {
		stop("one")
		if s := w.state("one"); s.Running || s.Exit != "stopped" {
			t.Errorf("%+v", s)
		}
	}
	if _, err := a.try(order{Do: "info"}); err == nil {
		t.Error("a stopped instance answers")
	}
	_, err := w.driver.Attach(t.Context(), "one")
	wantErr(t, err, platform.ErrNotRunning)
	w.launch("two", "c")
	wantErr(t, w.tryLaunch("one", agentPath(t), "c", platform.Limits{}), platform.ErrCapacity)
	if err := w.driver.Destroy(t.Context(), "two"); err != nil {
		t.Fatal(err)
	}
	w.launch("one", "c")
	a = w.attach("one")
	if !bytes.Equal(a.must("key", "state", 0).Data, key) || a.must("counter", "", 0).Number != 1 {
		t.Error("a stopped instance came back with other secrets")
	}
	wantErr(t, w.tryLaunch("two", agentPath(t), "c", platform.Limits{}), platform.ErrCapacity)
}

// TestDestroy guards that nothing comes back: not the salt, not the counter, not the store.
func TestDestroy(t *testing.T) {
	dir := t.TempDir()
	w := serve(t, dir, emulator.Options{})
	w.launch("one", "c")
	a := w.attach("one")
	key := a.must("key", "state", 0).Data
	a.must("increment", "", 0)
	a.must("write", "/store/sealed=canary-of-the-store", 0)
	store := filepath.Join(dir, "instances", "one", "store", "sealed")
	if data, err := os.ReadFile(store); err != nil || string(data) != "canary-of-the-store" {
		t.Fatalf("the store is not in the REE: %v", err)
	}
	if err := w.driver.Destroy(t.Context(), "one"); err != nil {
		t.Fatal(err)
	}
	if _, err := a.try(order{Do: "info"}); err == nil {
		t.Error("a destroyed instance answers")
	}
	if list, _ := w.driver.List(t.Context()); len(list) != 0 {
		t.Errorf("left: %v", list)
	}
	for _, sub := range []string{"instances", "trash"} {
		if left, err := os.ReadDir(filepath.Join(dir, sub)); err != nil || len(left) != 0 {
			t.Errorf("left in %s: %v %v", sub, left, err)
		}
	}
	if err := w.driver.Destroy(t.Context(), "one"); err != nil {
		t.Errorf("destroying again: %v", err)
	}
	w.launch("one", "c")
	a = w.attach("one")
	if bytes.Equal(a.must("key", "state", 0).Data, key) || a.must("counter", "", 0).Number != 0 || a.do("read", "/store/sealed", 0).Error == "" {
		t.Error("a new instance of the same name got something of the destroyed one")
	}
}

// TestAttach guards the channels: a new one supersedes the old, and the end of the Agent ends it.
func TestAttach(t *testing.T) {
	w := serve(t, t.TempDir(), emulator.Options{})
	_, err := w.driver.Attach(t.Context(), "one")
	wantErr(t, err, platform.ErrNoInstance)
	w.launch("one", "c")
	first := w.attach("one")
	first.must("info", "", 0)
	second := w.attach("one")
	second.must("info", "", 0)
	if _, err := first.try(order{Do: "info"}); err == nil {
		t.Error("the superseded channel still answers")
	}
	go second.try(order{Do: "exit", Number: 3})
	until(t, "the instance has ended", func() bool { return !w.state("one").Running })
	if exit := w.state("one").Exit; !strings.Contains(exit, "exit status 3") {
		t.Errorf("exit: %q", exit)
	}
	if _, err := second.try(order{Do: "info"}); err == nil {
		t.Error("the channel of an ended Agent answers")
	}
	_, err = w.driver.Attach(t.Context(), "one")
	wantErr(t, err, platform.ErrNotRunning)
	w.launch("one", "c")
	w.attach("one").must("info", "", 0)
}
