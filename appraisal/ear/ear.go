// SPDX-License-Identifier: Apache-2.0

// Package ear writes and reads EAT Attestation Results (draft-ietf-rats-ear): what a Verifier says of Evidence, one appraisal
// for each attester in it (a submodule), each with a status and the eight trustworthiness claims of AR4SI.
//
// An [EAR] travels as a JWT or as a CWT. Claims had other names in earlier drafts and have them in Veraison:
// "ear.status" is now "ear_status", "ear.appraisal-policy-id" is now the list "ear_appraisal_policy_ids". Both are read;
// [Form] chooses which are written. In CBOR the numbers never changed.
//
// An EAR names no key of the attester and so binds none. Who relies on one compares its nonce with the one that was sent,
// into which the key went ([sealift/evidence.Binding]). [Check] applies all the rules that a Relying Party has to: it is the
// only function here that says yes.
package ear

import (
	"errors"
	"fmt"
	"regexp"
	"time"

	"sealift/appraisal"
	"sealift/cose"
)

// Profiles of EAR.
const (
	Profile         = "tag:ietf.org,2026:rats/ear#04"    // draft-ietf-rats-ear-04
	ProfileVeraison = "tag:github.com,2023:veraison/ear" // Veraison, and the drafts before the working group's
)

// Media types (draft-ietf-rats-ear section 6; RFC 9782 wants the profile quoted).
const (
	MediaTypeJWT = `application/eat+jwt; eat_profile="` + Profile + `"`
	MediaTypeCWT = `application/eat+cwt; eat_profile="` + Profile + `"`
)

// Bounds.
const (
	maxEAR     = 1 << 20
	maxSubmods = 64
	maxNonces  = 16
	clockSkew  = 2 * time.Minute // how far ahead a Verifier's clock may be
)

// Errors of reading.
var (
	ErrMalformed = errors.New("ear: malformed")
	ErrSignature = errors.New("ear: not signed by the pinned key of the Verifier")
	ErrKey       = errors.New("ear: unfit key")
)

// knownProfile are the profiles whose claims this package knows: every draft of the working group, and Veraison's.
var knownProfile = regexp.MustCompile(`^(tag:ietf\.org,2026:rats/ear#[0-9]{2}|tag:github\.com,2023:veraison/ear)$`)

// Form chooses the names of claims in a JWT.
type Form int

// Forms.
const (
	FormDraft    Form = iota // ear_status, as the working group's draft has it
	FormVeraison             // ear.status, as Veraison and its clients have it
)

// EAR is an EAT Attestation Result.
type EAR struct {
	Profile     string
	IssuedAt    time.Time
	Expires     time.Time // zero where it is not stated
	Verifier    VerifierID
	Nonces      [][]byte // eat_nonce: mostly one
	RawEvidence []byte
	Status      *appraisal.Tier // of the whole; optional
	Submods     map[string]Appraisal

	Signer *cose.Key // whose signature verified; nil in one that was made or only parsed
}

// VerifierID says which program made a result (AR4SI section 2.2.2).
type VerifierID struct{ Developer, Build string }

// Appraisal is the appraisal of one attester.
type Appraisal struct {
	Status   appraisal.Tier
	Vector   map[string]int8 // by AR4SI's names; those that were not asserted are missing or 0
	Policies []string        // ear_appraisal_policy_ids
	Nonces   [][]byte
}

// New makes an EAR of a result: one submodule with the given name, which for hardware that an emulator plays must begin with
// "emu:" ([sealift/evidence.Hardware.BindingName]). The policy is named by its hash.
func New(r *appraisal.Result, submod string, nonce []byte, id VerifierID, now time.Time, validity time.Duration) *EAR {
	a := Appraisal{Status: r.Status, Vector: map[string]int8{}, Policies: []string{PolicyURI(r)}}
	for name, c := range r.Vector {
		a.Vector[name] = c.Value
	}
	e := &EAR{Profile: Profile, IssuedAt: now.UTC().Truncate(time.Second), Verifier: id, Submods: map[string]Appraisal{submod: a}}
	if validity > 0 {
		e.Expires = e.IssuedAt.Add(validity)
	}
	if nonce != nil {
		e.Nonces = [][]byte{nonce}
	}
	return e
}

// PolicyURI names a policy by its hash, as an identifier of an appraisal policy: a named information URI (RFC 6920) would want
// base64url; this one can be compared with what `sealift policy show` prints.
func PolicyURI(r *appraisal.Result) string {
	return "urn:sealift:policy:sha-256:" + r.PolicyHash.String()
}

// validate checks what both forms demand.
func (e *EAR) validate() error {
	switch {
	case e.Profile == "":
		return fmt.Errorf("%w: no eat_profile", ErrMalformed)
	case e.IssuedAt.Unix() <= 0 || e.IssuedAt.Unix() > 1<<37:
		return fmt.Errorf("%w: iat is missing or no time", ErrMalformed)
	case !e.Expires.IsZero() && (e.Expires.Unix() <= 0 || e.Expires.Unix() > 1<<37):
		return fmt.Errorf("%w: exp is no time", ErrMalformed)
	case len(e.Submods) == 0 || len(e.Submods) > maxSubmods:
		return fmt.Errorf("%w: %d submodules, want 1 to %d", ErrMalformed, len(e.Submods), maxSubmods)
	case len(e.Nonces) > maxNonces:
		return fmt.Errorf("%w: %d nonces, at most %d", ErrMalformed, len(e.Nonces), maxNonces)
	}
	for _, n := range e.Nonces {
		if len(n) < 8 || len(n) > 64 { // RFC 9711 section 4.1
			return fmt.Errorf("%w: a nonce of %d bytes, want 8 to 64", ErrMalformed, len(n))
		}
	}
	return nil
}

// Read reads a JWT or CWT that one of the keys signed. It judges nothing else: see [Check].
func Read(data []byte, keys ...*cose.Key) (*EAR, error) {
	if len(data) > maxEAR {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), maxEAR)
	}
	if len(data) > 0 && data[0] == 'e' { // base64url of {"
		return readJWT(data, keys)
	}
	return readCWT(data, keys)
}

// ParseInsecure reads a JWT or CWT and verifies nothing: for showing what stands in it.
func ParseInsecure(data []byte) (*EAR, error) {
	if len(data) > maxEAR {
		return nil, fmt.Errorf("%w: %d bytes, at most %d", ErrMalformed, len(data), maxEAR)
	}
	if len(data) > 0 && data[0] == 'e' {
		j, err := parseJWS(data)
		if err != nil {
			return nil, err
		}
		return parseJSON(j.payload)
	}
	msg, err := cose.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return parseCBOR(msg.PayloadInsecure())
}
