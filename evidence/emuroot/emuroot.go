// SPDX-License-Identifier: Apache-2.0

// Package emuroot is the public key infrastructure of an emulated hardware vendor: a root certificate and, under it,
// certificates of Initial Attestation Keys. The emulator uses it to sign Evidence, tests use it to make some.
//
// Every emulator makes a root of its own and keeps the key. No root is built in, so that nobody can trust one without
// having named its fingerprint. The subject of each certificate carries the word EMULATED ([evidence.EmulatedMark]),
// by which a verifier tells such a root from a vendor's.
package emuroot

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math/big"
	"os"
	"path/filepath"
	"time"

	"sealift/cose"
	"sealift/evidence"
)

// Files of a saved PKI.
const (
	certFile = "root.pem"
	keyFile  = "root-key.pem"
)

// Certificates are valid from a day before they were made, so that a clock that is a little behind accepts them.
const (
	backdate      = 24 * time.Hour
	rootValidity  = 20 * 365 * 24 * time.Hour
	organization  = "Sealift " + evidence.EmulatedMark + " hardware"
	serialNumbers = 127 // bits of a random serial number
)

// ErrPKI reports a saved PKI that cannot be used.
var ErrPKI = errors.New("emuroot: saved PKI")

// PKI is an emulated vendor: its root certificate and the key that signs device certificates.
type PKI struct {
	Root     *x509.Certificate
	Hardware evidence.Hardware
	key      *ecdsa.PrivateKey
}

// New makes a vendor for a hardware architecture. Its root is valid for 20 years from now.
func New(rand io.Reader, hw evidence.Hardware, now time.Time) (*PKI, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("make the emulated root's key: %w", err)
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject(hw, "root"), NotBefore: now.Add(-backdate), NotAfter: now.Add(rootValidity),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return nil, fmt.Errorf("make the emulated root: %w", err)
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("make the emulated root: %w", err)
	}
	return &PKI{Root: root, Hardware: hw, key: key}, nil
}

// Load reads the vendor that [PKI.Save] wrote to dir. The error is an fs.ErrNotExist if there is none.
func Load(dir string) (*PKI, error) {
	certPEM, err := os.ReadFile(filepath.Join(dir, certFile))
	if err != nil {
		return nil, fmt.Errorf("load the emulated root: %w", err)
	}
	keyPEM, err := os.ReadFile(filepath.Join(dir, keyFile))
	if err != nil {
		return nil, fmt.Errorf("load the emulated root: %w", err)
	}
	anchor, err := evidence.ParseAnchorPEM(certPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	if anchor.Cert == nil || !anchor.IsEmulated() || len(anchor.Cert.Subject.OrganizationalUnit) != 1 {
		return nil, fmt.Errorf("%w: %s is not an emulated vendor's root", ErrPKI, certFile)
	}
	signer, err := cose.ParsePrivatePEM(keyPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	key, ok := signer.(*ecdsa.PrivateKey)
	if !ok || !key.PublicKey.Equal(anchor.Cert.PublicKey) {
		return nil, fmt.Errorf("%w: key and certificate do not belong together", ErrPKI)
	}
	return &PKI{Root: anchor.Cert, Hardware: evidence.Hardware(anchor.Cert.Subject.OrganizationalUnit[0]), key: key}, nil
}

// LoadOrNew loads the vendor of dir, or makes and saves one where there is none.
func LoadOrNew(dir string, rand io.Reader, hw evidence.Hardware, now time.Time) (*PKI, error) {
	p, err := Load(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		if p, err = New(rand, hw, now); err != nil {
			return nil, err
		}
		return p, p.Save(dir)
	case err != nil:
		return nil, err
	case p.Hardware != hw:
		return nil, fmt.Errorf("%w: it is a vendor of %s, want %s", ErrPKI, p.Hardware, hw)
	}
	return p, nil
}

// Save writes the vendor to dir: the key first and each file by rename, so that a certificate without its key is never
// left behind. The key file is readable by its owner only.
func (p *PKI) Save(dir string) error {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	keyPEM, err := cose.MarshalPrivatePEM(p.key)
	if err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	if err := writeFile(filepath.Join(dir, keyFile), keyPEM, 0o600); err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: p.Root.Raw})
	if err := writeFile(filepath.Join(dir, certFile), certPEM, 0o644); err != nil {
		return fmt.Errorf("save the emulated root: %w", err)
	}
	return nil
}

// writeFile puts data on the disk under a temporary name before it takes the name path.
func writeFile(path string, data []byte, mode fs.FileMode) error {
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, mode)
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// Fingerprint identifies the root, as an [evidence.Anchor] does.
func (p *PKI) Fingerprint() [32]byte { return p.Anchor().Fingerprint() }

// Anchor returns the root as a trust anchor for this hardware, marked as emulated.
func (p *PKI) Anchor() evidence.Anchor {
	return evidence.Anchor{Cert: p.Root, Name: p.Root.Subject.CommonName, Hardware: p.Hardware, Emulated: true}
}

// SignerID returns the SHA-256 of the root's public key (SubjectPublicKeyInfo): the signer-id of every measurement that
// the emulator makes.
func (p *PKI) SignerID() [32]byte { return sha256.Sum256(p.Root.RawSubjectPublicKeyInfo) }

// IssueIAK makes an Initial Attestation Key for the device called name, and its certificate, valid as long as the root.
// The chain is in DER, leaf first, without the root: what belongs in [evidence.Bundle.Collateral].
func (p *PKI) IssueIAK(rand io.Reader, name string) (iak crypto.Signer, chain [][]byte, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, nil, fmt.Errorf("make an attestation key: %w", err)
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject(p.Hardware, "device "+name), NotBefore: p.Root.NotBefore,
		NotAfter: p.Root.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand, template, p.Root, key.Public(), p.key)
	if err != nil {
		return nil, nil, fmt.Errorf("certify an attestation key: %w", err)
	}
	return key, [][]byte{der}, nil
}

func subject(hw evidence.Hardware, what string) pkix.Name {
	return pkix.Name{CommonName: fmt.Sprintf("%s %s %s", evidence.EmulatedMark, hw, what),
		Organization: []string{organization}, OrganizationalUnit: []string{string(hw)}}
}

func newSerial(rand io.Reader) (*big.Int, error) {
	buf := make([]byte, serialNumbers/8+1)
	if _, err := io.ReadFull(rand, buf); err != nil {
		return nil, fmt.Errorf("make a serial number: %w", err)
	}
	buf[0] &= 0x7f
	buf[len(buf)-1] |= 1
	return new(big.Int).SetBytes(buf), nil
}
