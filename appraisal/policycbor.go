// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"sealift/cose"
)

// Media types of a policy: CBOR, as it stands in a COSE_Sign1's content type, and JSON.
const (
	MediaTypePolicy     = "application/vnd.sealift.policy+cbor"
	MediaTypePolicyJSON = "application/vnd.sealift.policy+json"
)

// ErrPolicySigner reports a policy that must be signed by a known key, and is not.
var ErrPolicySigner = errors.New("appraisal: policy is not signed by a known key")

// plainPolicy is Policy without its methods, so that the encoder does not call them again.
type plainPolicy Policy

// MarshalCBOR returns the policy in deterministic CBOR (RFC 8949 section 4.2): a map with the numbers of [Policy]'s
// members, digests as SUIT_Digest, times in seconds since 1970, status tiers as numbers of AR4SI.
func (p *Policy) MarshalCBOR() ([]byte, error) {
	data, err := cose.Marshal((*plainPolicy)(p))
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	return data, nil
}

// ParsePolicyCBOR reads what [Policy.MarshalCBOR] wrote, in that encoding only, and checks it.
func ParsePolicyCBOR(data []byte) (*Policy, error) {
	if len(data) > maxPolicy {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrPolicy, len(data), maxPolicy)
	}
	var p Policy
	if err := cose.Unmarshal(data, (*plainPolicy)(&p)); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPolicy, err)
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	if again, err := p.MarshalCBOR(); err != nil || !bytes.Equal(again, data) {
		return nil, fmt.Errorf("%w: an unknown member, or not in deterministic encoding", ErrPolicy)
	}
	return &p, nil
}

// Hash identifies the policy: SHA-256 over its CBOR form; over the compact JSON form for version 1, which had no other. So
// white space and signatures do not matter.
func (p *Policy) Hash() [32]byte {
	var data []byte
	var err error
	if p.Version == 1 {
		data, err = json.Marshal(p)
	} else {
		data, err = p.MarshalCBOR()
	}
	if err != nil {
		return [32]byte{} // only a policy that Validate refuses gets here
	}
	return sha256.Sum256(data)
}

// SignPolicy returns the policy's CBOR form in a COSE_Sign1 with the content type [MediaTypePolicy].
func SignPolicy(rand io.Reader, signer cose.Signer, p *Policy) ([]byte, error) {
	if err := p.Validate(); err != nil {
		return nil, err
	}
	data, err := p.MarshalCBOR()
	if err != nil {
		return nil, err
	}
	return cose.Sign1With(rand, signer, cose.Headers{ContentType: MediaTypePolicy}, data)
}

// PolicyFile is a policy as it was read from a file.
type PolicyFile struct {
	Policy *Policy
	Signed bool      // it stands in a COSE_Sign1
	Signer *cose.Key // whose signature verified; nil where no key was known and where there is no signature
}

// ReadPolicy reads a policy in any form: JSON, CBOR, or CBOR in a COSE_Sign1. Where signers are given, one of them must have
// signed it: anything else is an [ErrPolicySigner]. Without signers a signature is not verified and Signer is nil.
func ReadPolicy(data []byte, signers ...*cose.Key) (*PolicyFile, error) {
	switch first := bytes.TrimLeft(data, " \t\r\n"); {
	case len(first) > 0 && first[0] == '{':
		if len(signers) > 0 {
			return nil, fmt.Errorf("%w: it has no signature", ErrPolicySigner)
		}
		p, err := ParsePolicy(data)
		return policyFile(p, err)
	case len(data) > 0 && data[0]>>5 == 5: // a CBOR map
		if len(signers) > 0 {
			return nil, fmt.Errorf("%w: it has no signature", ErrPolicySigner)
		}
		p, err := ParsePolicyCBOR(data)
		return policyFile(p, err)
	}
	return readSignedPolicy(data, signers)
}

func policyFile(p *Policy, err error) (*PolicyFile, error) {
	if err != nil {
		return nil, err
	}
	return &PolicyFile{Policy: p}, nil
}

func readSignedPolicy(data []byte, signers []*cose.Key) (*PolicyFile, error) {
	if len(data) > maxPolicy {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrPolicy, len(data), maxPolicy)
	}
	msg, err := cose.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: neither JSON, CBOR nor COSE: %w", ErrPolicy, err)
	}
	if msg.ContentType() != MediaTypePolicy || msg.Multi() || msg.Detached() {
		return nil, fmt.Errorf("%w: want a COSE_Sign1 with the content type %s", ErrPolicy, MediaTypePolicy)
	}
	f := &PolicyFile{Signed: true}
	payload := msg.PayloadInsecure()
	if len(signers) > 0 {
		signed, err := msg.Verify(signers, cose.VerifyOptions{})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrPolicySigner, err)
		}
		f.Signer, payload = signed.Key, signed.Payload
	}
	if f.Policy, err = ParsePolicyCBOR(payload); err != nil {
		return nil, err
	}
	return f, nil
}
