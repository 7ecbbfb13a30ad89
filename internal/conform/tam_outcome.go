// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"

	"sealift/cose"
	"sealift/suit/report"
	"sealift/teep"
)

// hidden goes with a refusal of a Success: whether the TAM has noted something can be seen by nobody outside.
const hidden = "it brings no further manifests; what the TAM notes for itself cannot be seen"

// outcomeProbes answer an Update (teep-protocol sections 4.5, 4.6 and 7.1).
func outcomeProbes() []probe[*tamRun] {
	spoilt := func(change func(*tamRun, *teep.Success) error) func(context.Context, *tamRun) error {
		return func(ctx context.Context, r *tamRun) error { return r.spoiltSuccess(ctx, change) }
	}
	otherNonce := func(nonce []byte) func(*report.Report) { return func(rep *report.Report) { rep.Nonce = nonce } }
	return []probe[*tamRun]{
		{"23", "T 4.5", "a Success without the Update's token is not acted on", spoilt(func(_ *tamRun, s *teep.Success) error {
			s.Token = nil
			return nil
		})},
		{"23", "T 4.5", "a Success with another token is not acted on", spoilt(func(_ *tamRun, s *teep.Success) error {
			s.Token = make([]byte, 32)
			return nil
		})},
		{"16", "T 4.5", "a Success whose SUIT Report has another nonce is dropped", reported(otherNonce(make([]byte, 32)))},
		{"16", "T 4.5", "a Success whose SUIT Report has no nonce is dropped", reported(otherNonce(nil))},
		{"4", "T 4.5", "a Success whose SUIT Report is none is dropped", spoilt(func(_ *tamRun, s *teep.Success) error {
			s.SUITReports = [][]byte{{0xa0}}
			return nil
		})},
		{"23", "T 4.5", "a genuine Success is accepted, and counts once", genuineSuccess},
		{"H9", "H 5", "a TAM that has nothing to say answers 204 or an empty body", silence},
		{"16", "T 4.6", "an Error 17 whose SUIT Report has another nonce is dropped", failureReport(make([]byte, 32))},
		{"-", "T 4.6", "an Error 17 with a SUIT Report is handled", failureReport(nil)},
	}
}

func (r *tamRun) spoiltSuccess(ctx context.Context, change func(*tamRun, *teep.Success) error) error {
	u, _, err := r.update(ctx)
	if err != nil {
		return err
	}
	s, err := success(u, nil)
	if err != nil {
		return err
	}
	if err := change(r, s); err != nil {
		return err
	}
	return r.judge(ctx, s)
}

func reported(change func(*report.Report)) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		u, _, err := r.update(ctx)
		if err != nil {
			return err
		}
		s, err := success(u, change)
		if err != nil {
			return err
		}
		return r.judge(ctx, s)
	}
}

// judge sends an outcome that must not be believed.
func (r *tamRun) judge(ctx context.Context, m teep.Message) error {
	a, err := r.send(ctx, m)
	if err != nil {
		return err
	}
	if err := refused("it", a); err != nil {
		return err
	}
	return remark(hidden)
}

func genuineSuccess(ctx context.Context, r *tamRun) error {
	u, _, err := r.update(ctx)
	if err != nil {
		return err
	}
	s, err := success(u, nil)
	if err != nil {
		return err
	}
	data, err := r.sign(s)
	if err != nil {
		return err
	}
	if a := r.post(ctx, data); !a.ok() || a.bad != nil {
		return fmt.Errorf("answered with %s", a.what())
	}
	return refused("the same Success again", r.post(ctx, data))
}

func silence(ctx context.Context, r *tamRun) error {
	// A Success with a token of its own ends a session at most.
	a, err := r.send(ctx, &teep.Success{Token: make([]byte, 16)})
	switch {
	case err != nil:
		return err
	case !a.ok():
		return remark(fmt.Sprintf("an unknown token gets HTTP status %d; 204 would tell less", a.status))
	case len(a.body) > 0:
		return na("the TAM answers a Success that it cannot know with %s", a.what())
	case a.status != http.StatusNoContent:
		return remark(fmt.Sprintf("HTTP status %d without a body; 204 is recommended", a.status))
	}
	return nil
}

// failureReport answers an Update with Error 17; a nil nonce stands for the right one.
func failureReport(nonce []byte) func(context.Context, *tamRun) error {
	return func(ctx context.Context, r *tamRun) error {
		u, _, err := r.update(ctx)
		if err != nil {
			return err
		}
		s, err := success(u, func(rep *report.Report) {
			rep.Items = nil
			rep.Failure = &report.Failure{Reason: report.ReasonConditionFailed}
			if nonce != nil {
				rep.Nonce = nonce
			}
		})
		if err != nil {
			return err
		}
		m := &teep.Error{Token: u.Token, Code: teep.ErrCodeManifestProcessingFailed, Msg: "conformance probe", SUITReports: s.SUITReports}
		if nonce != nil {
			return r.judge(ctx, m)
		}
		return r.serves(ctx, m)
	}
}

// errorProbes answer a QueryRequest with each Error that a TAM has to handle (teep-protocol sections 4.6 and 7.1.2). They come last,
// since a TAM may give an Agent up for a while, and the one that calls for an answer comes first.
func errorProbes() []probe[*tamRun] {
	handled := func(code teep.ErrCode, fill func(*tamRun, *teep.Error)) func(context.Context, *tamRun) error {
		return func(ctx context.Context, r *tamRun) error {
			q, err := r.tokenQuery(ctx)
			if err != nil {
				return err
			}
			m := &teep.Error{Token: q.Token, Code: code, Msg: "conformance probe"}
			if fill != nil {
				fill(r, m)
			}
			return r.serves(ctx, m)
		}
	}
	return []probe[*tamRun]{
		{"27", "T 7.1.2", "Error 7 (attestation required) is answered with a QueryRequest that has an attestation-payload", attestTAM},
		{"-", "T 4.6", "Error 10 (temporary) is handled", handled(teep.ErrCodeTemporary, nil)},
		{"-", "T 4.6", "Error 2 (unsupported extension) is handled", handled(teep.ErrCodeUnsupportedExtension, nil)},
		{"24", "T 4.6", "Error 3 (freshness) with the Agent's mechanisms is handled", handled(teep.ErrCodeUnsupportedFreshness,
			func(_ *tamRun, m *teep.Error) { m.SupportedFreshness = []uint32{teep.FreshnessNonce} })},
		{"24", "T 4.6", "Error 4 (version) with the Agent's versions is handled", handled(teep.ErrCodeUnsupportedVersion,
			func(_ *tamRun, m *teep.Error) { m.Versions = []uint32{teep.ProtocolVersion} })},
		{"24", "T 4.6", "Error 5 (cipher suite) with the Agent's suites is handled", handled(teep.ErrCodeUnsupportedCipherSuites,
			func(r *tamRun, m *teep.Error) { m.CipherSuites = []teep.CipherSuite{teep.SuiteOf(r.Agent.Algorithm())} })},
		{"24", "T 4.6", "Error 8 (SUIT report) with the Agent's profiles is handled", handled(teep.ErrCodeUnsupportedSUITReport,
			func(_ *tamRun, m *teep.Error) { m.SUITProfiles = teep.DefaultSUITProfiles })},
		{"-", "T 4.6", "an Error of an unassigned code is an unknown error", handled(99, nil)},
	}
}

// serves sends a valid message: the TAM must take it, and must be there afterwards.
func (r *tamRun) serves(ctx context.Context, m teep.Message) error {
	a, err := r.send(ctx, m)
	switch {
	case err != nil:
		return err
	case !a.ok() || a.bad != nil:
		return fmt.Errorf("answered with %s", a.what())
	}
	if q, ok := a.msg.(*teep.QueryRequest); ok && !offers(q, r.Agent.Algorithm()) {
		return errors.New("the new QueryRequest offers no suite that the Agent has")
	}
	if _, err := r.connect(ctx); err != nil {
		return fmt.Errorf("afterwards, %w", err)
	}
	return nil
}

func offers(q *teep.QueryRequest, alg cose.Algorithm) bool {
	_, ok := teep.SelectSuite(q.CipherSuites, []teep.CipherSuite{teep.SuiteOf(alg)})
	return ok
}

func attestTAM(ctx context.Context, r *tamRun) error {
	challenge := make([]byte, 32)
	rand.Read(challenge)
	q, err := r.tokenQuery(ctx)
	if err != nil {
		return err
	}
	m := &teep.Error{Token: q.Token, Code: teep.ErrCodeAttestationRequired, Msg: "conformance probe",
		SupportedFreshness: []uint32{teep.FreshnessNonce, teep.FreshnessTimestamp}, Challenge: challenge}
	a, err := r.send(ctx, m)
	if err != nil {
		return err
	}
	next, ok := a.msg.(*teep.QueryRequest)
	if !ok {
		return fmt.Errorf("answered with %s", a.what())
	}
	if next.AttestationPayload == nil {
		return errors.New("the new QueryRequest has no attestation-payload")
	}
	return nil
}
