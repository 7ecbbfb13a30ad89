// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"

	"sealift/cose"
	"sealift/teep"
)

// queryProbes look at the QueryRequest with which the TAM opens a session (teep-protocol sections 4.1.1, 4.2, 8 and 9).
func queryProbes() []probe[*tamRun] {
	return []probe[*tamRun]{
		{"3", "T 4.1.1", "the QueryRequest is a tagged COSE message with protected alg, kid, and a valid signature", queryCOSE},
		{"31", "T 8.1", "the first QueryRequest bears one signature for each suite", queryAllSuites},
		{"31", "T 8.1", "both mandatory cipher suites are offered", querySuites},
		{"36", "T 8.2", "all four SUIT profiles are offered", queryProfiles},
		{"5", "T 4.2", "token if and only if attestation is not requested", queryToken},
		{"8, 9", "T 4.2", "challenge and freshness mechanisms only with attestation", queryChallenge},
		{"37, 38", "T 9", "attestation is requested with a challenge fit for eat_nonce, and the nonce is among the mechanisms", queryNonce},
		{"1, 2, 44", "T 4.1.1", "tokens and challenges differ and are not short", queryFresh},
	}
}

// opening gives the first QueryRequest with its envelope and its raw options.
func (r *tamRun) opening(ctx context.Context) (*answer, *teep.QueryRequest, map[uint64]cose.RawMessage, error) {
	a := r.post(ctx, nil)
	q, ok := a.msg.(*teep.QueryRequest)
	if !ok {
		return nil, nil, nil, fmt.Errorf("an empty POST is answered with %s, not with a QueryRequest", a.what())
	}
	m, err := cose.Parse(a.body)
	if err != nil {
		return nil, nil, nil, err
	}
	var elements []cose.RawMessage
	var options map[uint64]cose.RawMessage
	if err := cose.Unmarshal(m.PayloadInsecure(), &elements); err != nil {
		return nil, nil, nil, err
	}
	if err := cose.Unmarshal(elements[1], &options); err != nil {
		return nil, nil, nil, err
	}
	return a, q, options, nil
}

func queryCOSE(ctx context.Context, r *tamRun) error {
	a := r.post(ctx, nil)
	if !a.ok() || len(a.body) == 0 {
		return fmt.Errorf("an empty POST is answered with %s", a.what())
	}
	m, err := cose.Parse(a.body)
	if err != nil {
		return err
	}
	if !m.Tagged() {
		return errors.New("without a CBOR tag")
	}
	if len(r.TAMKeys) == 0 {
		return na("tagged, with the algorithms %v; signatures are not checked, as the kit was given no key of the TAM", m.Algorithms())
	}
	for i, kid := range m.KIDs() {
		known := slices.ContainsFunc(r.TAMKeys, func(k *cose.Key) bool { return bytes.Equal(k.KID(), kid) })
		if kid == nil || !known {
			return fmt.Errorf("signature %d: kid %x is not the thumbprint (RFC 9679) of a TAM key that the kit was given", i+1, kid)
		}
	}
	if _, err := m.Verify(r.TAMKeys, cose.VerifyOptions{RequireKID: true}); err != nil {
		return err
	}
	return a.bad
}

func queryAllSuites(ctx context.Context, r *tamRun) error {
	a, q, _, err := r.opening(ctx)
	if err != nil {
		return err
	}
	m, err := cose.Parse(a.body)
	if err != nil {
		return err
	}
	if !m.Multi() {
		if r.OwnURI {
			return na("the URI names the Agent, so the TAM may know its suite")
		}
		return fmt.Errorf("a COSE_Sign1 with %v, although nothing is known of an Agent that sends an empty POST", m.Algorithms())
	}
	for _, s := range q.CipherSuites {
		if len(s) > 0 && !slices.Contains(m.Algorithms(), s[0].Alg) {
			return fmt.Errorf("suite %v is offered, and the signatures are %v", s, m.Algorithms())
		}
	}
	return nil
}

func querySuites(ctx context.Context, r *tamRun) error {
	_, q, _, err := r.opening(ctx)
	if err != nil {
		return err
	}
	for _, want := range teep.DefaultCipherSuites {
		if !slices.ContainsFunc(q.CipherSuites, want.Equal) {
			return fmt.Errorf("%v is missing: the TAM offers %v", want, q.CipherSuites)
		}
	}
	return nil
}

func queryProfiles(ctx context.Context, r *tamRun) error {
	_, q, _, err := r.opening(ctx)
	if err != nil {
		return err
	}
	for _, want := range teep.DefaultSUITProfiles {
		if !slices.Contains(q.SUITProfiles, want) {
			return fmt.Errorf("%v is missing: the TAM offers %v", want, q.SUITProfiles)
		}
	}
	return nil
}

func queryToken(ctx context.Context, r *tamRun) error {
	_, q, _, err := r.opening(ctx)
	if err != nil {
		return err
	}
	if attest := q.DataItems.Has(teep.ItemAttestation); attest == (q.Token != nil) {
		return fmt.Errorf("attestation requested: %v, token: %d bytes", attest, len(q.Token))
	}
	return nil
}

func queryChallenge(ctx context.Context, r *tamRun) error {
	_, q, options, err := r.opening(ctx)
	if err != nil || q.DataItems.Has(teep.ItemAttestation) {
		return err
	}
	for label, name := range map[uint64]string{optChallenge: "challenge", optFreshness: "supported-freshness-mechanisms"} {
		if _, has := options[label]; has {
			return fmt.Errorf("%s without a request for attestation", name)
		}
	}
	return nil
}

// attesting gives a QueryRequest that asks for attestation, if the TAM makes one for somebody it does not know.
func (r *tamRun) attesting(ctx context.Context) (*teep.QueryRequest, error) {
	q, err := r.connect(ctx)
	if err != nil || q.DataItems.Has(teep.ItemAttestation) {
		return q, err
	}
	a, err := r.sendAs(ctx, r.stranger, &teep.QueryResponse{Token: q.Token})
	if err != nil {
		return nil, err
	}
	if q, ok := a.msg.(*teep.QueryRequest); ok && q.DataItems.Has(teep.ItemAttestation) {
		return q, nil
	}
	return nil, na("the TAM asks nobody for attestation, not even a stranger")
}

func queryNonce(ctx context.Context, r *tamRun) error {
	q, err := r.attesting(ctx)
	if err != nil {
		return err
	}
	switch {
	case q.Token != nil:
		return errors.New("a request for attestation with a token")
	case q.Challenge == nil && q.SupportsFreshness(teep.FreshnessTimestamp):
		return na("the TAM asks for timestamps")
	case q.Challenge == nil:
		return errors.New("no challenge")
	case len(q.Challenge) > 64:
		return fmt.Errorf("a challenge of %d bytes does not fit into eat_nonce (RFC 9711 section 4.1)", len(q.Challenge))
	case !q.SupportsFreshness(teep.FreshnessNonce):
		return fmt.Errorf("the nonce is not among the freshness mechanisms %v", q.SupportedFreshness)
	}
	return nil
}

func queryFresh(ctx context.Context, r *tamRun) error {
	const n = 5
	var seen [][]byte
	for range n {
		q, err := r.connect(ctx)
		if err != nil {
			return err
		}
		value := q.Token
		if value == nil {
			value = q.Challenge
		}
		if len(value) < 8 {
			return fmt.Errorf("%d bytes", len(value))
		}
		for _, old := range seen {
			if bytes.Equal(old, value) {
				return fmt.Errorf("%x comes twice", value)
			}
		}
		seen = append(seen, value)
	}
	return remark(fmt.Sprintf("%d values of %d bytes, all different; where they come from cannot be seen", n, len(seen[0])))
}
