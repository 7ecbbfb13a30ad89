// SPDX-License-Identifier: Apache-2.0

package teep

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"sealift/cose"
)

// Why a certificate chain is refused. Error messages have codes of their own for both (teep-protocol section 4.6).
var (
	// ErrBadCertificate goes with ERR_BAD_CERTIFICATE.
	ErrBadCertificate = errors.New("teep: bad certificate")
	// ErrCertificateExpired goes with ERR_CERTIFICATE_EXPIRED: the chain would do, had it not expired.
	ErrCertificateExpired = errors.New("teep: certificate expired or not valid yet")
)

// SignCertified is Sign with the certificates of the signer's key in the x5chain header (RFC 9360), the signer's first, in DER.
func SignCertified(rand io.Reader, s cose.Signer, chain [][]byte, m Message) ([]byte, error) {
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	return cose.Sign1With(rand, s, cose.Headers{X5Chain: chain}, payload)
}

// SignAllCertified is SignAll with the certificates of the signers' keys; chains has them by algorithm.
func SignAllCertified(rand io.Reader, ss []cose.Signer, chains map[cose.Algorithm][][]byte, m Message) ([]byte, error) {
	payload, err := Encode(m)
	if err != nil {
		return nil, err
	}
	return cose.SignMultiCertified(rand, ss, chains, payload)
}

// certified gives the key of the sender's certificate, nil where the message is to be judged by raw keys alone: there are no
// roots, no certificates, or one of the signatures names a raw key that is trusted anyhow.
func (s *Signed) certified(keys []*cose.Key, o Options) (*cose.Key, *x509.Certificate, error) {
	chain := s.m.X5Chain()
	if o.Roots == nil || chain == nil || s.namesOneOf(keys) {
		return nil, nil, nil
	}
	var certs []*x509.Certificate
	between := x509.NewCertPool()
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, fmt.Errorf("%w: certificate %d: %w", ErrBadCertificate, i+1, err)
		}
		certs = append(certs, c)
		if i > 0 {
			between.AddCert(c)
		}
	}
	leaf := certs[0]
	if err := chainError(leaf, between, o); err != nil {
		return nil, nil, err
	}
	if leaf.KeyUsage != 0 && leaf.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, nil, fmt.Errorf("%w: %q is not for signatures", ErrBadCertificate, leaf.Subject)
	}
	key, err := cose.NewKey(leaf.PublicKey)
	if err != nil {
		return nil, nil, fmt.Errorf("%w: %w", ErrBadCertificate, err)
	}
	return key, leaf, nil
}

// chainError verifies the path to one of the roots at the present time, and tells an expired path from a wrong one by verifying
// a failed one again at a time when its leaf was valid.
func chainError(leaf *x509.Certificate, between *x509.CertPool, o Options) error {
	now := o.Now
	if now.IsZero() {
		now = time.Now()
	}
	verify := func(at time.Time) error {
		_, err := leaf.Verify(x509.VerifyOptions{
			Roots: o.Roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
		})
		return err
	}
	err := verify(now)
	if err == nil {
		return nil
	}
	if verify(leaf.NotBefore.Add(leaf.NotAfter.Sub(leaf.NotBefore)/2)) == nil {
		return fmt.Errorf("%w: %w", ErrCertificateExpired, err)
	}
	return fmt.Errorf("%w: %w", ErrBadCertificate, err)
}

func (s *Signed) namesOneOf(keys []*cose.Key) bool {
	for _, kid := range s.KIDs() {
		for _, k := range keys {
			if k != nil && kid != nil && string(kid) == string(k.KID()) {
				return true
			}
		}
	}
	return false
}
