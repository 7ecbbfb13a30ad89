// SPDX-License-Identifier: Apache-2.0

package emuroot_test

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/emuroot/emutest"
	"sealift/evidence/psa"
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
	if again.Fingerprint() != p.Fingerprint() || again.Hardware != evidence.TrustZone {
		t.Error("the loaded vendor is another")
	}
	if _, err := again.NewDevice(rand.Reader, "x"); err != nil {
		t.Error(err)
	}
	if _, err := emuroot.LoadOrNew(dir, rand.Reader, evidence.CCA, now); !errors.Is(err, emuroot.ErrPKI) {
		t.Errorf("for other hardware: %v", err)
	}
	st, err := os.Stat(filepath.Join(dir, "vendor.cbor"))
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

// Every vendor and every device survives being kept, and a saved one of another vendor is refused.
func TestEveryVendor(t *testing.T) {
	for _, hw := range emuroot.Played() {
		t.Run(string(hw), func(t *testing.T) {
			p := emutest.PKI(t, hw, now)
			dir := t.TempDir()
			if err := p.Save(dir); err != nil {
				t.Fatal(err)
			}
			loaded, err := emuroot.LoadOrNew(dir, rand.Reader, hw, now)
			if err != nil || loaded.Fingerprint() != p.Fingerprint() || !loaded.Anchor().IsEmulated() || loaded.Hardware != hw {
				t.Fatalf("loaded %v: %v", loaded, err)
			}
			pem, err := p.Anchor().PEM()
			if err != nil {
				t.Fatal(err)
			}
			a, err := evidence.ParseAnchorPEM(pem)
			if err != nil || !a.IsEmulated() || a.Fingerprint() != p.Fingerprint() || a.Hardware != hw || len(a.Intermediates) != len(p.Anchor().Intermediates) {
				t.Errorf("the anchor as a file: %v, %v", a, err)
			}
			d, err := p.NewDevice(rand.Reader, "dev1")
			if err != nil {
				t.Fatal(err)
			}
			kept, err := d.Marshal()
			if err != nil {
				t.Fatal(err)
			}
			again, err := loaded.OpenDevice(kept)
			if err != nil || again.InstanceID != d.InstanceID || d.InstanceID[0] != 0x01 {
				t.Errorf("opened %v: %v", again, err)
			}
			other, err := p.NewDevice(rand.Reader, "dev1")
			if err != nil || other.InstanceID == d.InstanceID {
				t.Errorf("two devices with one identity: %v", err)
			}
			if _, err := d.Evidence(rand.Reader, emuroot.Request{Launch: make([]byte, 20)}); err == nil {
				t.Error("a launch measurement of 20 bytes")
			}
			if _, err := p.OpenDevice(kept[:len(kept)/2]); !errors.Is(err, emuroot.ErrPKI) {
				t.Errorf("half a device: %v", err)
			}
		})
	}
}

// What emulators kept before there were other architectures than TrustZone still opens.
func TestOldFolder(t *testing.T) {
	dir := t.TempDir()
	key, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "EMULATED trustzone root",
		OrganizationalUnit: []string{"trustzone"}}, NotBefore: now, NotAfter: now.Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	keyPEM, err := cose.MarshalPrivatePEM(key)
	if err != nil {
		t.Fatal(err)
	}
	for name, data := range map[string][]byte{"root.pem": pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), "root-key.pem": keyPEM} {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	p, err := emuroot.LoadOrNew(dir, rand.Reader, evidence.TrustZone, now)
	if err != nil || !bytes.Equal(p.Anchor().Cert.Raw, der) {
		t.Fatalf("%v", err)
	}
	iak, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	iakPEM, err := cose.MarshalPrivatePEM(iak)
	if err != nil {
		t.Fatal(err)
	}
	data, err := emuroot.MigrateIAK(iakPEM, [][]byte{der})
	if err != nil {
		t.Fatal(err)
	}
	d, err := p.OpenDevice(data)
	if err != nil {
		t.Fatal(err)
	}
	if want, err := psa.InstanceID(iak.Public()); err != nil || d.InstanceID != want {
		t.Errorf("another device: %v", err)
	}
}
