// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/ecdsa"
	"crypto/x509"
	"fmt"
	"math/big"
	"time"

	"sealift/evidence"
)

// VerifiedCollateral is collateral whose signatures and issuer chains were checked. Only [Collateral.Verify] and
// [Cache.Collateral] make one. Its times were valid when it was made; [VerifiedCollateral.ValidAt] asks for another time.
type VerifiedCollateral struct {
	info    *TCBInfo
	qe      *QEIdentity
	ca      *x509.Certificate // issuer of the PCK CRL
	root    *x509.Certificate
	periods []period
	revoked map[string]bool // serial numbers in the PCK CRL
}

// Root returns the trusted root that vouches for the collateral.
func (v *VerifiedCollateral) Root() *x509.Certificate { return v.root }

// TCBInfo returns the verified TCB info. It must not be changed.
func (v *VerifiedCollateral) TCBInfo() *TCBInfo { return v.info }

// QEIdentity returns the verified identity of the quoting enclave. It must not be changed.
func (v *VerifiedCollateral) QEIdentity() *QEIdentity { return v.qe }

// ValidAt returns a mismatch for everything in the collateral that is not valid at that time: before the issue date of a
// document or the thisUpdate of a CRL, after a nextUpdate, outside of a certificate's validity.
func (v *VerifiedCollateral) ValidAt(now time.Time) error {
	var all []error
	for _, p := range v.periods {
		if err := p.check(now); err != nil {
			err.(*evidence.Mismatch).Hint = "put current collateral of this platform in place, or verify as of a time at which " +
				"this was valid"
			all = append(all, err)
		}
	}
	return join(all...)
}

// Until returns the time at which the first part of the collateral ends to be valid, and its name.
func (v *VerifiedCollateral) Until() (time.Time, string) {
	var first period
	for _, p := range v.periods {
		first = first.earlier(p)
	}
	return first.to, first.what
}

// Verify checks collateral under a root at a given time: the chains of all issuers to exactly that root, the signatures
// over the exact bytes of TCB info and QE identity, both CRLs, that no issuer is revoked, and that everything is valid at
// that time. The error joins everything that was found.
func (c *Collateral) Verify(root *x509.Certificate, now time.Time) (*VerifiedCollateral, error) {
	v, err := c.verify(root)
	if err != nil {
		return nil, err
	}
	if err := v.ValidAt(now); err != nil {
		return nil, err
	}
	return v, nil
}

// verify checks everything but the times.
func (c *Collateral) verify(root *x509.Certificate) (*VerifiedCollateral, error) {
	if root == nil {
		_, err := findRoot(nil, nil)
		return nil, err
	}
	v := &VerifiedCollateral{root: root, periods: []period{certPeriod(root)}}
	rootCRL, errRoot := v.crl(c.RootCRL, root, "root CRL")
	infoErr := v.document(c.TCBInfo, &c.TCBInfoSignature, c.TCBInfoChain, rootCRL, "TCB info")
	qeErr := v.document(c.QEIdentity, &c.QEIdentitySignature, c.QEIdentityChain, rootCRL, "QE identity")
	pckErr := v.pckCRL(c, rootCRL)
	if err := join(errRoot, infoErr, qeErr, pckErr); err != nil {
		return nil, err
	}
	var err error
	if v.info, err = parseTCBInfo(c.TCBInfo); err != nil {
		return nil, err
	}
	if v.qe, err = parseQEIdentity(c.QEIdentity); err != nil {
		return nil, err
	}
	if want := qeID(v.TEE()); v.qe.ID != want {
		return nil, problem(evidence.CodeCertificate, ErrCollateral, "id of the QE identity", want, v.qe.ID,
			"the TCB info beside it")
	}
	v.periods = append(v.periods, period{v.info.IssueDate, v.info.NextUpdate, "TCB info"},
		period{v.qe.IssueDate, v.qe.NextUpdate, "QE identity"})
	return v, nil
}

// TEE is what the collateral is for.
func (v *VerifiedCollateral) TEE() TEE {
	if v.info.ID == SGX.String() {
		return SGX
	}
	return TDX
}

// document checks one signed document and the chain of its signer.
func (v *VerifiedCollateral) document(data []byte, signature *[signatureSize]byte, chain [][]byte,
	rootCRL *x509.RevocationList, what string) error {
	signer, err := v.issuer(chain, rootCRL, what, cnTCBSigning)
	if err != nil {
		return err
	}
	if !verifyP256(signer.PublicKey.(*ecdsa.PublicKey), data, signature) {
		return problem(evidence.CodeSignature, ErrSignature, "signature of the "+what, "a signature by "+describe(signer),
			"one that does not verify", "the collateral")
	}
	return nil
}

// issuer verifies a chain of two certificates, the first of which has one of the names, and that it is not revoked.
func (v *VerifiedCollateral) issuer(chain [][]byte, rootCRL *x509.RevocationList, what string,
	names ...string) (*x509.Certificate, error) {
	if len(chain) != 2 {
		return nil, malformed("issuer chain of the %s: %d certificates, want 2", what, len(chain))
	}
	if _, err := findRoot(chain[1], []*x509.Certificate{v.root}); err != nil {
		return nil, err
	}
	cert, err := parseCert(chain[0])
	if err != nil {
		return nil, err
	}
	name := names[0]
	for _, n := range names {
		if n == cert.Subject.CommonName {
			name = n
		}
	}
	if err := issued(cert, name, v.root, name != cnTCBSigning); err != nil {
		return nil, err
	}
	v.periods = append(v.periods, certPeriod(cert))
	return cert, checkRevoked(cert, rootCRL)
}

func (v *VerifiedCollateral) pckCRL(c *Collateral, rootCRL *x509.RevocationList) error {
	ca, err := v.issuer(c.PCKCRLChain, rootCRL, "PCK CRL", cnPlatform, cnProcessor)
	if err != nil {
		return err
	}
	list, err := v.crl(c.PCKCRL, ca, "PCK CRL")
	if err != nil {
		return err
	}
	v.ca, v.revoked = ca, make(map[string]bool, len(list.RevokedCertificateEntries))
	for _, e := range list.RevokedCertificateEntries {
		v.revoked[serial(e.SerialNumber)] = true
	}
	return nil
}

// crl parses a revocation list and checks its signature.
func (v *VerifiedCollateral) crl(der []byte, issuer *x509.Certificate, what string) (*x509.RevocationList, error) {
	list, err := x509.ParseRevocationList(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %s: %w", ErrMalformed, what, err)
	}
	if err := list.CheckSignatureFrom(issuer); err != nil || string(list.RawIssuer) != string(issuer.RawSubject) {
		p := problem(evidence.CodeSignature, ErrSignature, "signature of the "+what, "a signature by "+describe(issuer),
			"one that does not verify", "the collateral")
		return nil, p
	}
	for _, x := range list.Extensions {
		if x.Critical { // an indirect list, or one of a part of the certificates: RFC 5280 section 5.2
			return nil, malformed("%s: critical extension %v", what, x.Id)
		}
	}
	v.periods = append(v.periods, period{list.ThisUpdate, list.NextUpdate, what})
	return list, nil
}

func serial(n *big.Int) string { return n.Text(16) }

// checkRevoked looks a certificate of the root up in the root's list; without a list, its absence was reported already.
func checkRevoked(cert *x509.Certificate, list *x509.RevocationList) error {
	if list == nil {
		return nil
	}
	for _, e := range list.RevokedCertificateEntries {
		if e.SerialNumber.Cmp(cert.SerialNumber) == 0 {
			return revokedProblem(cert, e.RevocationTime)
		}
	}
	return nil
}

func revokedProblem(cert *x509.Certificate, at time.Time) error {
	got := "revoked, serial number " + serial(cert.SerialNumber)
	if !at.IsZero() {
		got += ", since " + stamp(at)
	}
	return problem(evidence.CodeRevoked, ErrRevoked, "revocation of certificate "+cert.Subject.CommonName, "not revoked", got,
		"the revocation list of "+cert.Issuer.CommonName)
}

// CheckRevocation checks a chain against this collateral: the lists must be those of the chain's root and CA, and must not
// name the PCK certificate. (The CA itself was checked against the root's list by [Collateral.Verify], as the issuer of
// the PCK CRL.)
func (v *VerifiedCollateral) CheckRevocation(c *Chain) error {
	if !v.root.Equal(c.Root) {
		return problem(evidence.CodeCertificate, ErrCollateral, "root of the collateral", describe(c.Root), describe(v.root),
			"the chain of the PCK certificate")
	}
	if !v.ca.Equal(c.CA) {
		return problem(evidence.CodeCertificate, ErrCollateral, "issuer of the PCK CRL", describe(c.CA), describe(v.ca),
			"the chain of the PCK certificate")
	}
	if v.revoked[serial(c.PCK.Cert.SerialNumber)] {
		return revokedProblem(c.PCK.Cert, time.Time{})
	}
	return nil
}
