// SPDX-License-Identifier: Apache-2.0

package emuroot_test

import (
	"crypto/rand"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/emuroot"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func TestSaveLoad(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "pki")
	if _, err := emuroot.Load(dir); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("got %v", err)
	}
	p, err := emuroot.LoadOrNew(dir, rand.Reader, evidence.TrustZone, now)
	if err != nil {
		t.Fatal(err)
	}
	again, err := emuroot.LoadOrNew(dir, rand.Reader, evidence.TrustZone, now)
	if err != nil {
		t.Fatal(err)
	}
	if again.Fingerprint() != p.Fingerprint() || again.Hardware != evidence.TrustZone || again.SignerID() != p.SignerID() {
		t.Error("the loaded vendor is another")
	}
	if _, err := again.NewDevice(rand.Reader, "x"); err != nil {
		t.Error(err)
	}
	if _, err := emuroot.LoadOrNew(dir, rand.Reader, evidence.CCA, now); !errors.Is(err, emuroot.ErrPKI) {
		t.Errorf("for other hardware: %v", err)
	}
	st, err := os.Stat(filepath.Join(dir, "root-key.pem"))
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Errorf("mode of the key: %v %v", st.Mode(), err)
	}
}

func TestLoadRefuses(t *testing.T) {
	one, two := t.TempDir(), t.TempDir()
	for _, dir := range []string{one, two} {
		if _, err := emuroot.LoadOrNew(dir, rand.Reader, evidence.TrustZone, now); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Rename(filepath.Join(two, "root.pem"), filepath.Join(one, "root.pem")); err != nil {
		t.Fatal(err)
	}
	if _, err := emuroot.Load(one); !errors.Is(err, emuroot.ErrPKI) {
		t.Errorf("certificate of another vendor: %v", err)
	}
	if err := os.WriteFile(filepath.Join(one, "root.pem"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := emuroot.Load(one); !errors.Is(err, emuroot.ErrPKI) {
		t.Errorf("damaged certificate: %v", err)
	}
}

func TestSubjectsSayEmulated(t *testing.T) {
	p, err := emuroot.New(rand.Reader, evidence.TrustZone, now)
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.NewDevice(rand.Reader, "dev1")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(p.Root.Subject.String(), evidence.EmulatedMark) || !p.Anchor().IsEmulated() || len(d.Chain) != 1 {
		t.Error("an emulated vendor that does not say so")
	}
	other, err := p.NewDevice(rand.Reader, "dev1")
	if err != nil || other.InstanceID == d.InstanceID {
		t.Errorf("two devices with one identity: %v", err)
	}
	d.Hardware = evidence.SGX
	if _, err := d.Evidence(rand.Reader, [64]byte{}, [32]byte{}, [32]byte{}); err == nil {
		t.Error("a PSA token for SGX")
	}
}
