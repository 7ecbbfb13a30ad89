// SPDX-License-Identifier: Apache-2.0

package tdx

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
	"time"

	"sealift/evidence"
	"sealift/evidence/intel"
)

// fields are the parts of a quote of version 5 with a TD report 1.5, by size.
var fields = []struct {
	name string
	size int
	want []string // one of these stands in the error; nothing means: only the quote's signature can tell
}{
	{"version", 2, []string{"version is", "behind the quote"}}, // read as version 4, other bytes are the length
	{"att_key_type", 2, []string{"att_key_type"}},
	{"tee_type", 4, []string{"tee_type"}},
	{"reserved", 4, []string{"reserved"}},
	{"qe_vendor_id", 16, []string{"qe_vendor_id"}},
	{"user_data", 20, nil},
	{"body type", 2, []string{"body of type"}},
	{"body size", 4, []string{"body of type"}},
	{"TEE_TCB_SVN", 16, []string{"TCB of the platform", "TDX module", "version of the TDX module"}},
	{"MRSEAM", 48, nil},
	{"MRSIGNERSEAM", 48, []string{"MRSIGNERSEAM"}},
	{"SEAMATTRIBUTES", 8, []string{"SEAMATTRIBUTES"}},
	{"TDATTRIBUTES", 8, nil},
	{"XFAM", 8, nil},
	{"MRTD", 48, nil},
	{"MRCONFIGID", 48, nil},
	{"MROWNER", 48, nil},
	{"MROWNERCONFIG", 48, nil},
	{"RTMR0 to RTMR3", 192, nil},
	{"REPORTDATA", 64, nil},
	{"TEE_TCB_SVN_2", 16, nil},
	{"MRSERVICETD", 48, nil},
	{"signature data's length", 4, []string{"signature data", "behind the quote", "certification data"}},
	{"signature", 64, []string{"signature of the quote"}},
	{"attestation key", 64, []string{"REPORTDATA of the QE report"}},
	{"certification data type and size", 6, []string{"certification data"}},
	{"QE CPUSVN", 16, []string{"signature of the QE report"}},
	{"QE MISCSELECT", 4, []string{"MISCSELECT of the QE"}},
	{"QE CET_ATTRIBUTES", 1, []string{"signature of the QE report"}},
	{"reserved", 11, []string{"reserved"}},
	{"QE ISVEXTPRODID", 16, []string{"signature of the QE report"}},
	{"QE ATTRIBUTES", 16, []string{"ATTRIBUTES of the QE"}},
	{"QE MRENCLAVE", 32, []string{"signature of the QE report"}},
	{"reserved", 32, []string{"reserved"}},
	{"QE MRSIGNER", 32, []string{"MRSIGNER of the QE"}},
	{"reserved", 32, []string{"reserved"}},
	{"QE CONFIGID", 64, []string{"signature of the QE report"}},
	{"QE ISVPRODID", 2, []string{"ISVPRODID of the QE"}},
	{"QE ISVSVN", 2, []string{"signature of the QE report"}},
	{"QE CONFIGSVN", 2, []string{"signature of the QE report"}},
	{"reserved", 42, []string{"reserved"}},
	{"QE ISVFAMILYID", 16, []string{"signature of the QE report"}},
	{"QE REPORTDATA", 64, []string{"REPORTDATA of the QE report"}},
	{"QE signature", 64, []string{"signature of the QE report"}},
	{"authentication data's size", 2, []string{"certification data", "authentication data"}},
	{"authentication data", 32, []string{"REPORTDATA of the QE report"}},
	{"certification data type and size", 6, []string{"certification data"}},
}

// TestEveryByteAltered alters each byte of a quote, warm, and wants the field or the signature named. The certificates
// behind the fields are altered in TestAlteredChain.
func TestEveryByteAltered(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	with := collateral(t, pki, d, nil)
	quote := mint(t, d, func(r *Report) { r.Extended, r.TEETCBSVN2 = true, emulatedSVN })
	v := NewVerifier(pki.Root)
	if _, err := v.Verify(quote, with, now); err != nil {
		t.Fatal(err)
	}
	at := 0
	for _, f := range fields {
		for i := at; i < at+f.size; i++ {
			bit := byte(0x01) << (7 * (i % 2))
			quote[i] ^= bit
			_, err := v.Verify(quote, with, now)
			if err == nil || !named(err, f.want) {
				t.Errorf("%s altered at %d: %v", f.name, i-at, err)
			}
			quote[i] ^= bit
		}
		at += f.size
	}
	if !bytes.HasPrefix(quote[at:], []byte("-----BEGIN")) {
		t.Errorf("the table ends at %d, before %q", at, quote[at:at+10])
	}
}

func named(err error, want []string) bool {
	if want == nil {
		want = []string{"signature of the quote"}
	}
	text := err.Error()
	for _, w := range want {
		if strings.Contains(text, w) {
			return true
		}
	}
	// a version that rises, or an attribute outside of the mask: the collateral has nothing against it
	return strings.Contains(text, "signature of the quote") || strings.Contains(text, "signature of the QE report")
}

// TestAlteredChain alters every third character of the certificates.
func TestAlteredChain(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	quote := mint(t, d, nil)
	v := NewVerifier(pki.Root)
	start := bytes.Index(quote, []byte("-----BEGIN"))
	for i := start; i < len(quote); i += 3 {
		old := quote[i]
		if quote[i] ^= 1; old == '\n' {
			quote[i] = 'A'
		}
		if _, err := v.Verify(quote, nil, now); err == nil {
			t.Errorf("%q for %q at %d of the chain is accepted", quote[i], old, i-start)
		}
		quote[i] = old
	}
}

func TestTruncated(t *testing.T) {
	pki := emulated()
	quote := mint(t, device(t, pki, nil), nil)
	for n := range quote {
		if _, err := Parse(quote[:n]); !errors.Is(err, ErrMalformed) {
			t.Fatalf("%d bytes: %v", n, err)
		}
	}
	if _, err := Parse(append(bytes.Clone(quote), make([]byte, 100)...)); err != nil {
		t.Errorf("padded with zeros: %v", err)
	}
	if _, err := Parse(append(bytes.Clone(quote), 0, 1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("with a byte behind it: %v", err)
	}
	if _, err := Parse(append(bytes.Clone(quote), make([]byte, maxQuote)...)); !errors.Is(err, ErrMalformed) {
		t.Errorf("with much behind it: %v", err)
	}
}

func certs(ders ...[]byte) (out []byte) {
	for _, der := range ders {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	return out
}

func TestSwappedCertificates(t *testing.T) {
	pki, other := emulated(), strangers()
	d, e := device(t, pki, nil), device(t, pki, func(s *intel.PlatformSpec) { s.PPID[0]++ })
	processor := device(t, pki, func(s *intel.PlatformSpec) { s.CA = intel.ProcessorCA })
	foreign := device(t, other, nil)
	pck, ca, root := d.platform.PCK.Cert.Raw, pki.Platform.Raw, pki.Root.Raw
	for name, chain := range map[string][]byte{
		"none":                         nil,
		"no PEM":                       []byte("certificate"),
		"no root":                      certs(pck, ca),
		"root twice":                   certs(pck, ca, root, root),
		"another order":                certs(ca, pck, root),
		"another platform's":           e.platform.Chain,
		"the other CA":                 certs(pck, pki.Processor.Raw, root),
		"the other CA's platform":      processor.platform.Chain,
		"a stranger's":                 foreign.platform.Chain,
		"a stranger's root":            certs(pck, ca, other.Root.Raw),
		"a stranger's CA":              certs(pck, other.Platform.Raw, root),
		"a stranger's PCK":             certs(foreign.platform.PCK.Cert.Raw, ca, root),
		"the signer of collateral":     certs(pki.TCBSigning.Raw, ca, root),
		"PCK by signer of collateral":  certs(pck, pki.TCBSigning.Raw, root),
		"Intel's root":                 certs(pck, ca, intel.VendorRoot().Raw),
		"text behind":                  append(bytes.Clone(d.platform.Chain), "x"...),
		"text between":                 bytes.Replace(d.platform.Chain, []byte("\n-----BEGIN"), []byte("\nx\n-----BEGIN"), 1),
		"another type of PEM":          bytes.ReplaceAll(d.platform.Chain, []byte("CERTIFICATE"), []byte("PUBLIC KEYS")),
		"a header within the PEM":      bytes.Replace(d.platform.Chain, []byte("E-----\n"), []byte("E-----\nA: b\n\n"), 1),
		"two zero bytes at the end":    append(bytes.Clone(d.platform.Chain), 0, 0),
		"the chain of the PCK as root": certs(pck, pck, pck),
	} {
		q, err := Parse(mint(t, d, nil))
		if err != nil {
			t.Fatal(err)
		}
		q.signature.Chain = chain
		v := NewVerifier(pki.Root)
		if _, err := v.Verify(mint(t, d, nil), nil, now); err != nil { // what it remembers must not help
			t.Fatal(err)
		}
		if got, err := v.Verify(q.Marshal(), nil, now); err == nil {
			t.Errorf("%s: accepted as %+v", name, got)
		}
	}
	q, err := Parse(mint(t, d, nil))
	if err != nil {
		t.Fatal(err)
	}
	q.signature.Chain = append(q.signature.Chain, 0)
	if _, err := Verify(q.Marshal(), nil, now, pki.Root); err != nil {
		t.Errorf("one zero byte at the end of the chain, as Intel's library writes it: %v", err)
	}
}

// TestTimes asks one Verifier at different times: what it remembers must expire too.
func TestTimes(t *testing.T) {
	pki := emulated()
	from, to := now.Add(-2*time.Hour), now.Add(2*time.Hour)
	d := device(t, pki, func(s *intel.PlatformSpec) { s.NotBefore, s.NotAfter = from, to })
	quote := mint(t, d, nil)
	with := collateral(t, pki, d, func(s *intel.CollateralSpec) {
		s.TCBInfo.IssueDate, s.TCBInfo.NextUpdate = now.Add(-time.Minute), now.Add(time.Minute)
	})
	v := NewVerifier(pki.Root)
	for _, c := range []struct {
		at   time.Time
		with [][]byte
		what string
	}{
		{now, nil, ""}, {now, with, ""}, {from.Add(-time.Minute), nil, "certificate Intel SGX PCK Certificate"},
		{to.Add(time.Minute), nil, "certificate Intel SGX PCK Certificate"}, {time.Time{}, nil, "validity"},
		{now.Add(2 * time.Minute), with, "validity of TCB info"}, {now.Add(-2 * time.Minute), with, "validity of TCB info"},
		{now.Add(-90 * time.Minute), with, "validity of QE identity"}, {now.Add(-90 * time.Minute), with, "validity of PCK CRL"},
		{now.Add(-90 * time.Minute), with, "validity of root CRL"}, {now, with, ""},
		{now.AddDate(30, 0, 0), nil, "certificate Intel SGX Root CA"},
	} {
		_, err := v.Verify(quote, c.with, c.at)
		if c.what == "" && err != nil || c.what != "" && (!errors.Is(err, intel.ErrTime) || !strings.Contains(err.Error(), c.what)) {
			t.Errorf("at %v: %v, want %q", c.at, err, c.what)
		}
	}
}

func TestRevoked(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	quote := mint(t, d, nil)
	good := collateral(t, pki, d, nil)
	for name, change := range map[string]func(*intel.CollateralSpec){
		"Intel SGX PCK Certificate": func(s *intel.CollateralSpec) { s.RevokedPCKs = []*x509.Certificate{d.platform.PCK.Cert} },
		"Intel SGX PCK Platform CA": func(s *intel.CollateralSpec) { s.RevokedCAs = []*x509.Certificate{pki.Platform} },
		"Intel SGX TCB Signing":     func(s *intel.CollateralSpec) { s.RevokedCAs = []*x509.Certificate{pki.TCBSigning} },
	} {
		bad := collateral(t, pki, d, change)
		_, err := Verify(quote, bad, now, pki.Root)
		if !errors.Is(err, intel.ErrRevoked) || !strings.Contains(err.Error(), "revocation of certificate "+name) {
			t.Errorf("%s: %v", name, err)
		}
		if name != "Intel SGX PCK Certificate" {
			continue
		}
		for _, both := range [][][]byte{append(bad, good...), append(good, bad...)} {
			if _, err := Verify(quote, both, now, pki.Root); !errors.Is(err, intel.ErrRevoked) {
				t.Errorf("with better collateral beside it: %v", err)
			}
		}
	}
	lists := collateral(t, pki, d, func(s *intel.CollateralSpec) { s.RevokedPCKs = []*x509.Certificate{d.platform.PCK.Cert} })
	c, err := intel.ParseCollateral(lists[0])
	if err != nil {
		t.Fatal(err)
	}
	list, err := x509.ParseRevocationList(c.PCKCRL)
	if err != nil {
		t.Fatal(err)
	}
	in := input(pki, nil)
	in.CRLs = []*x509.RevocationList{list}
	for _, with := range [][][]byte{nil, good} {
		s, found := NewHardware().VerifyHardware(wrapped(quote, with...), in)
		if len(found) != 1 || found[0].Code != evidence.CodeRevoked || s.Fields[evidence.FieldRevocation] != "revoked" {
			t.Errorf("by a list of the verifier: %v, %v", found, s.Fields)
		}
	}
	in.CRLs = nil
	for want, with := range map[string][][]byte{"unchecked: no revocation list": nil, "checked": good} {
		if s, found := NewHardware().VerifyHardware(wrapped(quote, with...), in); len(found) > 0 || s.Fields[evidence.FieldRevocation] != want {
			t.Errorf("%v, %v, want %q", found, s.Fields, want)
		}
	}
}

func TestDebugShows(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	for attributes, debug := range map[Attributes]bool{AttributeSEPTVEDisable: false, AttributeDebug: true, 1 << 7: true,
		AttributeMigratable: false} {
		v, err := Verify(mint(t, d, func(r *Report) { r.Attributes = attributes }), nil, now, pki.Root)
		if err != nil {
			t.Fatal(err)
		}
		if a := v.Report.Attributes; a.Debug() != debug || strings.Contains(a.String(), "DEBUG") != debug ||
			a.Migratable() != (a == AttributeMigratable) {
			t.Errorf("%v", v.Report.Attributes)
		}
	}
}

func TestDeviceSurvives(t *testing.T) {
	pki := emulated()
	d := device(t, pki, nil)
	data, err := d.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParseDevice(data)
	if err != nil {
		t.Fatal(err)
	}
	v, err := Verify(mint(t, again, nil), collateral(t, pki, d, nil), now, pki.Root)
	if err != nil || v.Chain.PCK.InstanceID() != d.InstanceID() {
		t.Errorf("%v", err)
	}
	for _, n := range []int{0, 10, len(data) / 2, len(data) - 40} {
		if _, err := ParseDevice(data[:n]); !errors.Is(err, intel.ErrPKI) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := d.mint(rand.Reader, &Report{Extended: true}, 4); !errors.Is(err, ErrMalformed) {
		t.Errorf("a TD report 1.5 in version 4: %v", err)
	}
}
