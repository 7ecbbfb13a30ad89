// SPDX-License-Identifier: Apache-2.0

package suit

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"

	"sealift/cose"
)

// Verified is a manifest whose authenticity was checked. Only Envelope.Verify makes one.
type Verified struct {
	*Manifest
	// Signer is the key of the first authentication block that verified; nil if that was a MAC.
	Signer *cose.Key
	// Signers are the keys of all blocks that verified, in the order of the blocks.
	Signers []*cose.Key
}

// VerifyOptions adjusts Envelope.Verify.
type VerifyOptions struct {
	// StrictAlgorithms refuses the polymorphic algorithms ES256 (-7) and EdDSA (-8), which RFC 9864 deprecates. They
	// are accepted otherwise, with keys of the fitting type: the drafts' own examples use them.
	StrictAlgorithms bool
	// MACKeys are keys for COSE_Mac0 blocks (HMAC 256/256).
	MACKeys [][]byte
	// Limits bound what the manifest may hold.
	Limits Limits
}

// Verify checks the envelope in the order of suit-manifest section 6.3.1: digest of the manifest's bytes, then the
// authentication blocks over that digest, and only then is the manifest parsed. One block of a key in keys is enough.
// Blocks of unknown keys are skipped; a block that names a key in keys and does not verify condemns the envelope.
func (e *Envelope) Verify(keys []*cose.Key, o VerifyOptions) (*Verified, error) {
	digest, err := e.checkDigest()
	if err != nil {
		return nil, err
	}
	if len(e.blocks) == 0 {
		return nil, ErrUnsigned
	}
	parts := &struct { // in one piece
		Verified
		Manifest
		signers [1]*cose.Key
	}{}
	v := &parts.Verified
	v.Signers = parts.signers[:0]
	authentic := false
	var skipped []error
	for _, block := range e.blocks {
		key, err := e.verifyBlock(block, keys, o)
		switch {
		case err == nil:
			authentic = true
			if key != nil {
				v.Signers = append(v.Signers, key)
			}
		case errors.Is(err, errSkip):
			skipped = append(skipped, err)
		default:
			return nil, err
		}
	}
	if !authentic {
		return nil, fmt.Errorf("%w: %w", ErrUnauthorised, errors.Join(skipped...))
	}
	if len(v.Signers) > 0 {
		v.Signer = v.Signers[0]
	}
	v.Manifest = &parts.Manifest
	if err := v.Manifest.parse(e, digest, o.Limits); err != nil {
		return nil, err
	}
	return v, nil
}

// ManifestInsecure parses the manifest after checking its digest, but no signature: for showing and planning.
func (e *Envelope) ManifestInsecure() (*Manifest, error) {
	digest, err := e.checkDigest()
	if err != nil {
		return nil, err
	}
	m := &Manifest{}
	if err := m.parse(e, digest, Limits{}); err != nil {
		return nil, err
	}
	return m, nil
}

// DigestInsecure returns the digest that the authentication wrapper states, unchecked.
func (e *Envelope) DigestInsecure() (Digest, error) {
	var d Digest
	err := d.UnmarshalCBOR(e.digest)
	return d, err
}

// checkDigest compares the wrapper's digest with that of the manifest's encoded byte string, head included.
func (e *Envelope) checkDigest() (Digest, error) {
	want, err := e.DigestInsecure()
	if err != nil {
		return Digest{}, err
	}
	var sum [sha256.Size]byte
	got := Digest{Alg: AlgSHA256, Bytes: sum[:]}
	if want.Alg == AlgSHA256 {
		sum = sha256.Sum256(e.manifest)
	} else if got, err = want.Of(e.manifest); err != nil {
		return Digest{}, err
	}
	if !want.Equal(got) {
		return Digest{}, fmt.Errorf("%w: the wrapper says %v, the manifest is %v", ErrDigest, want, got)
	}
	return want, nil
}

// errSkip marks an authentication block that no key here can judge.
var errSkip = errors.New("suit: block skipped")

// verifyBlock checks one authentication block. Blocks are always tagged; the payload is detached and is the encoded
// SUIT_Digest (suit-manifest section 8.3).
func (e *Envelope) verifyBlock(block cose.RawMessage, keys []*cose.Key, o VerifyOptions) (*cose.Key, error) {
	switch {
	case hasTag(block, 17):
		return nil, e.verifyMAC(block, o.MACKeys)
	case hasTag(block, 97):
		return nil, fmt.Errorf("%w: COSE_Mac", errSkip)
	case !hasTag(block, 18) && !hasTag(block, 98):
		return nil, fmt.Errorf("%w: authentication block without a COSE tag", ErrMalformed)
	}
	msg, err := cose.Parse(block)
	if errors.Is(err, cose.ErrUnsupported) {
		return nil, fmt.Errorf("%w: %w", errSkip, err)
	}
	if err != nil {
		return nil, fmt.Errorf("%w: authentication block: %w", ErrMalformed, err)
	}
	if msg.PayloadInsecure() != nil {
		return nil, fmt.Errorf("%w: authentication block with a payload", ErrMalformed)
	}
	res, err := msg.Verify(keys, cose.VerifyOptions{Legacy: !o.StrictAlgorithms, Detached: e.digest})
	if err == nil {
		return res.Key, nil
	}
	if errors.Is(err, cose.ErrBadSignature) && namesOne(msg.KIDs(), keys) {
		return nil, fmt.Errorf("%w: %w", ErrBadSignature, err)
	}
	return nil, fmt.Errorf("%w: %w", errSkip, err)
}

func (e *Envelope) verifyMAC(block cose.RawMessage, keys [][]byte) error {
	if len(keys) == 0 {
		return fmt.Errorf("%w: no key for COSE_Mac0", errSkip)
	}
	if _, err := cose.VerifyMac0(block, keys, e.digest); err != nil {
		if errors.Is(err, cose.ErrMalformed) || errors.Is(err, cose.ErrCrit) {
			return fmt.Errorf("%w: authentication block: %w", ErrMalformed, err)
		}
		return fmt.Errorf("%w: %w", errSkip, err)
	}
	return nil
}

func namesOne(kids [][]byte, keys []*cose.Key) bool {
	for _, kid := range kids {
		for _, key := range keys {
			if len(kid) > 0 && bytes.Equal(kid, key.KID()) {
				return true
			}
		}
	}
	return false
}

func hasTag(item []byte, tag byte) bool {
	if tag < 24 {
		return len(item) > 0 && item[0] == 0xc0|tag
	}
	return len(item) > 1 && item[0] == 0xd8 && item[1] == tag
}

// Name identifies the manifest for sequence numbers and references: manifest-component-id if it has one, else a name
// made from the signer and the component list (suit-manifest section 8.4.2 leaves that to the implementation).
func (v *Verified) Name() ComponentID {
	if v.ComponentID != nil {
		return v.ComponentID
	}
	h := sha256.New()
	if v.Signer != nil {
		h.Write(v.Signer.KID())
	}
	h.Write(cose.MustMarshal(v.Components))
	return ComponentID{[]byte("unnamed"), h.Sum(nil)}
}
