// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"strings"
)

// Extensions of endorsement key certificates, publication 57230 section 3: all under AMD's arc.
var (
	oidAMD     = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 3704, 1}
	oidProduct = extension(2)
	oidHWID    = extension(4)
	oidCSP     = extension(5)
)

func extension(parts ...int) asn1.ObjectIdentifier {
	return append(append(asn1.ObjectIdentifier{}, oidAMD...), parts...)
}

// Last parts of the OIDs of the security patch levels (…3704.1.3.n).
const (
	splBootloader = 1
	splTEE        = 2
	splSNP        = 3
	splMicrocode  = 8
	splFMC        = 9 // Turin
)

// endorsement is what a VCEK or VLEK certificate says.
type endorsement struct {
	cert    *x509.Certificate
	signer  Signer
	product Product
	tcb     TCB
	hwid    []byte // VCEK: the chip, 64 bytes (Turin: 8)
	csp     string // VLEK: the cloud provider
}

// parseEndorsement reads the certificate of the key that signed a report. It verifies nothing.
func parseEndorsement(der []byte) (*endorsement, error) {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrCertificate, err)
	}
	e := &endorsement{cert: cert}
	switch cert.Subject.CommonName {
	case "SEV-VCEK":
		e.signer = VCEK
	case "SEV-VLEK":
		e.signer = VLEK
	default:
		return nil, fmt.Errorf("%w: subject %q, want SEV-VCEK or SEV-VLEK", ErrCertificate, cert.Subject.CommonName)
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P384() || cert.IsCA || cert.SignatureAlgorithm != x509.SHA384WithRSAPSS {
		return nil, fmt.Errorf("%w: want an end entity's P-384 key, signed with RSA-PSS and SHA-384", ErrCertificate)
	}
	return e, e.readExtensions()
}

func (e *endorsement) readExtensions() error {
	levels := map[int]*uint8{splBootloader: &e.tcb.Bootloader, splTEE: &e.tcb.TEE, splSNP: &e.tcb.SNP,
		splMicrocode: &e.tcb.Microcode, splFMC: &e.tcb.FMC}
	seen := map[int]bool{}
	for _, x := range e.cert.Extensions {
		var err error
		switch n := len(oidAMD); {
		case x.Id.Equal(oidProduct):
			err = e.readProduct(x.Value)
		case x.Id.Equal(oidHWID):
			e.hwid, err = octets(x.Value)
		case x.Id.Equal(oidCSP):
			err = readIA5(x.Value, &e.csp)
		case len(x.Id) == n+2 && x.Id[:n+1].Equal(extension(3)):
			if level := levels[x.Id[n+1]]; level != nil {
				seen[x.Id[n+1]] = true
				err = readLevel(x.Value, level)
			}
		}
		if err != nil {
			return fmt.Errorf("%w: extension %v: %w", ErrCertificate, x.Id, err)
		}
	}
	for n := range levels {
		if want := n != splFMC || e.product == Turin; seen[n] != want {
			return fmt.Errorf("%w: security patch level %d of a %q part is missing, or has no place there", ErrCertificate, n, e.product)
		}
	}
	return e.checkIdentity()
}

// checkIdentity checks that a VCEK names a chip and a VLEK a provider, and neither both.
func (e *endorsement) checkIdentity() error {
	size := 64
	if e.product == Turin {
		size = 8
	}
	switch {
	case e.product == "":
		return fmt.Errorf("%w: no product name", ErrCertificate)
	case e.signer == VCEK && (len(e.hwid) != size || e.csp != ""):
		return fmt.Errorf("%w: a VCEK must name a chip with %d bytes and no provider", ErrCertificate, size)
	case e.signer == VLEK && (len(e.hwid) != 0 || e.csp == ""):
		return fmt.Errorf("%w: a VLEK must name a provider and no chip", ErrCertificate)
	}
	return nil
}

// readProduct reads "Milan-B0" (VCEK; the stepping says nothing here) or "Milan" (VLEK).
func (e *endorsement) readProduct(value []byte) error {
	var name string
	if err := readIA5(value, &name); err != nil {
		return err
	}
	line, _, _ := strings.Cut(name, "-")
	e.product = Product(line)
	if e.product != Milan && e.product != Genoa && e.product != Turin {
		return fmt.Errorf("unknown product %q", name)
	}
	return nil
}

func readIA5(value []byte, into *string) error {
	rest, err := asn1.UnmarshalWithParams(value, into, "ia5")
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	return err
}

func readLevel(value []byte, into *uint8) error {
	var n int
	rest, err := asn1.Unmarshal(value, &n)
	if err != nil {
		return err
	}
	if len(rest) > 0 || n < 0 || n > 255 {
		return fmt.Errorf("no integer of 0 to 255")
	}
	*into = uint8(n)
	return nil
}

// octets reads a chip's identifier, which AMD puts into the extension as it is, without the tag of an OCTET STRING.
func octets(value []byte) ([]byte, error) {
	if len(value) == 64 || len(value) == 8 {
		return value, nil
	}
	var out []byte
	rest, err := asn1.Unmarshal(value, &out)
	if err == nil && len(rest) > 0 {
		err = fmt.Errorf("%d bytes too many", len(rest))
	}
	return out, err
}
