// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/rand"
	"errors"
	"flag"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-sev-guest/abi"
	pb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

// pkis are made once per run, with smaller keys where only the form of the chain matters. The one for Milan has RSA-4096, which
// takes seconds, and was kept; -update makes another.
var pkis = map[Product]func() *PKI{Milan: sync.OnceValue(keptPKI), Genoa: oncePKI(Genoa, 2048), Turin: oncePKI(Turin, 2048)}

var update = flag.Bool("update", false, "make the kept PKI anew")

func keptPKI() *PKI {
	const file = "testdata/milan-emulated.pem"
	if *update {
		pki, err := NewPKI(rand.Reader, Milan, now)
		if err != nil {
			panic(err)
		}
		data, err := pki.Marshal()
		if err != nil {
			panic(err)
		}
		if err := errors.Join(os.MkdirAll("testdata", 0o755), os.WriteFile(file, data, 0o644)); err != nil {
			panic(err)
		}
	}
	data, err := os.ReadFile(file)
	if err != nil {
		panic(err)
	}
	pki, err := ParsePKI(data)
	if err != nil {
		panic(err)
	}
	return pki
}

// strangers is a self-made PKI that carries the same names.
var strangers = oncePKI(Milan, 2048)

func oncePKI(p Product, bits int) func() *PKI {
	return sync.OnceValue(func() *PKI {
		pki, err := newPKI(rand.Reader, p, now, bits)
		if err != nil {
			panic(err)
		}
		return pki
	})
}

var (
	level       = TCB{Bootloader: 4, SNP: 24, Microcode: 219}
	chip        = [64]byte{1, 2, 3, 4, 5, 6, 7, 8}
	binding     = [64]byte{0: 0xb1, 63: 0xb2}
	measurement = [48]byte{0: 0x31, 47: 0x32}
	hostData    = [32]byte{0: 0x41, 31: 0x42}
)

func device(t testing.TB, pki *PKI, s DeviceSpec) *Device {
	t.Helper()
	if s.TCB == (TCB{}) {
		s.TCB = level
	}
	if s.Signer == VCEK && s.Chip == [64]byte{} {
		s.Chip = chip
	}
	if s.Signer == VLEK {
		s.CSP = "cloud.example"
	}
	d, err := pki.NewDevice(rand.Reader, s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func mint(t testing.TB, d *Device, change func(*Report)) []byte {
	t.Helper()
	r := d.Report(binding, measurement, hostData)
	if change != nil {
		change(r)
	}
	data, err := d.Mint(rand.Reader, r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func vendorRoots(t testing.TB) []*Root {
	t.Helper()
	roots, err := VendorRoots()
	if err != nil {
		t.Fatal(err)
	}
	return roots
}

func TestMintedVerifiesUnderItsOwnRootOnly(t *testing.T) {
	vendor := vendorRoots(t)
	for _, p := range []Product{Milan, Genoa, Turin} {
		for _, s := range []Signer{VCEK, VLEK} {
			t.Run(fmt.Sprintf("%s %v", p, s), func(t *testing.T) {
				pki := pkis[p]()
				d := device(t, pki, DeviceSpec{Signer: s, TCB: TCB{FMC: map[Product]uint8{Turin: 3}[p], Bootloader: 4, SNP: 24, Microcode: 219}})
				report := mint(t, d, nil)
				v, err := Verify(report, [][]byte{d.Cert}, now, append(vendor, pki.Root)...)
				if err != nil {
					t.Fatal(err)
				}
				if !v.Emulated() || v.Root.Fingerprint() != pki.Root.Fingerprint() || v.Product != p || v.TCB != d.TCB || v.Report.ReportData != binding {
					t.Errorf("verified as %+v", v)
				}
				if m := v.Measurements(); len(m) != 2 || string(m[0].Value) != string(measurement[:]) || string(m[1].Value) != string(hostData[:]) {
					t.Errorf("measurements %v", m)
				}
				if (s == VCEK) != (v.CSP == "") || (s == VCEK) != (v.Chip != nil) {
					t.Errorf("%v gave chip %x, provider %q", s, v.Chip, v.CSP)
				}
				if _, err := Verify(report, [][]byte{d.Cert}, now, vendor...); !errors.Is(err, ErrChain) {
					t.Errorf("under the vendor's roots: %v", err)
				}
			})
		}
	}
}

// TestSelfMadeChain guards against the hole of go-sev-guest up to v0.14.1: with no roots given, it took those inside the
// Evidence. It also fails where the guard of this package is taken out: without it, an empty set of roots means AMD's.
func TestSelfMadeChain(t *testing.T) {
	pki := strangers()
	d := device(t, pki, DeviceSpec{})
	report := mint(t, d, nil)
	whole := [][]byte{d.Cert, pki.Root.ASK.Raw, pki.Root.ARK.Raw}
	if _, err := Verify(report, whole, now, vendorRoots(t)...); !errors.Is(err, ErrChain) {
		t.Errorf("a self-made chain under the vendor's roots: %v", err)
	}
	if _, err := Verify(report, whole, now, pkis[Milan]().Root); !errors.Is(err, ErrChain) {
		t.Errorf("a self-made chain under another root of the same name: %v", err)
	}
	if _, err := Verify(report, whole, now); !errors.Is(err, ErrNoRoot) {
		t.Errorf("a self-made chain under no root: %v", err)
	}
	for _, root := range append(vendorRoots(t), pki.Root) {
		if o := libraryOptions(root, now); len(o.TrustedRoots[string(root.Product)]) != 1 || !o.DisableCertFetching {
			t.Errorf("options for %s leave the choice of roots to the library: %+v", root.Product, o)
		}
	}
}

// TestPinnedLibrary fails where an older go-sev-guest is pinned, which accepts exactly this.
func TestPinnedLibrary(t *testing.T) {
	pki := strangers()
	d := device(t, pki, DeviceSpec{})
	report, err := abi.ReportToProto(mint(t, d, nil))
	if err != nil {
		t.Fatal(err)
	}
	selfMade := func() *pb.Attestation {
		return &pb.Attestation{Report: report, CertificateChain: &pb.CertificateChain{VcekCert: d.Cert, AskCert: pki.Root.ASK.Raw, ArkCert: pki.Root.ARK.Raw}}
	}
	if err := verify.SnpAttestation(selfMade(), &verify.Options{DisableCertFetching: true, Now: now}); err == nil {
		t.Error("without roots, the library takes those inside the Evidence")
	}
	if err := verify.SnpAttestation(selfMade(), libraryOptions(vendorRoots(t)[0], now)); err == nil {
		t.Error("with the vendor's roots, the library takes those inside the Evidence")
	}
	if err := verify.SnpAttestation(selfMade(), libraryOptions(pki.Root, now)); err != nil {
		t.Errorf("with the root that issued it, the library refuses the chain: %v", err)
	}
}

func TestTimes(t *testing.T) {
	pki := pkis[Milan]()
	from, to := now.Add(-time.Hour), now.Add(time.Hour)
	d := device(t, pki, DeviceSpec{NotBefore: from, NotAfter: to})
	report := mint(t, d, nil)
	v := NewVerifier(pki.Root)
	for _, c := range []struct {
		at time.Time
		ok bool
	}{{now, true}, {from.Add(-time.Minute), false}, {to.Add(time.Minute), false}, {now, true}, {time.Time{}, false}} {
		_, err := v.Verify(report, [][]byte{d.Cert}, c.at) // the same Verifier: what it remembers must expire too
		if (err == nil) != c.ok {
			t.Errorf("at %v: %v", c.at, err)
		}
		if err != nil && !c.at.IsZero() && (!errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "SEV-VCEK")) {
			t.Errorf("at %v: the error does not name the certificate: %v", c.at, err)
		}
	}
	if _, err := Verify(report, [][]byte{d.Cert}, now.Add(30*365*24*time.Hour), pki.Root); !errors.Is(err, ErrChain) {
		t.Errorf("after the root's end: %v", err)
	}
}

// fields are the parts of a report by offset.
var fields = []struct {
	name     string
	from, to int
	want     []string // one of these stands in the error; nothing means: only the signature can tell
}{
	{"VERSION", 0x000, 0x004, []string{"VERSION"}},
	{"GUEST_SVN", 0x004, 0x008, nil},
	{"POLICY", 0x008, 0x010, []string{"POLICY"}},
	{"FAMILY_ID", 0x010, 0x020, nil},
	{"IMAGE_ID", 0x020, 0x030, nil},
	{"VMPL", 0x030, 0x034, []string{"VMPL"}},
	{"SIGNATURE_ALGO", 0x034, 0x038, []string{"SIGNATURE_ALGO"}},
	{"CURRENT_TCB", 0x038, 0x040, nil},
	{"PLATFORM_INFO", 0x040, 0x048, nil},
	{"KEY_INFO", 0x048, 0x04c, []string{"KEY_INFO", "SIGNING_KEY", "CHIP_ID"}},
	{"reserved", 0x04c, 0x050, []string{"reserved"}},
	{"REPORT_DATA", 0x050, 0x090, nil},
	{"MEASUREMENT", 0x090, 0x0c0, nil},
	{"HOST_DATA", 0x0c0, 0x0e0, nil},
	{"ID_KEY_DIGEST", 0x0e0, 0x110, nil},
	{"AUTHOR_KEY_DIGEST", 0x110, 0x140, nil},
	{"REPORT_ID", 0x140, 0x160, nil},
	{"REPORT_ID_MA", 0x160, 0x180, nil},
	{"REPORTED_TCB", 0x180, 0x188, []string{"REPORTED_TCB"}},
	{"CPUID", 0x188, 0x18b, []string{"CPUID"}},
	{"reserved", 0x18b, 0x1a0, []string{"reserved"}},
	{"CHIP_ID", 0x1a0, 0x1e0, []string{"CHIP_ID"}},
	{"COMMITTED_TCB", 0x1e0, 0x1e8, nil},
	{"CURRENT_VERSION", 0x1e8, 0x1eb, nil},
	{"reserved", 0x1eb, 0x1ec, []string{"reserved"}},
	{"COMMITTED_VERSION", 0x1ec, 0x1ef, nil},
	{"reserved", 0x1ef, 0x1f0, []string{"reserved"}},
	{"LAUNCH_TCB", 0x1f0, 0x1f8, nil},
	{"MIT_VECTORS", 0x1f8, 0x208, []string{"VERSION 3 does not have"}},
	{"reserved", 0x208, 0x2a0, []string{"reserved"}},
	{"SIGNATURE", 0x2a0, 0x330, []string{ErrSignature.Error()}},
	{"reserved", 0x330, 0x4a0, []string{"reserved"}},
}

// TestEveryByteAltered alters each byte of a report, cold and warm, and wants the field or the signature named.
func TestEveryByteAltered(t *testing.T) {
	pki := pkis[Milan]()
	d := device(t, pki, DeviceSpec{})
	report := mint(t, d, nil)
	warm := NewVerifier(pki.Root)
	if _, err := warm.Verify(report, [][]byte{d.Cert}, now); err != nil {
		t.Fatal(err)
	}
	end := 0
	for _, f := range fields {
		if f.from != end {
			t.Fatalf("the table has a gap before %s", f.name)
		}
		end = f.to
		for i := f.from; i < f.to; i++ {
			for _, bit := range []byte{0x01, 0x80} {
				report[i] ^= bit
				_, err := warm.Verify(report, [][]byte{d.Cert}, now)
				if err == nil || !named(err, f.want) {
					t.Fatalf("%s altered at 0x%x: %v", f.name, i, err)
				}
				report[i] ^= bit
			}
		}
	}
	if end != ReportSize {
		t.Fatalf("the table ends at 0x%x", end)
	}
	report[0x90] ^= 1
	if _, err := Verify(report, [][]byte{d.Cert}, now, pki.Root); !errors.Is(err, ErrSignature) {
		t.Errorf("cold: %v", err)
	}
}

func named(err error, want []string) bool {
	for _, w := range want {
		if strings.Contains(err.Error(), w) {
			return true
		}
	}
	return errors.Is(err, ErrSignature)
}

// TestSignedMismatch wants what contradicts the certificate refused by name although the signature is right.
func TestSignedMismatch(t *testing.T) {
	pki := pkis[Milan]()
	vcek, vlek := device(t, pki, DeviceSpec{}), device(t, pki, DeviceSpec{Signer: VLEK})
	for _, c := range []struct {
		name   string
		d      *Device
		change func(*Report)
		want   string
	}{
		{"other chip", vcek, func(r *Report) { r.ChipID[0]++ }, "CHIP_ID"},
		{"other level", vcek, func(r *Report) { r.ReportedTCB = TCB{Bootloader: 9}.Raw(Milan) }, "REPORTED_TCB"},
		{"reserved level", vcek, func(r *Report) { r.ReportedTCB[3] = 1 }, "REPORTED_TCB"},
		{"other signer", vcek, func(r *Report) { r.Signer = VLEK }, "SIGNING_KEY"},
		{"other signer", vlek, func(r *Report) { r.Signer = VCEK }, "SIGNING_KEY"},
		{"other product", vcek, func(r *Report) { r.Model = 0x11 }, "CPUID"},
		{"masked and there", vcek, func(r *Report) { r.MaskChipKey = true }, "masked"},
	} {
		report := mint(t, c.d, c.change)
		if _, err := Verify(report, [][]byte{c.d.Cert}, now, pki.Root); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", c.name, err)
		}
	}
	masked := mint(t, vcek, func(r *Report) { r.MaskChipKey, r.ChipID = true, [64]byte{} })
	if _, err := Verify(masked, [][]byte{vcek.Cert}, now, pki.Root); err != nil {
		t.Errorf("a masked chip: %v", err)
	}
}

func TestSwappedCertificates(t *testing.T) {
	pki := pkis[Milan]()
	a, b := device(t, pki, DeviceSpec{}), device(t, pki, DeviceSpec{Chip: [64]byte{9}})
	report := mint(t, a, nil)
	for name, certs := range map[string][][]byte{
		"none": nil, "empty": {nil}, "no certificate": {{1, 2, 3}}, "another device's": {b.Cert}, "the intermediate": {pki.Root.ASK.Raw},
		"the root": {pki.Root.ARK.Raw}, "the wrong order": {pki.Root.ASK.Raw, a.Cert}, "another product's": {device(t, pkis[Genoa](), DeviceSpec{}).Cert},
	} {
		if _, err := Verify(report, certs, now, pki.Root, pkis[Genoa]().Root); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	for i := range a.Cert {
		bad := append([]byte(nil), a.Cert...)
		bad[i] ^= 0x04
		if _, err := Verify(report, [][]byte{bad}, now, pki.Root); err == nil {
			t.Fatalf("certificate altered at byte %d: accepted", i)
		}
	}
}

func TestTruncated(t *testing.T) {
	report := mint(t, device(t, pkis[Milan](), DeviceSpec{}), nil)
	for n := range report {
		if _, err := Parse(report[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := Parse(append(report, 0)); !errors.Is(err, ErrMalformed) {
		t.Error("a byte too many is accepted")
	}
}

func TestPKISurvives(t *testing.T) {
	pki := strangers()
	data, err := pki.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePKI(data)
	if err != nil {
		t.Fatal(err)
	}
	d := device(t, again, DeviceSpec{Signer: VLEK})
	if _, err := Verify(mint(t, d, nil), [][]byte{d.Cert}, now, pki.Root); err != nil {
		t.Error(err)
	}
	if _, err := ParsePKI(data[:len(data)/2]); !errors.Is(err, ErrPKI) {
		t.Errorf("half a PKI: %v", err)
	}
}

func TestTCB(t *testing.T) {
	low := TCB{FMC: 1, Bootloader: 2, TEE: 3, SNP: 4, Microcode: 5}
	for _, p := range []Product{Milan, Genoa, Turin} {
		want := low
		if p != Turin {
			want.FMC = 0
		}
		if got, reserved := low.Raw(p).decode(p); got != want || reserved {
			t.Errorf("%s: %v, want %v", p, got, want)
		}
	}
	if !low.AtLeast(low) {
		t.Error("a level is below itself")
	}
	for _, min := range []TCB{{FMC: 2}, {Bootloader: 3}, {TEE: 4}, {SNP: 5}, {Microcode: 6}} {
		if low.AtLeast(min) {
			t.Errorf("%v passes for %v", low, min)
		}
	}
}

func TestPolicy(t *testing.T) {
	p := Policy(0x1f0000 | 0x0102)
	major, minor := p.ABI()
	if !p.Debug() || !p.Migratable() || major != 1 || minor != 2 || p.String() != "0x1f0102 (DEBUG) (MIGRATE_MA)" {
		t.Errorf("%v, ABI %d.%d", p, major, minor)
	}
}

func FuzzParse(f *testing.F) {
	d := device(f, strangers(), DeviceSpec{})
	f.Add(mint(f, d, nil))
	f.Add(make([]byte, ReportSize))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := Parse(data)
		if err == nil && string(r.Marshal()) != string(data) {
			t.Error("a report does not encode to what it was read from")
		}
	})
}

func FuzzEndorsement(f *testing.F) {
	f.Add(device(f, strangers(), DeviceSpec{}).Cert)
	f.Add(device(f, strangers(), DeviceSpec{Signer: VLEK}).Cert)
	f.Fuzz(func(t *testing.T, data []byte) { _, _ = parseEndorsement(data) })
}

func BenchmarkVerify(b *testing.B) {
	pki := pkis[Milan]()
	d := device(b, pki, DeviceSpec{})
	report, certs := mint(b, d, nil), [][]byte{d.Cert}
	b.Run("cold", func(b *testing.B) {
		for b.Loop() {
			if _, err := Verify(report, certs, now, pki.Root); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("warm", func(b *testing.B) {
		v := NewVerifier(pki.Root)
		for b.Loop() {
			if _, err := v.Verify(report, certs, now); err != nil {
				b.Fatal(err)
			}
		}
	})
}
