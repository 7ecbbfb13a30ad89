// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"fmt"

	"sealift/evidence/tpm"
	"sealift/suit"
)

// digestSizes are the digest algorithms of COSE that a claim may name, with their length in bytes: SHA-256, SHA-384,
// SHA-512 (RFC 9054).
var digestSizes = map[int64]int{-16: 32, -43: 48, -44: 64}

// Validate checks the rules of the record: sizes of RFC 9711, two nonces in the challenge, a P-256 encryption key, and
// for each TA a component identifier that occurs once, a digest, a signer, and two keys.
func (c *Claims) Validate() error {
	for _, r := range []struct {
		name     string
		n        int
		min, max int
	}{
		{"eat_nonce", len(c.Nonce), 2 * NonceSize, 2 * NonceSize},
		{"ueid", len(c.UEID), 7, 33},
		{"hwmodel", len(c.HWModel), 1, 32},
		{"hwversion", len(c.HWVersion), 1, maxText},
		{"cnf", len(c.AgentKID), 32, 32},
		{"number of TAs", len(c.TAs), 0, maxTAs},
		{"number of manifests", len(c.Manifests), 0, maxManifests},
		{"number of loads", len(c.Loads), 0, maxLoads},
	} {
		if r.n < r.min || r.n > r.max {
			return fmt.Errorf("%w: claims: %s: %d, want %d to %d", ErrMalformed, r.name, r.n, r.min, r.max)
		}
	}
	if n := len(c.QuoteKey); n != 0 && n != tpm.NameSize {
		return fmt.Errorf("%w: claims: name of the TPM's attestation key: %d bytes, want %d", ErrMalformed, n, tpm.NameSize)
	}
	if n := len(c.OEMID); n != 3 && n != 16 {
		return fmt.Errorf("%w: claims: oemid: %d bytes, want 3 or 16", ErrMalformed, n)
	}
	if c.AgentEncKey == nil {
		return fmt.Errorf("%w: claims: the Agent's encryption key is missing", ErrMalformed)
	}
	if _, err := c.AgentEncKey.ECDH(); err != nil {
		return fmt.Errorf("%w: claims: the Agent's encryption key is not for ECDH: %w", ErrMalformed, err)
	}
	seen := map[string]bool{}
	for _, t := range c.TAs {
		if err := t.validate(); err != nil {
			return err
		}
		if id := t.Component.String(); seen[id] {
			return fmt.Errorf("%w: claims: two TAs are called %s", ErrMalformed, id)
		} else {
			seen[id] = true
		}
	}
	for _, l := range c.Loads {
		if err := l.validate(); err != nil {
			return err
		}
	}
	for _, m := range c.Manifests {
		if len(m.URI) == 0 || len(m.URI) > maxText {
			return fmt.Errorf("%w: claims: a manifest's URI has %d bytes", ErrMalformed, len(m.URI))
		}
		if err := validDigest(m.Digest); err != nil {
			return fmt.Errorf("%w: claims: manifest %s: %w", ErrMalformed, m.URI, err)
		}
	}
	return nil
}

func (t TAClaim) validate() error {
	if len(t.Component) == 0 || len(t.Component) > 16 {
		return fmt.Errorf("%w: claims: a TA's component identifier has %d parts", ErrMalformed, len(t.Component))
	}
	for _, part := range t.Component {
		if len(part) == 0 || len(part) > maxText {
			return fmt.Errorf("%w: claims: a part of a TA's component identifier has %d bytes", ErrMalformed, len(part))
		}
	}
	name := t.Component.String()
	if err := validDigest(t.Digest); err != nil {
		return fmt.Errorf("%w: claims: TA %s: %w", ErrMalformed, name, err)
	}
	if len(t.Signer) != 32 {
		return fmt.Errorf("%w: claims: TA %s: the signer's key identifier has %d bytes, want 32", ErrMalformed, name, len(t.Signer))
	}
	if t.EncKey == nil || t.TLSKey == nil {
		return fmt.Errorf("%w: claims: TA %s: a key is missing", ErrMalformed, name)
	}
	if _, err := t.EncKey.ECDH(); err != nil {
		return fmt.Errorf("%w: claims: TA %s: the encryption key is not for ECDH: %w", ErrMalformed, name, err)
	}
	return nil
}

func validDigest(d suit.Digest) error {
	want, known := digestSizes[int64(d.Alg)]
	if !known {
		return fmt.Errorf("digest algorithm %d is not known", int64(d.Alg))
	}
	if len(d.Bytes) != want {
		return fmt.Errorf("digest has %d bytes, want %d", len(d.Bytes), want)
	}
	return nil
}
