// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
	"unicode"

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
	if err := nonces(m.SUITReports, q.Token); err != nil {
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

// updateProbes send Updates (teep-protocol sections 4.4 to 4.6).
func updateProbes() []probe[*agentRun] {
	code := teep.ErrCodeAttestationRequired
	return []probe[*agentRun]{
		{"23", "T 4.5", "an Update with nothing to do but an err-code in a language nobody speaks is answered with Success and its token",
			succeeds(&teep.Update{ErrCode: &code, ErrMsg: "conformance probe", ErrLang: "tlh"}, true)},
		{"23", "T 4.5", "without a token there is none in the answer", succeeds(&teep.Update{ErrCode: &code, ErrMsg: "conformance probe"}, false)},
		{"16, 23", "T 4.6", "a manifest that is none: Error 17 with the token, reports with it as nonce", badManifest},
		{"-", "T 4.4", "unneeded manifests that the Agent does not have: Success or Error 17 with the token", unknownManifest},
		{"20", "T 4.4", "err-code 0 in an Update is refused", updateCodeZero},
		{"16, 23", "T 4.5", "a manifest is installed: Success with the token, reports with it as nonce", install},
		{"-", "T 11", "the same manifest again changes nothing", install},
		{"-", "T 4", "messages that only Agents send are refused", agentMessages},
		{"20, 21", "T 4.6", "no Error has code 0, and err-msg is at most 128 bytes of Net-Unicode", errorTexts},
		{"4", "T 4.1.2", "after all of this the Agent answers as before", func(ctx context.Context, r *agentRun) error {
			_, err := r.answers(ctx, r.inventory())
			return err
		}},
	}
}

func succeeds(u *teep.Update, token bool) func(context.Context, *agentRun) error {
	return func(ctx context.Context, r *agentRun) error {
		m := *u
		if token {
			m.Token = random(32)
		}
		a, err := r.ask(ctx, &m)
		if err != nil {
			return err
		}
		return isSuccess(&m, a)
	}
}

func isSuccess(u *teep.Update, a *reply) error {
	s, ok := a.msg.(*teep.Success)
	if !ok {
		return fmt.Errorf("answered with %s", a.what())
	}
	return errors.Join(teep.CheckToken(u, s), nonces(s.SUITReports, u.Token))
}

func badManifest(ctx context.Context, r *agentRun) error {
	u := &teep.Update{Token: random(32), ManifestList: [][]byte{{0xa0}}}
	a, err := r.ask(ctx, u)
	if err != nil {
		return err
	}
	e, err := a.isError(u, teep.ErrCodeManifestProcessingFailed)
	if err != nil {
		return err
	}
	return nonces(e.SUITReports, u.Token)
}

func unknownManifest(ctx context.Context, r *agentRun) error {
	u := &teep.Update{Token: random(32), UnneededManifestList: []teep.ComponentID{{[]byte("conform"), []byte("nobody")}}}
	a, err := r.ask(ctx, u)
	if err != nil {
		return err
	}
	if s, ok := a.msg.(*teep.Success); ok {
		return teep.CheckToken(u, s)
	}
	_, err = a.isError(u, teep.ErrCodeManifestProcessingFailed)
	return err
}

func updateCodeZero(ctx context.Context, r *agentRun) error {
	code := teep.ErrCodePermanent
	b := badMessage{spoil: func(m *raw) { m.set(optErrCode, 0) }}
	data, err := b.make(r.TAM, &teep.Update{Token: random(32), ErrCode: &code})
	if err != nil {
		return err
	}
	a, err := r.raw(ctx, data)
	if err != nil {
		return err
	}
	if _, ok := a.msg.(*teep.Success); ok {
		return remark("tolerated")
	}
	return a.refuses()
}

func install(ctx context.Context, r *agentRun) error {
	if r.Manifest == nil {
		return na("the kit was given no manifest")
	}
	u := &teep.Update{Token: random(32), ManifestList: [][]byte{r.Manifest}}
	a, err := r.ask(ctx, u)
	if err != nil {
		return err
	}
	return isSuccess(u, a)
}

func agentMessages(ctx context.Context, r *agentRun) error {
	for _, m := range []teep.Message{
		&teep.QueryResponse{Token: random(32)}, &teep.Success{Token: random(32)}, &teep.Error{Token: random(32), Code: teep.ErrCodePermanent},
	} {
		a, err := r.ask(ctx, m)
		if err != nil {
			return err
		}
		if err := a.refuses(); err != nil {
			return fmt.Errorf("a %v: %w", m.Type(), err)
		}
	}
	return nil
}

func errorTexts(_ context.Context, r *agentRun) error {
	if len(r.errors) == 0 {
		return na("the Agent has sent no Error")
	}
	for _, e := range r.errors {
		switch {
		case e.Code == 0:
			return errors.New("an Error with code 0")
		case len(e.Msg) > 128:
			return fmt.Errorf("an err-msg of %d bytes", len(e.Msg))
		case slices.ContainsFunc([]rune(e.Msg), func(c rune) bool {
			return c == unicode.ReplacementChar || unicode.IsControl(c) && c != '\r' && c != '\n'
		}):
			return fmt.Errorf("an err-msg with control characters: %q", e.Msg)
		}
	}
	return nil
}

// transportProbes look at the Broker's requests (teep-over-http section 4); they apply where the kit is the Broker's server.
func transportProbes() []probe[*agentRun] {
	over := func(f func(context.Context, *Server) error) func(context.Context, *agentRun) error {
		return func(ctx context.Context, r *agentRun) error {
			if r.server == nil {
				return na("the Agent is not reached over HTTP")
			}
			return f(ctx, r.server)
		}
	}
	return []probe[*agentRun]{
		{"H1", "H 4", "only POST, with Accept, with Content-Type on a body, without cookies", over(func(_ context.Context, s *Server) error {
			return s.httpRequests()
		})},
		{"H2", "H 4", "a redirect is not followed", over(func(ctx context.Context, s *Server) error {
			followed, err := s.followsRedirect(ctx)
			if followed {
				err = errors.New("the Broker goes where it is sent")
			}
			return err
		})},
	}
}
