// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/google/go-sev-guest/verify/trust"

	"sealift/evidence"
)

// Root is the trusted top of a chain: the root of a product line and its intermediates.
type Root struct {
	Product Product
	ARK     *x509.Certificate // self-signed
	ASK     *x509.Certificate // issues VCEKs; nil where none is trusted
	ASVK    *x509.Certificate // issues VLEKs; nil where none is trusted

	anchor evidence.Anchor // what it was made of, where [Hardware] made it
}

// Emulated reports whether the root is an emulator's, which its subject says.
func (r *Root) Emulated() bool {
	return strings.Contains(r.ARK.Subject.String(), evidence.EmulatedMark)
}

// Fingerprint is the SHA-256 of the ARK's DER.
func (r *Root) Fingerprint() [32]byte { return sha256.Sum256(r.ARK.Raw) }

// ParseRoot reads a certificate chain as AMD's Key Distribution Service gives it (publication 57230, cert_chain): PEM, an
// ASK or ASVK or both, and the ARK. The intermediates must be issued by the ARK and the ARK by itself.
func ParseRoot(data []byte) (*Root, error) {
	r := &Root{}
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrNoRoot, err)
		}
		if err := r.add(cert); err != nil {
			return nil, err
		}
	}
	if len(strings.TrimSpace(string(data))) > 0 || r.ARK == nil || r.ASK == nil && r.ASVK == nil {
		return nil, fmt.Errorf("%w: want an ASK or ASVK, and an ARK, in PEM and nothing else", ErrNoRoot)
	}
	return r, r.check()
}

func (r *Root) add(cert *x509.Certificate) error {
	name := cert.Subject.CommonName
	slot, product := &r.ASK, strings.TrimPrefix(name, "SEV-")
	switch {
	case strings.HasPrefix(name, "ARK-"):
		slot, product = &r.ARK, strings.TrimPrefix(name, "ARK-")
	case strings.HasPrefix(name, "SEV-VLEK-"):
		slot, product = &r.ASVK, strings.TrimPrefix(name, "SEV-VLEK-")
	case !strings.HasPrefix(name, "SEV-"):
		return fmt.Errorf("%w: certificate %q is neither ARK, ASK nor ASVK", ErrNoRoot, name)
	}
	if *slot != nil || r.Product != "" && r.Product != Product(product) {
		return fmt.Errorf("%w: certificate %q does not belong with the others", ErrNoRoot, name)
	}
	*slot, r.Product = cert, Product(product)
	return nil
}

func (r *Root) check() error {
	if r.Product != Milan && r.Product != Genoa && r.Product != Turin {
		return fmt.Errorf("%w: product %q", ErrNoRoot, r.Product)
	}
	for _, c := range []*x509.Certificate{r.ARK, r.ASK, r.ASVK} {
		if c == nil {
			continue
		}
		if err := c.CheckSignatureFrom(r.ARK); err != nil || c.SignatureAlgorithm != x509.SHA384WithRSAPSS {
			return fmt.Errorf("%w: %q is not issued by %q: %v", ErrNoRoot, c.Subject.CommonName, r.ARK.Subject.CommonName, err)
		}
	}
	return nil
}

// VendorRoots returns AMD's roots of the three products, each with the intermediates for VCEKs and VLEKs.
func VendorRoots() ([]*Root, error) {
	var roots []*Root
	for _, pems := range [][2][]byte{
		{trust.AskArkMilanVcekBytes, trust.AskArkMilanVlekBytes},
		{trust.AskArkGenoaVcekBytes, trust.AskArkGenoaVlekBytes},
		{trust.AskArkTurinVcekBytes, trust.AskArkTurinVlekBytes},
	} {
		vcek, err := ParseRoot(pems[0])
		if err != nil {
			return nil, err
		}
		vlek, err := ParseRoot(pems[1])
		if err != nil {
			return nil, err
		}
		if !vcek.ARK.Equal(vlek.ARK) || vlek.ASVK == nil {
			return nil, fmt.Errorf("%w: the two chains of %s have different roots", ErrNoRoot, vcek.Product)
		}
		vcek.ASVK = vlek.ASVK
		roots = append(roots, vcek)
	}
	return roots, nil
}

// issuer returns the intermediate that issues certificates for s.
func (r *Root) issuer(s Signer) *x509.Certificate {
	if s == VLEK {
		return r.ASVK
	}
	return r.ASK
}

// library returns the root in go-sev-guest's form.
func (r *Root) library() *trust.AMDRootCerts {
	out := trust.AMDRootCertsProduct(string(r.Product))
	out.ProductCerts = &trust.ProductCerts{Ask: r.ASK, Asvk: r.ASVK, Ark: r.ARK}
	return out
}
