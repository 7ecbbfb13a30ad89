// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"time"

	"sealift/cose"
	"sealift/evidence/psa"
)

// verifyPSA verifies a PSA token: the chain in the collateral (leaf: the IAK's certificate) to an anchor, or an IAK
// that is itself an anchor, then the token's signature.
func verifyPSA(b *Bundle, in Input, f *findings) *signed {
	msg, err := psa.Parse(b.Hardware)
	if err != nil {
		f.malformed("PSA token", "a COSE_Sign1 of a known PSA profile", err)
		return nil
	}
	t := msg.TokenInsecure()
	s := &signed{hardware: TrustZone, nonce: t.Nonce, instanceID: t.InstanceID, measurements: psaMeasurements(t),
		fields: map[string]any{"profile": t.Profile, "lifecycle": t.Lifecycle, "implementation-id": t.ImplementationID,
			"client-id": t.ClientID, "certification-reference": t.CertReference}}
	iaks, source := findIAKs(b.Collateral, in, s, f)
	if len(iaks) == 0 {
		return s
	}
	v, err := msg.Verify(iaks...)
	if err != nil {
		f.add(Mismatch{Code: CodeSignature, Claim: "signature of the PSA token", Expected: "a signature by the attestation key " +
			text(iaks[0].KID()), Got: "a signature that does not verify", Source: source, Err: err,
			Hint: "the token was changed on the way, or another device made it"})
		return s
	}
	if !s.rooted && len(b.Collateral) == 0 {
		s.root, s.rooted = anchorOfKey(in.Anchors, v.Key)
	}
	return s
}

// findIAKs returns the keys that may have signed the token. Where the collateral holds a chain, that is its leaf, also
// when no anchor vouches for it (which is reported), so that a bad signature is reported beside a bad root.
func findIAKs(chain [][]byte, in Input, s *signed, f *findings) (keys []*cose.Key, source string) {
	if len(chain) == 0 {
		for _, a := range in.Anchors.Roots {
			if a.Key != nil && a.fits(s.hardware) {
				keys = append(keys, a.Key)
			}
		}
		if len(keys) == 0 {
			f.add(Mismatch{Code: CodeRoot, Claim: "certificate chain", Expected: in.Anchors.describe(),
				Got: "no certificate, and no enrolled device key", Source: "the verifier's trust anchors"})
		}
		return keys, "the enrolled device keys"
	}
	leaf, err := s.verifyChain(chain, in, f)
	if err != nil {
		f.malformed("certificate chain", "X.509 certificates, leaf first", err)
		return nil, ""
	}
	key, err := cose.NewKey(leaf.PublicKey)
	if err != nil {
		f.add(Mismatch{Code: CodeCertificate, Claim: "device certificate", Expected: "a P-256 key", Got: err.Error(),
			Source: "RFC 9783 section 5.2", Err: err})
		return nil, ""
	}
	source = "the device certificate in the Evidence, for which no anchor vouches"
	if s.rooted {
		source = "the device certificate, issued under " + s.root.String()
	}
	return []*cose.Key{key}, source
}

// verifyChain looks for the anchor to which the chain leads and reports if there is none, or a certificate is out of
// its time. It returns the leaf.
func (s *signed) verifyChain(chain [][]byte, in Input, f *findings) (*x509.Certificate, error) {
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
		f.add(Mismatch{Code: CodeCertificate, Claim: "device certificate", Expected: "an end entity's", Got: "a CA's",
			Source: "RFC 5280 section 4.2.1.9"})
	}
	intermediates := x509.NewCertPool()
	for _, c := range certs[1:] {
		intermediates.AddCert(c)
	}
	var outOfTime error
	for _, a := range in.Anchors.Roots {
		if a.Cert == nil || !a.fits(s.hardware) {
			continue
		}
		roots := x509.NewCertPool()
		roots.AddCert(a.Cert)
		_, err := leaf.Verify(x509.VerifyOptions{Roots: roots, Intermediates: intermediates, CurrentTime: in.Now,
			KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny}})
		var invalid x509.CertificateInvalidError
		switch {
		case err == nil:
			s.root, s.rooted = a, true
			return leaf, nil
		case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
			s.root, s.rooted, outOfTime = a, true, err
		}
	}
	if outOfTime != nil {
		f.add(Mismatch{Code: CodeCertificate, Claim: "validity of the certificate chain", Expected: "valid at " +
			in.Now.UTC().Format(time.RFC3339), Got: outOfTime.Error(), Source: "the verifier's clock", Err: outOfTime})
		return leaf, nil
	}
	f.add(Mismatch{Code: CodeRoot, Claim: "root of the device certificate", Expected: in.Anchors.describe(),
		Got: fmt.Sprintf("issuer %q", certs[len(certs)-1].Issuer.String()), Source: "the verifier's trust anchors",
		Hint: "name this root as an anchor only if you know whose it is"})
	return leaf, nil
}

func (a Anchor) fits(hw Hardware) bool { return a.Hardware == "" || a.Hardware == hw }

func anchorOfKey(anchors Anchors, key *cose.Key) (Anchor, bool) {
	for _, a := range anchors.Roots {
		if a.Key != nil && a.Key.Equal(key) {
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
