// SPDX-License-Identifier: Apache-2.0

package psa

import (
	"fmt"
	"math"
	"regexp"

	"sealift/cose"
)

// labels are a profile's claim labels.
type labels struct {
	nonce, instance, implementation, client, lifecycle, boot, cert, components, noSoftware, service, profile int64
}

// ewtLabels are of RFC 9783 section 4 (registered CWT claims), legacyLabels of PSA_IOT_PROFILE_1.
var (
	ewtLabels = labels{nonce: 10, instance: 256, profile: 265, boot: 268, client: 2394, lifecycle: 2395,
		implementation: 2396, cert: 2398, components: 2399, service: 2400}
	legacyLabels = labels{profile: -75000, client: -75001, lifecycle: -75002, implementation: -75003, boot: -75004,
		cert: -75005, components: -75006, noSoftware: -75007, nonce: -75008, instance: -75009, service: -75010}
)

// arm2Boot is the boot seed's label in http://arm.com/psa/2.0.0; EAT's 268 came later.
const arm2Boot = 2397

func labelsOf(profile string) (labels, bool) {
	switch profile {
	case ProfileTFM:
		return ewtLabels, true
	case ProfileArm2:
		l := ewtLabels
		l.boot = arm2Boot
		return l, true
	case ProfileLegacy:
		return legacyLabels, true
	}
	return labels{}, false
}

// label 3 is reserved (RFC 9783 section 4).
type wireComponent struct {
	Type        string `cbor:"1,keyasint,omitempty"`
	Value       []byte `cbor:"2,keyasint,omitempty"`
	Version     string `cbor:"4,keyasint,omitempty"`
	SignerID    []byte `cbor:"5,keyasint,omitempty"`
	Description string `cbor:"6,keyasint,omitempty"`
}

// decodeClaims reads the payload of a token. Claims with labels that the profile does not have are ignored, as
// RFC 9711 section 4 says; a label of another profile is not, because then the token's meaning would be in doubt.
func decodeClaims(payload []byte) (*Token, error) {
	var all map[any]cose.RawMessage
	if err := cose.Unmarshal(payload, &all); err != nil {
		return nil, fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	raw := make(map[int64]cose.RawMessage, len(all))
	for k, v := range all {
		switch label := k.(type) {
		case int64:
			raw[label] = v
		case string: // no profile has one, so it is a claim to ignore
		default:
			return nil, fmt.Errorf("%w: claims: a label is neither a number nor text", ErrMalformed)
		}
	}
	profile, err := profileOf(raw)
	if err != nil {
		return nil, err
	}
	l, ok := labelsOf(profile)
	if !ok {
		return nil, fmt.Errorf("%w: %q", ErrProfile, profile)
	}
	if profile != ProfileLegacy {
		for k := legacyLabels.service; k <= legacyLabels.profile; k++ {
			if _, mixed := raw[k]; mixed {
				return nil, fmt.Errorf("%w: claim %d does not belong to profile %s", ErrMalformed, k, profile)
			}
		}
	}
	t := &Token{Profile: profile}
	if err := t.decode(raw, l); err != nil {
		return nil, err
	}
	if err := t.Validate(); err != nil {
		return nil, err
	}
	return t, nil
}

// profileOf finds the profile. In PSA_IOT_PROFILE_1 the claim itself is optional.
func profileOf(raw map[int64]cose.RawMessage) (string, error) {
	profile := ProfileLegacy
	newer, hasNewer := raw[ewtLabels.profile]
	older, hasOlder := raw[legacyLabels.profile]
	switch {
	case hasNewer && hasOlder:
		return "", fmt.Errorf("%w: two profile claims", ErrMalformed)
	case hasNewer:
		if err := cose.Unmarshal(newer, &profile); err != nil {
			return "", fmt.Errorf("%w: profile: %w", ErrMalformed, err)
		}
		if profile == ProfileLegacy {
			return "", fmt.Errorf("%w: %q under label %d", ErrProfile, profile, ewtLabels.profile)
		}
	case hasOlder:
		if err := cose.Unmarshal(older, &profile); err != nil {
			return "", fmt.Errorf("%w: profile: %w", ErrMalformed, err)
		}
		if profile != ProfileLegacy {
			return "", fmt.Errorf("%w: %q", ErrProfile, profile)
		}
	}
	return profile, nil
}

func (t *Token) decode(raw map[int64]cose.RawMessage, l labels) error {
	var components []wireComponent
	var lifecycle uint64
	var none uint64
	for _, f := range []struct {
		name     string
		label    int64
		required bool
		into     any
	}{
		{"nonce", l.nonce, true, &t.Nonce},
		{"instance ID", l.instance, true, &t.InstanceID},
		{"implementation ID", l.implementation, true, &t.ImplementationID},
		{"client ID", l.client, true, &t.ClientID},
		{"lifecycle", l.lifecycle, true, &lifecycle},
		{"boot seed", l.boot, t.Profile == ProfileLegacy, &t.BootSeed},
		{"certification reference", l.cert, false, &t.CertReference},
		{"software components", l.components, t.Profile != ProfileLegacy, &components},
		{"no software measurements", l.noSoftware, false, &none},
		{"verification service", l.service, false, &t.VerificationService},
	} {
		data, present := raw[f.label]
		if f.label == 0 || !present {
			if f.required {
				return fmt.Errorf("%w: claim %q (%d) is missing", ErrMalformed, f.name, f.label)
			}
			continue
		}
		if len(data) == 1 && data[0] >= 0xf6 { // null and undefined would decode to nothing
			return fmt.Errorf("%w: claim %q (%d) is null", ErrMalformed, f.name, f.label)
		}
		if err := cose.Unmarshal(data, f.into); err != nil {
			return fmt.Errorf("%w: claim %q (%d): %w", ErrMalformed, f.name, f.label, err)
		}
	}
	if lifecycle > math.MaxUint16 {
		return fmt.Errorf("%w: lifecycle 0x%x is no defined state", ErrMalformed, lifecycle)
	}
	t.Lifecycle = Lifecycle(lifecycle)
	if _, present := raw[l.noSoftware]; present && l.noSoftware != 0 {
		if none != 1 {
			return fmt.Errorf("%w: no-software-measurements is %d, want 1", ErrMalformed, none)
		}
		t.NoSoftware = true
	}
	for _, c := range components {
		t.Components = append(t.Components, Component(c))
	}
	return nil
}

var (
	certReference       = regexp.MustCompile(`^[0-9]{13}-[0-9]{5}$`)
	certReferenceLegacy = regexp.MustCompile(`^[0-9]{13}(-[0-9]{5})?$`)
)

// Validate checks the rules of RFC 9783 section 4 for the token's profile: what must be there, and every size.
func (t *Token) Validate() error {
	if _, ok := labelsOf(t.Profile); !ok {
		return fmt.Errorf("%w: %q", ErrProfile, t.Profile)
	}
	if !hashSize(t.Nonce) {
		return fmt.Errorf("%w: nonce has %d bytes, want 32, 48 or 64", ErrMalformed, len(t.Nonce))
	}
	if len(t.InstanceID) != 33 || t.InstanceID[0] != 0x01 {
		return fmt.Errorf("%w: instance ID is not 0x01 and 32 bytes", ErrMalformed)
	}
	if len(t.ImplementationID) != 32 {
		return fmt.Errorf("%w: implementation ID has %d bytes, want 32", ErrMalformed, len(t.ImplementationID))
	}
	if t.ClientID == 0 {
		return fmt.Errorf("%w: client ID is 0, which names no security domain", ErrMalformed)
	}
	if _, defined := lifecycleNames[t.Lifecycle.Major()]; !defined {
		return fmt.Errorf("%w: lifecycle 0x%x is no defined state", ErrMalformed, uint16(t.Lifecycle))
	}
	if err := t.validateBoot(); err != nil {
		return err
	}
	form := certReference
	if t.Profile == ProfileLegacy {
		form = certReferenceLegacy
	}
	if t.CertReference != "" && !form.MatchString(t.CertReference) {
		return fmt.Errorf("%w: certification reference %q has the wrong form", ErrMalformed, t.CertReference)
	}
	return t.validateComponents()
}

func (t *Token) validateBoot() error {
	n := len(t.BootSeed)
	switch {
	case n == 0 && t.Profile != ProfileLegacy:
		return nil
	case t.Profile == ProfileTFM && n >= 8 && n <= 32, n == 32:
		return nil
	}
	return fmt.Errorf("%w: boot seed has %d bytes", ErrMalformed, n)
}

func (t *Token) validateComponents() error {
	if t.NoSoftware {
		if t.Profile != ProfileLegacy || len(t.Components) > 0 {
			return fmt.Errorf("%w: no-software-measurements beside software components", ErrMalformed)
		}
		return nil
	}
	if len(t.Components) == 0 || len(t.Components) > 256 {
		return fmt.Errorf("%w: %d software components", ErrMalformed, len(t.Components))
	}
	for i, c := range t.Components {
		if !hashSize(c.Value) {
			return fmt.Errorf("%w: software component %d (%s): measurement has %d bytes", ErrMalformed, i, c.Type, len(c.Value))
		}
		if !hashSize(c.SignerID) {
			return fmt.Errorf("%w: software component %d (%s): signer ID has %d bytes", ErrMalformed, i, c.Type, len(c.SignerID))
		}
	}
	return nil
}

func hashSize(b []byte) bool { return len(b) == 32 || len(b) == 48 || len(b) == 64 }

// encodeClaims is the inverse of decodeClaims, in deterministic CBOR.
func (t *Token) encodeClaims() ([]byte, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	l, _ := labelsOf(t.Profile)
	m := map[int64]any{l.nonce: t.Nonce, l.instance: t.InstanceID, l.implementation: t.ImplementationID,
		l.client: t.ClientID, l.lifecycle: uint16(t.Lifecycle), l.profile: t.Profile}
	if len(t.BootSeed) > 0 {
		m[l.boot] = t.BootSeed
	}
	if t.CertReference != "" {
		m[l.cert] = t.CertReference
	}
	if t.VerificationService != "" {
		m[l.service] = t.VerificationService
	}
	if t.NoSoftware {
		m[l.noSoftware] = 1
		return cose.Marshal(m)
	}
	components := make([]wireComponent, len(t.Components))
	for i, c := range t.Components {
		components[i] = wireComponent(c)
	}
	m[l.components] = components
	return cose.Marshal(m)
}
