// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/emuroot/emutest"
	"sealift/internal/platform/attester"
)

// TestAttest guards the way from the hardware's interface to a policy: Evidence that the (fake) enclave signs, written to a file,
// makes a policy that accepts it, and another report data is refused.
func TestAttest(t *testing.T) {
	now := time.Now()
	pki := emutest.PKI(t, evidence.SGX, now)
	device, err := pki.NewDevice(rand.Reader, "one")
	if err != nil {
		t.Fatal(err)
	}
	binding := [64]byte(bytes.Repeat([]byte("binding!"), 8))
	e, err := device.Evidence(rand.Reader, emuroot.Request{Binding: binding, Launch: make([]byte, 32), Now: now})
	if err != nil {
		t.Fatal(err)
	}
	m := attester.Machine{Root: t.TempDir(), Rand: rand.Reader, Open: func(string) (attester.Device, error) { return nil, fs.ErrNotExist }}
	var out, errOut bytes.Buffer
	a := &app{stdout: &out, stderr: &errOut}
	path := filepath.Join(t.TempDir(), "evidence.bin")
	if err := a.attestOn(t.Context(), m, path, ""); !errors.Is(err, attester.ErrAbsent) {
		t.Errorf("without a TEE: %v", err)
	}
	dir := filepath.Join(m.Root, "dev", "attestation")
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string][]byte{"attestation_type": []byte("dcap"), "user_report_data": make([]byte, 64), "quote": e.Data} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := a.attestOn(t.Context(), m, path, "00"); err == nil {
		t.Error("a binding of one byte")
	}
	if err := a.attestOn(t.Context(), m, path, hex.EncodeToString(binding[:])); err != nil || !strings.Contains(out.String(), "SGX quote, sgx by gramine") {
		t.Fatalf("%v: %s", err, out.String())
	}
	home, files := t.TempDir(), t.TempDir()
	root, err := pki.Anchor().PEM()
	if err != nil {
		t.Fatal(err)
	}
	write := func(name string, data []byte) string {
		file := filepath.Join(files, name)
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
		return file
	}
	with := []string{"--anchor", write("root.pem", root)}
	for i, c := range e.Collateral {
		with = append(with, "--collateral", write("collateral"+string(rune('0'+i)), c))
	}
	sealift := func(args ...string) (int, string) {
		code, stdout, stderr := withSamples(t, home, append(args, with...)...)
		return code, stdout + stderr
	}
	if code, text := sealift("policy", "init", "--name", "mine", "--from", path, "--accept-emulated"); code != exitOK {
		t.Fatal(text)
	}
	if code, text := sealift("verify", path, "--policy", "mine", "--binding", hex.EncodeToString(binding[:])); code != exitOK || !strings.Contains(text, "EMULATED") {
		t.Errorf("exit code %d: %s", code, text)
	}
	if code, text := sealift("verify", path, "--policy", "mine", "--binding", strings.Repeat("00", 64)); code != exitAttestation {
		t.Errorf("another binding: exit code %d: %s", code, text)
	}
}
