// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
)

// Common names of Intel's certificates. They are a part of the format: the emulated PKI has them too.
const (
	cnRoot       = "Intel SGX Root CA"
	cnPlatform   = "Intel SGX PCK Platform CA"
	cnProcessor  = "Intel SGX PCK Processor CA"
	cnPCK        = "Intel SGX PCK Certificate"
	cnTCBSigning = "Intel SGX TCB Signing"
)

// CA is the kind of CA that issued a PCK certificate, as the query "ca" of Intel's PCS names it.
type CA string

// CAs.
const (
	PlatformCA  CA = "platform"  // machines that Intel registered as a whole
	ProcessorCA CA = "processor" // single processors
)

// SGXType says how a platform protects its memory (SGX Type of the PCK certificate).
type SGXType uint8

// Types.
const (
	Standard            SGXType = 0
	Scalable            SGXType = 1 // encrypted, without integrity
	ScalableIntegrity   SGXType = 2
	numberOfSGXTypes            = 3
	instanceIDPrefix            = 0x01 // first byte of an EAT ueid that holds random-like octets (RFC 9711 section 4.2.1)
	componentCount              = 16
	pceSVNExtension             = 17
	cpuSVNExtension             = 18
	pckExtensions               = 6 // exactly: the profile, section 1.3
	maxCertificateBytes         = 4096
)

// PCK is what a PCK certificate says of its platform.
type PCK struct {
	Cert   *x509.Certificate
	CA     CA // by the issuer's name
	PPID   [16]byte
	FMSPC  [6]byte // family, model, stepping, platform type, custom SKU
	PCEID  [2]byte
	SVN    [componentCount]uint8 // TCB components, which are compared with TCB levels
	PCESVN uint16
	CPUSVN [16]byte
	Type   SGXType

	// Only in certificates of the Platform CA.
	PlatformInstance [16]byte
	DynamicPlatform  bool
	CachedKeys       bool
	SMT              bool
}

// Extension object identifiers, PCK profile section 1.3.5. All stand within the one extension oidSGX.
var oidSGX = asn1.ObjectIdentifier{1, 2, 840, 113741, 1, 13, 1}

func sgxOID(parts ...int) asn1.ObjectIdentifier {
	return append(append(asn1.ObjectIdentifier{}, oidSGX...), parts...)
}

// ParsePCK reads a PCK certificate in DER strictly: a P-256 key of an end entity, Intel's six extensions and no other,
// every SGX extension exactly once with its exact size. It verifies nothing.
func ParsePCK(der []byte) (*PCK, error) {
	cert, err := parseCert(der)
	if err != nil {
		return nil, err
	}
	p := &PCK{Cert: cert}
	switch {
	case cert.Subject.CommonName != cnPCK:
		return nil, malformed("PCK certificate: subject %q, want %q", cert.Subject.CommonName, cnPCK)
	case cert.Issuer.CommonName == cnPlatform:
		p.CA = PlatformCA
	case cert.Issuer.CommonName == cnProcessor:
		p.CA = ProcessorCA
	default:
		return nil, malformed("PCK certificate: issuer %q", cert.Issuer.CommonName)
	}
	if cert.IsCA || !cert.BasicConstraintsValid || cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
		return nil, malformed("PCK certificate: it is not an end entity's that may sign")
	}
	if len(cert.Extensions) != pckExtensions {
		return nil, malformed("PCK certificate: %d extensions, want %d", len(cert.Extensions), pckExtensions)
	}
	for _, x := range cert.Extensions {
		if !x.Id.Equal(oidSGX) {
			continue
		}
		if err := p.readExtension(x.Value); err != nil {
			return nil, err
		}
		return p, nil
	}
	return nil, malformed("PCK certificate: no SGX extension")
}

// parseCert reads any certificate of Intel's infrastructure: P-256, signed with ECDSA and SHA-256.
func parseCert(der []byte) (*x509.Certificate, error) {
	if len(der) > maxCertificateBytes {
		return nil, malformed("certificate of %d bytes", len(der))
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, fmt.Errorf("%w: certificate: %w", ErrMalformed, err)
	}
	key, ok := cert.PublicKey.(*ecdsa.PublicKey)
	if !ok || key.Curve != elliptic.P256() || cert.SignatureAlgorithm != x509.ECDSAWithSHA256 {
		return nil, malformed("certificate %q: want a P-256 key, and a signature by ECDSA with SHA-256", cert.Subject.CommonName)
	}
	if len(cert.UnhandledCriticalExtensions) > 0 {
		return nil, malformed("certificate %q: unknown critical extension %v", cert.Subject.CommonName,
			cert.UnhandledCriticalExtensions[0])
	}
	return cert, nil
}

// attribute is one member of the SGX extension, and of the TCB and configuration within it.
type attribute struct {
	ID    asn1.ObjectIdentifier
	Value asn1.RawValue
}

// readAttributes reads a SEQUENCE OF attributes and gives each to the reader of its last arc. Every reader must be called
// exactly once, except those in optional.
func readAttributes(der []byte, prefix asn1.ObjectIdentifier, readers map[int]func(asn1.RawValue) error,
	optional ...int) error {
	var list []attribute
	if rest, err := asn1.Unmarshal(der, &list); err != nil || len(rest) > 0 {
		return malformed("SGX extension: %v is no sequence of attributes: %v", prefix, err)
	}
	seen := map[int]bool{}
	for _, a := range list {
		n := len(prefix)
		if len(a.ID) != n+1 || !a.ID[:n].Equal(prefix) || readers[a.ID[n]] == nil || seen[a.ID[n]] {
			return malformed("SGX extension: %v has no place there", a.ID)
		}
		seen[a.ID[n]] = true
		if err := readers[a.ID[n]](a.Value); err != nil {
			return fmt.Errorf("%w: SGX extension %v: %w", ErrMalformed, a.ID, err)
		}
	}
	for _, n := range optional {
		seen[n] = true
	}
	for n := range readers {
		if !seen[n] {
			return malformed("SGX extension: %v is missing", append(prefix, n))
		}
	}
	return nil
}

func (p *PCK) readExtension(der []byte) error {
	readers := map[int]func(asn1.RawValue) error{
		1: octetsInto(p.PPID[:]),
		2: func(v asn1.RawValue) error { return p.readTCB(v.FullBytes) },
		3: octetsInto(p.PCEID[:]),
		4: octetsInto(p.FMSPC[:]),
		5: p.readType,
	}
	if p.CA == PlatformCA {
		readers[6] = octetsInto(p.PlatformInstance[:])
		readers[7] = func(v asn1.RawValue) error {
			return readAttributes(v.FullBytes, sgxOID(7), map[int]func(asn1.RawValue) error{
				1: boolInto(&p.DynamicPlatform), 2: boolInto(&p.CachedKeys), 3: boolInto(&p.SMT)}, 1, 2, 3)
		}
		return readAttributes(der, oidSGX, readers, 6, 7)
	}
	return readAttributes(der, oidSGX, readers)
}

func (p *PCK) readTCB(der []byte) error {
	readers := map[int]func(asn1.RawValue) error{cpuSVNExtension: octetsInto(p.CPUSVN[:]),
		pceSVNExtension: func(v asn1.RawValue) error {
			n, err := integer(v, asn1.TagInteger, 0xffff)
			p.PCESVN = uint16(n)
			return err
		}}
	for i := range p.SVN {
		readers[i+1] = func(v asn1.RawValue) error {
			n, err := integer(v, asn1.TagInteger, 0xff)
			p.SVN[i] = uint8(n)
			return err
		}
	}
	return readAttributes(der, sgxOID(2), readers)
}

func (p *PCK) readType(v asn1.RawValue) error {
	n, err := integer(v, asn1.TagEnum, numberOfSGXTypes-1)
	p.Type = SGXType(n)
	return err
}

// integer reads a minimal, non-negative INTEGER or ENUMERATED of up to two bytes.
func integer(v asn1.RawValue, tag, max int) (int, error) {
	if v.Class != asn1.ClassUniversal || v.Tag != tag || v.IsCompound || len(v.Bytes) == 0 || len(v.Bytes) > 3 {
		return 0, malformed("no number of 0 to %d", max)
	}
	if len(v.Bytes) > 1 && v.Bytes[0] == 0 && v.Bytes[1] < 0x80 {
		return 0, malformed("a number that is not minimal")
	}
	n := 0
	for _, b := range v.Bytes {
		n = n<<8 | int(b)
	}
	if v.Bytes[0] >= 0x80 || n > max {
		return 0, malformed("no number of 0 to %d", max)
	}
	return n, nil
}

func octetsInto(into []byte) func(asn1.RawValue) error {
	return func(v asn1.RawValue) error {
		if v.Class != asn1.ClassUniversal || v.Tag != asn1.TagOctetString || v.IsCompound || len(v.Bytes) != len(into) {
			return malformed("want an octet string of %d bytes", len(into))
		}
		copy(into, v.Bytes)
		return nil
	}
}

func boolInto(into *bool) func(asn1.RawValue) error {
	return func(v asn1.RawValue) error {
		if v.Class != asn1.ClassUniversal || v.Tag != asn1.TagBoolean || len(v.Bytes) != 1 || v.Bytes[0] != 0 && v.Bytes[0] != 0xff {
			return malformed("no boolean")
		}
		*into = v.Bytes[0] != 0
		return nil
	}
}

// InstanceID identifies the platform in 33 bytes that fit an EAT ueid: 0x01 and the SHA-256 of FMSPC and PPID. The PPID
// stays the same over firmware updates and new PCK certificates; the platform instance ID, which only the Platform CA
// assigns, changes when a machine is registered again.
func (p *PCK) InstanceID() [33]byte {
	sum := sha256.Sum256(append(p.FMSPC[:], p.PPID[:]...))
	return [33]byte(append([]byte{instanceIDPrefix}, sum[:]...))
}

// EndorsementKey is the key under which [evidence.Endorsements] keeps the collateral of this platform: its FMSPC in lower
// case hexadecimal, a dot, and its CA: "b0c06f000000.platform".
func (p *PCK) EndorsementKey() string {
	return hex.EncodeToString(p.FMSPC[:]) + "." + string(p.CA)
}

// String names the platform without its PPID.
func (p *PCK) String() string {
	return fmt.Sprintf("platform with FMSPC %s, PCE ID %s, certified by the %s CA", hex.EncodeToString(p.FMSPC[:]),
		hex.EncodeToString(p.PCEID[:]), p.CA)
}
