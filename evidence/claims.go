// SPDX-License-Identifier: Apache-2.0

package evidence

import (
	"bytes"
	"errors"
	"fmt"

	"sealift/cose"
	"sealift/suit"
)

// Profile is the eat_profile of the claims record. It differs from the TEEP profile's name on purpose: with that name
// the record would be an Attestation Result (draft-ietf-teep-protocol section 5).
const Profile = "tag:sealift.invalid,2026:teep-evidence-v1"

// Bounds of the claims record.
const (
	maxClaims    = 256 << 10
	maxTAs       = 256
	maxManifests = 1024
	maxText      = 1024
	contentCBOR  = 60 // CoAP content format application/cbor, until suit-report has a number (TEEP draft's example)
)

// ErrMalformed reports bytes that are not what they should be; it says where.
var ErrMalformed = errors.New("evidence: malformed")

// Claims is the claims record of an Agent: the EAT claims that the TEEP profile needs, the Agent's own keys, and what
// is loaded in the TEE. It carries no signature of its own; its SHA-256 stands inside the hardware's signature
// ([Binding]), which makes it Evidence.
type Claims struct {
	Nonce        []byte        // eat_nonce: the challenge of the QueryRequest, 64 bytes
	UEID         []byte        // 7..33 bytes, RFC 9711 section 4.2.1; equals the hardware's instance ID
	OEMID        []byte        // 3 or 16 bytes, RFC 9711 section 4.2.3
	HWModel      []byte        // 1..32 bytes
	HWVersion    string        // version of the TEE
	AgentKID     []byte        // cnf: RFC 9679 thumbprint of the key that signs the Agent's TEEP messages
	AgentEncKey  *cose.Key     // P-256: bundles with PD are encrypted to it
	ConfigDigest [32]byte      // SHA-256 of the measured configuration
	TAs          []TAClaim     // loaded TAs, in the order in which they were installed
	Manifests    []ManifestRef // installed manifests
	Loads        []Load        // what was loaded since the start, where the hardware has a register for it
	QuoteKey     []byte        // name of the attestation key of the TEE's TPM (tpm.Name); empty where there is none
}

// TAClaim describes one loaded TA.
type TAClaim struct {
	Component suit.ComponentID // ["tee", app, name]
	Digest    suit.Digest      // of the TA's binary
	Sequence  uint64           // sequence number of the manifest that installed it
	Signer    []byte           // key identifier of the manifest's signer: 32 bytes
	EncKey    *cose.Key        // P-256: PD for this TA is encrypted to it
	TLSKey    *cose.Key        // key of the TA's TLS 1.3 endpoint, P-256 or Ed25519
}

// ManifestRef names an installed manifest, as SUIT_Reference does.
type ManifestRef struct {
	URI    string
	Digest suit.Digest
}

type wireClaims struct {
	Cnf          wireCnf         `cbor:"8,keyasint"`
	Nonce        []byte          `cbor:"10,keyasint"`
	UEID         []byte          `cbor:"256,keyasint"`
	OEMID        []byte          `cbor:"258,keyasint"`
	HWModel      []byte          `cbor:"259,keyasint"`
	HWVersion    []string        `cbor:"260,keyasint"`
	Profile      string          `cbor:"265,keyasint"`
	Manifests    []wireManifest  `cbor:"272,keyasint,omitempty"`
	ConfigDigest []byte          `cbor:"-70001,keyasint"`
	AgentEncKey  cose.RawMessage `cbor:"-70002,keyasint"`
	TAs          []wireTA        `cbor:"-70003,keyasint"`
	Loads        []wireLoad      `cbor:"-70004,keyasint,omitempty"`
	QuoteKey     []byte          `cbor:"-70006,keyasint,omitempty"`
}

type wireCnf struct {
	KID []byte `cbor:"3,keyasint"`
}

type wireManifest struct {
	_       struct{} `cbor:",toarray"`
	Format  uint64
	Content []byte
}

type wireReference struct {
	_      struct{} `cbor:",toarray"`
	URI    string
	Digest wireDigest
}

type wireDigest struct {
	_     struct{} `cbor:",toarray"`
	Alg   int64
	Bytes []byte
}

type wireTA struct {
	Component [][]byte        `cbor:"1,keyasint"`
	Digest    wireDigest      `cbor:"2,keyasint"`
	Sequence  uint64          `cbor:"3,keyasint"`
	Signer    []byte          `cbor:"4,keyasint"`
	EncKey    cose.RawMessage `cbor:"5,keyasint"`
	TLSKey    cose.RawMessage `cbor:"6,keyasint"`
}

// Marshal returns the record in deterministic CBOR. What breaks a rule of the record is encoded all the same and
// refused by [ParseClaims]; call [Claims.Validate] first where the values come from elsewhere.
func (c Claims) Marshal() []byte {
	w := wireClaims{
		Cnf: wireCnf{nonNil(c.AgentKID)}, Nonce: nonNil(c.Nonce), UEID: nonNil(c.UEID), OEMID: nonNil(c.OEMID),
		HWModel: nonNil(c.HWModel), HWVersion: []string{c.HWVersion}, Profile: Profile,
		ConfigDigest: c.ConfigDigest[:], AgentEncKey: keyBytes(c.AgentEncKey), TAs: []wireTA{},
		Loads: toWireLoads(c.Loads), QuoteKey: c.QuoteKey,
	}
	for _, m := range c.Manifests {
		ref := cose.MustMarshal(wireReference{URI: m.URI, Digest: toWire(m.Digest)})
		w.Manifests = append(w.Manifests, wireManifest{Format: contentCBOR, Content: ref})
	}
	for _, t := range c.TAs {
		w.TAs = append(w.TAs, t.wire())
	}
	return cose.MustMarshal(w)
}

func (t TAClaim) wire() wireTA {
	id := [][]byte(t.Component)
	if id == nil {
		id = [][]byte{}
	}
	return wireTA{Component: id, Digest: toWire(t.Digest), Sequence: t.Sequence, Signer: nonNil(t.Signer),
		EncKey: keyBytes(t.EncKey), TLSKey: keyBytes(t.TLSKey)}
}

// MarshalTAs returns a list of TA claims in deterministic CBOR, as it stands in the record under its label. An
// Attestation Result carries the same bytes.
func MarshalTAs(tas []TAClaim) []byte {
	w := make([]wireTA, 0, len(tas))
	for _, t := range tas {
		w = append(w, t.wire())
	}
	return cose.MustMarshal(w)
}

// ParseTAs reads what [MarshalTAs] wrote, as strictly as [ParseClaims].
func ParseTAs(data []byte) ([]TAClaim, error) {
	var w []wireTA
	if err := cose.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: list of TAs: %w", ErrMalformed, err)
	}
	tas, err := fromWireTAs(w)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(MarshalTAs(tas), data) {
		return nil, fmt.Errorf("%w: list of TAs: not in deterministic encoding", ErrMalformed)
	}
	return tas, nil
}

// ParseClaims reads a claims record strictly: deterministic encoding, no member unknown, none missing, all bounds.
func ParseClaims(data []byte) (*Claims, error) {
	if len(data) > maxClaims {
		return nil, fmt.Errorf("%w: claims: %d bytes, at most %d", ErrMalformed, len(data), maxClaims)
	}
	var w wireClaims
	if err := cose.Unmarshal(data, &w); err != nil {
		return nil, fmt.Errorf("%w: claims: %w", ErrMalformed, err)
	}
	if w.Profile != Profile {
		return nil, fmt.Errorf("%w: claims: eat_profile is %q, want %q", ErrMalformed, w.Profile, Profile)
	}
	if len(w.HWVersion) != 1 || len(w.ConfigDigest) != 32 {
		return nil, fmt.Errorf("%w: claims: hwversion or configuration digest has the wrong length", ErrMalformed)
	}
	c := &Claims{Nonce: w.Nonce, UEID: w.UEID, OEMID: w.OEMID, HWModel: w.HWModel, HWVersion: w.HWVersion[0],
		AgentKID: w.Cnf.KID, ConfigDigest: [32]byte(w.ConfigDigest), QuoteKey: w.QuoteKey}
	var err error
	if c.AgentEncKey, err = cose.ParseKey(w.AgentEncKey); err != nil {
		return nil, fmt.Errorf("%w: claims: the Agent's encryption key: %w", ErrMalformed, err)
	}
	if c.TAs, err = fromWireTAs(w.TAs); err != nil {
		return nil, err
	}
	if c.Manifests, err = fromWireManifests(w.Manifests); err != nil {
		return nil, err
	}
	c.Loads = fromWireLoads(w.Loads)
	if err := c.Validate(); err != nil {
		return nil, err
	}
	if !bytes.Equal(c.Marshal(), data) {
		return nil, fmt.Errorf("%w: claims: an unknown member, or not in deterministic encoding", ErrMalformed)
	}
	return c, nil
}

func fromWireTAs(ws []wireTA) ([]TAClaim, error) {
	if len(ws) > maxTAs {
		return nil, fmt.Errorf("%w: claims: %d TAs, at most %d", ErrMalformed, len(ws), maxTAs)
	}
	var out []TAClaim
	for i, w := range ws {
		t := TAClaim{Component: suit.ComponentID(w.Component), Digest: fromWire(w.Digest), Sequence: w.Sequence, Signer: w.Signer}
		var err error
		if t.EncKey, err = cose.ParseKey(w.EncKey); err != nil {
			return nil, fmt.Errorf("%w: claims: TA %d: encryption key: %w", ErrMalformed, i, err)
		}
		if t.TLSKey, err = cose.ParseKey(w.TLSKey); err != nil {
			return nil, fmt.Errorf("%w: claims: TA %d: TLS key: %w", ErrMalformed, i, err)
		}
		if err := t.validate(); err != nil {
			return nil, err
		}
		out = append(out, t)
	}
	return out, nil
}

func fromWireManifests(ws []wireManifest) ([]ManifestRef, error) {
	if len(ws) > maxManifests {
		return nil, fmt.Errorf("%w: claims: %d manifests, at most %d", ErrMalformed, len(ws), maxManifests)
	}
	var out []ManifestRef
	for i, w := range ws {
		var ref wireReference
		if err := cose.Unmarshal(w.Content, &ref); err != nil || w.Format != contentCBOR {
			return nil, fmt.Errorf("%w: claims: manifest %d is no SUIT_Reference in content format %d", ErrMalformed, i, contentCBOR)
		}
		out = append(out, ManifestRef{URI: ref.URI, Digest: fromWire(ref.Digest)})
	}
	return out, nil
}

func toWire(d suit.Digest) wireDigest {
	return wireDigest{Alg: int64(d.Alg), Bytes: nonNil(d.Bytes)}
}

func fromWire(w wireDigest) suit.Digest {
	return suit.Digest{Alg: cose.Algorithm(w.Alg), Bytes: w.Bytes}
}

// keyBytes encodes a missing key as CBOR null, which no parser accepts.
func keyBytes(k *cose.Key) cose.RawMessage {
	if k == nil {
		return cose.RawMessage{0xf6}
	}
	return k.Marshal()
}
