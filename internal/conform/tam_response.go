// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"sealift/cose"
	"sealift/suit"
	"sealift/teep"
)

// responseProbes send QueryResponses that a TAM must take (teep-protocol sections 4.3 and 7.1).
func responseProbes() []probe[*tamRun] {
	nobody := teep.ComponentID{[]byte("conform"), []byte("nobody")}
	return []probe[*tamRun]{
		{"14 to 18", "T 7.1", "a genuine QueryResponse is accepted", genuine},
		{"33", "T 8.1", "the TAM goes on with the suite that the Agent has chosen", sameSuite},
		{"20, 21", "T 4.4", "the Update is well-formed and has a token", wellFormedUpdate},
		{"-", "T 4.3", "an unneeded-manifest-list of component identifiers is accepted", accepted(func(m *teep.QueryResponse) {
			m.UnneededManifestList = []teep.ComponentID{nobody}
		})},
		{"-", "T 4.3", "a tc-list is accepted", accepted(func(m *teep.QueryResponse) {
			m.TCList = []teep.SystemProperty{{Component: nobody, Digest: &suit.Digest{Alg: cose.AlgSHA256, Bytes: make([]byte, 32)}}}
		})},
		{"-", "T 4.3", "selected-version 0 is accepted", accepted(func(m *teep.QueryResponse) { m.SelectedVersion = new(uint32) })},
		{"-", "T 4", "an option that nobody knows is ignored", accepted(func(m *teep.QueryResponse) {
			m.Extensions = append(m.Extensions, teep.Option{Label: optUnassigned, Value: []byte{0x01}})
		})},
		{"-", "T 8.1", "a message without CBOR tag is accepted", untagged},
	}
}

// genuine is the control of everything that is to be refused: it shows what acceptance looks like.
func genuine(ctx context.Context, r *tamRun) error {
	q, err := r.connect(ctx)
	if err != nil {
		return err
	}
	a, err := r.follow(ctx, q)
	if err != nil {
		return err
	}
	r.noWhy = ": the genuine QueryResponse is answered with " + a.what()
	switch u, isUpdate := a.msg.(*teep.Update); {
	case !a.ok() || a.bad != nil:
		return fmt.Errorf("answered with %s", a.what())
	case isUpdate && u.ErrCode != nil:
		return fmt.Errorf("the TAM refuses this Agent: %v: %q", *u.ErrCode, u.ErrMsg)
	case !a.acts():
		r.admitted = true
		return remark("accepted, and the TAM has nothing to send; refusals cannot be seen")
	case isUpdate && len(u.ManifestList) == 0:
		r.admitted = true
		return remark("accepted, and the TAM only removes")
	}
	r.admitted, r.updates = true, true
	return nil
}

func sameSuite(ctx context.Context, r *tamRun) error {
	_, a, err := r.update(ctx)
	if err == nil && a.alg != r.Agent.Algorithm() {
		err = fmt.Errorf("the Agent signs with %v, the TAM with %v", r.Agent.Algorithm(), a.alg)
	}
	return err
}

func wellFormedUpdate(ctx context.Context, r *tamRun) error {
	u, _, err := r.update(ctx)
	switch {
	case err != nil:
		return err
	case u.Token == nil:
		return errors.New("an Update without a token: its outcome could be replayed")
	case u.ErrCode != nil && !u.ErrCode.Known():
		return fmt.Errorf("err-code %d", *u.ErrCode)
	}
	return nil
}

// accepted changes a QueryResponse in a way that is allowed: the TAM must do what it does without.
func accepted(change func(*teep.QueryResponse)) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		q, err := r.connect(ctx)
		if err != nil {
			return err
		}
		m, err := r.response(q)
		if err != nil {
			return err
		}
		change(m)
		a, err := r.send(ctx, m)
		if err != nil {
			return err
		}
		if !a.ok() || a.bad != nil || r.updates && !a.acts() {
			return fmt.Errorf("answered with %s", a.what())
		}
		return nil
	}
}

func untagged(ctx context.Context, r *tamRun) error {
	if err := r.visible(); err != nil {
		return err
	}
	a, err := r.spoil(ctx, &badMessage{header: func(e *envelope) { e.untagged = true }})
	if err != nil {
		return err
	}
	if !a.acts() {
		return na("refused with %s; the drafts do not say that it must be accepted", a.what())
	}
	return nil
}

// spoil opens a session and answers with a spoiled QueryResponse.
func (r *tamRun) spoil(ctx context.Context, b *badMessage) (*answer, error) {
	q, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	m, err := r.response(q)
	if err != nil {
		return nil, err
	}
	data, err := b.make(r.Agent, m)
	if err != nil {
		return nil, err
	}
	return r.post(ctx, data), nil
}

// badResponses are ways to spoil a QueryResponse, besides badAnything.
func badResponses() []badMessage {
	id := teep.ComponentID{[]byte("conform"), []byte("nobody")}
	return []badMessage{
		{title: "have-binary without tc-manifest-sequence-number", section: "T 4.3.2", spoil: func(r *raw) {
			var list []cose.RawMessage // beside what is asked for otherwise, so that the TAM has something to send
			if had, ok := r.options[uint64(optRequested)].(cose.RawMessage); ok {
				_ = cose.Unmarshal(had, &list)
			}
			r.set(optRequested, append(list, cose.MustMarshal(map[int]any{16: id, 18: true})))
		}},
		{title: "an empty requested-tc-list", section: "T 6", spoil: func(r *raw) { r.set(optRequested, []any{}) }},
		{title: "an empty tc-list", section: "T 6", spoil: func(r *raw) { r.set(optTCList, []any{}) }},
		{title: "a tc-list that is a map", section: "T 6", spoil: func(r *raw) { r.set(optTCList, map[int]any{0: id}) }},
		{title: "an attestation-payload that is text", section: "T 6", spoil: func(r *raw) { r.set(optPayload, "evidence") }},
		{title: "a selected-version that was not offered", section: "T 4.3", spoil: func(r *raw) { r.set(6, 4711) }},
	}
}

// tokenProbes send QueryResponses that a TAM must not act on (teep-protocol sections 4.1.2, 4.2, 4.3 and 7.1).
func tokenProbes() []probe[*tamRun] {
	var out []probe[*tamRun]
	for _, b := range append(badResponses(), badAnything...) {
		requirement := "4"
		if b.section == "T 4.3.2" {
			requirement = "19"
		}
		out = append(out, probe[*tamRun]{requirement, b.section, b.title + " is not acted on", func(ctx context.Context, r *tamRun) error {
			if err := r.visible(); err != nil {
				return err
			}
			a, err := r.spoil(ctx, &b)
			if err != nil {
				return err
			}
			return refused(b.title, a)
		}})
	}
	return append(out, []probe[*tamRun]{
		{"-", "T 4.1.1", "a message without kid", noKID},
		{"14", "T 4.3", "a QueryResponse without the token of its request is not acted on", otherToken(func([]byte) []byte { return nil })},
		{"14", "T 4.3", "a QueryResponse with an altered token is not acted on", otherToken(func(t []byte) []byte {
			t = bytes.Clone(t)
			t[len(t)-1] ^= 1
			return t
		})},
		{"7", "T 4.2", "a QueryResponse that comes again is not acted on", replayedResponse},
		{"7", "T 4.2", "a message with a bad signature does not use up the token", notBurnt(func(r *tamRun, m teep.Message) ([]byte, error) {
			b := badMessage{header: func(e *envelope) { e.forge = true }}
			return b.make(r.Agent, m)
		})},
		{"7", "T 4.2", "a stranger's message does not use up the token", notBurnt(func(r *tamRun, m teep.Message) ([]byte, error) {
			return (&badMessage{}).make(r.stranger, m)
		})},
		{"6", "T 4.2", "a QueryResponse with the token of an Update is not acted on", updateTokenInResponse},
		{"6", "T 4.2", "a Success with the token of a QueryRequest is not acted on", queryTokenInSuccess},
		{"4", "T 4.1.2", "after all of this the TAM serves the Agent as before", func(ctx context.Context, r *tamRun) error {
			_, _, err := r.update(ctx)
			return err
		}},
	}...)
}

func noKID(ctx context.Context, r *tamRun) error {
	if err := r.visible(); err != nil {
		return err
	}
	a, err := r.spoil(ctx, &badMessage{header: func(e *envelope) { e.unprotected = map[any]any{} }})
	if err != nil {
		return err
	}
	if a.acts() {
		return remark("accepted: the TAM tries the keys that it knows")
	}
	return refused("a message without kid", a)
}

// fresh opens a session whose outcome can be seen, and returns the QueryResponse that it asks for.
func (r *tamRun) fresh(ctx context.Context) (*teep.QueryResponse, error) {
	if err := r.visible(); err != nil {
		return nil, err
	}
	q, err := r.tokenQuery(ctx)
	if err != nil {
		return nil, err
	}
	return r.response(q)
}

// refuses sends a message that the TAM must not act on.
func (r *tamRun) refuses(ctx context.Context, m teep.Message) error {
	a, err := r.send(ctx, m)
	if err != nil {
		return err
	}
	return refused("it", a)
}

func otherToken(change func([]byte) []byte) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		m, err := r.fresh(ctx)
		if err != nil {
			return err
		}
		m.Token = change(m.Token)
		return r.refuses(ctx, m)
	}
}

func replayedResponse(ctx context.Context, r *tamRun) error {
	m, err := r.fresh(ctx)
	if err != nil {
		return err
	}
	data, err := r.sign(m)
	if err != nil {
		return err
	}
	if a := r.post(ctx, data); !a.acts() {
		return fmt.Errorf("the genuine message is answered with %s", a.what())
	}
	return refused("the same message again", r.post(ctx, data))
}

// notBurnt sends a message that somebody else could have made, and then the genuine one with the same token.
func notBurnt(forge func(*tamRun, teep.Message) ([]byte, error)) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		m, err := r.fresh(ctx)
		if err != nil {
			return err
		}
		data, err := forge(r, m)
		if err != nil {
			return err
		}
		if a := r.post(ctx, data); a.acts() {
			return fmt.Errorf("the forgery is answered with an Update that changes the Agent")
		}
		a, err := r.send(ctx, m)
		if err == nil && !a.acts() {
			err = fmt.Errorf("after the forgery, the genuine message with this token is answered with %s", a.what())
		}
		return err
	}
}

func updateTokenInResponse(ctx context.Context, r *tamRun) error {
	u, _, err := r.update(ctx)
	if err != nil {
		return err
	}
	m, err := r.response(&teep.QueryRequest{Token: u.Token})
	if err != nil {
		return err
	}
	return r.refuses(ctx, m)
}

func queryTokenInSuccess(ctx context.Context, r *tamRun) error {
	if err := r.visible(); err != nil {
		return err
	}
	q, err := r.tokenQuery(ctx)
	if err != nil {
		return err
	}
	return r.refuses(ctx, &teep.Success{Token: q.Token})
}
