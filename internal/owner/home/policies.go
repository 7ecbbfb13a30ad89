// SPDX-License-Identifier: Apache-2.0

package home

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"os"
)

// DefaultPolicy is the policy that is used when none is named.
const DefaultPolicy = "default"

// Policy returns the bytes of the policy called name.
func (h *Home) Policy(name string) ([]byte, error) { return h.read(kindPolicy, name, ".json") }

// SetPolicy stores a policy. Without replace it refuses to overwrite one.
func (h *Home) SetPolicy(name string, data []byte, replace bool) error {
	path, err := h.path(kindPolicy, name, ".json")
	if err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(path); err == nil && !replace {
		return fmt.Errorf("the policy %s %w", name, ErrExists)
	}
	return writeFile(path, data)
}

// AddAnchor stores a vendor root certificate under its own fingerprint and returns the fingerprint. It does not make the root
// trusted: only a policy that names the fingerprint does.
func (h *Home) AddAnchor(cert *x509.Certificate) ([32]byte, error) {
	fingerprint := sha256.Sum256(cert.Raw)
	path, err := h.path(kindAnchor, fmt.Sprintf("%x", fingerprint[:16]), ".pem")
	if err != nil {
		return fingerprint, err
	}
	return fingerprint, writeFile(path, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw}))
}

// Anchors returns all stored root certificates.
func (h *Home) Anchors() ([]*x509.Certificate, error) {
	names, err := h.list(kindAnchor, ".pem")
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, name := range names {
		data, err := h.read(kindAnchor, name, ".pem")
		if err != nil {
			return nil, err
		}
		found, err := ParseCertificates(data)
		if err != nil {
			return nil, fmt.Errorf("%w: the anchor %s: %w", ErrDamaged, name, err)
		}
		certs = append(certs, found...)
	}
	return certs, nil
}

// ParseCertificates returns the certificates of a PEM file; none is an error.
func ParseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		block, data = pem.Decode(data)
		if block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			continue
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("parsing a certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, fmt.Errorf("there is no certificate in PEM form")
	}
	return certs, nil
}
