// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"io"
	"math/big"
	"time"

	"sealift/cose"
	"sealift/evidence"
)

const (
	backdate     = 24 * time.Hour
	rootValidity = 20 * 365 * 24 * time.Hour
	serialSize   = 16
)

// Mint signs a token as firmware does: the platform part with cpak, the realm part with rak (P-384). It sets the profile
// claims that go together, the realm's public key and, from that, the platform's nonce.
func Mint(rand io.Reader, cpak, rak crypto.Signer, t Token) ([]byte, error) {
	if t.Platform.Profile == "" {
		t.Platform.Profile = ProfilePlatform
	}
	if t.Wrapper == 0 {
		t.Wrapper = WrapperCCA
	}
	if t.Platform.Profile == ProfilePlatform {
		t.Realm.Profile = ProfileRealm
	}
	var err error
	if t.Realm.PublicKey, err = encodeRAK(t.Realm.Profile, rak.Public()); err != nil {
		return nil, fmt.Errorf("mint a CCA token: %w", err)
	}
	if t.Platform.Nonce, err = nonceFor(&t.Realm); err != nil {
		return nil, fmt.Errorf("mint a CCA token: %w", err)
	}
	if err := t.Platform.validate(); err != nil {
		return nil, fmt.Errorf("mint a CCA token: %w", err)
	}
	if err := t.Realm.validate(); err != nil {
		return nil, fmt.Errorf("mint a CCA token: %w", err)
	}
	return wrap(rand, cpak, rak, t.Wrapper, t.Platform.encode(), t.Realm.encode())
}

// wrap signs the two parts and makes the collection.
func wrap(rand io.Reader, cpak, rak crypto.Signer, w Wrapper, platform, realm []byte) ([]byte, error) {
	p, err := signToken(rand, cpak, platform)
	if err != nil {
		return nil, fmt.Errorf("sign the platform token: %w", err)
	}
	r, err := signToken(rand, rak, realm)
	if err != nil {
		return nil, fmt.Errorf("sign the realm token: %w", err)
	}
	if w == WrapperCMW {
		records := map[int64]wireRecord{keyPlatform: {Format: formatEATCWT, Value: p}, keyRealm: {Format: formatEATCWT, Value: r}}
		return append([]byte{0xd9, 0x03, 0x8b}, cose.MustMarshal(records)...), nil
	}
	return append([]byte{0xd9, 0x01, 0x8f}, cose.MustMarshal(map[int64][]byte{keyPlatform: p, keyRealm: r})...), nil
}

// PKI is an emulated vendor of CCA platforms: a root that certifies CPAKs.
type PKI struct {
	Root *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewPKI makes a vendor. Its subject carries the word EMULATED.
func NewPKI(rand io.Reader, now time.Time) (*PKI, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand)
	if err != nil {
		return nil, fmt.Errorf("make an emulated root: %w", err)
	}
	template, err := template(rand, "root", now.Add(-backdate), now.Add(rootValidity))
	if err != nil {
		return nil, err
	}
	template.KeyUsage, template.IsCA, template.MaxPathLenZero = x509.KeyUsageCertSign|x509.KeyUsageCRLSign, true, true
	root, err := createCertificate(rand, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, fmt.Errorf("make an emulated root: %w", err)
	}
	return &PKI{Root: root, key: key}, nil
}

// OpenPKI returns the vendor with that root and key, which were kept from [NewPKI].
func OpenPKI(root *x509.Certificate, key *ecdsa.PrivateKey) (*PKI, error) {
	if !key.PublicKey.Equal(root.PublicKey) || !(&Anchor{Cert: root}).IsEmulated() {
		return nil, fmt.Errorf("%w: key and certificate are no emulated vendor's", ErrCertificate)
	}
	return &PKI{Root: root, key: key}, nil
}

// Key returns the root's private key, to be kept.
func (p *PKI) Key() *ecdsa.PrivateKey { return p.key }

// Anchor returns the root as a trust anchor.
func (p *PKI) Anchor() *Anchor {
	return &Anchor{Name: p.Root.Subject.CommonName, Cert: p.Root, Emulated: true}
}

// IssueCPAK makes a CPAK and its certificate for that time, in DER: the chain that goes with its tokens.
func (p *PKI) IssueCPAK(rand io.Reader, notBefore, notAfter time.Time) (*ecdsa.PrivateKey, [][]byte, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand)
	if err != nil {
		return nil, nil, fmt.Errorf("make a CPAK: %w", err)
	}
	template, err := template(rand, "CPAK", notBefore, notAfter)
	if err != nil {
		return nil, nil, err
	}
	template.KeyUsage = x509.KeyUsageDigitalSignature
	cert, err := createCertificate(rand, template, p.Root, &key.PublicKey, p.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certify a CPAK: %w", err)
	}
	return key, [][]byte{cert.Raw}, nil
}

// InstanceID returns the instance ID that belongs to a CPAK: 0x01 and the SHA-256 of its uncompressed point.
func InstanceID(cpak *ecdsa.PublicKey) ([33]byte, error) {
	id := [33]byte{0x01}
	point, err := cpak.Bytes()
	if err != nil {
		return id, fmt.Errorf("%w: %w", ErrAlgorithm, err)
	}
	sum := sha256.Sum256(point)
	copy(id[1:], sum[:])
	return id, nil
}

func template(random io.Reader, what string, notBefore, notAfter time.Time) (*x509.Certificate, error) {
	buf := make([]byte, serialSize)
	if _, err := io.ReadFull(random, buf); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	buf[0] = buf[0]&0x7f | 0x40 // positive, and of constant length
	return &x509.Certificate{SerialNumber: new(big.Int).SetBytes(buf), NotBefore: notBefore, NotAfter: notAfter, BasicConstraintsValid: true,
		Subject: pkix.Name{CommonName: evidence.EmulatedMark + " CCA " + what, Organization: []string{"Sealift " + evidence.EmulatedMark + " hardware"}}}, nil
}

func createCertificate(rand io.Reader, template, parent *x509.Certificate, pub *ecdsa.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}
