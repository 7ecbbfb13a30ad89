// SPDX-License-Identifier: Apache-2.0

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
	"math/big"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/evidence/psa"
)

const (
	organization  = "Sealift " + evidence.EmulatedMark + " hardware"
	serialNumbers = 127 // bits of a random serial number
)

// trustZone certifies Initial Attestation Keys.
type trustZone struct {
	root *x509.Certificate
	key  *ecdsa.PrivateKey
}

func newTrustZone(rand io.Reader, now time.Time) (vendor, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject("root"), NotBefore: now.Add(-backdate), NotAfter: now.Add(rootValidity),
		KeyUsage: x509.KeyUsageCertSign, BasicConstraintsValid: true, IsCA: true, MaxPathLenZero: true,
	}
	der, err := x509.CreateCertificate(rand, template, template, key.Public(), key)
	if err != nil {
		return nil, err
	}
	root, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &trustZone{root: root, key: key}, nil
}

func (v *trustZone) anchor() evidence.Anchor {
	return evidence.Anchor{Cert: v.root, Name: v.root.Subject.CommonName}
}

func (v *trustZone) marshal() ([]byte, error) { return marshalPEM([][]byte{v.root.Raw}, v.key) }

func openTrustZone(data []byte) (vendor, error) {
	certs, key, err := parsePEM(data)
	if err != nil {
		return nil, err
	}
	if !key.PublicKey.Equal(certs[0].PublicKey) || !(evidence.Anchor{Cert: certs[0]}).IsEmulated() {
		return nil, errors.New("key and certificate are no emulated vendor's")
	}
	return &trustZone{root: certs[0], key: key}, nil
}

func (v *trustZone) newChip(rand io.Reader, name string) (chip, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand)
	if err != nil {
		return nil, err
	}
	serial, err := newSerial(rand)
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: subject("device " + name), NotBefore: v.root.NotBefore,
		NotAfter: v.root.NotAfter, KeyUsage: x509.KeyUsageDigitalSignature, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand, template, v.root, key.Public(), v.key)
	if err != nil {
		return nil, err
	}
	return &psaChip{iak: key, chain: [][]byte{der}, signer: v.signerID()}, nil
}

// signerID is the SHA-256 of the root's public key (SubjectPublicKeyInfo): the signer-id of every measurement.
func (v *trustZone) signerID() [32]byte { return sha256.Sum256(v.root.RawSubjectPublicKeyInfo) }

func (v *trustZone) openChip(data []byte) (chip, error) {
	certs, key, err := parsePEM(data)
	if err != nil {
		return nil, err
	}
	c := &psaChip{iak: key, signer: v.signerID()}
	for _, cert := range certs {
		c.chain = append(c.chain, cert.Raw)
	}
	return c, nil
}

// psaChip signs PSA tokens.
type psaChip struct {
	iak    *ecdsa.PrivateKey
	chain  [][]byte // certificates of the IAK, leaf first, without the root
	signer [32]byte
}

func (c *psaChip) instanceID() ([33]byte, error) { return psa.InstanceID(c.iak.Public()) }

func (c *psaChip) marshal() ([]byte, error) { return marshalPEM(c.chain, c.iak) }

func (c *psaChip) evidence(rand io.Reader, r Request) (evidence.HardwareEvidence, error) {
	var agent [32]byte
	if err := r.launch(agent[:]); err != nil {
		return evidence.HardwareEvidence{}, err
	}
	id, err := c.instanceID()
	if err != nil {
		return evidence.HardwareEvidence{}, err
	}
	impl := ImplementationID(evidence.TrustZone)
	component := func(name string, value [32]byte) psa.Component {
		return psa.Component{Type: name, Value: value[:], SignerID: c.signer[:], Description: "sha-256"}
	}
	t := psa.Token{
		Profile: psa.ProfileTFM, Nonce: r.Binding[:], InstanceID: id[:], ImplementationID: impl[:], ClientID: 1,
		Lifecycle: psa.LifecycleSecured, BootSeed: r.BootSeed,
		Components: []psa.Component{component(evidence.MeasurementAgent, agent), component(evidence.MeasurementConfig, r.Config)},
	}
	r.change(&t)
	token, err := psa.Mint(rand, c.iak, t)
	return evidence.HardwareEvidence{Data: token, MediaType: evidence.MediaTypePSA, Collateral: c.chain}, err
}

func subject(what string) pkix.Name {
	return pkix.Name{CommonName: fmt.Sprintf("%s %s %s", evidence.EmulatedMark, evidence.TrustZone, what),
		Organization: []string{organization}, OrganizationalUnit: []string{string(evidence.TrustZone)}}
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

// marshalPEM returns certificates and an elliptic curve key in PEM.
func marshalPEM(certs [][]byte, key crypto.Signer) ([]byte, error) {
	var out []byte
	for _, der := range certs {
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})...)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		return nil, err
	}
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})...), nil
}

// parsePEM reads what marshalPEM wrote: at least one certificate, and the key.
func parsePEM(data []byte) (certs []*x509.Certificate, key *ecdsa.PrivateKey, err error) {
	for block, rest := pem.Decode(data); block != nil; block, rest = pem.Decode(rest) {
		if block.Type == "CERTIFICATE" {
			cert, err := x509.ParseCertificate(block.Bytes)
			if err != nil {
				return nil, nil, err
			}
			certs = append(certs, cert)
			continue
		}
		parsed, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return nil, nil, err
		}
		var ok bool
		if key, ok = parsed.(*ecdsa.PrivateKey); !ok {
			return nil, nil, fmt.Errorf("a %T is no key on an elliptic curve", parsed)
		}
	}
	if key == nil || len(certs) == 0 {
		return nil, nil, errors.New("no certificate, or no private key")
	}
	return certs, key, nil
}

// MigrateIAK returns a TrustZone device, as [PKI.OpenDevice] reads it, of the key in PEM and the certificates that
// emulators of the first version kept.
func MigrateIAK(iakPEM []byte, chain [][]byte) ([]byte, error) {
	key, err := cose.ParsePrivatePEM(iakPEM)
	if err != nil {
		return nil, fmt.Errorf("%w: attestation key: %w", ErrPKI, err)
	}
	return marshalPEM(chain, key)
}
