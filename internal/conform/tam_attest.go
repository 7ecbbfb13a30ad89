// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"fmt"

	"sealift/internal/agentconfig"
	"sealift/teep"
)

// attestationProbes spoil the Evidence of an Agent that the TAM does not know yet (teep-protocol sections 4.3 and 7.1). They come
// before the Agent is admitted: a TAM that knows it need not ask again.
func attestationProbes() []probe[*tamRun] {
	spoiled := func(change func(*tamRun, *teep.QueryRequest, *teep.QueryResponse) error, what string) func(context.Context, *tamRun) error {
		return func(ctx context.Context, r *tamRun) error { return r.spoiledEvidence(ctx, what, change) }
	}
	return []probe[*tamRun]{
		{"15", "T 4.3", "a QueryResponse without the attestation-payload that was asked for is not acted on",
			spoiled(func(_ *tamRun, _ *teep.QueryRequest, m *teep.QueryResponse) error {
				m.AttestationPayload, m.AttestationPayloadFormat = nil, ""
				return nil
			}, "a QueryResponse without attestation-payload")},
		{"10, 38", "T 4.2", "Evidence over another challenge is not acted on",
			spoiled(func(r *tamRun, q *teep.QueryRequest, m *teep.QueryResponse) (err error) {
				other := append([]byte{q.Challenge[0] ^ 1}, q.Challenge[1:]...)
				m.AttestationPayload, m.AttestationPayloadFormat, m.Extensions, err = r.Attester.Evidence(other, r.Agent.Key())
				return err
			}, "Evidence over another challenge")},
		{"30", "T 7.1.1.1", "Evidence about another key than the one that signs the message is not acted on", foreignKey},
		{"11, 12", "T 4.3", "a payload without format is an Attestation Result; one that no Verifier signed is not acted on",
			spoiled(func(_ *tamRun, _ *teep.QueryRequest, m *teep.QueryResponse) error {
				m.AttestationPayloadFormat = ""
				return nil
			}, "Evidence passed off as an Attestation Result")},
	}
}

// unadmitted gets a QueryRequest that asks the Agent itself for attestation.
func (r *tamRun) unadmitted(ctx context.Context) (*teep.QueryRequest, error) {
	if r.Attester == nil {
		return nil, na("the kit was given no attester")
	}
	q, err := r.connect(ctx)
	if err != nil || q.DataItems.Has(teep.ItemAttestation) {
		return q, err
	}
	m, err := r.response(q)
	if err != nil {
		return nil, err
	}
	a, err := r.send(ctx, m)
	if err != nil {
		return nil, err
	}
	if q, ok := a.msg.(*teep.QueryRequest); ok && q.DataItems.Has(teep.ItemAttestation) {
		return q, nil
	}
	return nil, na("the TAM knows this Agent and does not ask it for attestation")
}

func (r *tamRun) spoiledEvidence(ctx context.Context, what string, change func(*tamRun, *teep.QueryRequest, *teep.QueryResponse) error) error {
	q, err := r.unadmitted(ctx)
	if err != nil {
		return err
	}
	m, err := r.response(q)
	if err != nil {
		return err
	}
	if err := change(r, q, m); err != nil {
		return err
	}
	a, err := r.send(ctx, m)
	if err != nil {
		return err
	}
	return refused(what, a)
}

func foreignKey(ctx context.Context, r *tamRun) error {
	q, err := r.unadmitted(ctx)
	if err != nil {
		return err
	}
	m, err := r.response(q)
	if err != nil {
		return err
	}
	for i := range m.Extensions {
		if m.Extensions[i].Label == agentconfig.AgentKeyOption {
			m.Extensions[i].Value = r.stranger.Key().Marshal()
		}
	}
	a, err := r.sendAs(ctx, r.stranger, m)
	if err != nil {
		return err
	}
	return refused("a message signed with another key than the one in the Evidence", a)
}

// unseen turns the passes of refusals into not applicable: what is never granted shows nothing by being refused.
func unseen(report *Report, from, to int, why string) {
	for i := from; i < to; i++ {
		if res := &report.Results[i]; res.Status == Passed {
			res.Status, res.Reason = NotApplicable, fmt.Sprintf("nothing came of it, as nothing comes of the genuine message%s", why)
			report.Passed--
			report.NotApplicable++
		}
	}
}
