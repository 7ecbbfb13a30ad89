// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
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
// device. Exactly one of Cert and Key is set.
type Anchor struct {
	Cert     *x509.Certificate // root of the device certificates
	Key      *cose.Key         // or the attestation key of one device
	Name     string            // for people
	Hardware Hardware          // the only hardware that it may vouch for; empty means any
	Emulated bool              // an emulator's root; also implied by the certificate's subject (see [Anchor.IsEmulated])
}

// Fingerprint identifies the anchor: SHA-256 of the certificate's DER, or the RFC 9679 thumbprint of the key.
func (a Anchor) Fingerprint() [32]byte {
	switch {
	case a.Cert != nil:
		return sha256.Sum256(a.Cert.Raw)
	case a.Key != nil:
		return a.Key.Thumbprint()
	}
	return [32]byte{}
}

// FingerprintText returns the fingerprint in lower-case hexadecimal, as it stands in a policy.
func (a Anchor) FingerprintText() string {
	f := a.Fingerprint()
	return hex.EncodeToString(f[:])
}

// IsEmulated reports whether the anchor is of an emulated vendor. A root that says EMULATED in its subject is, whatever
// the field says, so that filing it in the wrong place does not turn it into a real one.
func (a Anchor) IsEmulated() bool {
	return a.Emulated || a.Cert != nil && strings.Contains(a.Cert.Subject.String(), EmulatedMark)
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

// PEM returns the anchor as PEM: a CERTIFICATE or a PUBLIC KEY.
func (a Anchor) PEM() ([]byte, error) {
	if a.Cert != nil {
		return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: a.Cert.Raw}), nil
	}
	if a.Key == nil {
		return nil, fmt.Errorf("%w: empty", ErrAnchor)
	}
	der, err := x509.MarshalPKIXPublicKey(a.Key.Public())
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrAnchor, err)
	}
	return pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}), nil
}

// ParseAnchorPEM reads one anchor: a root certificate, or the public key of one device. Whether a certificate is
// emulated shows in its subject; a bare key is taken for a real one unless the caller marks it.
func ParseAnchorPEM(data []byte) (Anchor, error) {
	block, rest := pem.Decode(data)
	if block == nil || len(bytes.TrimSpace(rest)) > 0 {
		return Anchor{}, fmt.Errorf("%w: want exactly one PEM block", ErrAnchor)
	}
	switch block.Type {
	case "CERTIFICATE":
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return Anchor{}, fmt.Errorf("%w: %w", ErrAnchor, err)
		}
		if !cert.IsCA {
			return Anchor{}, fmt.Errorf("%w: certificate %q is not a CA's", ErrAnchor, cert.Subject)
		}
		a := Anchor{Cert: cert, Name: cert.Subject.CommonName}
		a.Emulated = a.IsEmulated()
		return a, nil
	case "PUBLIC KEY":
		pub, err := x509.ParsePKIXPublicKey(block.Bytes)
		if err != nil {
			return Anchor{}, fmt.Errorf("%w: %w", ErrAnchor, err)
		}
		key, err := cose.NewKey(pub)
		if err != nil {
			return Anchor{}, fmt.Errorf("%w: %w", ErrAnchor, err)
		}
		return Anchor{Key: key}, nil
	}
	return Anchor{}, fmt.Errorf("%w: PEM block %q, want CERTIFICATE or PUBLIC KEY", ErrAnchor, block.Type)
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

func (a Anchors) describe() string {
	if len(a.Roots) == 0 {
		return "no trust anchor is configured"
	}
	names := make([]string, len(a.Roots))
	for i, r := range a.Roots {
		names[i] = r.String()
	}
	return strings.Join(names, ", ")
}
