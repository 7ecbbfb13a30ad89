// SPDX-License-Identifier: Apache-2.0

//go:build linux

package qemu

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"sealift/internal/platform/sandbox"
	"sealift/internal/sharedtest"
)

// TestTPM: a TPM serves at its control channel, is confined, begins anew in a folder where another one was, and leaves nothing.
func TestTPM(t *testing.T) {
	if _, err := exec.LookPath(ProgramTPM); err != nil {
		sharedtest.Missing(t, "scripts/setup.sh was not run: %v", err)
	}
	uid := 0
	if sandbox.CanMapUID(sandbox.FirstHostUID) {
		uid = sandbox.FirstHostUID
	}
	dir := filepath.Join(t.TempDir(), "closed", "tpm") // the folder above is closed to the TPM's user
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	stale := filepath.Join(dir, "tpm2-00.permall")
	if err := os.WriteFile(stale, []byte("of an earlier one"), 0o600); err != nil {
		t.Fatal(err)
	}
	var said bytes.Buffer
	tpm, err := StartTPM(t.Context(), dir, uid, &said)
	if err != nil {
		t.Fatal(err)
	}
	// CMD_GET_CAPABILITY of swtpm_ioctls(3): a result, which is 0, and the capabilities.
	answer := make([]byte, 8)
	if _, err := tpm.Control.Write([]byte{0, 0, 0, 1}); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(tpm.Control, answer); err != nil || !bytes.Equal(answer[:4], make([]byte, 4)) {
		t.Errorf("answer %x, %v, and it says %s", answer, err, &said)
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", tpm.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"CapEff:\t0000000000000000", "NoNewPrivs:\t1", fmt.Sprintf("Uid:\t%d", max(uid, os.Getuid()))} {
		if !strings.Contains(string(status), want) {
			t.Errorf("%s: not so in\n%s", want, status)
		}
	}
	if err := tpm.Remove(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(dir); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("left over: %v", err)
	}
	if err := tpm.Kill(); err != nil {
		t.Errorf("killed once more: %v", err)
	}
}
