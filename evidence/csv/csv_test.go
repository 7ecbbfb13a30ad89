// SPDX-License-Identifier: Apache-2.0

package csv

import (
	"bytes"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"sealift/internal/sharedtest"
)

var now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)

func newPKI(t testing.TB) *PKI {
	t.Helper()
	p, err := NewPKI(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func newDevice(t testing.TB, p *PKI) *Device {
	t.Helper()
	d, err := p.NewDevice(rand.Reader, "EMU0001")
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func fill(b []byte, v byte) {
	for i := range b {
		b[i] = v + byte(i)
	}
}

func newReport(version int) Report {
	r := Report{Version: version, Policy: PolicyNoDebug | PolicyNoSend | PolicyCSV, ANonce: 0x9b429112}
	fill(r.ReportData[:], 1)
	fill(r.Measure[:], 2)
	fill(r.MNonce[:], 3)
	fill(r.VMID[:], 4)
	if version == 2 {
		r.ANonce, r.Build, r.RTMRVersion = 0, 7, 1
		for i := range r.RTMR {
			fill(r.RTMR[i][:], byte(10*i))
		}
		r.RTMR[0] = r.Measure
	}
	return r
}

func mint(t testing.TB, d *Device, r Report) []byte {
	t.Helper()
	data, err := d.Mint(rand.Reader, r)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

func TestMintedVerifiesUnderItsOwnRootOnly(t *testing.T) {
	p, other := newPKI(t), newPKI(t)
	d := newDevice(t, p)
	for _, version := range []int{1, 2} {
		r := newReport(version)
		data := mint(t, d, r)
		v, err := Verify(data, d.Chain, now, other.Root, p.Root)
		if err != nil {
			t.Fatalf("version %d: %v", version, err)
		}
		r.SerialInsecure = d.Serial
		if *v.Report != r || !v.Emulated() || v.Root.Fingerprint() != p.Root.Fingerprint() {
			t.Errorf("version %d: verified as %+v, want %+v", version, v.Report, r)
		}
		if m := v.Measurements(); len(m) != map[int]int{1: 1, 2: 6}[version] || !bytes.Equal(m[0].Value, r.Measure[:]) {
			t.Errorf("version %d: measurements %v", version, m)
		}
		if _, err := Verify(data, d.Chain, now, other.Root); !errors.Is(err, ErrChain) {
			t.Errorf("version %d under another root of the same name: %v", version, err)
		}
		if _, err := Verify(data, d.Chain, now); !errors.Is(err, ErrNoRoot) {
			t.Errorf("version %d under no root: %v", version, err)
		}
	}
}

// TestForms wants the three forms of a version 1 report read alike.
func TestForms(t *testing.T) {
	p := newPKI(t)
	d := newDevice(t, p)
	bare := mint(t, d, newReport(1))
	padded := append(slices.Clone(bare), make([]byte, paddedSize-len(bare))...)
	wrapped := append(make([]byte, 20), padded...)
	extended := slices.Clone(wrapped)
	copy(extended, magicExt[:])
	for name, data := range map[string][]byte{"padded": padded, "wrapped": wrapped, "in the new wrapper": extended} {
		if _, err := Verify(data, [][]byte{slices.Concat(d.Chain...)}, now, p.Root); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		bad := slices.Clone(data)
		bad[len(bad)-1] = 1
		if _, err := Parse(bad); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s, with something in the padding: %v", name, err)
		}
	}
	extended[16] = 2
	if _, err := Parse(extended); !errors.Is(err, ErrMalformed) {
		t.Errorf("unknown flags: %v", err)
	}
}

// TestEveryByteAltered alters each byte. Of the first version, what the signature covers must fail by the signature; the
// rest by a rule, the MAC or the chain.
func TestEveryByteAltered(t *testing.T) {
	p := newPKI(t)
	d := newDevice(t, p)
	for version, signed := range map[int]int{1: signedV1, 2: signedV2} {
		data := mint(t, d, newReport(version))
		start := map[int]int{1: 0, 2: 20}[version]
		for i := range data {
			bit := byte(1) << (i % 8)
			data[i] ^= bit
			_, err := Verify(data, d.Chain, now, p.Root)
			if err == nil {
				t.Fatalf("version %d: altered at byte %d: accepted", version, i)
			}
			if i >= start && i < start+signed && !errors.Is(err, ErrSignature) && !errors.Is(err, ErrMalformed) {
				t.Fatalf("version %d: altered at byte %d: %v", version, i, err)
			}
			data[i] ^= bit
		}
	}
}

// TestRepairedMAC alters the signer's block and repairs the MAC, whose key is public: what remains must still be refused.
// The serial number is not, which is why it is called insecure.
func TestRepairedMAC(t *testing.T) {
	p := newPKI(t)
	a, b := newDevice(t, p), newDevice(t, p)
	stolen := *a
	stolen.cert = b.cert
	if _, err := Verify(mint(t, &stolen, newReport(1)), b.Chain, now, p.Root); !errors.Is(err, ErrSignature) || errors.Is(err, ErrMAC) {
		t.Errorf("another device's PEK: %v", err)
	}
	renamed := *a
	renamed.Serial = "EMU9999"
	if v, err := Verify(mint(t, &renamed, newReport(1)), a.Chain, now, p.Root); err != nil || v.Report.SerialInsecure != "EMU9999" {
		t.Errorf("another serial number: %v", err)
	}
}

func TestSwappedCertificates(t *testing.T) {
	p, q := newPKI(t), newPKI(t)
	d, e, f := newDevice(t, p), newDevice(t, p), newDevice(t, q)
	data := mint(t, d, newReport(1))
	for name, certs := range map[string][][]byte{
		"none": nil, "only the HSK": d.Chain[:1], "the wrong order": {d.Chain[1], d.Chain[0]}, "another chip's": e.Chain,
		"another HSK": {f.Chain[0], d.Chain[1]}, "another CEK": {d.Chain[0], f.Chain[1]}, "another vendor's": f.Chain,
		"the root as HSK": {p.Root.Raw(), d.Chain[1]},
	} {
		if _, err := Verify(data, certs, now, p.Root, q.Root); err == nil {
			t.Errorf("%s: accepted", name)
		}
	}
	both := slices.Concat(d.Chain...)
	for i := range both {
		both[i] ^= 0x10
		if _, err := Verify(data, [][]byte{both}, now, p.Root); err == nil {
			t.Fatalf("certificates altered at byte %d: accepted", i)
		}
		both[i] ^= 0x10
	}
	root := p.Root.Raw()
	for i := range root {
		root[i] ^= 0x10
		if _, err := ParseRoot(root); err == nil {
			t.Fatalf("root altered at byte %d: accepted", i)
		}
		root[i] ^= 0x10
	}
}

// TestWrongIssuer signs rightly and names another issuer.
func TestWrongIssuer(t *testing.T) {
	p := newPKI(t)
	hsk, err := p.issueCA(rand.Reader, wireCA{Version: 1, KeyID: [16]byte{1}, Issuer: [16]byte{2}, Usage: usageHSK, Key: encodeKey(p.hsk, p.hskUID)})
	if err != nil {
		t.Fatal(err)
	}
	good := p.HSK
	p.HSK = hsk // devices of now on name its key identifier
	d := newDevice(t, p)
	data := mint(t, d, newReport(1))
	if _, err := Verify(data, d.Chain, now, p.Root); !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "issuer") {
		t.Errorf("an HSK that names another root: %v", err)
	}
	if _, err := Verify(data, [][]byte{good, d.Chain[1]}, now, p.Root); !errors.Is(err, ErrChain) || !strings.Contains(err.Error(), "CEK") {
		t.Errorf("a CEK that names another HSK: %v", err)
	}
}

func TestTruncated(t *testing.T) {
	d := newDevice(t, newPKI(t))
	for _, version := range []int{1, 2} {
		data := mint(t, d, newReport(version))
		for n := range data {
			if _, err := Parse(data[:n]); err == nil {
				t.Fatalf("version %d: %d bytes are accepted", version, n)
			}
		}
		if _, err := Parse(append(data, 0)); !errors.Is(err, ErrMalformed) {
			t.Errorf("version %d: a byte too many is accepted", version)
		}
	}
}

func TestPKISurvives(t *testing.T) {
	p := newPKI(t)
	again, err := ParsePKI(p.Marshal())
	if err != nil {
		t.Fatal(err)
	}
	d := newDevice(t, again)
	if _, err := Verify(mint(t, d, newReport(1)), d.Chain, now, p.Root); err != nil {
		t.Error(err)
	}
	mixed := append(p.Marshal()[:2*RootSize], newPKI(t).Marshal()[2*RootSize:]...)
	if _, err := ParsePKI(mixed); !errors.Is(err, ErrPKI) {
		t.Errorf("keys of another PKI: %v", err)
	}
}

// TestManifest checks every row for CSV. The format has no times.
func TestManifest(t *testing.T) {
	checked := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		file := row["file"]
		if !strings.HasPrefix(file, "csv/") {
			continue
		}
		data := sharedtest.Read(t, "evidence", file)
		if sum := sha256.Sum256(data); hex.EncodeToString(sum[:]) != row["sha256"] {
			t.Errorf("%s: SHA-256 differs from the manifest", file)
			continue
		}
		if err := checkRow(t, strings.TrimPrefix(file, "csv/"), data); err != nil {
			t.Errorf("%s: %v", file, err)
		}
		checked++
	}
	t.Logf("%d rows for CSV checked, none skipped", checked)
	if checked != 6 {
		t.Errorf("%d rows checked, want 6", checked)
	}
}

func checkRow(t *testing.T, name string, data []byte) error {
	read := func(name string) []byte { return sharedtest.Read(t, "evidence", "csv/"+name) }
	root, err := ParseRoot(read("hrk.cert"))
	if err != nil {
		return err
	}
	report, chain := read("csvrs_report.cert"), [][]byte{read("csvrs_hsk.cert"), read("csvrs_cek.cert")}
	switch name {
	case "csvrs_report.cert":
		return checkSample(t, data, chain, root)
	case "csvrs_hsk.cert":
		chain[0] = data
	case "csvrs_cek.cert":
		chain[1] = data
	case "csvrs_hsk_cek.cert":
		chain = [][]byte{data}
	case "hrk.cert", "trustee_hrk.cert":
		if root, err = ParseRoot(data); err != nil {
			return err
		}
		if f := root.Fingerprint(); hex.EncodeToString(f[:]) != VendorRootFingerprint {
			return errors.New("not the vendor's root")
		}
	default:
		return errors.New("no check for this file")
	}
	_, err = Verify(report, chain, now, root)
	return err
}

func checkSample(t *testing.T, report []byte, chain [][]byte, root *Root) error {
	v, err := Verify(report, chain, now, newPKI(t).Root, root)
	if err != nil {
		return err
	}
	r := v.Report
	if v.Emulated() || r.SerialInsecure != "NZA9T14052605" || r.Policy != 0x40000001 || !strings.HasPrefix(hex.EncodeToString(r.Measure[:]), "1178dadbf826ec7a") ||
		!bytes.HasPrefix(r.ReportData[:], []byte("user dat")) {
		t.Errorf("verified as %+v", r)
	}
	if _, err := Verify(report, chain, now, newPKI(t).Root); !errors.Is(err, ErrChain) {
		t.Errorf("under an emulated root: %v", err)
	}
	for i := range signedV1 {
		report[i] ^= 1
		if _, err := Verify(report, chain, now, root); !errors.Is(err, ErrSignature) {
			t.Fatalf("altered at byte %d: %v", i, err)
		}
		report[i] ^= 1
	}
	return nil
}

func FuzzParse(f *testing.F) {
	d := newDevice(f, newPKI(f))
	f.Add(mint(f, d, newReport(1)))
	f.Add(mint(f, d, newReport(2)))
	f.Fuzz(func(t *testing.T, data []byte) {
		if m, err := Parse(data); err == nil && m.pek == nil {
			t.Error("a report without a PEK")
		}
	})
}

func FuzzCertificates(f *testing.F) {
	p := newPKI(f)
	f.Add(slices.Concat(newDevice(f, p).Chain...))
	f.Add(p.Root.Raw())
	f.Fuzz(func(t *testing.T, data []byte) {
		if root, err := ParseRoot(data); err == nil && !bytes.Equal(root.Raw(), data) {
			t.Error("a root does not encode to what it was read from")
		}
		_, _, _ = parseChain([][]byte{data})
	})
}

func BenchmarkVerify(b *testing.B) {
	p := newPKI(b)
	d := newDevice(b, p)
	data := mint(b, d, newReport(1))
	for b.Loop() {
		if _, err := Verify(data, d.Chain, now, p.Root); err != nil {
			b.Fatal(err)
		}
	}
}
