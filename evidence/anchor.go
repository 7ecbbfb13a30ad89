// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"strings"

	"sealift/cose"
)

// EmulatedMark is the word that every certificate of an emulated vendor carries in its subject.
const EmulatedMark = "EMULATED"

// ErrAnchor reports bytes that are no trust anchor.
var ErrAnchor = errors.New("evidence: trust anchor")

// Anchor is a trust anchor for the hardware's signature: a vendor's root certificate, or the enrolled public key of one
// device. Exactly one of Cert, Key, Public and HRK is set.
type Anchor struct {
	Cert   *x509.Certificate // root of the device certificates
	Key    *cose.Key         // or the attestation key of one device, P-256 or Ed25519
	Public crypto.PublicKey  // or one of another kind: P-384 (a CPAK of CCA), RSA (OP-TEE)
	HRK    []byte            // or Hygon's root: a certificate of its own format (package evidence/csv)

	Intermediates []*x509.Certificate // trusted with Cert: AMD's ASK and ASVK, which do not travel with Evidence

	Name     string   // for people
	Hardware Hardware // the only hardware that it may vouch for; empty means any
	Instance []byte   // of an enrolled key: the only instance ID that it may vouch for; empty means any that no other key has
	Emulated bool     // an emulator's root; also implied by the certificate's subject (see [Anchor.IsEmulated])
}

// Fingerprint identifies the anchor: SHA-256 of the certificate (the root's DER alone), the RFC 9679 thumbprint of a
// P-256 or Ed25519 key, SHA-256 of another key's SubjectPublicKeyInfo.
func (a Anchor) Fingerprint() [32]byte {
	switch {
	case a.Cert != nil:
		return sha256.Sum256(a.Cert.Raw)
	case a.Key != nil:
		return a.Key.Thumbprint()
	case a.HRK != nil:
		return sha256.Sum256(a.HRK)
	case a.Public != nil:
		if der, err := x509.MarshalPKIXPublicKey(a.Public); err == nil {
			return sha256.Sum256(der)
		}
	}
	return [32]byte{}
}

// FingerprintText returns the fingerprint in lower-case hexadecimal, as it stands in a policy.
func (a Anchor) FingerprintText() string {
	f := a.Fingerprint()
	return hex.EncodeToString(f[:])
}

// IsEmulated reports whether the anchor is of an emulated vendor. A root that says EMULATED in its subject (Hygon's
// format: in its user id) is, whatever the field says, so that filing it in the wrong place does not turn it into a
// real one.
func (a Anchor) IsEmulated() bool {
	return a.Emulated || a.Cert != nil && strings.Contains(a.Cert.Subject.String(), EmulatedMark) ||
		bytes.Contains(a.HRK, []byte(EmulatedMark))
}

// String names the anchor for people.
func (a Anchor) String() string {
	name := a.Name
	if name == "" && a.Cert != nil {
		name = a.Cert.Subject.String()
	}
	if a.IsEmulated() && !strings.Contains(name, EmulatedMark) {
		name = strings.TrimSpace(EmulatedMark + " " + name)
	}
	return strings.TrimSpace(name + " (" + a.FingerprintText() + ")")
}

// pemHRK is the type of a PEM block with Hygon's root certificate.
const pemHRK = "HYGON ROOT KEY"

// hardwareLine begins the line before the first PEM block that says what an anchor may vouch for. Readers of PEM skip it
// (RFC 7468 section 2).
const hardwareLine = "Hardware: "

// instanceLine begins the line that says which device an enrolled key is of: its instance ID in hexadecimal (RFC 9783 section
// 4.2.1: each has an attestation key of its own).
const instanceLine = "Instance: "

// PEM returns the anchor as PEM: CERTIFICATE blocks (the root first, then what is trusted with it), a PUBLIC KEY, or a
// HYGON ROOT KEY. Where the anchor is for one hardware, a line "Hardware: sev-snp" precedes them; where a key is of one
// instance, a line "Instance: 01...".
func (a Anchor) PEM() ([]byte, error) {
	var out []byte
	if a.Hardware != "" {
		out = []byte(hardwareLine + string(a.Hardware) + "\n")
	}
	if len(a.Instance) > 0 {
		out = append(out, instanceLine+hex.EncodeToString(a.Instance)+"\n"...)
	}
	public := a.Public
	switch {
	case a.Cert != nil:
		out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Cert.Raw})...)
		for _, c := range a.Intermediates {
			out = append(out, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
		}
		return out, nil
	case a.HRK != nil:
		return append(out, pem.EncodeToMemory(&pem.Block{Type: pemHRK, Bytes: a.HRK})...), nil
	case a.Key != nil:
		public = a.Key.Public()
	case public == nil:
		return nil, fmt.Errorf("%w: empty", ErrAnchor)
	}
	der, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchor, err)
	}
	return append(out, pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der})...), nil
}

// maxAnchorCerts bounds a root with its intermediates: a product line of AMD has three certificates.
const maxAnchorCerts = 8

// ParseAnchorPEM reads one anchor: a root certificate, with or without intermediates that are trusted with it; the
// public key of one device; or Hygon's root. Whether a certificate is emulated shows in its subject; a bare key is
// taken for a real one unless the caller marks it. A line "Hardware: tdx" before the first block restricts the anchor, and a
// line "Instance: 01..." that of a device's key.
func ParseAnchorPEM(data []byte) (Anchor, error) {
	hw, err := hardwareOf(data)
	if err != nil {
		return Anchor{}, err
	}
	instance, err := instanceOf(data)
	if err != nil {
		return Anchor{}, err
	}
	a, err := parseAnchor(data)
	if err != nil {
		return Anchor{}, err
	}
	if hw != "" {
		a.Hardware = hw
	}
	if a.Instance = instance; len(instance) > 0 && a.publicKey() == nil {
		return Anchor{}, fmt.Errorf("%w: an instance ID is of a device's key, not of a root", ErrAnchor)
	}
	return a, nil
}

// instanceOf reads the line before the first block, if there is one.
func instanceOf(data []byte) ([]byte, error) {
	text, found := headerOf(data, instanceLine)
	if !found {
		return nil, nil
	}
	id, err := hex.DecodeString(text)
	if err != nil || len(id) < 7 || len(id) > 33 { // a UEID
		return nil, fmt.Errorf("%w: instance ID %q is not 7 to 33 bytes in hexadecimal", ErrAnchor, text)
	}
	return id, nil
}

// headerOf returns the rest of the line before the first block that begins with name.
func headerOf(data []byte, name string) (string, bool) {
	head, _, _ := bytes.Cut(data, []byte("-----BEGIN "))
	for line := range bytes.Lines(head) {
		if text, found := strings.CutPrefix(string(line), name); found {
			return strings.TrimSpace(text), true
		}
	}
	return "", false
}

// hardwareOf reads the line before the first block, if there is one.
func hardwareOf(data []byte) (Hardware, error) {
	text, found := headerOf(data, hardwareLine)
	if hw := Hardware(text); found && !hw.Known() {
		return "", fmt.Errorf("%w: hardware %q is not known", ErrAnchor, hw)
	}
	return Hardware(text), nil
}

func parseAnchor(data []byte) (Anchor, error) {
	var blocks []*pem.Block
	for len(bytes.TrimSpace(data)) > 0 {
		block, rest := pem.Decode(data)
		if block == nil || len(blocks) == maxAnchorCerts {
			return Anchor{}, fmt.Errorf("%w: want one PEM block, or the certificates of one root", ErrAnchor)
		}
		blocks, data = append(blocks, block), rest
	}
	switch {
	case len(blocks) == 0:
		return Anchor{}, fmt.Errorf("%w: no PEM block", ErrAnchor)
	case blocks[0].Type == "CERTIFICATE":
		return anchorOfCerts(blocks)
	case len(blocks) > 1:
		return Anchor{}, fmt.Errorf("%w: want exactly one PEM block of type %q", ErrAnchor, blocks[0].Type)
	case blocks[0].Type == "PUBLIC KEY":
		return anchorOfPublicKey(blocks[0].Bytes)
	case blocks[0].Type == pemHRK:
		a := Anchor{HRK: blocks[0].Bytes, Hardware: CSV, Name: "Hygon Root Key"}
		a.Emulated = a.IsEmulated()
		return a, nil
	}
	return Anchor{}, fmt.Errorf("%w: PEM block %q, want CERTIFICATE, PUBLIC KEY or %s", ErrAnchor, blocks[0].Type, pemHRK)
}

// anchorOfCerts takes the one self-issued certificate for the root; the others must be issued by it.
func anchorOfCerts(blocks []*pem.Block) (Anchor, error) {
	var a Anchor
	for _, b := range blocks {
		cert, err := x509.ParseCertificate(b.Bytes)
		switch {
		case b.Type != "CERTIFICATE":
			return Anchor{}, fmt.Errorf("%w: PEM block %q among certificates", ErrAnchor, b.Type)
		case err != nil:
			return Anchor{}, fmt.Errorf("%w: %w", ErrAnchor, err)
		case !cert.IsCA:
			return Anchor{}, fmt.Errorf("%w: certificate %q is not a CA's", ErrAnchor, cert.Subject)
		case len(blocks) == 1 || bytes.Equal(cert.RawSubject, cert.RawIssuer):
			if a.Cert != nil {
				return Anchor{}, fmt.Errorf("%w: two roots in one file", ErrAnchor)
			}
			a.Cert = cert
		default:
			a.Intermediates = append(a.Intermediates, cert)
		}
	}
	if a.Cert == nil {
		return Anchor{}, fmt.Errorf("%w: no root among the certificates", ErrAnchor)
	}
	for _, c := range a.Intermediates {
		if err := c.CheckSignatureFrom(a.Cert); err != nil {
			return Anchor{}, fmt.Errorf("%w: %q is not issued by %q: %w", ErrAnchor, c.Subject, a.Cert.Subject, err)
		}
	}
	a.Name = a.Cert.Subject.CommonName
	a.Emulated = a.IsEmulated()
	return a, nil
}

func anchorOfPublicKey(der []byte) (Anchor, error) {
	pub, err := x509.ParsePKIXPublicKey(der)
	if err != nil {
		return Anchor{}, fmt.Errorf("%w: %w", ErrAnchor, err)
	}
	if key, err := cose.NewKey(pub); err == nil {
		return Anchor{Key: key}, nil
	}
	return Anchor{Public: pub}, nil
}

// Anchors is the set of trust anchors of a verifier.
type Anchors struct {
	Roots []Anchor
}

// Find returns the anchor with that fingerprint.
func (a Anchors) Find(fingerprint [32]byte) (Anchor, bool) {
	for _, r := range a.Roots {
		if r.Fingerprint() == fingerprint {
			return r, true
		}
	}
	return Anchor{}, false
}

// of returns the anchors that may vouch for the hardware.
func (a Anchors) of(hw Hardware) []Anchor {
	var out []Anchor
	for _, r := range a.Roots {
		if r.Hardware == "" || r.Hardware == hw {
			out = append(out, r)
		}
	}
	return out
}

func describe(anchors []Anchor) string {
	if len(anchors) == 0 {
		return "no trust anchor is configured for this hardware"
	}
	names := make([]string, len(anchors))
	for i, r := range anchors {
		names[i] = r.String()
	}
	return strings.Join(names, ", ")
}
