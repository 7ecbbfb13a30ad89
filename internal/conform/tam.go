// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"net/http"
	"time"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
	"sealift/teep"
)

// TAMOptions say which TAM is probed, and as whom.
type TAMOptions struct {
	URL string
	// TAMKeys sign the TAM's messages. With none, signatures are not checked, which the report says.
	TAMKeys []*cose.Key
	// Agent signs as an Agent that the TAM knows, or admits because of its Evidence.
	Agent cose.Signer
	// Attester makes Evidence where the TAM asks for it; nil: none.
	Attester Attester
	// Request is what the Agent asks for, for TAMs that send only what is requested.
	Request []teep.ComponentID
	// OwnURI says that the URL names one Agent, so that the TAM may know its cipher suite before it has heard of it.
	OwnURI bool
	// Oversize is the size of a body that the TAM should find too large; 0 means 20 MiB.
	Oversize int
	HTTP     *http.Client // nil: one with time-outs
}

const (
	requestTimeout  = 30 * time.Second
	defaultOversize = 20 << 20
	maxBody         = 64 << 20
	maxTurns        = 6 // QueryRequests until an Agent is believed
)

// TAM probes a TAM. The error wraps ErrPeer if it cannot be reached or the options make no sense.
func TAM(ctx context.Context, o TAMOptions) (*Report, error) {
	if o.Agent == nil {
		return nil, fmt.Errorf("%w: the Agent's key is needed", ErrPeer)
	}
	if o.Oversize == 0 {
		o.Oversize = defaultOversize
	}
	r := &tamRun{TAMOptions: o, client: noRedirects(o.HTTP)}
	key, err := cose.GenerateKey(o.Agent.Algorithm(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if r.stranger, err = cose.NewSigner(key); err != nil {
		return nil, err
	}
	if a := r.do(ctx, http.MethodPost, nil, nil); a.err != nil {
		return nil, fmt.Errorf("%w: %w", ErrPeer, a.err)
	}
	rep := &Report{Role: "TAM", Peer: o.URL}
	run(ctx, rep, r, append(httpProbes(), queryProbes()...))
	from := len(rep.Results)
	run(ctx, rep, r, attestationProbes())
	to := len(rep.Results)
	run(ctx, rep, r, responseProbes())
	if !r.updates {
		unseen(rep, from, to, r.noWhy)
	}
	for _, probes := range [][]probe[*tamRun]{tokenProbes(), outcomeProbes(), errorProbes()} {
		run(ctx, rep, r, probes)
	}
	return rep, nil
}

// noRedirects derives a client that follows no redirects and keeps no cookies.
func noRedirects(base *http.Client) *http.Client {
	c := http.Client{Timeout: requestTimeout}
	if base != nil {
		c = *base
	}
	c.Jar = nil
	c.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return &c
}

// tamRun is the state of a run against a TAM.
type tamRun struct {
	transcript
	TAMOptions
	client   *http.Client
	stranger cose.Signer

	typed    bool // the TAM wants a Content-Type on an empty body too
	admitted bool // a QueryResponse of the Agent has been believed
	updates  bool // a genuine QueryResponse brings an Update with manifests, so that a refusal can be seen
	noWhy    string
}

// answer is what the TAM gave for one request.
type answer struct {
	status int
	header http.Header
	body   []byte
	err    error // of the transport
	signed *teep.Signed
	msg    teep.Message
	alg    cose.Algorithm
	bad    error // why the body is no message of the TAM
}

// do makes one request and records it. header changes the usual headers.
func (r *tamRun) do(ctx context.Context, method string, body []byte, header func(http.Header)) *answer {
	req, err := http.NewRequestWithContext(ctx, method, r.URL, bytes.NewReader(body))
	if err != nil {
		return &answer{err: err}
	}
	req.Header.Set("Accept", teep.MediaType)
	if len(body) > 0 || r.typed {
		req.Header.Set("Content-Type", teep.MediaType)
	}
	if header != nil {
		header(req.Header)
	}
	shown := body
	if len(shown) > maxDiag*4 {
		shown = nil
	}
	r.note("kit", method, shown)
	a := &answer{}
	resp, err := r.client.Do(req)
	if err != nil {
		r.note("peer", err.Error(), nil)
		a.err = err
		return a
	}
	defer resp.Body.Close()
	a.status, a.header = resp.StatusCode, resp.Header
	a.body, a.err = io.ReadAll(io.LimitReader(resp.Body, maxBody))
	r.note("peer", fmt.Sprintf("HTTP %d", resp.StatusCode), a.body)
	if a.ok() && len(a.body) > 0 {
		a.read(r.TAMKeys)
	}
	return a
}

func (a *answer) ok() bool { return a.err == nil && a.status >= 200 && a.status < 300 }

// read verifies the message, if there are keys. A token beside a challenge is tolerated here, since a probe of its own looks for it.
func (a *answer) read(keys []*cose.Key) {
	a.signed, a.bad = teep.Parse(a.body)
	if a.bad != nil {
		return
	}
	if len(keys) == 0 {
		if a.msg, a.bad = a.signed.MessageInsecure(); a.bad == nil {
			a.alg = a.signed.Algorithms()[0] // that of the second message on: the first one may have several
		}
		return
	}
	var v *teep.VerifiedMessage
	if v, a.bad = a.signed.Verify(keys, teep.Options{LooseToken: true, MissingKID: true, Legacy: true}); a.bad == nil {
		a.msg, a.alg = v.Message, v.Algorithm
	}
}

// what describes the answer for a table.
func (a *answer) what() string {
	switch {
	case a.err != nil:
		return a.err.Error()
	case !a.ok():
		return fmt.Sprintf("HTTP status %d", a.status)
	case len(a.body) == 0:
		return fmt.Sprintf("HTTP status %d without a message", a.status)
	case a.bad != nil:
		return fmt.Sprintf("a body that is no message of the TAM: %v", a.bad)
	}
	return "a " + a.msg.Type().String()
}

// acts reports whether the TAM changes something at the Agent for what it was sent.
func (a *answer) acts() bool {
	u, ok := a.msg.(*teep.Update)
	return ok && (len(u.ManifestList) > 0 || len(u.UnneededManifestList) > 0)
}

func (r *tamRun) post(ctx context.Context, body []byte) *answer {
	return r.do(ctx, http.MethodPost, body, nil)
}

// connect opens a session and gives the QueryRequest.
func (r *tamRun) connect(ctx context.Context) (*teep.QueryRequest, error) {
	a := r.post(ctx, nil)
	if a.status == http.StatusUnsupportedMediaType && !r.typed {
		r.typed = true // a probe of its own has reported it
		a = r.post(ctx, nil)
	}
	if q, ok := a.msg.(*teep.QueryRequest); ok {
		return q, nil
	}
	return nil, fmt.Errorf("an empty POST is answered with %s, not with a QueryRequest", a.what())
}

// response answers a QueryRequest as an Agent with nothing installed does.
func (r *tamRun) response(q *teep.QueryRequest) (*teep.QueryResponse, error) {
	m := &teep.QueryResponse{Token: q.Token}
	for _, id := range r.Request {
		m.RequestedTCList = append(m.RequestedTCList, teep.RequestedTC{Component: id})
	}
	if !q.DataItems.Has(teep.ItemAttestation) {
		return m, nil
	}
	if r.Attester == nil {
		return nil, na("the TAM asks for attestation, and the kit was given no attester")
	}
	var err error
	m.AttestationPayload, m.AttestationPayloadFormat, m.Extensions, err = r.Attester.Evidence(q.Challenge, r.Agent.Key())
	return m, err
}

func (r *tamRun) sign(m teep.Message) ([]byte, error) { return teep.Sign(rand.Reader, r.Agent, m) }

// sendAs signs with any key and posts.
func (r *tamRun) sendAs(ctx context.Context, s cose.Signer, m teep.Message) (*answer, error) {
	data, err := teep.Sign(rand.Reader, s, m)
	if err != nil {
		return nil, err
	}
	return r.post(ctx, data), nil
}

func (r *tamRun) send(ctx context.Context, m teep.Message) (*answer, error) {
	return r.sendAs(ctx, r.Agent, m)
}

// follow answers QueryRequests, of which there may be a second one for Evidence, until the TAM says something else.
func (r *tamRun) follow(ctx context.Context, q *teep.QueryRequest) (*answer, error) {
	for range maxTurns {
		m, err := r.response(q)
		if err != nil {
			return nil, err
		}
		a, err := r.send(ctx, m)
		if err != nil {
			return nil, err
		}
		next, again := a.msg.(*teep.QueryRequest)
		if !again {
			return a, nil
		}
		q = next
	}
	return nil, errors.New("the TAM asks without end")
}

// tokenQuery opens a session in which the TAM knows the Agent: the QueryRequest has a token.
func (r *tamRun) tokenQuery(ctx context.Context) (*teep.QueryRequest, error) {
	q, err := r.connect(ctx)
	if err != nil {
		return nil, err
	}
	if q.Token == nil {
		return nil, na("the TAM asks this Agent for attestation each time and sends no token")
	}
	return q, nil
}

// visible fails unless a refusal by the TAM can be told from an acceptance.
func (r *tamRun) visible() error {
	if !r.updates {
		return na("the TAM sends this Agent no manifests, so that a refusal cannot be seen%s", r.noWhy)
	}
	return nil
}

// update gets an Update with manifests for the Agent.
func (r *tamRun) update(ctx context.Context) (*teep.Update, *answer, error) {
	if err := r.visible(); err != nil {
		return nil, nil, err
	}
	q, err := r.connect(ctx)
	if err != nil {
		return nil, nil, err
	}
	a, err := r.follow(ctx, q)
	if err != nil {
		return nil, nil, err
	}
	u, ok := a.msg.(*teep.Update)
	if !ok || len(u.ManifestList) == 0 {
		return nil, a, fmt.Errorf("a genuine QueryResponse is answered with %s; an Update with manifests was expected", a.what())
	}
	return u, a, nil
}

// refused judges the answer to something that must not be acted on.
func refused(what string, a *answer) error {
	switch {
	case a.acts():
		return fmt.Errorf("%s is answered with an Update that changes the Agent", what)
	case a.err != nil:
		return fmt.Errorf("%s: the connection breaks: %w", what, a.err)
	case a.status >= 500:
		return remark(fmt.Sprintf("refused with HTTP status %d; 204 would tell less", a.status))
	}
	return nil
}

// success reports the manifests of an Update as installed. A change may spoil a report.
func success(u *teep.Update, change func(*report.Report)) (*teep.Success, error) {
	s := &teep.Success{Token: u.Token}
	for _, data := range u.ManifestList {
		e, err := suit.ParseEnvelope(data)
		if err != nil {
			return nil, fmt.Errorf("a manifest of the TAM: %w", err)
		}
		m, err := e.ManifestInsecure()
		if err != nil {
			return nil, fmt.Errorf("a manifest of the TAM: %w", err)
		}
		rep := &report.Report{URI: m.ReferenceURI, Digest: m.Digest, Nonce: u.Token}
		for _, id := range m.Components {
			rep.Items = append(rep.Items, &report.SystemProperty{Component: id, Params: suit.Params{suit.ParamSize: uint64(1)}})
		}
		if change != nil {
			change(rep)
		}
		out, err := rep.Marshal()
		if err != nil {
			return nil, err
		}
		s.SUITReports = append(s.SUITReports, out)
	}
	return s, nil
}
