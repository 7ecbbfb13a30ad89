// SPDX-License-Identifier: Apache-2.0

package inspect_test

import (
	"crypto/rand"
	"crypto/sha256"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/emuroot"
	"sealift/evidence/tpm"
	"sealift/evidence/tpm/tpmtest"
	"sealift/internal/sharedtest"
)

// TestQuote guards that a TPM's quote is shown with what was booted, and that what is verified of it is said.
func TestQuote(t *testing.T) {
	data, err := os.ReadFile(filepath.Join(sharedtest.Root(t), "evidence", "tpm", "testdata", "ovmf-swtpm.cbor"))
	if err != nil {
		t.Fatal(err)
	}
	out := show(t, data, nil)
	for _, text := range []string{"# quote of a TPM\n", "verified: quote of a TPM, key 000b", "nothing here vouches for the key",
		"measurement TPM-KERNEL bd7517a9", "measurement TPM-INITRAMFS 1db6054b", "PCR4 b3a8f87d", "PCR4 EV_EFI_BOOT_SERVICES_APPLICATION"} {
		if !strings.Contains(out, text) {
			t.Errorf("it lacks %q:\n%.3000s", text, out)
		}
	}
	data[700] ^= 1
	if out := show(t, data, nil); !strings.Contains(out, "REFUSED: quote of a TPM") || strings.Contains(out, "TPM-KERNEL") {
		t.Errorf("changed:\n%.2000s", out)
	}
}

// TestQuoteInABundle guards that a quote is held against the bundle that it came in: its claims and the binding of its hardware.
func TestQuoteInABundle(t *testing.T) {
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	must := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	pki, err := emuroot.New(rand.Reader, evidence.TrustZone, now)
	must(err)
	device, err := pki.NewDevice(rand.Reader, "one")
	must(err)
	private, err := cose.GenerateKey(cose.AlgESP256, rand.Reader)
	must(err)
	key, err := cose.NewKey(private.Public())
	must(err)
	k := tpmtest.NewKey(t)
	claims := evidence.Claims{Nonce: make([]byte, 64), UEID: device.InstanceID[:], OEMID: []byte{1, 2, 3}, HWModel: []byte{1}, HWVersion: "1",
		AgentEncKey: key, QuoteKey: k.Name()}
	for name, c := range map[string]struct {
		binding func(b []byte) []byte
		want    string
	}{
		"its own":    {func(b []byte) []byte { return b }, "verified: quote of a TPM"},
		"of another": {func([]byte) []byte { return []byte("another") }, "REFUSED: quote of a TPM"},
	} {
		data, err := evidence.Collect(claims, "emu:trustzone", key, []byte("config"), func(b [64]byte) (evidence.HardwareEvidence, error) {
			e, err := device.Evidence(rand.Reader, emuroot.Request{Binding: b, Launch: make([]byte, 32), Config: sha256.Sum256([]byte("config"))})
			e.Quote = k.Quote(t, tpm.Nonce(c.binding(b[:])), tpmtest.Boot{Kernel: "kernel"}).Marshal()
			return e, err
		})
		must(err)
		out := show(t, data, nil)
		if !strings.Contains(out, c.want) || strings.Contains(out, "measurement TPM-KERNEL") != strings.HasPrefix(c.want, "verified") {
			t.Errorf("%s: not %q:\n%.3000s", name, c.want, out)
		}
	}
}
