// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/google/go-sev-guest/abi"
	pb "github.com/google/go-sev-guest/proto/sevsnp"
	"github.com/google/go-sev-guest/verify"
	"github.com/google/go-sev-guest/verify/trust"

	"sealift/evidence"
)

// maxCached bounds the verified certificate chains that a [Verifier] remembers. A chain belongs to one chip at one
// firmware level.
const maxCached = 1024

// Verified is a report whose signature and chain were checked.
type Verified struct {
	Report  *Report
	Product Product
	TCB     TCB       // the firmware level that the signing key proves (REPORTED_TCB)
	Chip    []byte    // identity of the chip, from a VCEK; nil with a VLEK
	CSP     string    // cloud provider, from a VLEK; empty with a VCEK
	Root    *Root     // the root that vouches
	Time    time.Time // the time for which the certificates were checked
}

// Emulated reports whether an emulator's root vouches for the report.
func (v *Verified) Emulated() bool { return v.Root.Emulated() }

// Measurements returns what was measured of the guest: MEASUREMENT, and HOST_DATA, which holds the digest of the
// configuration.
func (v *Verified) Measurements() []evidence.Measurement {
	return []evidence.Measurement{
		{Name: "MEASUREMENT", Value: v.Report.Measurement[:], Source: "MEASUREMENT of the SNP report"},
		{Name: "HOST_DATA", Value: v.Report.HostData[:], Source: "HOST_DATA of the SNP report"},
	}
}

// Verifier verifies reports under fixed roots and remembers the chains that it has verified. It is safe for concurrent
// use.
type Verifier struct {
	roots []*Root

	mu    sync.Mutex
	known map[[32]byte]*chain // by the certificate's SHA-256
}

// chain is a verified certificate chain.
type chain struct {
	*endorsement
	root                *Root
	notBefore, notAfter time.Time // when all of its certificates are valid
}

// NewVerifier returns a Verifier that trusts these roots and no other.
func NewVerifier(roots ...*Root) *Verifier {
	return &Verifier{roots: roots, known: map[[32]byte]*chain{}}
}

// Verify is [Verifier.Verify] for a single report.
func Verify(report []byte, certs [][]byte, now time.Time, roots ...*Root) (*Verified, error) {
	return NewVerifier(roots...).Verify(report, certs, now)
}

// Verify checks a report at a given time: its form, the chain of the certificate certs[0] (a VCEK or VLEK in DER) to a
// root, the signature, and that the certificate is for the chip, product and firmware level of the report. Further
// elements of certs are ignored: intermediates and roots are only ever the verifier's. The error joins everything that
// was found.
func (v *Verifier) Verify(report []byte, certs [][]byte, now time.Time) (*Verified, error) {
	r, err := Parse(report)
	if err != nil {
		return nil, err
	}
	switch {
	case len(v.roots) == 0: // an empty set would make the library use its own
		return nil, ErrNoRoot
	case now.IsZero():
		return nil, fmt.Errorf("%w: no time to verify at", ErrCertificate)
	case len(certs) == 0:
		return nil, fmt.Errorf("%w: none in the Evidence", ErrCertificate)
	}
	key := sha256.Sum256(certs[0])
	c := v.remembered(key, now)
	if c == nil {
		if c, err = v.verifyCold(report, r, certs[0], now); err != nil {
			return nil, err
		}
	} else if err := errors.Join(checkSignature(report, c.cert), c.matches(r)); err != nil {
		return nil, err
	}
	v.remember(key, c)
	return &Verified{Report: r, Product: c.product, TCB: c.tcb, Chip: bytes.Clone(c.hwid), CSP: c.csp, Root: c.root, Time: now}, nil
}

func (v *Verifier) remembered(key [32]byte, now time.Time) *chain {
	v.mu.Lock()
	defer v.mu.Unlock()
	c := v.known[key]
	if c == nil || now.Before(c.notBefore) || now.After(c.notAfter) {
		return nil
	}
	return c
}

func (v *Verifier) remember(key [32]byte, c *chain) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if len(v.known) >= maxCached {
		clear(v.known)
	}
	v.known[key] = c
}

// verifyCold verifies everything for a certificate that is not remembered. It tries each root of the certificate's product.
func (v *Verifier) verifyCold(report []byte, r *Report, der []byte, now time.Time) (*chain, error) {
	e, err := parseEndorsement(der)
	if err != nil {
		return nil, err
	}
	wrong := errors.Join(checkSignature(report, e.cert), e.matches(r))
	tried := fmt.Errorf("%w: no root of %s is trusted for a %v", ErrChain, e.product, e.signer)
	for _, root := range v.roots {
		if root.Product != e.product || root.issuer(e.signer) == nil {
			continue
		}
		c, err := e.verifyChain(root, now)
		if err != nil {
			tried = err
			continue
		}
		if wrong == nil && e.product != Turin {
			if err := verifyLibrary(report, e, root, now); err != nil {
				return nil, err
			}
		}
		return c, wrong
	}
	return nil, errors.Join(tried, wrong)
}

// verifyChain checks the chain to one root with crypto/x509.
func (e *endorsement) verifyChain(root *Root, now time.Time) (*chain, error) {
	issuer := root.issuer(e.signer)
	c := &chain{endorsement: e, root: root, notBefore: e.cert.NotBefore, notAfter: e.cert.NotAfter}
	for _, cert := range []*x509.Certificate{e.cert, issuer, root.ARK} {
		if now.Before(cert.NotBefore) || now.After(cert.NotAfter) {
			return nil, fmt.Errorf("%w: %w: %q is valid from %s to %s, not at %s", ErrChain, ErrValidity, cert.Subject.CommonName,
				day(cert.NotBefore), day(cert.NotAfter), now.UTC().Format(time.RFC3339))
		}
		if cert.NotBefore.After(c.notBefore) {
			c.notBefore = cert.NotBefore
		}
		if cert.NotAfter.Before(c.notAfter) {
			c.notAfter = cert.NotAfter
		}
	}
	roots, intermediates := x509.NewCertPool(), x509.NewCertPool()
	roots.AddCert(root.ARK)
	intermediates.AddCert(issuer)
	if _, err := e.cert.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now,
		KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}}); err != nil {
		return nil, fmt.Errorf("%w: %v under %q (%x): %w", ErrChain, e.signer, root.ARK.Subject.CommonName, root.Fingerprint(), err)
	}
	return c, nil
}

func day(t time.Time) string { return t.UTC().Format(time.DateOnly) }

// verifyLibrary lets go-sev-guest judge the whole: AMD's rules for names and extensions, chain and signature.
func verifyLibrary(report []byte, e *endorsement, root *Root, now time.Time) error {
	proto, err := abi.ReportToProto(report)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	certs := &pb.CertificateChain{VcekCert: e.cert.Raw}
	if e.signer == VLEK {
		certs = &pb.CertificateChain{VlekCert: e.cert.Raw}
	}
	attestation := &pb.Attestation{Report: proto, CertificateChain: certs}
	if err := verify.SnpAttestation(attestation, libraryOptions(root, now)); err != nil {
		return fmt.Errorf("%w: go-sev-guest: %w", ErrCertificate, err)
	}
	return nil
}

// libraryOptions never leaves TrustedRoots empty: the library takes that for a request to choose roots itself.
func libraryOptions(root *Root, now time.Time) *verify.Options {
	return &verify.Options{DisableCertFetching: true, Now: now,
		TrustedRoots: map[string][]*trust.AMDRootCerts{string(root.Product): {root.library()}}}
}

func checkSignature(report []byte, cert *x509.Certificate) error {
	if err := verify.SnpReportSignature(report, cert); err != nil {
		return fmt.Errorf("%w: %w", ErrSignature, err)
	}
	return nil
}

// matches checks that the certificate is for this report: kind of key, product, firmware level, chip.
func (e *endorsement) matches(r *Report) error {
	var all []error
	for _, d := range e.differences(r) {
		all = append(all, d)
	}
	return errors.Join(all...)
}
