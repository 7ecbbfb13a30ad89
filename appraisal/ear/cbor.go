// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"fmt"
	"io"
	"time"

	"sealift/appraisal"
	"sealift/cose"
)

// Labels of claims in CBOR: of EAT (RFC 9711), of CWT (RFC 8392), and of EAR.
const (
	labelExp      = 4
	labelIat      = 6
	labelNonce    = 10
	labelProfile  = 265
	labelSubmods  = 266
	labelStatus   = 1000
	labelVector   = 1001
	labelRaw      = 1002
	labelPolicies = 1003
	labelVerifier = 1004
)

// SignCWT returns the EAR as a CWT: a COSE_Sign1 with the media type as content type.
func (e *EAR) SignCWT(rand io.Reader, signer cose.Signer) ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	submods := map[string]any{}
	for name, a := range e.Submods {
		submods[name] = a.cbor()
	}
	m := map[int]any{labelProfile: e.Profile, labelIat: e.IssuedAt.Unix(), labelSubmods: submods,
		labelVerifier: map[int]string{0: e.Verifier.Developer, 1: e.Verifier.Build}}
	if !e.Expires.IsZero() {
		m[labelExp] = e.Expires.Unix()
	}
	if e.Status != nil {
		m[labelStatus] = int8(*e.Status)
	}
	if e.RawEvidence != nil {
		m[labelRaw] = e.RawEvidence
	}
	noncesCBOR(m, e.Nonces)
	payload, err := cose.Marshal(m)
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	return cose.Sign1With(rand, signer, cose.Headers{ContentType: MediaTypeCWT}, payload)
}

func (a *Appraisal) cbor() map[int]any {
	m := map[int]any{labelStatus: int8(a.Status)}
	if a.Vector != nil {
		vector := map[int]int8{}
		for i, name := range appraisal.VectorClaims() {
			if v := a.Vector[name]; v != 0 {
				vector[i] = v
			}
		}
		m[labelVector] = vector
	}
	if len(a.Policies) > 0 {
		m[labelPolicies] = a.Policies
	}
	noncesCBOR(m, a.Nonces)
	return m
}

func noncesCBOR(m map[int]any, list [][]byte) {
	switch len(list) {
	case 0:
	case 1:
		m[labelNonce] = list[0]
	default:
		m[labelNonce] = list
	}
}

func readCWT(data []byte, keys []*cose.Key) (*EAR, error) {
	msg, err := cose.Parse(data)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	// A Verifier's kid need not be a thumbprint, and ES256 is what EAR's own examples use.
	signed, err := msg.Verify(keys, cose.VerifyOptions{Legacy: true, AnyKID: true})
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrSignature, err)
	}
	e, err := parseCBOR(signed.Payload)
	if err != nil {
		return nil, err
	}
	e.Signer = signed.Key
	return e, nil
}

// cborReader reads members of a map and keeps the first error. Extensions may have text labels.
type cborReader struct {
	m   map[any]cose.RawMessage
	err error
}

func newCBORReader(data []byte) *cborReader {
	r := &cborReader{}
	if err := cose.Unmarshal(data, &r.m); err != nil {
		r.err = fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	return r
}

func (r *cborReader) read(label int64, into any, needed bool) bool {
	if r.err != nil {
		return false
	}
	raw, found := r.m[label]
	if !found {
		if needed {
			r.err = fmt.Errorf("%w: no claim %d", ErrMalformed, label)
		}
		return false
	}
	if err := cose.Unmarshal(raw, into); err != nil {
		r.err = fmt.Errorf("%w: claim %d: %w", ErrMalformed, label, err)
		return false
	}
	return true
}

func (r *cborReader) time(label int64, needed bool) time.Time {
	var sec int64
	if !r.read(label, &sec, needed) {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

func (r *cborReader) tier(label int64, needed bool) *appraisal.Tier {
	var n int64
	if !r.read(label, &n, needed) {
		return nil
	}
	t, err := tierOfNumber(n)
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%w: claim %d: %w", ErrMalformed, label, err)
	}
	return &t
}

// list reads one item, or an array of such items.
func list[T any](r *cborReader, label int64) []T {
	raw := r.m[label]
	if r.err != nil || len(raw) == 0 {
		return nil
	}
	if raw[0]>>5 != 4 { // no array
		var one T
		r.read(label, &one, true)
		return []T{one}
	}
	var many []T
	r.read(label, &many, true)
	return many
}

func parseCBOR(data []byte) (*EAR, error) {
	r := newCBORReader(data)
	e := &EAR{Submods: map[string]Appraisal{}}
	r.read(labelProfile, &e.Profile, true)
	e.IssuedAt, e.Expires = r.time(labelIat, true), r.time(labelExp, false)
	var id map[int64]string
	r.read(labelVerifier, &id, false)
	e.Verifier = VerifierID{id[0], id[1]}
	r.read(labelRaw, &e.RawEvidence, false)
	e.Nonces, e.Status = list[[]byte](r, labelNonce), r.tier(labelStatus, false)
	var submods map[string]cose.RawMessage
	r.read(labelSubmods, &submods, true)
	if r.err != nil {
		return nil, r.err
	}
	for name, raw := range submods {
		a, err := parseAppraisalCBOR(raw)
		if err != nil {
			return nil, fmt.Errorf("submodule %q: %w", name, err)
		}
		e.Submods[name] = *a
	}
	return e, e.validate()
}

func parseAppraisalCBOR(data []byte) (*Appraisal, error) {
	r := newCBORReader(data)
	a := &Appraisal{}
	if t := r.tier(labelStatus, true); t != nil {
		a.Status = *t
	}
	var vector map[int64]int8
	if r.read(labelVector, &vector, false) {
		a.Vector = map[string]int8{}
		for i, name := range appraisal.VectorClaims() {
			if v, found := vector[int64(i)]; found {
				a.Vector[name] = v
			}
		}
	}
	a.Policies, a.Nonces = list[string](r, labelPolicies), list[[]byte](r, labelNonce)
	return a, r.err
}
