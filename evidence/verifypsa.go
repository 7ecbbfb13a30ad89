// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"mime"
	"time"

	"sealift/cose"
	"sealift/evidence/crl"
	"sealift/evidence/psa"
)

// psaVerifier verifies PSA tokens (RFC 9783): the chain in the collateral, or in the token's x5chain header (leaf: the
// IAK's certificate), to an anchor, or an IAK that is itself an anchor, then the token's signature.
type psaVerifier struct{}

func (psaVerifier) Hardware() Hardware { return TrustZone }

func (psaVerifier) MediaTypes() []string {
	return []string{"application/eat+cwt", MediaTypePSAOld}
}

func (psaVerifier) Reads(HardwareEvidence) bool { return true }

func (psaVerifier) VerifyHardware(e HardwareEvidence, in HardwareInput) (*Signed, []*Mismatch) {
	f := &findings{}
	msg, err := psa.Parse(e.Data)
	if err != nil {
		f.malformed("PSA token", "a COSE_Sign1 of a known PSA profile", err)
		return nil, f.mismatches()
	}
	t := msg.TokenInsecure()
	if err := checkProfile(e.MediaType, "eat_profile", t.Profile); err != nil {
		f.malformed("media type of the PSA token", "the token's profile as its only parameter", err)
	}
	s := psaSigned(t)
	v := psaChain{s: s, in: in, f: f}
	chain := e.Collateral
	if len(chain) == 0 && !v.enrolled(msg) {
		chain = msg.X5Chain()
	}
	iaks, source := v.findIAKs(chain)
	if len(iaks) == 0 {
		return s, f.mismatches()
	}
	verified, err := msg.VerifyPublic(iaks...)
	if err != nil {
		f.add(Mismatch{Code: CodeSignature, Claim: "signature of the PSA token", Expected: "a signature by the attestation key " +
			anchorOf(iaks[0]).FingerprintText(), Got: "a signature that does not verify", Source: source, Err: err,
			Hint: "the token was changed on the way, or another device made it"})
		return s, f.mismatches()
	}
	if !s.Rooted && len(chain) == 0 {
		s.Root, s.Rooted = anchorOfKey(in.Anchors, verified.Public)
		for _, m := range in.CheckInstance(s) {
			f.add(*m)
		}
	}
	return s, f.mismatches()
}

// checkProfile checks the parameters of an EAT's media type (RFC 9782 section 6): none but the profile, which is the token's.
func checkProfile(mediaType, parameter, profile string) error {
	_, params, err := mime.ParseMediaType(mediaType)
	if err != nil {
		return err
	}
	for name, value := range params {
		if name != parameter || value != profile {
			return fmt.Errorf("%s=%q, the token's profile is %q", name, value, profile)
		}
	}
	return nil
}

// psaSigned takes the configuration out of the software components; what remains are measurements. Without exactly one
// configuration there is none. The fields "components.TYPE" are the components themselves (psa.Component).
func psaSigned(t *psa.Token) *Signed {
	s := &Signed{ReportData: t.Nonce, InstanceID: t.InstanceID, ConfigField: MeasurementConfig,
		Fields: map[string]any{"profile": t.Profile, "lifecycle": t.Lifecycle, "implementation-id": t.ImplementationID,
			"client-id": t.ClientID, "certification-reference": t.CertReference, "boot-seed": t.BootSeed,
			"verification-service": t.VerificationService}}
	for _, c := range t.Components {
		s.Fields["components."+c.Type] = c
	}
	configs := 0
	for _, m := range psaMeasurements(t) {
		if m.Name == MeasurementConfig {
			s.Config = m.Value
			configs++
			continue
		}
		s.Measurements = append(s.Measurements, m)
	}
	if configs != 1 {
		s.Config = nil
	}
	return s
}

// psaChain looks for the keys that vouch for a token.
type psaChain struct {
	s  *Signed
	in HardwareInput
	f  *findings
}

// keys returns the enrolled keys that can have signed a token.
func (v psaChain) keys() (keys []crypto.PublicKey) {
	for _, a := range v.in.Anchors {
		if key, ok := a.publicKey().(*ecdsa.PublicKey); ok {
			keys = append(keys, key)
		}
	}
	return keys
}

// enrolled reports whether an enrolled key signed the token, for which certificates in it do not count then.
func (v psaChain) enrolled(msg *psa.Message) bool {
	if len(msg.X5Chain()) == 0 {
		return false
	}
	_, err := msg.VerifyPublic(v.keys()...)
	return err == nil
}

// findIAKs returns the keys that may have signed the token. Where the collateral holds a chain, that is its leaf, also
// when no anchor vouches for it (which is reported), so that a bad signature is reported beside a bad root.
func (v psaChain) findIAKs(chain [][]byte) (keys []crypto.PublicKey, source string) {
	if len(chain) == 0 {
		if keys = v.keys(); len(keys) == 0 {
			v.f.add(Mismatch{Code: CodeRoot, Claim: "certificate chain", Expected: describe(v.in.Anchors),
				Got: "no certificate, and no enrolled device key", Source: "the verifier's trust anchors"})
		}
		return keys, "the enrolled device keys"
	}
	leaf, err := v.verifyChain(chain)
	if err != nil {
		v.f.malformed("certificate chain", "X.509 certificates, leaf first", err)
		return nil, ""
	}
	key, ok := leaf.PublicKey.(*ecdsa.PublicKey)
	if !ok {
		v.f.add(Mismatch{Code: CodeCertificate, Claim: "device certificate", Expected: "an ECDSA key", Got: fmt.Sprintf("%T", leaf.PublicKey),
			Source: "RFC 9783 section 5.2"})
		return nil, ""
	}
	source = "the device certificate in the Evidence, for which no anchor vouches"
	if v.s.Rooted {
		source = "the device certificate, issued under " + v.s.Root.String()
	}
	return []crypto.PublicKey{key}, source
}

// verifyChain looks for the anchor to which the chain leads and reports if there is none, or a certificate is out of
// its time. It returns the leaf.
func (v psaChain) verifyChain(chain [][]byte) (*x509.Certificate, error) {
	certs := make([]*x509.Certificate, len(chain))
	for i, der := range chain {
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("%w: certificate %d: %w", ErrMalformed, i, err)
		}
		certs[i] = c
	}
	leaf := certs[0]
	if leaf.IsCA {
		v.f.add(Mismatch{Code: CodeCertificate, Claim: "device certificate", Expected: "an end entity's", Got: "a CA's",
			Source: "RFC 5280 section 4.2.1.9"})
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	var outOfTime error
	for _, a := range v.in.Anchors {
		if a.Cert == nil {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(a.Cert)
		chains, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: v.in.Now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		var invalid x509.CertificateInvalidError
		switch {
		case err == nil:
			v.s.Root, v.s.Rooted = a, true
			v.s.Until, v.s.UntilWhat = endOf(chains[0])
			for _, m := range v.in.CheckRevocation(&crl.Checker{}, chains[0], v.s) {
				v.f.add(*m)
			}
			return leaf, nil
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			v.s.Root, v.s.Rooted, outOfTime = a, true, err
		}
	}
	if outOfTime != nil {
		v.f.add(Mismatch{Code: CodeCertificate, Claim: "validity of the certificate chain", Expected: "valid at " +
			v.in.Now.UTC().Format(time.RFC3339), Got: outOfTime.Error(), Source: "the verifier's clock", Err: outOfTime})
		return leaf, nil
	}
	v.f.add(Mismatch{Code: CodeRoot, Claim: "root of the device certificate", Expected: describe(v.in.Anchors),
		Got: fmt.Sprintf("issuer %q", certs[len(certs)-1].Issuer.String()), Source: "the verifier's trust anchors",
		Hint: "name this root as an anchor only if you know whose it is"})
	return leaf, nil
}

// endOf says when the first certificate of a chain ends to be valid, and which that is.
func endOf(chain []*x509.Certificate) (until time.Time, what string) {
	for _, c := range chain {
		if until.IsZero() || c.NotAfter.Before(until) {
			until, what = c.NotAfter, fmt.Sprintf("the certificate of %q", c.Subject)
		}
	}
	return until, what
}

// publicKey is the device key that the anchor is; nil for a root.
func (a Anchor) publicKey() crypto.PublicKey {
	if a.Key != nil {
		return a.Key.Public()
	}
	return a.Public
}

// anchorOf is the anchor that a key would be.
func anchorOf(key crypto.PublicKey) Anchor {
	if k, err := cose.NewKey(key); err == nil {
		return Anchor{Key: k}
	}
	return Anchor{Public: key}
}

func anchorOfKey(anchors []Anchor, key *ecdsa.PublicKey) (Anchor, bool) {
	for _, a := range anchors {
		if key.Equal(a.publicKey()) {
			return a, true
		}
	}
	return Anchor{}, false
}

// psaMeasurements names each software component by its type; one without a type gets its position as name.
func psaMeasurements(t *psa.Token) []Measurement {
	out := make([]Measurement, len(t.Components))
	for i, c := range t.Components {
		name := c.Type
		if name == "" {
			name = fmt.Sprintf("component %d", i)
		}
		out[i] = Measurement{Name: name, Value: c.Value, Source: fmt.Sprintf("software component %d of the PSA token, signer %s",
			i, hex.EncodeToString(c.SignerID))}
	}
	return out
}
