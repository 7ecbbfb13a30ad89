// SPDX-License-Identifier: Apache-2.0

package conform_test

import (
	"context"
	"crypto/rand"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/internal/conform"
	"sealift/internal/conform/agenttest"
	"sealift/suit"
	"sealift/teep"
	"sealift/teep/teephttp"
)

// ourAgent is Sealift's Agent, and the TAM that it trusts.
type ourAgent struct {
	*agenttest.Agent
	tam cose.Signer
}

func newAgent(t *testing.T) *ourAgent {
	t.Helper()
	tam := newSigner(t, cose.AlgESP256)
	return &ourAgent{agenttest.New(t, "http://tam.invalid/d1", []*cose.Key{tam.Key()}, newSigner(t, cose.AlgESP256)), tam}
}

// probe runs the kit as a server against a Broker that comes again and again.
func (w *ourAgent) probe(t *testing.T, a teephttp.Agent, transport http.RoundTripper) *conform.Report {
	t.Helper()
	server, err := conform.Listen("127.0.0.1:0", "", 20*time.Second)
	must(t, err)
	ctx, stop := context.WithCancel(t.Context())
	var broker sync.WaitGroup
	broker.Go(func() {
		client := &teephttp.Client{HTTP: &http.Client{Transport: transport}}
		for ctx.Err() == nil {
			_ = client.Session(ctx, server.URI(), a, nil) // it ends at every message without answer
		}
	})
	rep, err := conform.Agent(t.Context(), server, conform.AgentOptions{TAM: w.tam, Manifest: suit.WithoutTag(w.Manifest)})
	stop()
	_ = server.Close()
	broker.Wait()
	must(t, err)
	return rep
}

// TestOurAgent: our Agent and the Broker's client keep everything.
func TestOurAgent(t *testing.T) {
	w := newAgent(t)
	rep := w.probe(t, w, nil)
	if rep.Failed > 0 || rep.NotApplicable > 0 || rep.Passed < 40 {
		var out strings.Builder
		must(t, rep.Write(&out, false))
		t.Errorf("%s", out.String())
	}
}

// twisted changes what an Agent answers, before the Agent's key signs: it has the key of an Agent of its own.
type twisted struct {
	*ourAgent
	signer cose.Signer
	twist  func(teep.Message) teep.Message
}

func (w *twisted) ProcessTeepMessage(ctx context.Context, msg []byte) ([]byte, error) {
	out, err := w.ourAgent.ProcessTeepMessage(ctx, msg)
	if err != nil || out == nil {
		return out, err
	}
	signed, err := teep.Parse(out)
	if err != nil {
		return nil, err
	}
	m, err := signed.MessageInsecure()
	if err != nil {
		return nil, err
	}
	if q, ok := m.(*teep.QueryResponse); ok {
		for i := range q.Extensions {
			if q.Extensions[i].Label == agentconfig.AgentKeyOption {
				q.Extensions[i].Value = w.signer.Key().Marshal()
			}
		}
	}
	if m = w.twist(m); m == nil {
		return nil, nil
	}
	return teep.Sign(rand.Reader, w.signer, m)
}

// TestPlantedAgentFaults: an Agent or Broker that breaks a rule is found out, by the probe of that rule.
func TestPlantedAgentFaults(t *testing.T) {
	var last []byte
	for name, c := range map[string]struct {
		twist     func(teep.Message) teep.Message
		transport http.RoundTripper
		want      string
	}{
		"another token": {twist: func(m teep.Message) teep.Message {
			if q, ok := m.(*teep.QueryResponse); ok && q.Token != nil {
				q.Token = make([]byte, 32)
			}
			return m
		}, want: "a QueryResponse repeats the request's token"},
		"no Evidence": {twist: func(m teep.Message) teep.Message {
			if q, ok := m.(*teep.QueryResponse); ok && q.AttestationPayload != nil {
				if last != nil {
					q.AttestationPayload, q.AttestationPayloadFormat = nil, ""
				}
				last = []byte{1} // the first one names the key
			}
			return m
		}, want: "without a token there is none in the answer, and Evidence is there when asked for"},
		"no lists": {twist: func(m teep.Message) teep.Message {
			if e, ok := m.(*teep.Error); ok && e.Code == teep.ErrCodeUnsupportedVersion {
				return &teep.Error{Token: e.Token, Code: teep.ErrCodePermanent}
			}
			return m
		}, want: "no common version: Error 4 with the versions"},
		"success whatever comes": {twist: func(m teep.Message) teep.Message {
			if e, ok := m.(*teep.Error); ok && e.Code == teep.ErrCodeManifestProcessingFailed {
				return &teep.Success{Token: e.Token}
			}
			return m
		}, want: "a manifest that is none: Error 17 with the token, reports with it as nonce"},
		"no report nonce": {twist: func(m teep.Message) teep.Message {
			if s, ok := m.(*teep.Success); ok && s.Token != nil {
				s.Token = append([]byte{s.Token[0] ^ 1}, s.Token[1:]...)
			}
			return m
		}, want: "a manifest is installed: Success with the token, reports with it as nonce"},
		"follows redirects": {transport: follower{}, want: "a redirect is not followed"},
		"no Accept": {transport: changed(func(r *http.Request) { r.Header.Del("Accept") }),
			want: "only POST, with Accept, with Content-Type on a body, without cookies"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newAgent(t)
			var a teephttp.Agent = w
			if c.twist != nil {
				a = &twisted{w, newSigner(t, cose.AlgESP256), c.twist}
			}
			if got := failures(w.probe(t, a, c.transport)); !slices.Contains(got, c.want) {
				t.Errorf("failures: %q", got)
			}
		})
	}
}

type changed func(*http.Request)

func (c changed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	c(r)
	return http.DefaultTransport.RoundTrip(r)
}

// follower goes where it is sent, below the client that does not.
type follower struct{}

func (follower) RoundTrip(r *http.Request) (*http.Response, error) {
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode < 300 || resp.StatusCode > 399 {
		return resp, err
	}
	resp.Body.Close()
	to, err := resp.Location()
	if err != nil {
		return nil, err
	}
	next, err := http.NewRequestWithContext(r.Context(), http.MethodPost, to.String(), http.NoBody)
	if err != nil {
		return nil, err
	}
	return http.DefaultTransport.RoundTrip(next)
}
