// SPDX-License-Identifier: Apache-2.0

package intel

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/pem"
	"fmt"
	"io"
	"time"

	"sealift/evidence"
)

// PlatformSpec describes a platform to make. CA defaults to PlatformCA; NotBefore and NotAfter default to the CA's.
type PlatformSpec struct {
	CA                  CA
	PPID                [16]byte
	FMSPC               [6]byte
	PCEID               [2]byte
	SVN                 [componentCount]uint8
	PCESVN              uint16
	CPUSVN              [16]byte
	NotBefore, NotAfter time.Time
}

// Platform is an emulated machine: a PCK with its certificate, and a quoting enclave for each TEE with an attestation key.
type Platform struct {
	PCK   *PCK
	Chain []byte // PEM: PCK, CA, root

	pck *ecdsa.PrivateKey
	qes map[TEE]*quotingEnclave
}

// quotingEnclave is what a QE signs quotes with.
type quotingEnclave struct {
	key  *ecdsa.PrivateKey
	data SignatureData // without the signature of a quote
}

// QE returns the report of the platform's quoting enclave as the emulator makes it, without REPORTDATA: Intel's format
// with a signer of its own.
func QE(t TEE) EnclaveReport {
	return EnclaveReport{
		Attributes: [16]byte{0: 0x11, 8: 0xe7}, // INIT and PROVISION_KEY, as Intel's; XFRM
		MREnclave:  sha256.Sum256([]byte(evidence.EmulatedMark + " enclave " + qeID(t))),
		MRSigner:   sha256.Sum256([]byte(evidence.EmulatedMark + " signer " + qeID(t))),
		ISVProdID:  map[TEE]uint16{SGX: 1, TDX: 2}[t],
		ISVSVN:     8,
	}
}

// NewPlatform makes a platform and certifies its PCK with Intel's six extensions.
func (p *PKI) NewPlatform(rand io.Reader, s PlatformSpec) (*Platform, error) {
	if s.CA == "" {
		s.CA = PlatformCA
	}
	ca, caKey := p.ca(s.CA)
	if s.NotBefore.IsZero() {
		s.NotBefore = ca.NotBefore
	}
	if s.NotAfter.IsZero() {
		s.NotAfter = ca.NotAfter
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, fmt.Errorf("make a PCK: %w", err)
	}
	extension, err := s.extension()
	if err != nil {
		return nil, fmt.Errorf("make a PCK: %w", err)
	}
	cert, err := issue(rand, &x509.Certificate{NotBefore: s.NotBefore, NotAfter: s.NotAfter, BasicConstraintsValid: true,
		CRLDistributionPoints: []string{pckCRLURL + string(s.CA)},
		KeyUsage:              x509.KeyUsageDigitalSignature | x509.KeyUsageContentCommitment,
		ExtraExtensions:       []pkix.Extension{{Id: oidSGX, Value: extension}}}, cnPCK, ca, &key.PublicKey, caKey)
	if err != nil {
		return nil, err
	}
	out := &Platform{pck: key, qes: map[TEE]*quotingEnclave{}}
	if out.PCK, err = ParsePCK(cert.Raw); err != nil {
		return nil, err
	}
	for _, c := range []*x509.Certificate{cert, ca, p.Root} {
		out.Chain = append(out.Chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	for _, t := range []TEE{SGX, TDX} {
		if err := out.SetQE(rand, t, QE(t)); err != nil {
			return nil, err
		}
	}
	return out, nil
}

// pemQE is the type of a PEM block with what a quoting enclave puts into quotes, in the form of version 3.
const pemQE = "EMULATED QUOTING ENCLAVE"

// Marshal returns the platform's certificates and keys in PEM, to be kept where only their owner can read them: the chain,
// the PCK's key, and for each TEE the quoting enclave and its attestation key.
func (p *Platform) Marshal() ([]byte, error) {
	out := bytes.Clone(p.Chain)
	key := func(k *ecdsa.PrivateKey) error {
		der, err := x509.MarshalPKCS8PrivateKey(k)
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...)
		return err
	}
	err := key(p.pck)
	for _, t := range []TEE{SGX, TDX} {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: pemQE, Bytes: p.qes[t].data.MarshalV3()})...)
		err = join(err, key(p.qes[t].key))
	}
	if err != nil {
		return nil, fmt.Errorf("save an emulated platform: %w", err)
	}
	return out, nil
}

// ParsePlatform reads what [Platform.Marshal] wrote.
func ParsePlatform(data []byte) (*Platform, error) {
	var certs [][]byte
	var qes []*SignatureData
	var keys []*ecdsa.PrivateKey
	p := &Platform{qes: map[TEE]*quotingEnclave{}}
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		switch block.Type {
		case "CERTIFICATE":
			certs, p.Chain = append(certs, block.Bytes), append(p.Chain, pem.EncodeToMemory(block)...)
		case pemQE:
			qe, err := ParseSignatureV3(block.Bytes)
			if err != nil {
				return nil, fmt.Errorf("%w: %w", ErrPKI, err)
			}
			qes = append(qes, qe)
		default:
			parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
			key, ok := parsed.(*ecdsa.PrivateKey)
			if err != nil || !ok {
				return nil, fmt.Errorf("%w: private key: %v", ErrPKI, err)
			}
			keys = append(keys, key)
		}
	}
	if len(certs) != 3 || len(qes) != 2 || len(keys) != 3 {
		return nil, fmt.Errorf("%w: %d certificates, %d quoting enclaves, %d keys", ErrPKI, len(certs), len(qes), len(keys))
	}
	if err := p.restore(certs[0], qes, keys); err != nil {
		return nil, err
	}
	return p, nil
}

// restore checks that the parts belong together.
func (p *Platform) restore(pck []byte, qes []*SignatureData, keys []*ecdsa.PrivateKey) (err error) {
	if p.PCK, err = ParsePCK(pck); err != nil {
		return fmt.Errorf("%w: %w", ErrPKI, err)
	}
	p.pck = keys[0]
	fits := Emulated(p.PCK.Cert) && p.pck.PublicKey.Equal(p.PCK.Cert.PublicKey)
	for i, t := range []TEE{SGX, TDX} {
		q := &quotingEnclave{key: keys[i+1], data: *qes[i]}
		attestation, err := publicKey(&q.data.AttestationKey)
		fits = fits && err == nil && q.key.PublicKey.Equal(attestation) && bytes.Equal(q.data.Chain, p.Chain)
		p.qes[t] = q
	}
	if !fits {
		return fmt.Errorf("%w: keys and certificates do not belong together", ErrPKI)
	}
	return nil
}

// SetQE gives the platform a quoting enclave with that report (REPORTDATA excepted) and a new attestation key.
func (p *Platform) SetQE(rand io.Reader, t TEE, report EnclaveReport) error {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return fmt.Errorf("make an attestation key: %w", err)
	}
	point, err := key.PublicKey.Bytes()
	if err != nil {
		return fmt.Errorf("make an attestation key: %w", err)
	}
	q := &quotingEnclave{key: key, data: SignatureData{QEReport: report, Chain: p.Chain, QEAuthData: make([]byte, 32)}}
	copy(q.data.AttestationKey[:], point[1:])
	for i := range q.data.QEAuthData {
		q.data.QEAuthData[i] = byte(i)
	}
	q.data.QEReport.CPUSVN = p.PCK.CPUSVN
	q.data.QEReport.ReportData = q.data.keyHash()
	if q.data.QESignature, err = signP256(rand, p.pck, q.data.QEReport.Marshal()); err != nil {
		return err
	}
	p.qes[t] = q
	return nil
}

// Sign signs the signed part of a quote, its header and body, as the TEE's quoting enclave does.
func (p *Platform) Sign(rand io.Reader, t TEE, signed []byte) (*SignatureData, error) {
	q := p.qes[t]
	if q == nil {
		return nil, malformed("no quoting enclave for %v", t)
	}
	out := q.data
	out.QEAuthData, out.Chain = bytes.Clone(out.QEAuthData), bytes.Clone(out.Chain)
	var err error
	out.Signature, err = signP256(rand, q.key, signed)
	return &out, err
}

func signP256(rand io.Reader, key *ecdsa.PrivateKey, message []byte) (out [signatureSize]byte, err error) {
	sum := sha256.Sum256(message)
	r, s, err := ecdsa.Sign(rand, key, sum[:])
	if err != nil {
		return out, fmt.Errorf("sign: %w", err)
	}
	r.FillBytes(out[:32])
	s.FillBytes(out[32:])
	return out, nil
}

// extension encodes the SGX extension.
func (s *PlatformSpec) extension() ([]byte, error) {
	type number struct {
		ID asn1.ObjectIdentifier
		N  int
	}
	type octets struct {
		ID    asn1.ObjectIdentifier
		Value []byte
	}
	type enumerated struct {
		ID asn1.ObjectIdentifier
		N  asn1.Enumerated
	}
	type flag struct {
		ID    asn1.ObjectIdentifier
		Value bool
	}
	type sequence struct {
		ID   asn1.ObjectIdentifier
		List []any
	}
	var tcb []any
	for i, n := range s.SVN {
		tcb = append(tcb, number{sgxOID(2, i+1), int(n)})
	}
	tcb = append(tcb, number{sgxOID(2, pceSVNExtension), int(s.PCESVN)}, octets{sgxOID(2, cpuSVNExtension), s.CPUSVN[:]})
	list := []any{octets{sgxOID(1), s.PPID[:]}, sequence{sgxOID(2), tcb}, octets{sgxOID(3), s.PCEID[:]},
		octets{sgxOID(4), s.FMSPC[:]}, enumerated{sgxOID(5), asn1.Enumerated(Standard)}}
	if s.CA == PlatformCA {
		instance := sha256.Sum256(s.PPID[:])
		list = append(list, octets{sgxOID(6), instance[:16]}, sequence{sgxOID(7), []any{flag{sgxOID(7, 1), true},
			flag{sgxOID(7, 2), true}, flag{sgxOID(7, 3), true}}})
	}
	return asn1.Marshal(list)
}
