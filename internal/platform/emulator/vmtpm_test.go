// SPDX-License-Identifier: Apache-2.0

//go:build linux

package emulator_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"sealift/evidence"
	"sealift/internal/platform"
	"sealift/internal/platform/emulator"
)

// TestGuestPayloadWithTPM: nobody could tell what a TPM measures of an initramfs with a guest payload, so it is not booted, and nothing
// is left of the attempt.
func TestGuestPayloadWithTPM(t *testing.T) {
	vm := small
	vm.TPM = true
	path := guestImage(t, kernel(t), vm)
	w := serve(t, t.TempDir(), emulator.Options{Hardware: evidence.CCA})
	w.layer = filepath.Join(t.TempDir(), "layer")
	writeLayer(t, w.layer, "from the payload")
	if err := w.tryLaunch("v1", path, "config", platform.Limits{}); !errors.Is(err, platform.ErrUnsupported) {
		t.Errorf("%v", err)
	}
	if _, err := os.Lstat(filepath.Join(w.dir, "instances", "v1", "tpm")); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the TPM's state is left: %v", err)
	}
}
