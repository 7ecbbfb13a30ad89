// SPDX-License-Identifier: Apache-2.0

// Package cca reads, verifies and makes attestation tokens of Arm's Confidential Compute Architecture
// (draft-ffm-rats-cca-token; Arm DEN0137, "Realm Management Monitor specification", section A7.2).
//
// A token is a collection of two COSE_Sign1. The platform token speaks of the machine and its firmware and is signed with
// the CCA Platform Attestation Key (CPAK). The realm token speaks of the realm and is signed with the Realm Attestation
// Key (RAK), whose public half stands inside. The two are tied together by the platform token's nonce, which is the hash
// of that public key. Two wrappers are in use and both are read: the CBOR tag 399 around a map of byte strings, and the
// tag 907 around a CMW collection (RFC 9999) of records with content format 263.
//
// Who vouches for a CPAK is the verifier's knowledge: an enrolled key, or the root of a certificate chain that comes with
// the Evidence. Arm's development CPAK, whose private key is public, is always taken for an emulated one.
//
// Whether a verified token is acceptable (measurements, life cycle) is not decided here.
package cca

import (
	"errors"
	"fmt"

	"sealift/evidence"
)

// Profiles of the platform token, and of the realm token that goes with it.
const (
	ProfileLegacy   = "http://arm.com/CCA-SSD/1.0.0" // the realm token has no profile claim; its RAK is a bare point
	ProfilePlatform = "tag:arm.com,2023:cca_platform#1.0.0"
	ProfileRealm    = "tag:arm.com,2023:realm#1.0.0" // RAK as a COSE_Key
)

// Wrapper is the tag of the collection.
type Wrapper uint64

// Wrappers.
const (
	WrapperCCA Wrapper = 399
	WrapperCMW Wrapper = 907
)

// Errors of this package; an error of [Message.Verify] may join several.
var (
	ErrMalformed         = errors.New("cca: malformed token")
	ErrProfile           = errors.New("cca: profile not supported")
	ErrAlgorithm         = errors.New("cca: algorithm not accepted")
	ErrRoot              = errors.New("cca: no trust anchor vouches for the platform's key")
	ErrCertificate       = errors.New("cca: certificate of the platform's key")
	ErrPlatformSignature = errors.New("cca: signature of the platform token does not verify")
	ErrRealmSignature    = errors.New("cca: signature of the realm token does not verify")
	ErrBinding           = errors.New("cca: the platform token is not for this realm token's key")
)

// maxToken bounds a token. Real ones have one to three thousand bytes.
const maxToken = 64 << 10

// Lifecycle is the platform's security life cycle state.
type Lifecycle uint16

// Secured reports whether the state is SECURED (0x3000 to 0x30ff), the only one without debugging of the platform.
func (l Lifecycle) Secured() bool { return l&0xff00 == 0x3000 }

// String gives the number, and whether that is SECURED.
func (l Lifecycle) String() string {
	if l.Secured() {
		return fmt.Sprintf("secured (0x%04x)", uint16(l))
	}
	return fmt.Sprintf("not secured (0x%04x)", uint16(l))
}

// Component is a measured firmware component.
type Component struct {
	Type     string // for example "RMM"; may be empty
	Value    []byte // the measurement
	Version  string
	SignerID []byte
	HashAlg  string // empty: the platform's
}

// Platform is the content of a platform token.
type Platform struct {
	Profile             string
	Nonce               []byte // hash of the realm token's RAK
	ImplementationID    []byte // 32 bytes
	InstanceID          []byte // 33 bytes, 0x01 first: which CPAK
	Config              []byte // system properties, implementation-defined
	Lifecycle           Lifecycle
	HashAlg             string
	Components          []Component
	VerificationService string
}

// Realm is the content of a realm token.
type Realm struct {
	Profile         string    // empty in [ProfileLegacy]
	Challenge       []byte    // 64 bytes: the binding
	Personalization []byte    // RPV, 64 bytes, chosen by who launched the realm
	Initial         []byte    // RIM, the measurement at launch
	Extensible      [4][]byte // REM 0 to 3
	HashAlg         string    // of the measurements
	PublicKey       []byte    // RAK as it stands in the token
	PublicKeyHash   string    // algorithm by which the platform's nonce is made of it
}

// Token is the content of a CCA token.
type Token struct {
	Wrapper  Wrapper
	Platform Platform
	Realm    Realm
}

// realmToken is the source of a realm's measurements.
const realmToken = "realm token"

// Measurements returns the realm's measurements ("RIM", "REM0" to "REM3"), its personalization value ("RPV"), and the
// platform's firmware components by their type.
func (t *Token) Measurements() []evidence.Measurement {
	out := []evidence.Measurement{{Name: "RIM", Value: t.Realm.Initial, Source: realmToken},
		{Name: "RPV", Value: t.Realm.Personalization, Source: realmToken}}
	for i, v := range t.Realm.Extensible {
		out = append(out, evidence.Measurement{Name: fmt.Sprintf("REM%d", i), Value: v, Source: realmToken})
	}
	for i, c := range t.Platform.Components {
		name := c.Type
		if name == "" {
			name = fmt.Sprintf("component %d", i)
		}
		out = append(out, evidence.Measurement{Name: name, Value: c.Value,
			Source: fmt.Sprintf("component %d of the platform token, signer %x", i, c.SignerID)})
	}
	return out
}
