// SPDX-License-Identifier: Apache-2.0

// Package psa reads, verifies and makes PSA attestation tokens: Evidence of Arm's Platform Security Architecture, which
// is what a TrustZone device signs with its Initial Attestation Key (RFC 9783).
//
// A token is a CBOR map of claims in a COSE_Sign1 (tag 18). Three profiles are known: the one of RFC 9783 and two older
// ones that devices in the field still sign (RFC 9783 section 5). They say the same with different labels:
//
//	tag:psacertified.org,2023:psa#tfm   labels 10, 256, 265, 268, 2394..2400
//	http://arm.com/psa/2.0.0            the same, but the boot seed is 2397
//	PSA_IOT_PROFILE_1                   labels -75000..-75010
//
// [Parse] reads without believing; [Message.Verify] checks the signature and returns a [Verified], which is another
// type. Accepted is ECDSA: ES256, ES384 and ES512, each on its curve, and their fully specified names; COSE_Mac0 is refused,
// because who can verify a MAC can make one.
package psa

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/sha256"
	"errors"
	"fmt"

	"sealift/cose"
)

// Profiles.
const (
	ProfileTFM    = "tag:psacertified.org,2023:psa#tfm"
	ProfileArm2   = "http://arm.com/psa/2.0.0"
	ProfileLegacy = "PSA_IOT_PROFILE_1"
)

// Errors of this package. All but ErrSignature and ErrNoKey mean that the bytes are no acceptable token, whoever
// signed them.
var (
	ErrMalformed = errors.New("psa: malformed token")
	ErrMac0      = errors.New("psa: token is a COSE_Mac0, only COSE_Sign1 is accepted")
	ErrProfile   = errors.New("psa: profile not supported")
	ErrAlgorithm = errors.New("psa: signature algorithm not accepted")
	ErrSignature = errors.New("psa: signature does not verify")
	ErrNoKey     = errors.New("psa: no key to verify with")
)

// maxToken bounds a token. Real ones have 300 to 600 bytes.
const maxToken = 64 << 10

// Lifecycle is the security lifecycle state: the major state in the upper byte (RFC 9783 section 4).
type Lifecycle uint16

// Major states.
const (
	LifecycleUnknown        Lifecycle = 0x0000
	LifecycleAssembly       Lifecycle = 0x1000
	LifecycleProvisioning   Lifecycle = 0x2000
	LifecycleSecured        Lifecycle = 0x3000
	LifecycleNonPSADebug    Lifecycle = 0x4000
	LifecycleRecoverable    Lifecycle = 0x5000
	LifecycleDecommissioned Lifecycle = 0x6000
	lifecycleMajor          Lifecycle = 0xff00
)

// Major returns the major state without the implementation-defined lower byte.
func (l Lifecycle) Major() Lifecycle { return l & lifecycleMajor }

// Secured reports whether the state is SECURED, the only one in which the whole platform is protected from debugging.
func (l Lifecycle) Secured() bool { return l.Major() == LifecycleSecured }

// String names the major state, with the number.
func (l Lifecycle) String() string {
	name, ok := lifecycleNames[l.Major()]
	if !ok {
		name = "undefined"
	}
	return fmt.Sprintf("%s (0x%04x)", name, uint16(l))
}

var lifecycleNames = map[Lifecycle]string{LifecycleUnknown: "unknown", LifecycleAssembly: "assembly and test",
	LifecycleProvisioning: "PSA RoT provisioning", LifecycleSecured: "secured", LifecycleNonPSADebug: "non-PSA-RoT debug",
	LifecycleRecoverable: "recoverable PSA RoT debug", LifecycleDecommissioned: "decommissioned"}

// Token is the content of a PSA token, in one form for all profiles.
type Token struct {
	Profile             string
	Nonce               []byte    // 32, 48 or 64 bytes
	InstanceID          []byte    // 33 bytes: 0x01, then the identity of the IAK
	ImplementationID    []byte    // 32 bytes: the hardware assembly of the immutable root of trust
	ClientID            int32     // who asked for the token: negative in the non-secure world, positive in the secure one
	Lifecycle           Lifecycle // security lifecycle state
	BootSeed            []byte    // 8..32 bytes; 32 in the older profiles; may be absent in ProfileTFM and ProfileArm2
	CertReference       string    // "EAN-13-version" (ProfileLegacy: EAN-13 alone is allowed), may be empty
	Components          []Component
	NoSoftware          bool // ProfileLegacy only: the device measures no software
	VerificationService string
}

// Component is a measured software component.
type Component struct {
	Type        string // for example "SPE"; the emulator's are "AGENT" and "CONFIG"
	Value       []byte // the measurement: 32, 48 or 64 bytes
	Version     string
	SignerID    []byte // digest of the signer's public key: 32, 48 or 64 bytes
	Description string // hash algorithm of the measurement
}

// Component returns the component of that type. The second result is false if there is none or more than one.
func (t *Token) Component(typ string) (Component, bool) {
	var found Component
	n := 0
	for _, c := range t.Components {
		if c.Type == typ {
			found = c
			n++
		}
	}
	return found, n == 1
}

// Message is a token that was read and not verified.
type Message struct {
	msg   sign1
	alg   cose.Algorithm
	chain [][]byte
	token *Token
}

// Verified is a token whose signature was checked with a key.
type Verified struct {
	Token     *Token
	Public    *ecdsa.PublicKey // the key
	Key       *cose.Key        // the same, if it is on P-256; else nil
	Algorithm cose.Algorithm
}

// TokenInsecure returns what the token says, without any proof that a device signed it.
func (m *Message) TokenInsecure() *Token { return m.token }

// X5Chain returns the certificates in the token's x5chain header, in DER, the IAK's first (RFC 9783, "Scalability
// Considerations"; RFC 9360 section 2). Nothing vouches for them but an issuer whom the caller trusts.
func (m *Message) X5Chain() [][]byte { return m.chain }

// InstanceID returns the instance ID that belongs to an Initial Attestation Key: 0x01 (RAND, RFC 9711 section 4.2.1.1)
// and the SHA-256 of the public key as an uncompressed point. RFC 9783 section 4 leaves the derivation open.
func InstanceID(iak crypto.PublicKey) ([33]byte, error) {
	var id [33]byte
	pub, ok := iak.(*ecdsa.PublicKey)
	if !ok {
		return id, fmt.Errorf("%w: the IAK is a %T, want a P-256 key", ErrAlgorithm, iak)
	}
	point, err := pub.Bytes()
	if err != nil {
		return id, fmt.Errorf("encode the IAK: %w", err)
	}
	sum := sha256.Sum256(point)
	id[0] = 0x01
	copy(id[1:], sum[:])
	return id, nil
}
