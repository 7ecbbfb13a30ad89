// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"unicode"

	"sealift/teep"
)

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
	return errors.Join(teep.CheckToken(u, s), nonces(s.SUITReports, u.Token, a.by))
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
	return nonces(e.SUITReports, u.Token, a.by)
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
