// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-tdx-guest/pcs"

	"sealift/internal/sharedtest"
)

var randReader = rand.Reader

// TestRealPCKs reads the PCK certificates of all real quotes and compares them with what the library for them reads.
func TestRealPCKs(t *testing.T) {
	read := 0
	for _, row := range sharedtest.Manifest(t, "evidence") {
		data := sharedtest.Read(t, "evidence", row["file"])
		at := bytes.Index(data, []byte("-----BEGIN CERTIFICATE-----"))
		if !strings.HasSuffix(row["file"], "quote.bin") && !strings.Contains(row["file"], "tdx_quote") || at < 0 ||
			strings.HasSuffix(row["file"], ".json") {
			continue
		}
		end := bytes.LastIndex(data, []byte("-----END CERTIFICATE-----")) + len("-----END CERTIFICATE-----")
		certs, err := parsePEM(data[at:end], 3)
		if err != nil {
			t.Fatalf("%s: %v", row["file"], err)
		}
		c, err := VerifyChain(certs, []*x509.Certificate{emulated().Root, VendorRoot()}, now)
		if err != nil {
			t.Errorf("%s: %v", row["file"], err)
			continue
		}
		theirs, err := pcs.PckCertificateExtensions(c.PCK.Cert)
		if err != nil {
			t.Fatal(err)
		}
		p := c.PCK
		if theirs.PPID != hex.EncodeToString(p.PPID[:]) || theirs.FMSPC != hex.EncodeToString(p.FMSPC[:]) ||
			theirs.PCEID != hex.EncodeToString(p.PCEID[:]) ||
			theirs.TCB.PCESvn != p.PCESVN || !bytes.Equal(theirs.TCB.CPUSvnComponents, p.SVN[:]) || !bytes.Equal(theirs.TCB.CPUSvn, p.CPUSVN[:]) {
			t.Errorf("%s: %+v, the library reads %+v", row["file"], p, theirs)
		}
		if p.PPID == [16]byte{} || p.CA == PlatformCA && p.PlatformInstance == [16]byte{} || c.Emulated() {
			t.Errorf("%s: %+v", row["file"], p)
		}
		read++
	}
	if read != 10 {
		t.Errorf("%d certificates, want 10", read)
	}
}

// TestPCKExtension alters the SGX extension, certifies the result correctly, and wants it refused.
func TestPCKExtension(t *testing.T) {
	s := PlatformSpec{CA: PlatformCA, PPID: [16]byte{1}, FMSPC: [6]byte{2}, PCESVN: 300}
	good, err := s.extension()
	if err != nil {
		t.Fatal(err)
	}
	var members []asn1.RawValue
	if _, err := asn1.Unmarshal(good, &members); err != nil {
		t.Fatal(err)
	}
	list := func(members ...asn1.RawValue) []byte {
		out, err := asn1.Marshal(members)
		if err != nil {
			t.Fatal(err)
		}
		return out
	}
	processor := PlatformSpec{CA: ProcessorCA}
	short, err := processor.extension()
	if err != nil {
		t.Fatal(err)
	}
	if p := certify(t, PlatformCA, good); p == nil || p.PCESVN != 300 || !p.SMT || !p.DynamicPlatform || !p.CachedKeys || p.FMSPC != s.FMSPC {
		t.Errorf("%+v", p)
	}
	if p := certify(t, ProcessorCA, short); p == nil || p.SMT {
		t.Errorf("%+v", p)
	}
	for name, ext := range map[string][]byte{
		"empty": nil, "no list": {2, 1, 1}, "an empty list": list(), "bytes behind": append(bytes.Clone(good), 0),
		"a member twice": list(append(members, members[0])...), "no PPID": list(members[1:]...),
		"PPID of 15 bytes": bytes.Replace(good, append([]byte{4, 16}, s.PPID[:]...), append([]byte{4, 15}, s.PPID[:]...), 1),
		"another tag":      bytes.Replace(good, append([]byte{4, 6}, s.FMSPC[:]...), append([]byte{3, 6}, s.FMSPC[:]...), 1),
		"a negative SVN":   bytes.Replace(good, []byte{2, 1, 0}, []byte{2, 1, 0x80}, 1),
		"an SVN of 256":    bytes.Replace(good, []byte{2, 2, 1, 44}, []byte{2, 2, 0, 44}, 1), // PCESVN, not minimal
		"SGX type 3":       bytes.Replace(good, []byte{10, 1, 0}, []byte{10, 1, 3}, 1),
		"a flag of 1":      bytes.Replace(good, []byte{1, 1, 0xff}, []byte{1, 1, 1}, 1),
	} {
		if bytes.Equal(ext, good) {
			t.Fatalf("%s: not altered", name)
		}
		if p := certify(t, PlatformCA, ext); p != nil {
			t.Errorf("%s: accepted as %+v", name, p)
		}
	}
	if p := certify(t, ProcessorCA, good); p != nil {
		t.Errorf("the Platform CA's extensions by the Processor CA: %+v", p)
	}
	for at := range good {
		altered := bytes.Clone(good)
		altered[at] ^= 0x55
		certify(t, PlatformCA, altered) // no panic
	}
}

// certify issues a PCK certificate with that extension and parses it; nil if it is refused.
func certify(t *testing.T, which CA, extension []byte) *PCK {
	t.Helper()
	ca, key := emulated().ca(which)
	cert, err := issue(randReader, &x509.Certificate{NotBefore: now, NotAfter: now, BasicConstraintsValid: true,
		CRLDistributionPoints: []string{crlURL}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtraExtensions: []pkix.Extension{{Id: oidSGX, Value: extension}}}, cnPCK, ca, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	p, err := ParsePCK(cert.Raw)
	if err == nil {
		return p
	}
	if p != nil || !errors.Is(err, ErrMalformed) {
		t.Errorf("%v with %v", p, err)
	}
	return nil
}

// TestCertificateProfile wants certificates that are not as Intel makes them refused.
func TestCertificateProfile(t *testing.T) {
	pki := emulated()
	spec := PlatformSpec{CA: PlatformCA}
	good, err := spec.extension()
	if err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*x509.Certificate){
		"a CA":                 func(c *x509.Certificate) { c.IsCA = true },
		"no key usage":         func(c *x509.Certificate) { c.KeyUsage = 0 },
		"another extension":    func(c *x509.Certificate) { c.DNSNames = []string{"a.example"} },
		"an extension less":    func(c *x509.Certificate) { c.CRLDistributionPoints = nil },
		"no SGX extension":     func(c *x509.Certificate) { c.ExtraExtensions[0].Id = asn1.ObjectIdentifier{1, 2, 3} },
		"unknown and critical": func(c *x509.Certificate) { c.ExtraExtensions[0].Critical = true },
	} {
		c := &x509.Certificate{NotBefore: now, NotAfter: now, BasicConstraintsValid: true, CRLDistributionPoints: []string{crlURL},
			KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: oidSGX, Value: good}}}
		change(c)
		cert, err := issue(randReader, c, cnPCK, pki.Platform, &pki.platform.PublicKey, pki.platform)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParsePCK(cert.Raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, cert := range []*x509.Certificate{pki.Root, pki.Platform, pki.TCBSigning} {
		if _, err := ParsePCK(cert.Raw); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", cert.Subject.CommonName, err)
		}
	}
	if _, err := ParsePCK(make([]byte, maxCertificateBytes+1)); !errors.Is(err, ErrMalformed) {
		t.Errorf("%v", err)
	}
}

func TestPKISurvives(t *testing.T) {
	data, err := strangers().Marshal()
	if err != nil {
		t.Fatal(err)
	}
	again, err := ParsePKI(data)
	if err != nil {
		t.Fatal(err)
	}
	p, err := again.NewPlatform(randReader, PlatformSpec{})
	if err != nil {
		t.Fatal(err)
	}
	certs, err := parsePEM(p.Chain, 3)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := VerifyChain(certs, []*x509.Certificate{strangers().Root}, now); err != nil {
		t.Error(err)
	}
	for _, n := range []int{0, len(data) / 2, len(data) - 300} {
		if _, err := ParsePKI(data[:n]); !errors.Is(err, ErrPKI) {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	for _, cert := range []*x509.Certificate{again.Root, again.Platform, again.Processor, again.TCBSigning, p.PCK.Cert} {
		if !Emulated(cert) {
			t.Errorf("%s does not say that it is emulated", cert.Subject)
		}
	}
	if Emulated(VendorRoot()) {
		t.Error("Intel's root says that it is emulated")
	}
	if p.PCK.InstanceID() == platform(t, nil).PCK.InstanceID() || p.PCK.EndorsementKey() != "000000000000.platform" {
		t.Errorf("%v", p.PCK)
	}
}

func FuzzParsePCK(f *testing.F) {
	f.Add(platform(f, nil).PCK.Cert.Raw)
	f.Fuzz(func(t *testing.T, data []byte) {
		if p, err := ParsePCK(data); (p == nil) == (err == nil) {
			t.Errorf("%v, %v", p, err)
		}
	})
}

func FuzzParseSignature(f *testing.F) {
	s, err := platform(f, nil).Sign(randReader, TDX, nil)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(s.MarshalV3())
	f.Add(s.MarshalV4())
	f.Fuzz(func(t *testing.T, data []byte) {
		if s, err := ParseSignatureV3(data); err == nil && !bytes.Equal(s.MarshalV3(), data) {
			t.Error("signature data of version 3 does not survive")
		}
		if s, err := ParseSignatureV4(data); err == nil && !bytes.Equal(s.MarshalV4(), data) {
			t.Error("signature data of version 4 does not survive")
		}
	})
}
