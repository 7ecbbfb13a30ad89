// SPDX-License-Identifier: Apache-2.0

package ear

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/cose"
)

// jsonNames maps the names of both forms to those of the draft.
var jsonNames = map[string]string{
	"ear.status": "ear_status", "ear.trustworthiness-vector": "ear_trustworthiness_vector", "ear.raw-evidence": "ear_raw_evidence",
	"ear.verifier-id": "ear_verifier_id", "ear.appraisal-policy-id": "ear_appraisal_policy_ids",
	"ear_appraisal_policy_id": "ear_appraisal_policy_ids", "ear.appraisal-policy-ids": "ear_appraisal_policy_ids",
}

// SignJWT returns the EAR as a JWT with ES256.
func (e *EAR) SignJWT(rand io.Reader, signer cose.Signer, form Form) ([]byte, error) {
	if err := e.validate(); err != nil {
		return nil, err
	}
	payload, err := json.Marshal(e.json(form))
	if err != nil {
		return nil, fmt.Errorf("ear: %w", err)
	}
	return signJWS(rand, signer, "JWT", payload)
}

func (e *EAR) json(form Form) map[string]any {
	submods := map[string]any{}
	for name, a := range e.Submods {
		submods[name] = a.json(form)
	}
	m := map[string]any{"eat_profile": e.Profile, "iat": e.IssuedAt.Unix(), "submods": submods,
		"ear_verifier_id": map[string]string{"developer": e.Verifier.Developer, "build": e.Verifier.Build}}
	if !e.Expires.IsZero() {
		m["exp"] = e.Expires.Unix()
	}
	if e.Status != nil {
		m["ear_status"] = e.Status.String()
	}
	if e.RawEvidence != nil {
		m["ear_raw_evidence"] = base64.RawURLEncoding.EncodeToString(e.RawEvidence)
	}
	nonces(m, e.Nonces)
	if form == FormVeraison {
		m["eat_profile"] = ProfileVeraison
	}
	return rename(m, form)
}

func (a *Appraisal) json(form Form) map[string]any {
	m := map[string]any{"ear_status": a.Status.String()}
	if a.Vector != nil {
		vector := map[string]int8{}
		for _, name := range appraisal.VectorClaims() {
			if v := a.Vector[name]; v != 0 || form == FormVeraison {
				vector[name] = v
			}
		}
		m["ear_trustworthiness_vector"] = vector
	}
	switch {
	case len(a.Policies) == 1 && form == FormVeraison:
		m["ear_appraisal_policy_ids"] = a.Policies[0]
	case len(a.Policies) > 0:
		m["ear_appraisal_policy_ids"] = a.Policies
	}
	nonces(m, a.Nonces)
	return rename(m, form)
}

func nonces(m map[string]any, list [][]byte) {
	texts := make([]string, len(list))
	for i, n := range list {
		texts[i] = base64.RawURLEncoding.EncodeToString(n)
	}
	switch len(texts) {
	case 0:
	case 1:
		m["eat_nonce"] = texts[0]
	default:
		m["eat_nonce"] = texts
	}
}

// rename gives claims the names of a form.
func rename(m map[string]any, form Form) map[string]any {
	if form != FormVeraison {
		return m
	}
	for _, old := range []string{"ear.status", "ear.trustworthiness-vector", "ear.raw-evidence", "ear.verifier-id", "ear.appraisal-policy-id"} {
		if v, found := m[jsonNames[old]]; found {
			m[old] = v
			delete(m, jsonNames[old])
		}
	}
	return m
}

func readJWT(data []byte, keys []*cose.Key) (*EAR, error) {
	j, err := parseJWS(data)
	if err != nil {
		return nil, err
	}
	key, err := j.verify(keys)
	if err != nil {
		return nil, err
	}
	e, err := parseJSON(j.payload)
	if err != nil {
		return nil, err
	}
	e.Signer = key
	return e, nil
}

// jsonReader reads members of an object and keeps the first error.
type jsonReader struct {
	m   map[string]json.RawMessage
	err error
}

// newReader reads an object and gives its members the draft's names.
func newReader(data []byte) *jsonReader {
	m, err := object(data)
	if err != nil {
		return &jsonReader{err: fmt.Errorf("%w: %w", ErrMalformed, err)}
	}
	for old, name := range jsonNames {
		v, found := m[old]
		if !found {
			continue
		}
		if m[name] != nil {
			return &jsonReader{err: fmt.Errorf("%w: %s and %s are the same claim", ErrMalformed, old, name)}
		}
		m[name] = v
		delete(m, old)
	}
	return &jsonReader{m: m}
}

// read decodes a member; one that is needed and missing is an error.
func (r *jsonReader) read(name string, into any, needed bool) bool {
	if r.err != nil {
		return false
	}
	raw := r.m[name]
	if raw == nil || string(raw) == "null" {
		if needed {
			r.err = fmt.Errorf("%w: no %s", ErrMalformed, name)
		}
		return false
	}
	if err := json.Unmarshal(raw, into); err != nil {
		r.err = fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
		return false
	}
	return true
}

// time reads seconds since 1970.
func (r *jsonReader) time(name string, needed bool) time.Time {
	var sec int64
	if !r.read(name, &sec, needed) {
		return time.Time{}
	}
	return time.Unix(sec, 0).UTC()
}

// texts reads a text or a list of texts.
func (r *jsonReader) texts(name string) []string {
	var list []string
	if r.err == nil && strings.HasPrefix(string(r.m[name]), `"`) {
		var one string
		r.read(name, &one, true)
		return []string{one}
	}
	r.read(name, &list, false)
	return list
}

// bytes reads base64url texts, with or without padding.
func (r *jsonReader) bytes(name string) [][]byte {
	var out [][]byte
	for _, text := range r.texts(name) {
		b, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(text, "="))
		if err != nil && r.err == nil {
			r.err = fmt.Errorf("%w: %s is not base64url", ErrMalformed, name)
		}
		out = append(out, b)
	}
	return out
}

// tier reads a tier by its name or number.
func (r *jsonReader) tier(name string, needed bool) *appraisal.Tier {
	raw := string(r.m[name])
	if raw == "" && !needed {
		return nil
	}
	var text string
	var number int8
	t := appraisal.TierNone
	var err error
	if strings.HasPrefix(raw, `"`) {
		r.read(name, &text, needed)
		t, err = appraisal.ParseTier(text)
	} else {
		r.read(name, &number, needed)
		t, err = tierOfNumber(int64(number))
	}
	if err != nil && r.err == nil {
		r.err = fmt.Errorf("%w: %s: %w", ErrMalformed, name, err)
	}
	return &t
}

// tierOfNumber accepts the four numbers of tiers.
func tierOfNumber(n int64) (appraisal.Tier, error) {
	t := appraisal.Tier(n)
	if int64(t) != n || t.String() == "" {
		return t, fmt.Errorf("%d is no tier", n)
	}
	return t, nil
}

func parseJSON(data []byte) (*EAR, error) {
	r := newReader(data)
	e := &EAR{Submods: map[string]Appraisal{}}
	r.read("eat_profile", &e.Profile, true)
	e.IssuedAt, e.Expires = r.time("iat", true), r.time("exp", false)
	var id struct{ Developer, Build string }
	r.read("ear_verifier_id", &id, false)
	e.Verifier = VerifierID(id)
	e.Nonces = r.bytes("eat_nonce")
	if raw := r.bytes("ear_raw_evidence"); len(raw) == 1 {
		e.RawEvidence = raw[0]
	}
	e.Status = r.tier("ear_status", false)
	var submods map[string]json.RawMessage
	r.read("submods", &submods, true)
	if r.err != nil {
		return nil, r.err
	}
	for name, raw := range submods {
		a, err := parseAppraisal(raw)
		if err != nil {
			return nil, fmt.Errorf("submodule %q: %w", name, err)
		}
		e.Submods[name] = *a
	}
	return e, e.validate()
}

func parseAppraisal(data []byte) (*Appraisal, error) {
	r := newReader(data)
	a := &Appraisal{}
	if t := r.tier("ear_status", true); t != nil {
		a.Status = *t
	}
	var vector map[string]int8
	if r.read("ear_trustworthiness_vector", &vector, false) {
		a.Vector = map[string]int8{}
		for _, name := range appraisal.VectorClaims() { // others are of a later AR4SI
			if v, found := vector[name]; found {
				a.Vector[name] = v
			}
		}
	}
	a.Policies, a.Nonces = r.texts("ear_appraisal_policy_ids"), r.bytes("eat_nonce")
	return a, r.err
}
