// SPDX-License-Identifier: Apache-2.0

package snp

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rsa"
	"crypto/sha512"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"slices"
	"strings"
	"sync"
	"time"

	"sealift/evidence"
)

const (
	rootBits     = 4096
	backdate     = 24 * time.Hour
	rootValidity = 20 * 365 * 24 * time.Hour
)

// ErrPKI reports a saved PKI that cannot be used.
var ErrPKI = errors.New("snp: saved emulated PKI")

// PKI is an emulated AMD: keys and certificates of ARK, ASK and ASVK for one product. The names are AMD's, because they
// are a part of the format; a serial number "EMULATED" in each subject tells them apart.
type PKI struct {
	Root           *Root
	ark, ask, asvk *rsa.PrivateKey
}

// NewPKI makes a PKI that issues keys of these kinds; without any, of both. Its RSA-4096 keys take seconds: make one and
// keep it ([PKI.Marshal]).
func NewPKI(rand io.Reader, p Product, now time.Time, kinds ...Signer) (*PKI, error) {
	return newPKI(rand, p, now, rootBits, kinds...)
}

func newPKI(rand io.Reader, p Product, now time.Time, bits int, kinds ...Signer) (*PKI, error) {
	pki := &PKI{Root: &Root{Product: p}}
	slots := []**rsa.PrivateKey{&pki.ark}
	if len(kinds) == 0 || slices.Contains(kinds, VCEK) {
		slots = append(slots, &pki.ask)
	}
	if len(kinds) == 0 || slices.Contains(kinds, VLEK) {
		slots = append(slots, &pki.asvk)
	}
	err := makeKeys(rand, bits, slots)
	ark := caTemplate("ARK-"+string(p), "vcek", p, 1, now)
	issue := func(template, parent *x509.Certificate, key *rsa.PrivateKey) *x509.Certificate {
		var c *x509.Certificate
		if err == nil && key != nil {
			c, err = createCertificate(rand, template, parent, &key.PublicKey, pki.ark)
		}
		return c
	}
	pki.Root.ARK = issue(ark, ark, pki.ark)
	pki.Root.ASK = issue(caTemplate("SEV-"+string(p), "vcek", p, 2, now), pki.Root.ARK, pki.ask)
	pki.Root.ASVK = issue(caTemplate("SEV-VLEK-"+string(p), "vlek", p, 3, now), pki.Root.ARK, pki.asvk)
	if err != nil {
		return nil, fmt.Errorf("make an emulated root: %w", err)
	}
	return pki, nil
}

// makeKeys makes the keys side by side.
func makeKeys(rand io.Reader, bits int, slots []**rsa.PrivateKey) error {
	errs := make([]error, len(slots))
	var all sync.WaitGroup
	for i, slot := range slots {
		all.Go(func() { *slot, errs[i] = rsa.GenerateKey(rand, bits) })
	}
	all.Wait()
	return errors.Join(errs...)
}

func name(cn string) pkix.Name {
	return pkix.Name{CommonName: cn, Country: []string{"US"}, Locality: []string{"Santa Clara"}, Province: []string{"CA"},
		Organization: []string{"Advanced Micro Devices"}, OrganizationalUnit: []string{"Engineering"},
		SerialNumber: evidence.EmulatedMark}
}

func caTemplate(cn, kind string, p Product, serial int64, now time.Time) *x509.Certificate {
	usage := x509.KeyUsageCertSign
	if strings.HasPrefix(cn, "ARK-") {
		usage |= x509.KeyUsageCRLSign
	}
	return &x509.Certificate{SerialNumber: big.NewInt(serial), Subject: name(cn), NotBefore: now.Add(-backdate),
		NotAfter: now.Add(rootValidity), SignatureAlgorithm: x509.SHA384WithRSAPSS, KeyUsage: usage,
		BasicConstraintsValid: true, IsCA: true,
		CRLDistributionPoints: []string{"https://kdsintf.amd.com/" + kind + "/v1/" + string(p) + "/crl"}}
}

func createCertificate(rand io.Reader, template, parent *x509.Certificate, pub crypto.PublicKey, key crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand, template, parent, pub, key)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// Device is what an emulated chip signs with: a VCEK or VLEK and its certificate.
type Device struct {
	Product Product
	Signer  Signer
	TCB     TCB
	Chip    [64]byte
	Cert    []byte // DER
	key     *ecdsa.PrivateKey
}

// DeviceSpec describes the key to make; NotBefore and NotAfter default to the root's.
type DeviceSpec struct {
	Signer              Signer
	TCB                 TCB
	Chip                [64]byte // Turin: only the first 8 bytes count
	CSP                 string   // VLEK only
	NotBefore, NotAfter time.Time
}

// NewDevice makes a key of the kind that the specification names and certifies it.
func (p *PKI) NewDevice(rand io.Reader, s DeviceSpec) (*Device, error) {
	key, err := ecdsa.GenerateKey(elliptic.P384(), rand)
	if err != nil {
		return nil, fmt.Errorf("make a %v: %w", s.Signer, err)
	}
	extensions, err := p.extensions(&s)
	if err != nil {
		return nil, fmt.Errorf("make a %v: %w", s.Signer, err)
	}
	issuer, issuerKey := p.Root.ASK, p.ask
	if s.Signer == VLEK {
		issuer, issuerKey = p.Root.ASVK, p.asvk
	}
	if issuer == nil {
		return nil, fmt.Errorf("make a %v: %w: this PKI issues none", s.Signer, ErrPKI)
	}
	if s.NotBefore.IsZero() {
		s.NotBefore = issuer.NotBefore
	}
	if s.NotAfter.IsZero() {
		s.NotAfter = issuer.NotAfter
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(0), Subject: name("SEV-" + s.Signer.String()), NotBefore: s.NotBefore,
		NotAfter: s.NotAfter, SignatureAlgorithm: x509.SHA384WithRSAPSS, ExtraExtensions: extensions}
	cert, err := createCertificate(rand, template, issuer, &key.PublicKey, issuerKey)
	if err != nil {
		return nil, fmt.Errorf("certify a %v: %w", s.Signer, err)
	}
	return &Device{Product: p.Root.Product, Signer: s.Signer, TCB: s.TCB, Chip: s.Chip, Cert: cert.Raw, key: key}, nil
}

// extensions encodes AMD's certificate extensions.
func (p *PKI) extensions(s *DeviceSpec) ([]pkix.Extension, error) {
	product, chip := string(p.Root.Product), s.Chip[:]
	if s.Signer == VCEK && p.Root.Product != Turin {
		product += "-B0"
	}
	levels := []uint8{0, s.TCB.Bootloader, s.TCB.TEE, s.TCB.SNP, 0, 0, 0, 0, s.TCB.Microcode}
	if p.Root.Product == Turin {
		levels, chip = append(levels, s.TCB.FMC), chip[:8]
		clear(s.Chip[8:]) // a report of Turin has no more
	}
	var out []pkix.Extension
	var failed error
	add := func(id asn1.ObjectIdentifier, value any, params string) {
		der, err := asn1.MarshalWithParams(value, params)
		failed = errors.Join(failed, err)
		out = append(out, pkix.Extension{Id: id, Value: der})
	}
	add(extension(1), 1, "")
	add(oidProduct, product, "ia5")
	for n := 1; n < len(levels); n++ {
		add(extension(3, n), int(levels[n]), "")
	}
	if s.Signer == VLEK {
		add(oidCSP, s.CSP, "ia5")
	} else {
		out = append(out, pkix.Extension{Id: oidHWID, Value: slices.Clone(chip)})
	}
	return out, failed
}

// processors are family, model and stepping by product.
var processors = map[Product][3]uint8{Milan: {0x19, 0x01, 1}, Genoa: {0x19, 0x11, 1}, Turin: {0x1a, 0x02, 1}}

// Report returns a version 3 report of the device that [Device.Mint] would sign: release policy, VMPL 0, all levels the
// device's own. The caller fills in what was measured.
func (d *Device) Report(reportData [64]byte, measurement [48]byte, hostData [32]byte) *Report {
	cpu, level := processors[d.Product], d.TCB.Raw(d.Product)
	r := &Report{Version: versionWithCPU, Policy: policyReserved | PolicySMT, Signer: d.Signer, ReportData: reportData,
		Measurement: measurement, HostData: hostData, CurrentTCB: level, ReportedTCB: level, CommittedTCB: level,
		LaunchTCB: level, Family: cpu[0], Model: cpu[1], Stepping: cpu[2], ChipID: d.Chip, PlatformInfo: 1,
		Current: Version{Major: 1, Minor: 55}, Committed: Version{Major: 1, Minor: 55}}
	for i := range r.ReportIDMA {
		r.ReportIDMA[i] = 0xff // no migration agent
	}
	return r
}

// Mint signs a report as the secure processor does and returns its bytes.
func (d *Device) Mint(rand io.Reader, r *Report) ([]byte, error) {
	out := *r
	out.Signature = [2 * coordinateSize]byte{}
	digest := sha512.Sum384(out.Marshal()[:signedSize])
	x, y, err := ecdsa.Sign(rand, d.key, digest[:])
	if err != nil {
		return nil, fmt.Errorf("sign an SNP report: %w", err)
	}
	for i, n := range []*big.Int{x, y} {
		coordinate := out.Signature[i*coordinateSize : (i+1)*coordinateSize]
		n.FillBytes(coordinate)
		slices.Reverse(coordinate)
	}
	return out.Marshal(), nil
}

// Marshal returns the PKI's certificates and private keys in PEM, to be kept where only their owner can read them.
func (p *PKI) Marshal() ([]byte, error) {
	var out []byte
	for _, c := range []*x509.Certificate{p.Root.ARK, p.Root.ASK, p.Root.ASVK} {
		if c != nil {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
	}
	for _, k := range []*rsa.PrivateKey{p.ark, p.ask, p.asvk} {
		if k == nil {
			continue
		}
		der, err := x509.MarshalPKCS8PrivateKey(k)
		if err != nil {
			return nil, fmt.Errorf("save an emulated PKI: %w", err)
		}
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
	}
	return out, nil
}

// ParsePKI reads what [PKI.Marshal] wrote.
func ParsePKI(data []byte) (*PKI, error) {
	var certs []byte
	var keys []*rsa.PrivateKey
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			certs = append(certs, pem.EncodeToMemory(block)...)
			continue
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		k, ok := key.(*rsa.PrivateKey)
		if err != nil || !ok {
			return nil, fmt.Errorf("%w: private key: %v", ErrPKI, err)
		}
		keys = append(keys, k)
	}
	root, err := ParseRoot(certs)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	p := &PKI{Root: root}
	if !root.Emulated() || !p.take(keys) {
		return nil, fmt.Errorf("%w: keys and certificates do not belong together", ErrPKI)
	}
	return p, nil
}

// take gives each certificate its key, in their order; false if one does not fit.
func (p *PKI) take(keys []*rsa.PrivateKey) bool {
	for _, slot := range []struct {
		cert *x509.Certificate
		key  **rsa.PrivateKey
	}{{p.Root.ARK, &p.ark}, {p.Root.ASK, &p.ask}, {p.Root.ASVK, &p.asvk}} {
		if slot.cert == nil {
			continue
		}
		if len(keys) == 0 || !keys[0].PublicKey.Equal(slot.cert.PublicKey) {
			return false
		}
		*slot.key, keys = keys[0], keys[1:]
	}
	return len(keys) == 0
}

// Marshal returns the key and its certificate in PEM, to be kept where only their owner can read them.
func (d *Device) Marshal() ([]byte, error) {
	der, err := x509.MarshalPKCS8PrivateKey(d.key)
	if err != nil {
		return nil, fmt.Errorf("save an emulated %v: %w", d.Signer, err)
	}
	return append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: d.Cert}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}

// ParseDevice reads what [Device.Marshal] wrote.
func ParseDevice(data []byte) (*Device, error) {
	cert, rest := pem.Decode(data)
	if cert == nil {
		return nil, fmt.Errorf("%w: no certificate", ErrPKI)
	}
	e, err := parseEndorsement(cert.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPKI, err)
	}
	block, _ := pem.Decode(rest)
	if block == nil {
		return nil, fmt.Errorf("%w: no private key", ErrPKI)
	}
	parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
	key, ok := parsed.(*ecdsa.PrivateKey)
	if err != nil || !ok || !key.PublicKey.Equal(e.cert.PublicKey) {
		return nil, fmt.Errorf("%w: key and certificate do not belong together", ErrPKI)
	}
	d := &Device{Product: e.product, Signer: e.signer, TCB: e.tcb, Cert: cert.Bytes, key: key}
	copy(d.Chip[:], e.hwid)
	return d, nil
}
