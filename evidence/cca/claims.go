// SPDX-License-Identifier: Apache-2.0

package cca

import (
	"fmt"
	"math"

	"sealift/cose"
)

// Labels of claims, draft-ffm-rats-cca-token sections 3 and 4.
const (
	labelNonce     = 10
	labelInstance  = 256
	labelProfile   = 265
	labelLifecycle = 2395
	labelImpl      = 2396
	labelSoftware  = 2399
	labelService   = 2400
	labelConfig    = 2401
	labelHashAlg   = 2402

	labelRPV         = 44235
	labelRealmHash   = 44236
	labelRAK         = 44237
	labelRIM         = 44238
	labelREM         = 44239
	labelRAKHashAlg  = 44240
	maxComponents    = 256
	maxConfigPayload = 4096
)

type wireComponent struct {
	Type     string `cbor:"1,keyasint,omitempty"`
	Value    []byte `cbor:"2,keyasint,omitempty"`
	Version  string `cbor:"4,keyasint,omitempty"`
	SignerID []byte `cbor:"5,keyasint,omitempty"`
	HashAlg  string `cbor:"6,keyasint,omitempty"`
}

// claim says where a claim is decoded to.
type claim struct {
	name     string
	label    int64
	required bool
	into     any
}

// decodeClaims reads a claims map. Claims that are not asked for are ignored, as RFC 9711 section 4 says.
func decodeClaims(what string, payload []byte, claims []claim) error {
	var raw map[int64]cose.RawMessage
	if err := cose.Unmarshal(payload, &raw); err != nil {
		return fmt.Errorf("%w: %s token: claims: %w", ErrMalformed, what, err)
	}
	for _, c := range claims {
		data, present := raw[c.label]
		switch {
		case !present && c.required:
			return fmt.Errorf("%w: %s token: claim %q (%d) is missing", ErrMalformed, what, c.name, c.label)
		case !present:
			continue
		case len(data) == 1 && data[0] >= 0xf6: // null and undefined would decode to nothing
			return fmt.Errorf("%w: %s token: claim %q (%d) is null", ErrMalformed, what, c.name, c.label)
		}
		if err := cose.Unmarshal(data, c.into); err != nil {
			return fmt.Errorf("%w: %s token: claim %q (%d): %w", ErrMalformed, what, c.name, c.label, err)
		}
	}
	return nil
}

func decodePlatform(payload []byte) (p Platform, err error) {
	var lifecycle uint64
	var components []wireComponent
	if err := decodeClaims("platform", payload, []claim{
		{"profile", labelProfile, true, &p.Profile},
		{"nonce", labelNonce, true, &p.Nonce},
		{"implementation ID", labelImpl, true, &p.ImplementationID},
		{"instance ID", labelInstance, true, &p.InstanceID},
		{"configuration", labelConfig, true, &p.Config},
		{"lifecycle", labelLifecycle, true, &lifecycle},
		{"hash algorithm", labelHashAlg, true, &p.HashAlg},
		{"software components", labelSoftware, true, &components},
		{"verification service", labelService, false, &p.VerificationService},
	}); err != nil {
		return p, err
	}
	if lifecycle > math.MaxUint16 {
		return p, fmt.Errorf("%w: lifecycle 0x%x is no defined state", ErrMalformed, lifecycle)
	}
	p.Lifecycle = Lifecycle(lifecycle)
	for _, c := range components {
		p.Components = append(p.Components, Component(c))
	}
	return p, p.validate()
}

func (p *Platform) validate() error {
	switch {
	case p.Profile != ProfileLegacy && p.Profile != ProfilePlatform:
		return fmt.Errorf("%w: platform token: %q", ErrProfile, p.Profile)
	case !hashSize(p.Nonce):
		return fmt.Errorf("%w: platform token: nonce has %d bytes, want 32, 48 or 64", ErrMalformed, len(p.Nonce))
	case len(p.ImplementationID) != 32:
		return fmt.Errorf("%w: implementation ID has %d bytes, want 32", ErrMalformed, len(p.ImplementationID))
	case len(p.InstanceID) != 33 || p.InstanceID[0] != 0x01:
		return fmt.Errorf("%w: instance ID is not 0x01 and 32 bytes", ErrMalformed)
	case p.Lifecycle&0xff00 > 0x6000 || p.Lifecycle&0x0f00 != 0:
		return fmt.Errorf("%w: lifecycle 0x%x is no defined state", ErrMalformed, uint16(p.Lifecycle))
	case len(p.Config) == 0 || len(p.Config) > maxConfigPayload:
		return fmt.Errorf("%w: configuration has %d bytes", ErrMalformed, len(p.Config))
	case len(p.Components) == 0 || len(p.Components) > maxComponents:
		return fmt.Errorf("%w: %d software components", ErrMalformed, len(p.Components))
	}
	for i, c := range p.Components {
		if !hashSize(c.Value) || !hashSize(c.SignerID) {
			return fmt.Errorf("%w: software component %d (%s): measurement of %d bytes, signer ID of %d", ErrMalformed, i, c.Type,
				len(c.Value), len(c.SignerID))
		}
	}
	return nil
}

func decodeRealm(payload []byte) (r Realm, err error) {
	var extensible [][]byte
	if err := decodeClaims("realm", payload, []claim{
		{"profile", labelProfile, false, &r.Profile},
		{"challenge", labelNonce, true, &r.Challenge},
		{"personalization value", labelRPV, true, &r.Personalization},
		{"hash algorithm", labelRealmHash, true, &r.HashAlg},
		{"public key", labelRAK, true, &r.PublicKey},
		{"initial measurement", labelRIM, true, &r.Initial},
		{"extensible measurements", labelREM, true, &extensible},
		{"public key's hash algorithm", labelRAKHashAlg, true, &r.PublicKeyHash},
	}); err != nil {
		return r, err
	}
	if len(extensible) != len(r.Extensible) {
		return r, fmt.Errorf("%w: %d extensible measurements, want %d", ErrMalformed, len(extensible), len(r.Extensible))
	}
	copy(r.Extensible[:], extensible)
	return r, r.validate()
}

func (r *Realm) validate() error {
	switch {
	case r.Profile != "" && r.Profile != ProfileRealm:
		return fmt.Errorf("%w: realm token: %q", ErrProfile, r.Profile)
	case len(r.Challenge) != 64:
		return fmt.Errorf("%w: realm challenge has %d bytes, want 64", ErrMalformed, len(r.Challenge))
	case len(r.Personalization) != 64:
		return fmt.Errorf("%w: personalization value has %d bytes, want 64", ErrMalformed, len(r.Personalization))
	case !hashSize(r.Initial):
		return fmt.Errorf("%w: initial measurement has %d bytes", ErrMalformed, len(r.Initial))
	}
	for i, m := range r.Extensible {
		if len(m) != len(r.Initial) {
			return fmt.Errorf("%w: extensible measurement %d has %d bytes, the initial one %d", ErrMalformed, i, len(m), len(r.Initial))
		}
	}
	return nil
}

func hashSize(b []byte) bool { return len(b) == 32 || len(b) == 48 || len(b) == 64 }

func (p *Platform) encode() []byte {
	components := make([]wireComponent, len(p.Components))
	for i, c := range p.Components {
		components[i] = wireComponent(c)
	}
	m := map[int64]any{labelProfile: p.Profile, labelNonce: p.Nonce, labelImpl: p.ImplementationID, labelInstance: p.InstanceID,
		labelConfig: p.Config, labelLifecycle: uint16(p.Lifecycle), labelHashAlg: p.HashAlg, labelSoftware: components}
	if p.VerificationService != "" {
		m[labelService] = p.VerificationService
	}
	return cose.MustMarshal(m)
}

func (r *Realm) encode() []byte {
	m := map[int64]any{labelNonce: r.Challenge, labelRPV: r.Personalization, labelRealmHash: r.HashAlg, labelRAK: r.PublicKey,
		labelRIM: r.Initial, labelREM: r.Extensible[:], labelRAKHashAlg: r.PublicKeyHash}
	if r.Profile != "" {
		m[labelProfile] = r.Profile
	}
	return cose.MustMarshal(m)
}
