// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"strings"
	"time"

	"sealift/evidence"
)

// vendorRoot is the certificate of the Intel SGX Root CA, which Intel publishes.
const vendorRoot = `-----BEGIN CERTIFICATE-----
MIICjzCCAjSgAwIBAgIUImUM1lqdNInzg7SVUr9QGzknBqwwCgYIKoZIzj0EAwIw
aDEaMBgGA1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENv
cnBvcmF0aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJ
BgNVBAYTAlVTMB4XDTE4MDUyMTEwNDUxMFoXDTQ5MTIzMTIzNTk1OVowaDEaMBgG
A1UEAwwRSW50ZWwgU0dYIFJvb3QgQ0ExGjAYBgNVBAoMEUludGVsIENvcnBvcmF0
aW9uMRQwEgYDVQQHDAtTYW50YSBDbGFyYTELMAkGA1UECAwCQ0ExCzAJBgNVBAYT
AlVTMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAEC6nEwMDIYZOj/iPWsCzaEKi7
1OiOSLRFhWGjbnBVJfVnkY4u3IjkDYYL0MxO4mqsyYjlBalTVYxFP2sJBK5zlKOB
uzCBuDAfBgNVHSMEGDAWgBQiZQzWWp00ifODtJVSv1AbOScGrDBSBgNVHR8ESzBJ
MEegRaBDhkFodHRwczovL2NlcnRpZmljYXRlcy50cnVzdGVkc2VydmljZXMuaW50
ZWwuY29tL0ludGVsU0dYUm9vdENBLmRlcjAdBgNVHQ4EFgQUImUM1lqdNInzg7SV
Ur9QGzknBqwwDgYDVR0PAQH/BAQDAgEGMBIGA1UdEwEB/wQIMAYBAf8CAQEwCgYI
KoZIzj0EAwIDSQAwRgIhAOW/5QkR+S9CiSDcNoowLuPRLsWGf/Yi7GSX94BgwTwg
AiEA4J0lrHoMs+Xo5o/sX6O9QWxHRAvZUGOdRQ7cvqRXaqI=
-----END CERTIFICATE-----
`

// VendorRoot returns the Intel SGX Root CA, the root for SGX and TDX.
func VendorRoot() *x509.Certificate {
	block, _ := pem.Decode([]byte(vendorRoot))
	cert, err := parseCert(block.Bytes)
	if err != nil {
		panic(err) // a constant of this file; a test parses it
	}
	return cert
}

// Emulated reports whether a certificate is of an emulated Intel, which its subject says.
func Emulated(c *x509.Certificate) bool {
	return strings.Contains(c.Subject.String(), evidence.EmulatedMark)
}

// Chain is a verified chain from a PCK certificate to a trusted root. Only [VerifyChain] and [Cache.Chain] make one.
type Chain struct {
	PCK  *PCK
	CA   *x509.Certificate // Platform or Processor CA
	Root *x509.Certificate
}

// Emulated reports whether an emulated Intel vouches for the platform.
func (c *Chain) Emulated() bool { return Emulated(c.Root) }

// certificates returns the chain, leaf first.
func (c *Chain) certificates() []*x509.Certificate {
	return []*x509.Certificate{c.PCK.Cert, c.CA, c.Root}
}

// ValidAt returns a mismatch for every certificate that is not valid at that time.
func (c *Chain) ValidAt(now time.Time) error { return validAt(now, c.certificates()...) }

// Until returns the end of the first certificate to end, and its name.
func (c *Chain) Until() (time.Time, string) {
	var first period
	for _, cert := range c.certificates() {
		first = first.earlier(certPeriod(cert))
	}
	return first.to, first.what
}

// VerifyChain verifies a chain at a given time: a PCK certificate, its CA and the root, in DER and in this order. The
// root must be one of roots, byte by byte; nothing else in the chain is believed before that.
func VerifyChain(chain [][]byte, roots []*x509.Certificate, now time.Time) (*Chain, error) {
	c, err := linkChain(chain, roots)
	if err != nil {
		return nil, err
	}
	if err := c.ValidAt(now); err != nil {
		return nil, err
	}
	return c, nil
}

// linkChain verifies everything but the times.
func linkChain(chain [][]byte, roots []*x509.Certificate) (*Chain, error) {
	if len(chain) != 3 {
		return nil, malformed("PCK certificate chain: %d certificates, want PCK, CA and root", len(chain))
	}
	pck, err := ParsePCK(chain[0])
	if err != nil {
		return nil, err
	}
	ca, err := parseCert(chain[1])
	if err != nil {
		return nil, err
	}
	root, err := findRoot(chain[2], roots)
	if err != nil {
		return nil, err
	}
	want := map[CA]string{PlatformCA: cnPlatform, ProcessorCA: cnProcessor}[pck.CA]
	if err := issued(ca, want, root, true); err != nil {
		return nil, err
	}
	if err := issued(pck.Cert, cnPCK, ca, false); err != nil {
		return nil, err
	}
	return &Chain{PCK: pck, CA: ca, Root: root}, nil
}

// findRoot returns the trusted root with exactly these bytes.
func findRoot(der []byte, roots []*x509.Certificate) (*x509.Certificate, error) {
	if len(roots) == 0 {
		return nil, problem(evidence.CodeRoot, ErrNoRoot, "root certificate", "a trusted root", "none is configured",
			"the verifier's trust anchors")
	}
	names := make([]string, len(roots))
	for i, r := range roots {
		if bytes.Equal(r.Raw, der) {
			return r, nil
		}
		names[i] = describe(r)
	}
	got := "bytes that are no certificate"
	if cert, err := x509.ParseCertificate(der); err == nil {
		got = describe(cert)
	}
	p := problem(evidence.CodeRoot, ErrChain, "root certificate", strings.Join(names, ", "), got, "the verifier's trust anchors")
	p.Hint = "name this root as an anchor only if you know whose it is"
	return nil, p
}

func describe(c *x509.Certificate) string {
	sum := sha256.Sum256(c.Raw)
	name := c.Subject.CommonName
	if Emulated(c) {
		name = evidence.EmulatedMark + " " + name
	}
	return fmt.Sprintf("%s (%s)", name, hex.EncodeToString(sum[:]))
}

// issued checks that parent issued cert, whose common name must be cn. Times are not checked here.
func issued(cert *x509.Certificate, cn string, parent *x509.Certificate, ca bool) error {
	claim := "certificate " + cert.Subject.CommonName
	if cert.Subject.CommonName != cn || cert.IsCA != ca {
		return problem(evidence.CodeCertificate, ErrCertificate, claim, cn, cert.Subject.CommonName, "Intel's certificate profile")
	}
	if !bytes.Equal(cert.RawIssuer, parent.RawSubject) {
		return problem(evidence.CodeRoot, ErrChain, claim, "issued by "+describe(parent), "issuer "+cert.Issuer.CommonName, "the chain")
	}
	if err := cert.CheckSignatureFrom(parent); err != nil {
		p := problem(evidence.CodeRoot, ErrChain, claim, "signed by "+describe(parent), "a signature that does not verify", "the chain")
		p.Err = fmt.Errorf("%w: %w", ErrChain, err)
		return p
	}
	return nil
}

// period is when something is valid.
type period struct {
	from, to time.Time
	what     string
}

func certPeriod(c *x509.Certificate) period {
	return period{c.NotBefore, c.NotAfter, "certificate " + c.Subject.CommonName}
}

// earlier returns the one of the two that ends first; the zero value does not count.
func (p period) earlier(o period) period {
	if p.what == "" || o.to.Before(p.to) {
		return o
	}
	return p
}

func (p period) check(now time.Time) error {
	if !now.IsZero() && !now.Before(p.from) && !now.After(p.to) {
		return nil
	}
	return problem(evidence.CodeCertificate, ErrTime, "validity of "+p.what, fmt.Sprintf("from %s to %s", stamp(p.from), stamp(p.to)),
		stamp(now), "the verifier's clock")
}

func validAt(now time.Time, certs ...*x509.Certificate) error {
	var all []error
	for _, c := range certs {
		if err := certPeriod(c).check(now); err != nil {
			all = append(all, err)
		}
	}
	return join(all...)
}

func stamp(t time.Time) string { return t.UTC().Format(time.RFC3339) }
