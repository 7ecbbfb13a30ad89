// SPDX-License-Identifier: Apache-2.0

//go:build linux

package tpm

import (
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxudstpm"

	"sealift/evidence/eventlog"
	"sealift/internal/sharedtest"
)

// startTPM starts a TPM as a program of its own.
func startTPM(t *testing.T) transport.TPM {
	t.Helper()
	program, err := exec.LookPath("swtpm")
	if err != nil {
		sharedtest.Missing(t, "scripts/setup.sh was not run: %v", err)
	}
	dir := t.TempDir()
	socket := filepath.Join(dir, "tpm")
	cmd := exec.CommandContext(t.Context(), program, "socket", "--tpm2", "--tpmstate", "dir="+dir, "--server", "type=unixio,path="+socket,
		"--flags", "not-need-init,startup-clear")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cmd.Process.Kill(); _ = cmd.Wait() })
	for deadline := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		conn, err := linuxudstpm.Open(socket)
		if err == nil {
			t.Cleanup(func() { conn.Close() })
			return conn
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}

// extend extends a register as firmware would, and returns the log of it.
func extend(t *testing.T, tpm transport.TPM, pcr uint32, what string) []byte {
	t.Helper()
	digest := sha256.Sum256([]byte(what))
	_, err := tpm2.PCRExtend{PCRHandle: tpm2.AuthHandle{Handle: tpm2.TPMHandle(pcr), Auth: tpm2.PasswordAuth(nil)},
		Digests: tpm2.TPMLDigestValues{Digests: []tpm2.TPMTHA{{HashAlg: tpm2.TPMAlgSHA256, Digest: digest[:]}}}}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	le := binary.LittleEndian
	out := le.AppendUint32(le.AppendUint32(le.AppendUint32(nil, pcr), uint32(eventlog.BootApplication)), 1)
	out = append(le.AppendUint16(out, eventlog.SHA256), digest[:]...)
	return le.AppendUint32(out, 0)
}

// logHead is a Spec ID event that names SHA-256 alone.
func logHead() []byte {
	le := binary.LittleEndian
	body := append([]byte("Spec ID Event03\x00"), 0, 0, 0, 0, 0, 2, 0, 2)
	body = le.AppendUint32(body, 1)
	body = append(le.AppendUint16(le.AppendUint16(body, eventlog.SHA256), 32), 0)
	out := append(le.AppendUint32(le.AppendUint32(nil, 0), uint32(eventlog.NoAction)), make([]byte, 20)...)
	return append(le.AppendUint32(out, uint32(len(body))), body...)
}

// TestSwtpm has a TPM measure a boot and quote it: with keys of ours, and with one of RSA as other software makes them.
func TestSwtpm(t *testing.T) {
	tpm := startTPM(t)
	log := append(logHead(), extend(t, tpm, 4, "the kernel")...)
	k, err := NewKey(tpm)
	if err != nil {
		t.Fatal(err)
	}
	nonce := Nonce([]byte("first"))
	q, err := k.Quote(nonce, log)
	if err != nil {
		t.Fatal(err)
	}
	again, err := Parse(q.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	v, err := again.Verify(k.Name(), nonce)
	if err != nil {
		t.Fatal(err)
	}
	if len(v.Boot) != 1 || v.Boot[0].Name != Kernel || v.Boot[0].Digest != sha256.Sum256([]byte("the kernel")) {
		t.Errorf("booted: %v", v.Boot)
	}

	// Something is started that the log does not name.
	more := extend(t, tpm, 9, "an initramfs")
	if q, err = k.Quote(nonce, log); err != nil {
		t.Fatal(err)
	}
	if _, err := q.Verify(k.Name(), nonce); !errors.Is(err, ErrLog) || errors.Is(err, ErrPCR) {
		t.Errorf("an event is not in the log: %v", err)
	}
	q.Log = append(log, more...)
	if v, err = q.Verify(k.Name(), nonce); err != nil || len(v.Boot) != 2 {
		t.Errorf("%v, %v", v, err)
	}

	for name, scheme := range map[string]tpm2.TPMAlgID{"RSASSA": tpm2.TPMAlgRSASSA, "RSAPSS": tpm2.TPMAlgRSAPSS} {
		t.Run(name, func(t *testing.T) { quoteRSA(t, tpm, scheme, q) })
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
	if _, err := k.Quote(nonce, log); err == nil {
		t.Error("a key that was taken out quotes")
	}
}

// quoteRSA quotes with an RSA key what another quote has.
func quoteRSA(t *testing.T, tpm transport.TPM, scheme tpm2.TPMAlgID, other *Quote) {
	want := softRSA(scheme).public
	want.Unique = tpm2.TPMUPublicID{}
	r, err := tpm2.CreatePrimary{PrimaryHandle: tpm2.TPMRHEndorsement, InPublic: tpm2.New2B(want)}.Execute(tpm)
	if err != nil {
		t.Fatal(err)
	}
	public, err := r.OutPublic.Contents()
	if err != nil {
		t.Fatal(err)
	}
	k := &Key{tpm, r.ObjectHandle, r.Name, tpm2.Marshal(public)}
	nonce := Nonce([]byte("second"))
	q, err := k.Quote(nonce, other.Log)
	if err != nil {
		t.Fatal(err)
	}
	if v, err := q.Verify(k.Name(), nonce); err != nil || len(v.Boot) != 2 {
		t.Errorf("%v, %v", v, err)
	}
	q.Attest = other.Attest
	if _, err := q.Verify(k.Name(), nonce); !errors.Is(err, ErrSignature) || !errors.Is(err, ErrNonce) {
		t.Errorf("what another key signed for another nonce: %v", err)
	}
	if err := k.Close(); err != nil {
		t.Error(err)
	}
}
