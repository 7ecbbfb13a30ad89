// SPDX-License-Identifier: Apache-2.0

package conform

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"

	"sealift/cose"
	"sealift/internal/agentconfig"
	"sealift/suit/report"
	"sealift/teep"
)

// AgentOptions say as whom the kit probes an Agent.
type AgentOptions struct {
	TAM      cose.Signer // a TAM that the Agent trusts
	AgentKey *cose.Key   // nil: the one that the Agent names with its Evidence
	Manifest []byte      // an envelope that the Agent can install; nil: none
}

// Agent probes an Agent. The error wraps ErrPeer if it says nothing at all.
func Agent(ctx context.Context, peer Peer, o AgentOptions) (*Report, error) {
	if o.TAM == nil {
		return nil, fmt.Errorf("%w: the TAM's key is needed", ErrPeer)
	}
	r := &agentRun{AgentOptions: o, peer: peer}
	key, err := cose.GenerateKey(o.TAM.Algorithm(), rand.Reader)
	if err != nil {
		return nil, err
	}
	if r.stranger, err = cose.NewSigner(key); err != nil {
		return nil, err
	}
	other := cose.AlgEd25519
	if o.TAM.Algorithm() == cose.AlgEd25519 {
		other = cose.AlgESP256
	}
	if key, err = cose.GenerateKey(other, rand.Reader); err != nil {
		return nil, err
	}
	if r.second, err = cose.NewSigner(key); err != nil {
		return nil, err
	}
	if err := r.meet(ctx); err != nil {
		return nil, err
	}
	rep := &Report{Role: "Agent", Peer: "with the key " + r.keyName()}
	if s, ok := peer.(*Server); ok {
		r.server = s
	}
	for _, probes := range [][]probe[*agentRun]{askProbes(), refuseProbes(), updateProbes(), transportProbes()} {
		run(ctx, rep, r, probes)
	}
	return rep, nil
}

// agentRun is the state of a run against an Agent.
type agentRun struct {
	transcript
	AgentOptions
	peer     Peer
	server   *Server // nil where the Agent is reached otherwise
	stranger cose.Signer
	second   cose.Signer // of the other suite, unknown to the Agent

	errors []*teep.Error // all that the Agent has sent
	algs   []cose.Algorithm
}

func (r *agentRun) keyName() string {
	if r.AgentKey == nil {
		return "unknown"
	}
	return fmt.Sprintf("%x", r.AgentKey.KID())
}

// reply is what the Agent answers.
type reply struct {
	msg teep.Message // nil where it says nothing
	bad error        // why what it says is no message of the Agent
	by  *cose.Key    // the key that msg verified with
}

func (a *reply) what() string {
	switch {
	case a.bad != nil:
		return fmt.Sprintf("something that is no message of the Agent: %v", a.bad)
	case a.msg == nil:
		return "silence"
	}
	if e, ok := a.msg.(*teep.Error); ok {
		return fmt.Sprintf("Error %d (%q)", e.Code, e.Msg)
	}
	return "a " + a.msg.Type().String()
}

// meet finds out the Agent's key.
func (r *agentRun) meet(ctx context.Context) error {
	a, err := r.ask(ctx, r.attestation(64))
	if err != nil {
		return fmt.Errorf("%w: %w", ErrPeer, err)
	}
	if r.AgentKey == nil {
		return fmt.Errorf("%w: the Agent's key is not known, and a request for Evidence is answered with %s; give its key", ErrPeer, a.what())
	}
	return nil
}

// raw sends bytes.
func (r *agentRun) raw(ctx context.Context, data []byte) (*reply, error) {
	r.note("kit", "", data)
	answer, err := r.peer.Exchange(ctx, data)
	if err != nil {
		return nil, err
	}
	if len(answer) == 0 {
		r.note("peer", "no answer", nil)
		return &reply{}, nil
	}
	r.note("peer", "", answer)
	return r.read(answer), nil
}

// read verifies an answer.
func (r *agentRun) read(answer []byte) *reply {
	signed, err := teep.Parse(answer)
	if err != nil {
		return &reply{bad: err}
	}
	if r.AgentKey == nil {
		r.AgentKey = namedKey(signed)
	}
	if r.AgentKey == nil {
		return &reply{bad: errors.New("the Agent's key is not known")}
	}
	v, err := signed.Verify([]*cose.Key{r.AgentKey}, teep.Options{})
	if err != nil {
		return &reply{bad: err}
	}
	if e, ok := v.Message.(*teep.Error); ok {
		r.errors = append(r.errors, e)
	}
	r.algs = append(r.algs, v.Algorithm)
	return &reply{msg: v.Message, by: v.Key}
}

// namedKey is the key that an Agent says it has: in Sealift's option, or in the cnf claim of an EAT (RFC 8747).
func namedKey(signed *teep.Signed) *cose.Key {
	m, err := signed.MessageInsecure()
	if err != nil {
		return nil
	}
	q, ok := m.(*teep.QueryResponse)
	if !ok {
		return nil
	}
	for _, o := range q.Extensions {
		if o.Label == agentconfig.AgentKeyOption {
			if key, err := cose.ParseKey(o.Value); err == nil {
				return key
			}
		}
	}
	var claims struct {
		Cnf struct {
			Key cose.RawMessage `cbor:"1,keyasint"`
		} `cbor:"8,keyasint"`
	}
	if eat, err := cose.Parse(q.AttestationPayload); err == nil && cose.Unmarshal(eat.PayloadInsecure(), &claims) == nil {
		if key, err := cose.ParseKey(claims.Cnf.Key); err == nil {
			return key
		}
	}
	return nil
}

// ask signs as the TAM and sends.
func (r *agentRun) ask(ctx context.Context, m teep.Message) (*reply, error) {
	data, err := teep.Sign(rand.Reader, r.TAM, m)
	if err != nil {
		return nil, err
	}
	return r.raw(ctx, data)
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// inventory is a QueryRequest with a token.
func (r *agentRun) inventory() *teep.QueryRequest {
	return &teep.QueryRequest{Token: random(32), CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles,
		DataItems: teep.ItemTrustedComponents}
}

// attestation is a QueryRequest with a challenge of n bytes.
func (r *agentRun) attestation(n int) *teep.QueryRequest {
	return &teep.QueryRequest{Challenge: random(n), CipherSuites: teep.DefaultCipherSuites, SUITProfiles: teep.DefaultSUITProfiles,
		DataItems: teep.ItemAttestation | teep.ItemTrustedComponents}
}

// answers asks and expects a QueryResponse that fits.
func (r *agentRun) answers(ctx context.Context, q *teep.QueryRequest) (*teep.QueryResponse, error) {
	a, err := r.ask(ctx, q)
	if err != nil {
		return nil, err
	}
	return responseTo(q, a)
}

func responseTo(q *teep.QueryRequest, a *reply) (*teep.QueryResponse, error) {
	m, ok := a.msg.(*teep.QueryResponse)
	if !ok {
		return nil, fmt.Errorf("answered with %s", a.what())
	}
	return m, q.CheckResponse(m)
}

// refuses expects anything but the answer that a valid message gets.
func (a *reply) refuses() error {
	switch a.msg.(type) {
	case *teep.QueryResponse, *teep.Success:
		return fmt.Errorf("answered with %s", a.what())
	case nil:
		if a.bad != nil {
			return fmt.Errorf("answered with %s", a.what())
		}
		return remark("silently dropped")
	}
	return nil
}

// isError expects an Error with one of the codes and the request's token.
func (a *reply) isError(request teep.Message, codes ...teep.ErrCode) (*teep.Error, error) {
	e, ok := a.msg.(*teep.Error)
	if !ok {
		return nil, fmt.Errorf("answered with %s, not with an Error", a.what())
	}
	if !slices.Contains(codes, e.Code) {
		return e, fmt.Errorf("answered with %s, want code %v", a.what(), codes)
	}
	return e, teep.CheckToken(request, e)
}

// nonces checks that every report repeats the token, and that the Agent has signed it where it is signed.
func nonces(reports [][]byte, token []byte, by *cose.Key) error {
	for i, data := range reports {
		rep, err := report.Open(data, report.Keys{Signers: []*cose.Key{by}, Plain: true})
		if err != nil {
			return fmt.Errorf("SUIT Report %d: %w", i+1, err)
		}
		if !bytes.Equal(rep.Nonce, token) {
			return fmt.Errorf("SUIT Report %d has the nonce %x, the token is %x", i+1, rep.Nonce, token)
		}
	}
	return nil
}
