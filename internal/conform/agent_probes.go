// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"

	"sealift/cose"
	"sealift/teep"
)

// askProbes send QueryRequests that an Agent must answer (teep-protocol sections 4.2, 4.3, 7.2 and 9).
func askProbes() []probe[*agentRun] {
	return []probe[*agentRun]{
		{"14", "T 4.3", "a QueryResponse repeats the request's token", func(ctx context.Context, r *agentRun) error {
			_, err := r.answers(ctx, r.inventory())
			return err
		}},
		{"14, 15", "T 4.3", "without a token there is none in the answer, and Evidence is there when asked for", evidenceGiven},
		{"11", "T 4.3", "Evidence has an attestation-payload-format", evidenceFormat},
		{"10, 38", "T 4.2", "Evidence holds the challenge", evidenceNonce(64)},
		{"37, 38", "T 9", "a challenge of 32 bytes will do", evidenceNonce(32)},
		{"-", "T 9", "a challenge that does not fit into eat_nonce is refused with Error 1", longChallenge},
		{"16, 17, 18", "T 4.3", "all data items at once", allItems},
		{"-", "T 4.2", "unknown data items are ignored", func(ctx context.Context, r *agentRun) error {
			return r.tolerates(ctx, func(m *raw) { m.elements[4] = uint64(teep.ItemTrustedComponents) | 1<<20 })
		}},
		{"-", "T 4", "an option that nobody knows is ignored", func(ctx context.Context, r *agentRun) error {
			return r.tolerates(ctx, func(m *raw) { m.set(optUnassigned, "?") })
		}},
		{"-", "T 4.2", "a list of versions with 0 among them", func(ctx context.Context, r *agentRun) error {
			q := r.inventory()
			q.Versions = []uint32{7, 0}
			_, err := r.answers(ctx, q)
			return err
		}},
		{"33", "T 8.1", "a COSE_Sign with a signature of the TAM among others is accepted", multiSigned},
		{"-", "T 8.1", "a message without CBOR tag is accepted", untaggedRequest},
		{"33", "T 8.1", "the answers use a suite that the TAM has offered", offeredSuite},
	}
}

func evidenceGiven(ctx context.Context, r *agentRun) error {
	_, err := r.answers(ctx, r.attestation(64))
	return err
}

func evidenceFormat(ctx context.Context, r *agentRun) error {
	m, err := r.answers(ctx, r.attestation(64))
	if err != nil {
		return err
	}
	if m.AttestationPayloadFormat == "" {
		return remark("without a format: then it must be an Attestation Result of the TEEP profile")
	}
	return nil
}

// evidenceNonce looks for the challenge in the payload's bytes: no format of Evidence encodes it in another way.
func evidenceNonce(n int) func(context.Context, *agentRun) error {
	return func(ctx context.Context, r *agentRun) error {
		q := r.attestation(n)
		m, err := r.answers(ctx, q)
		if err != nil {
			return err
		}
		if !bytes.Contains(m.AttestationPayload, q.Challenge) {
			return fmt.Errorf("the challenge is nowhere in the payload (%q)", m.AttestationPayloadFormat)
		}
		return nil
	}
}

func longChallenge(ctx context.Context, r *agentRun) error {
	q := r.attestation(128)
	a, err := r.ask(ctx, q)
	if err != nil {
		return err
	}
	if m, ok := a.msg.(*teep.QueryResponse); ok {
		if bytes.Contains(m.AttestationPayload, q.Challenge) {
			return remark("taken as it is, in a format that has room for it")
		}
		return errors.New("answered with Evidence that does not hold the challenge")
	}
	_, err = a.isError(q, teep.ErrCodePermanent)
	return err
}

func allItems(ctx context.Context, r *agentRun) error {
	q := r.inventory()
	q.DataItems = teep.ItemTrustedComponents | teep.ItemExtensions | teep.ItemSUITReports
	m, err := r.answers(ctx, q)
	if err != nil {
		return err
	}
	if err := nonces(m.SUITReports, q.Token, r.AgentKey); err != nil {
		return err
	}
	return remark(fmt.Sprintf("%d components, %d extensions, %d reports", len(m.TCList), len(m.ExtList), len(m.SUITReports)))
}

// tolerates changes an inventory in a way that an Agent must not mind.
func (r *agentRun) tolerates(ctx context.Context, change func(*raw)) error {
	q := r.inventory()
	data, err := (&badMessage{spoil: change}).make(r.TAM, q)
	if err != nil {
		return err
	}
	a, err := r.raw(ctx, data)
	if err != nil {
		return err
	}
	_, err = responseTo(q, a)
	return err
}

func multiSigned(ctx context.Context, r *agentRun) error {
	for _, signers := range [][]cose.Signer{{r.TAM, r.second}, {r.second, r.TAM}} {
		q := r.inventory()
		data, err := teep.SignAll(rand.Reader, signers, q)
		if err != nil {
			return err
		}
		a, err := r.raw(ctx, data)
		if err != nil {
			return err
		}
		if _, err := responseTo(q, a); err != nil {
			return err
		}
	}
	return nil
}

func untaggedRequest(ctx context.Context, r *agentRun) error {
	q := r.inventory()
	data, err := (&badMessage{header: func(e *envelope) { e.untagged = true }}).make(r.TAM, q)
	if err != nil {
		return err
	}
	a, err := r.raw(ctx, data)
	if err != nil {
		return err
	}
	if _, err := responseTo(q, a); err != nil {
		return na("%v; the drafts do not say that it must be accepted", err)
	}
	return nil
}

func offeredSuite(_ context.Context, r *agentRun) error {
	for _, alg := range r.algs {
		if _, ok := teep.SelectSuite([]teep.CipherSuite{teep.SuiteOf(alg)}, teep.DefaultCipherSuites); !ok {
			return fmt.Errorf("an answer is signed with %v", alg)
		}
	}
	return nil
}

// refuseProbes send what an Agent must not obey, and what it must answer with a certain Error (teep-protocol sections 4.1.2, 4.6, 7.2, 8).
func refuseProbes() []probe[*agentRun] {
	var out []probe[*agentRun]
	bad := append([]badMessage{
		{title: "an empty list of cipher suites", section: "T 6", spoil: func(r *raw) { r.elements[2] = []any{} }},
		{title: "a QueryRequest of two elements", section: "T 6", spoil: func(r *raw) { r.elements = r.elements[:2] }},
		{title: "a challenge of 7 bytes", section: "T 4.2", spoil: func(r *raw) {
			r.drop(optToken)
			r.set(optChallenge, make([]byte, 7))
			r.elements[4] = uint64(teep.ItemAttestation)
		}},
	}, badAnything...)
	for _, b := range bad {
		out = append(out, probe[*agentRun]{"4", b.section, b.title + " is refused", func(ctx context.Context, r *agentRun) error {
			data, err := b.make(r.TAM, r.inventory())
			if err != nil {
				return err
			}
			a, err := r.raw(ctx, data)
			if err != nil {
				return err
			}
			return a.refuses()
		}})
	}
	return append(out, []probe[*agentRun]{
		{"4, 43", "T 13", "a request for Evidence by a TAM that the Agent does not know gets none", strangerAsks},
		{"5", "T 4.2", "a token beside a request for attestation", tokenAndAttestation},
		{"24", "T 4.6", "no common version: Error 4 with the versions", wants(func(q *teep.QueryRequest) { q.Versions = []uint32{4711} },
			teep.ErrCodeUnsupportedVersion, func(e *teep.Error) bool { return len(e.Versions) > 0 }, "versions")},
		{"24, 32", "T 4.6", "no common cipher suite: Error 5 with the suites", wants(func(q *teep.QueryRequest) {
			q.CipherSuites = []teep.CipherSuite{{{COSE: 18, Alg: -70999}}}
		}, teep.ErrCodeUnsupportedCipherSuites, func(e *teep.Error) bool { return len(e.CipherSuites) > 0 }, "cipher suites")},
		{"24", "T 4.6", "no common freshness mechanism: Error 3 with the mechanisms", noFreshness},
		{"29", "T 7.2.1", "a SUIT Report that the Agent cannot read: Error 8 with the profiles", wants(func(q *teep.QueryRequest) {
			// COSE_Encrypt with an algorithm that nobody has.
			protected := cose.MustMarshal(map[int]any{1: -70999})
			q.SUITReports = [][]byte{append([]byte{0xd8, 0x60}, cose.MustMarshal([]any{protected, map[int]any{}, []byte{1, 2, 3}, []any{
				[]any{cose.MustMarshal(map[int]any{1: -29}), map[int]any{}, []byte{}}}})...)}
		}, teep.ErrCodeUnsupportedSUITReport, func(e *teep.Error) bool { return len(e.SUITProfiles) > 0 }, "profiles")},
	}...)
}

func strangerAsks(ctx context.Context, r *agentRun) error {
	data, err := teep.Sign(rand.Reader, r.stranger, r.attestation(64))
	if err != nil {
		return err
	}
	a, err := r.raw(ctx, data)
	if err != nil {
		return err
	}
	return a.refuses()
}

func tokenAndAttestation(ctx context.Context, r *agentRun) error {
	data, err := (&badMessage{spoil: func(m *raw) { m.set(optToken, random(32)) }}).make(r.TAM, r.attestation(64))
	if err != nil {
		return err
	}
	a, err := r.raw(ctx, data)
	if err != nil {
		return err
	}
	if _, ok := a.msg.(*teep.QueryResponse); ok {
		return remark("tolerated, as in the draft's own example")
	}
	return a.refuses()
}

// wants changes an inventory so that it must be answered with an Error that has a list.
func wants(change func(*teep.QueryRequest), code teep.ErrCode, has func(*teep.Error) bool, list string) func(context.Context, *agentRun) error {
	return func(ctx context.Context, r *agentRun) error {
		q := r.inventory()
		change(q)
		a, err := r.ask(ctx, q)
		if err != nil {
			return err
		}
		e, err := a.isError(q, code)
		if err == nil && !has(e) {
			err = fmt.Errorf("without the %s", list)
		}
		return err
	}
}

func noFreshness(ctx context.Context, r *agentRun) error {
	q := r.attestation(64)
	q.SupportedFreshness = []uint32{4711}
	a, err := r.ask(ctx, q)
	if err != nil {
		return err
	}
	e, err := a.isError(q, teep.ErrCodeUnsupportedFreshness)
	if err == nil && len(e.SupportedFreshness) == 0 {
		err = errors.New("without the mechanisms")
	}
	return err
}
