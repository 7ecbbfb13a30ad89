// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"sealift/evidence"
)

// developmentCPAK is the SHA-256 of the public key (SubjectPublicKeyInfo) with which all published firmware samples are
// signed. Arm published its private half, so it proves nothing.
const developmentCPAK = "0928f896cb02326566530a62a1e36329a12d0a4a308f4fc81e8ff5560bca6bca"

// Anchor is a trust anchor for platform tokens: the CPAK of one machine as it was enrolled, or the root of certificates
// for CPAKs. Exactly one of Key and Cert is set.
type Anchor struct {
	Name       string            // for people
	Cert       *x509.Certificate // root of CPAK certificates
	Key        *ecdsa.PublicKey  // or one CPAK, on P-384 or P-256
	InstanceID []byte            // the only instance that Key may vouch for; empty means any
	Emulated   bool              // an emulator's; also implied by the subject of Cert, and by Arm's development key
}

// Fingerprint identifies the anchor: SHA-256 of the certificate, or of the key's SubjectPublicKeyInfo.
func (a *Anchor) Fingerprint() [32]byte {
	if a.Cert != nil {
		return sha256.Sum256(a.Cert.Raw)
	}
	return keyFingerprint(a.Key)
}

func keyFingerprint(key *ecdsa.PublicKey) [32]byte {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return [32]byte{} // a key on no named curve, which verifies nothing either
	}
	return sha256.Sum256(der)
}

// IsEmulated reports whether the anchor is an emulator's or known to prove nothing, whatever the field says.
func (a *Anchor) IsEmulated() bool {
	if a.Emulated || a.Cert != nil && strings.Contains(a.Cert.Subject.String(), evidence.EmulatedMark) {
		return true
	}
	return a.Key != nil && isDevelopment(a.Key)
}

func isDevelopment(key *ecdsa.PublicKey) bool {
	f := keyFingerprint(key)
	return hex.EncodeToString(f[:]) == developmentCPAK
}

// Verified is a token of which both signatures and their connection were checked.
type Verified struct {
	Token    *Token
	CPAK     *ecdsa.PublicKey
	Anchor   *Anchor
	Emulated bool
	Time     time.Time // the time for which the certificates were checked
}

// Verify parses and verifies a token in one go: see [Message.Verify].
func Verify(token []byte, chain [][]byte, now time.Time, anchors ...*Anchor) (*Verified, error) {
	m, err := Parse(token)
	if err != nil {
		return nil, err
	}
	return m.Verify(chain, now, anchors...)
}

// Verify checks the platform token with a CPAK for which an anchor vouches, that its nonce is the hash of the realm's
// key, and the realm token with that key. chain is the CPAK's certificate and intermediates in DER, leaf first; without
// one, enrolled keys are tried. The error joins everything that was found.
func (m *Message) Verify(chain [][]byte, now time.Time, anchors ...*Anchor) (*Verified, error) {
	all := []error{m.checkRealm()}
	cpak, anchor, err := m.findCPAK(chain, now, anchors)
	all = append(all, err)
	if cpak != nil && !m.platform.verify(cpak) {
		all = append(all, fmt.Errorf("%w: with the certified key", ErrPlatformSignature))
	}
	if err := errors.Join(all...); err != nil {
		return nil, err
	}
	return &Verified{Token: &m.token, CPAK: cpak, Anchor: anchor, Emulated: anchor.IsEmulated() || isDevelopment(cpak), Time: now}, nil
}

// checkRealm checks the realm token's signature and the platform's nonce.
func (m *Message) checkRealm() error {
	var signature error
	if !m.realm.verify(m.rak) {
		signature = ErrRealmSignature
	}
	want, err := nonceFor(&m.token.Realm)
	if err == nil && !bytes.Equal(want, m.token.Platform.Nonce) {
		err = fmt.Errorf("%w: platform nonce is %x, the hash of the realm's public key %x", ErrBinding, m.token.Platform.Nonce, want)
	}
	return errors.Join(signature, err)
}

// findCPAK returns the key that must have signed the platform token: the certificate's, also where no anchor vouches for
// it, so that a bad signature is reported beside a bad root; or the enrolled key that verifies.
func (m *Message) findCPAK(chain [][]byte, now time.Time, anchors []*Anchor) (*ecdsa.PublicKey, *Anchor, error) {
	if len(chain) > 0 {
		key, anchor, _, err := verifyChain(chain, now, anchors)
		return key, anchor, err
	}
	tried := 0
	for _, a := range anchors {
		if a.Key == nil || len(a.InstanceID) > 0 && !bytes.Equal(a.InstanceID, m.token.Platform.InstanceID) {
			continue
		}
		tried++
		if m.platform.verify(a.Key) {
			return a.Key, a, nil
		}
	}
	if tried == 0 {
		return nil, nil, fmt.Errorf("%w: no certificate, and no key is enrolled for instance %x", ErrRoot, m.token.Platform.InstanceID)
	}
	return nil, nil, fmt.Errorf("%w: with none of %d enrolled keys", ErrPlatformSignature, tried)
}

// verifyChain verifies the certificates of a CPAK. It returns the CPAK also where no anchor vouches for it, and where one
// does, the anchor and the chain to it, leaf first and root last.
func verifyChain(chain [][]byte, now time.Time, anchors []*Anchor) (*ecdsa.PublicKey, *Anchor, []*x509.Certificate, error) {
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, nil, nil, fmt.Errorf("%w: %d: %w", ErrCertificate, i, err)
		}
		certs[i] = c
	}
	key, ok := certs[0].PublicKey.(*ecdsa.PublicKey)
	if !ok || certs[0].IsCA || now.IsZero() {
		return nil, nil, nil, fmt.Errorf("%w: want an end entity's ECDSA key and a time to verify at", ErrCertificate)
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	failure := fmt.Errorf("%w: issuer %q", ErrRoot, certs[len(certs)-1].Issuer)
	for _, a := range anchors {
		if a.Cert == nil {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(a.Cert)
		verified, err := certs[0].Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		var invalid x509.CertificateInvalidError
		switch {
		case err == nil:
			return key, a, verified[0], nil
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			failure = fmt.Errorf("%w: %w", ErrCertificate, err)
		}
	}
	return key, nil, nil, failure
}
