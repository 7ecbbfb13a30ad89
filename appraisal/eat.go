// SPDX-License-Identifier: Apache-2.0

package appraisal

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"time"

	"sealift/cose"
	"sealift/evidence"
	"sealift/suit"
	"sealift/teep"
)

// TEEPProfile is the eat_profile of an Attestation Result for TEEP (draft-ietf-teep-protocol section 5). The draft has
// no number yet; the placeholder is what all implementations use.
const TEEPProfile = teep.EATProfile

// MediaTypeResult is the media type of an issued result; RFC 9782 wants the profile quoted.
const MediaTypeResult = `application/eat+cwt; eat_profile="` + TEEPProfile + `"`

// Limits of an issued result.
const (
	maxResult   = 256 << 10
	maxValidity = 30 * 24 * time.Hour
	clockSkew   = 2 * time.Minute // how far ahead the Verifier's clock may be
)

// Errors of reading a result.
var (
	ErrResult        = errors.New("appraisal: malformed Attestation Result")
	ErrResultKey     = errors.New("appraisal: Attestation Result is not signed by a known Verifier")
	ErrResultExpired = errors.New("appraisal: Attestation Result is not valid now")
	ErrNoEvidence    = errors.New("appraisal: a result without verified Evidence cannot be issued: there is no key to bind it to")
)

// AttestationResult is a verified result in the TEEP profile, as its receiver sees it.
type AttestationResult struct {
	Status         Tier
	Accept         Tier // the worst status that the Verifier's policy accepts
	Vector         map[string]int8
	Hardware       evidence.Hardware
	Emulated       bool
	AgentKID       []byte // cnf: thumbprint of the Agent's signing key
	Nonce          []byte // the challenge of the appraised Evidence
	UEID           []byte
	OEMID          []byte
	HWModel        []byte
	HWVersion      string
	Manifests      []evidence.ManifestRef
	TAs            []evidence.TAClaim // the TAs that were loaded
	EvidenceDigest [32]byte
	PolicyHash     [32]byte
	IssuedAt       time.Time
	Expires        time.Time
	Verifier       *cose.Key
}

// OK reports whether the Verifier accepts: see [Result.OK].
func (r *AttestationResult) OK() bool {
	return r.Status == TierAffirming || r.Status == TierWarning && r.Accept == TierWarning
}

type wireResult struct {
	Expires   cose.RawMessage          `cbor:"4,keyasint"`
	IssuedAt  cose.RawMessage          `cbor:"6,keyasint"`
	Cnf       wireCnf                  `cbor:"8,keyasint"`
	Nonce     []byte                   `cbor:"10,keyasint"`
	UEID      []byte                   `cbor:"256,keyasint"`
	OEMID     []byte                   `cbor:"258,keyasint"`
	HWModel   []byte                   `cbor:"259,keyasint"`
	HWVersion []string                 `cbor:"260,keyasint"`
	Profile   string                   `cbor:"265,keyasint"`
	Submods   map[string]wireAppraisal `cbor:"266,keyasint"`
	Manifests []wireManifest           `cbor:"272,keyasint"`
	TAs       cose.RawMessage          `cbor:"-70003,keyasint"`
	Evidence  []byte                   `cbor:"-70004,keyasint"`
	Accept    int8                     `cbor:"-70005,keyasint"`
}

// wireCnf holds a confirmation: kid (RFC 8747, 3), a whole COSE_Key (RFC 8747, 1) or its thumbprint (RFC 9679,
// 5). All three are read, kid is written.
type wireCnf struct {
	Key cose.RawMessage `cbor:"1,keyasint,omitempty"`
	KID []byte          `cbor:"3,keyasint,omitempty"`
	CKT []byte          `cbor:"5,keyasint,omitempty"`
}

// wireAppraisal is an appraisal of a submodule with the labels of EAR.
type wireAppraisal struct {
	Status   int8           `cbor:"1000,keyasint"`
	Vector   map[uint8]int8 `cbor:"1001,keyasint"`
	Policies []string       `cbor:"1003,keyasint"`
}

type wireManifest struct {
	_       struct{} `cbor:",toarray"`
	Format  uint64
	Content []byte
}

type wireReference struct {
	_      struct{} `cbor:",toarray"`
	URI    string
	Digest suit.Digest
}

const contentCBOR = 60 // as in the claims record

// Issue signs a result as an EAT of the TEEP profile: COSE_Sign1, CWT claims, cnf bound to the Agent's key. The submodule
// is called after the hardware as in the binding, so an emulated one is called "emu:..."; a Relying Party that looks for
// "trustzone" does not find it. Negative results can be issued too.
func Issue(rand io.Reader, signer cose.Signer, r *Result, v *evidence.Verified, now time.Time, validity time.Duration) ([]byte, error) {
	if !v.Authentic() || v.Digest != r.EvidenceDigest {
		return nil, ErrNoEvidence
	}
	if validity <= 0 || validity > maxValidity {
		return nil, fmt.Errorf("issue an Attestation Result: validity %s is not between 0 and %s", validity, maxValidity)
	}
	app := wireAppraisal{Status: int8(r.Status), Vector: map[uint8]int8{}, Policies: []string{r.PolicyHash.String()}}
	for i, name := range vectorOrder {
		if c := r.Vector[name]; c.Value != valueUnasserted {
			app.Vector[uint8(i)] = c.Value
		}
	}
	c := v.Claims
	w := wireResult{
		Expires: cose.MustMarshal(now.Add(validity).Unix()), IssuedAt: cose.MustMarshal(now.Unix()), Cnf: wireCnf{KID: c.AgentKID},
		Nonce: c.Nonce, UEID: c.UEID, OEMID: c.OEMID, HWModel: c.HWModel, HWVersion: []string{c.HWVersion}, Profile: TEEPProfile,
		Submods:   map[string]wireAppraisal{v.Hardware.BindingName(v.Emulated): app},
		Manifests: marshalManifests(v), TAs: evidence.MarshalTAs(c.TAs), Evidence: v.Digest[:], Accept: int8(r.Accept),
	}
	payload, err := cose.Marshal(w)
	if err != nil {
		return nil, fmt.Errorf("issue an Attestation Result: %w", err)
	}
	return cose.Sign1(rand, signer, payload)
}

// marshalManifests lists the Agent's measurement first: the profile wants at least one manifest, and an Agent without
// Trusted Components has none.
func marshalManifests(v *evidence.Verified) []wireManifest {
	var refs []wireReference
	for _, name := range launchNames[v.Hardware] {
		m, ok := v.Measurement(name)
		if d, err := LaunchDigest(v.Hardware, m.Value); ok && err == nil {
			refs = append(refs, wireReference{URI: agentURI, Digest: d.Digest})
			break
		}
	}
	for _, m := range v.Claims.Manifests {
		refs = append(refs, wireReference{URI: m.URI, Digest: m.Digest})
	}
	out := make([]wireManifest, len(refs))
	for i, ref := range refs {
		out[i] = wireManifest{Format: contentCBOR, Content: cose.MustMarshal(ref)}
	}
	return out
}

// agentURI stands for the Agent itself in the list of manifests.
const agentURI = "tag:sealift.invalid,2026:agent"

// ParseResult verifies and reads a result. It checks what draft-ietf-teep-protocol section 5 demands of any receiver:
// a known Verifier's signature, the profile, the time, and the required claims. The caller compares cnf with the key
// that signed the TEEP message ([AttestationResult.For]) and decides by status and vector.
func ParseResult(data []byte, verifierKeys []*cose.Key, now time.Time) (*AttestationResult, error) {
	if len(data) > maxResult {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrResult, len(data), maxResult)
	}
	msg, err := cose.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResult, err)
	}
	signed, err := msg.Verify(verifierKeys, cose.VerifyOptions{})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResultKey, err)
	}
	var w wireResult
	if err := cose.Unmarshal(signed.Payload, &w); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrResult, err)
	}
	r := &AttestationResult{Verifier: signed.Key, Nonce: w.Nonce, UEID: w.UEID, OEMID: w.OEMID, HWModel: w.HWModel,
		Vector: map[string]int8{}, Accept: Tier(w.Accept)}
	for _, read := range []func(*wireResult) error{r.readIdentity, r.readTime, r.readAppraisal, r.readLists} {
		if err := read(&w); err != nil {
			return nil, err
		}
	}
	if now.Before(r.IssuedAt.Add(-clockSkew)) || !now.Before(r.Expires) {
		return nil, fmt.Errorf("%w: issued %s, expires %s, now %s", ErrResultExpired, r.IssuedAt.Format(time.RFC3339),
			r.Expires.Format(time.RFC3339), now.UTC().Format(time.RFC3339))
	}
	return r, nil
}

// For reports whether the result is about the Agent with this key.
func (r *AttestationResult) For(agentKey *cose.Key) bool {
	return agentKey != nil && bytes.Equal(r.AgentKID, agentKey.KID())
}

// readIdentity reads the claims that the profile requires of the device, with the sizes of RFC 9711.
func (r *AttestationResult) readIdentity(w *wireResult) error {
	if w.Profile != TEEPProfile {
		return fmt.Errorf("%w: eat_profile is %q, want %q", ErrResult, w.Profile, TEEPProfile)
	}
	for _, c := range []struct {
		name        string
		n, min, max int
	}{{"eat_nonce", len(w.Nonce), 8, 64}, {"ueid", len(w.UEID), 7, 33}, {"oemid", len(w.OEMID), 3, 16},
		{"hwmodel", len(w.HWModel), 1, 32}, {"hwversion", len(w.HWVersion), 1, 2}, {"manifests", len(w.Manifests), 1, 2048},
		{"digest of the Evidence", len(w.Evidence), 32, 32}} {
		if c.n < c.min || c.n > c.max {
			return fmt.Errorf("%w: %s: %d, want %d to %d", ErrResult, c.name, c.n, c.min, c.max)
		}
	}
	r.HWVersion, r.EvidenceDigest = w.HWVersion[0], [32]byte(w.Evidence)
	switch {
	case len(w.Cnf.KID) == 32 && w.Cnf.CKT == nil && w.Cnf.Key == nil:
		r.AgentKID = w.Cnf.KID
	case len(w.Cnf.CKT) == 32 && w.Cnf.KID == nil && w.Cnf.Key == nil:
		r.AgentKID = w.Cnf.CKT
	case w.Cnf.Key != nil && w.Cnf.KID == nil && w.Cnf.CKT == nil:
		key, err := cose.ParseKey(w.Cnf.Key)
		if err != nil {
			return fmt.Errorf("%w: cnf: %w", ErrResult, err)
		}
		r.AgentKID = key.KID()
	default:
		return fmt.Errorf("%w: cnf names no key, or several", ErrResult)
	}
	return nil
}

// readTime accepts a number, as CWT has it, and tag 1 around it, as EAT has it.
func (r *AttestationResult) readTime(w *wireResult) error {
	for _, t := range []struct {
		name string
		raw  cose.RawMessage
		into *time.Time
	}{{"iat", w.IssuedAt, &r.IssuedAt}, {"exp", w.Expires, &r.Expires}} {
		raw := bytes.TrimPrefix(t.raw, []byte{0xc1})
		var sec int64
		if len(raw) < 2 {
			return fmt.Errorf("%w: %s is missing or no time of this century", ErrResult, t.name)
		}
		if err := cose.Unmarshal(raw, &sec); err != nil || sec <= 0 || sec > 1<<40 {
			return fmt.Errorf("%w: %s is no time in seconds", ErrResult, t.name)
		}
		*t.into = time.Unix(sec, 0).UTC()
	}
	return nil
}

func (r *AttestationResult) readAppraisal(w *wireResult) error {
	if len(w.Submods) != 1 {
		return fmt.Errorf("%w: %d submodules, want one", ErrResult, len(w.Submods))
	}
	for name, app := range w.Submods {
		r.Hardware, r.Emulated = evidence.ParseBindingName(name)
		r.Status = Tier(app.Status)
		if _, known := tierNames[r.Status]; !known {
			return fmt.Errorf("%w: status %d", ErrResult, app.Status)
		}
		for label, value := range app.Vector {
			if int(label) >= len(vectorOrder) {
				continue // a claim of a later AR4SI
			}
			r.Vector[vectorOrder[label]] = value
			if r.Status != TierNone && tierOf(value) > r.Status {
				return fmt.Errorf("%w: status %s is better than %s", ErrResult, r.Status, vectorOrder[label])
			}
		}
		if len(app.Policies) != 1 || (*Hex32)(&r.PolicyHash).UnmarshalText([]byte(app.Policies[0])) != nil {
			return fmt.Errorf("%w: no policy identifier", ErrResult)
		}
	}
	if r.Accept != TierAffirming && r.Accept != TierWarning {
		return fmt.Errorf("%w: accepted tier %d", ErrResult, int8(r.Accept))
	}
	if r.Status == TierAffirming || r.Status == TierWarning {
		for _, name := range required {
			if tierOf(r.Vector[name]) == TierNone {
				return fmt.Errorf("%w: status %s without an assertion of %s", ErrResult, r.Status, name)
			}
		}
	}
	return nil
}

func (r *AttestationResult) readLists(w *wireResult) error {
	tas, err := evidence.ParseTAs(w.TAs)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrResult, err)
	}
	r.TAs = tas
	for i, m := range w.Manifests {
		var ref wireReference
		if err := cose.Unmarshal(m.Content, &ref); err != nil {
			return fmt.Errorf("%w: manifest %d: %w", ErrResult, i, err)
		}
		r.Manifests = append(r.Manifests, evidence.ManifestRef{URI: ref.URI, Digest: ref.Digest})
	}
	return nil
}
