// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"time"

	"sealift/evidence"
)

const (
	backdate     = 24 * time.Hour
	rootValidity = 20 * 365 * 24 * time.Hour
	crlURL       = "https://certificates.trustedservices.intel.com/IntelSGXRootCA.der"
	pckCRLURL    = "https://api.trustedservices.intel.com/sgx/certification/v4/pckcrl?encoding=der&ca="
)

// ErrPKI reports a saved PKI or platform that cannot be used.
var ErrPKI = errors.New("intel: saved emulated PKI")

// PKI is an emulated Intel: root, both CAs and the signer of collateral. The common names are Intel's, because they are a
// part of the format; a serial number "EMULATED" in each subject tells them apart.
type PKI struct {
	Root       *x509.Certificate
	Platform   *x509.Certificate
	Processor  *x509.Certificate
	TCBSigning *x509.Certificate

	root, platform, processor, tcbSigning *ecdsa.PrivateKey
}

// pairs lists certificates with their keys, the root first.
func (p *PKI) pairs() []struct {
	cn   string
	cert **x509.Certificate
	key  **ecdsa.PrivateKey
} {
	return []struct {
		cn   string
		cert **x509.Certificate
		key  **ecdsa.PrivateKey
	}{
		{cnRoot, &p.Root, &p.root}, {cnPlatform, &p.Platform, &p.platform}, {cnProcessor, &p.Processor, &p.processor},
		{cnTCBSigning, &p.TCBSigning, &p.tcbSigning},
	}
}

// NewPKI makes a PKI whose certificates are valid for 20 years from now. Keep it with [PKI.Marshal].
func NewPKI(rand io.Reader, now time.Time) (*PKI, error) {
	p := &PKI{}
	for _, pair := range p.pairs() {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
		if err != nil {
			return nil, fmt.Errorf("make an emulated Intel: %w", err)
		}
		*pair.key = key
		t := &x509.Certificate{NotBefore: now.Add(-backdate), NotAfter: now.Add(rootValidity), BasicConstraintsValid: true,
			CRLDistributionPoints: []string{crlURL}, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, IsCA: true}
		switch pair.cn {
		case cnRoot:
			t.MaxPathLen = 1
		case cnTCBSigning:
			t.IsCA, t.KeyUsage = false, x509.KeyUsageDigitalSignature|x509.KeyUsageContentCommitment
		default:
			t.MaxPathLenZero = true
		}
		parent := p.Root
		if parent == nil {
			parent = t
		}
		if *pair.cert, err = issue(rand, t, pair.cn, parent, &key.PublicKey, p.root); err != nil {
			return nil, err
		}
	}
	return p, nil
}

// issue completes a template with a name, a serial number and a key identifier, and signs it.
func issue(rand io.Reader, t *x509.Certificate, cn string, parent *x509.Certificate, pub *ecdsa.PublicKey,
	key *ecdsa.PrivateKey) (*x509.Certificate, error) {
	serial := make([]byte, 20)
	if _, err := io.ReadFull(rand, serial); err != nil {
		return nil, fmt.Errorf("issue %q: %w", cn, err)
	}
	serial[0] = serial[0]&0x7f | 0x40
	t.SerialNumber = new(big.Int).SetBytes(serial)
	t.SubjectKeyId = serial
	t.SignatureAlgorithm = x509.ECDSAWithSHA256
	t.Subject = pkix.Name{CommonName: cn, Organization: []string{"Intel Corporation"}, Locality: []string{"Santa Clara"},
		Province: []string{"CA"}, Country: []string{"US"}, SerialNumber: evidence.EmulatedMark}
	der, err := x509.CreateCertificate(rand, t, parent, pub, key)
	if err != nil {
		return nil, fmt.Errorf("issue %q: %w", cn, err)
	}
	return x509.ParseCertificate(der)
}

// Marshal returns the PKI's certificates and private keys in PEM, to be kept where only their owner can read them.
func (p *PKI) Marshal() ([]byte, error) {
	var out []byte
	for _, pair := range p.pairs() {
		key, err := x509.MarshalPKCS8PrivateKey(*pair.key)
		if err != nil {
			return nil, fmt.Errorf("save an emulated Intel: %w", err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: (*pair.cert).Raw})...)
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: key})...)
	}
	return out, nil
}

// ParsePKI reads what [PKI.Marshal] wrote.
func ParsePKI(data []byte) (*PKI, error) {
	p := &PKI{}
	for _, pair := range p.pairs() {
		cert, key, rest, err := nextPair(data)
		if err != nil {
			return nil, err
		}
		if p.Root == nil {
			p.Root = cert
		}
		if err := issued(cert, pair.cn, p.Root, pair.cn != cnTCBSigning); err != nil || !Emulated(cert) {
			return nil, fmt.Errorf("%w: %q is not an emulated Intel's: %v", ErrPKI, cert.Subject.CommonName, err)
		}
		*pair.cert, *pair.key, data = cert, key, rest
	}
	return p, nil
}

// nextPair reads a certificate and its key.
func nextPair(data []byte) (*x509.Certificate, *ecdsa.PrivateKey, []byte, error) {
	first, rest := pem.Decode(data)
	second, rest := pem.Decode(rest)
	if first == nil || second == nil || first.Type != "CERTIFICATE" || second.Type != "PRIVATE KEY" {
		return nil, nil, nil, fmt.Errorf("%w: want certificates, each with its key", ErrPKI)
	}
	cert, err := parseCert(first.Bytes)
	if err != nil {
		return nil, nil, nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(second.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || !key.PublicKey.Equal(cert.PublicKey) {
		return nil, nil, nil, fmt.Errorf("%w: the key of %q does not belong to its certificate", ErrPKI, cert.Subject.CommonName)
	}
	return cert, key, rest, nil
}

// ca returns one of the two CAs.
func (p *PKI) ca(which CA) (*x509.Certificate, *ecdsa.PrivateKey) {
	if which == ProcessorCA {
		return p.Processor, p.processor
	}
	return p.Platform, p.platform
}
