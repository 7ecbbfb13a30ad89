// SPDX-License-Identifier: Apache-2.0

// Package tam is the M/OC's TAM: the engine behind its TEEP URI (RFC 9397 section 2; draft-ietf-teep-protocol section 7.1).
//
// It is level-triggered. At each QueryResponse it compares what the Agent has with what the deployment's plan wants next,
// and sends the one Update that the plan allows: packages in the order of the load sequence, those with PD only after
// the owner's appraisal and release. Nothing about a session is remembered in memory, so the process may be killed at any
// instant: the next session begins with what the Agent then has.
//
// Tokens and the TAM's part of a challenge are random values under a MAC, so that asking costs no write; what is recorded is
// that one was answered, in the same transaction as what the answer changed. The first validly signed answer counts,
// every later one changes nothing (teep-protocol section 4.2).
//
// The trace of a deployment is made of what the Agent reports, in the order in which it reports it, never of what was sent.
package tam

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/teep"
	"sealift/teep/teephttp"
)

// Config is what an Engine works with.
type Config struct {
	Store    *store.Store
	Keys     *Keys
	Policy   *appraisal.Policy // the operator's, for its own Verifier; its verdict decides whether an Agent is admitted
	Anchors  evidence.Anchors
	Hardware Hardware
	Now      func() time.Time // nil: the store's clock
	Rand     io.Reader        // nil: the system's
	Log      *slog.Logger     // nil: none
	// Stored says what is wrong with the bytes that the operator keeps of a payload ("sha256:<hex>"); nil where all is well. It is asked when
	// an Agent could not install one, and may take its time. It may be nil: then nobody looks.
	Stored    func(digest string) error
	Adversary Adversary // None in production
	Protocol  Protocol
}

// Hardware is what the Verifier needs to verify Evidence of more architectures than TrustZone. The zero value is good.
type Hardware struct {
	Verifiers    []evidence.HardwareVerifier
	Endorsements evidence.Endorsements // what does not come with the Evidence; may be nil
	CRLs         []*x509.RevocationList
	Panel        Panel // further Verifiers; may be nil
}

// Panel asks further Verifiers about Evidence that verified, adds what they say to the result's findings, and sets its
// status (package verifier).
type Panel interface {
	JudgeVerified(ctx context.Context, bundle []byte, v *evidence.Verified, challenge []byte, agentKey *cose.Key, r *appraisal.Result)
}

// Times of the protocol.
const (
	tokenLifetime  = 6 * time.Hour // teep-protocol section 7.1: at least several hours
	resultLifetime = 24 * time.Hour
	temporaryWait  = 2 * time.Second
	panelWait      = 10 * time.Second
	permanentWait  = time.Hour // teep-protocol section 4.6, ERR_PERMANENT_ERROR
	maxAttempts    = 6         // of one package whose payload cannot be had
	updateAttempts = 3         // likewise, of an update
)

// Engine answers the messages of TEEP Agents. It implements teephttp.TAM; the hint is a deployment's ID.
type Engine struct {
	Config
	signers map[cose.Algorithm]cose.Signer
}

var _ teephttp.TAM = (*Engine)(nil)

// New returns an Engine.
func New(cfg Config) (*Engine, error) {
	if cfg.Store == nil || cfg.Keys == nil || cfg.Policy == nil {
		return nil, errors.New("tam: store, keys and policy are required")
	}
	if err := cfg.Protocol.validate(); err != nil {
		return nil, err
	}
	if cfg.Now == nil {
		cfg.Now = cfg.Store.Now
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	e := &Engine{Config: cfg, signers: map[cose.Algorithm]cose.Signer{}}
	for _, s := range cfg.Keys.Signers {
		e.signers[s.Algorithm()] = s
	}
	return e, nil
}

// Connect begins a session: a QueryRequest for the deployment. It writes nothing.
func (e *Engine) Connect(ctx context.Context, hint string) ([]byte, error) {
	if hint == "" && e.Protocol.Generic {
		return e.challengeOn(nil, nil, terms{})
	}
	d, err := e.deployment(ctx, hint)
	if errors.Is(err, teephttp.ErrNotFound) && e.serves(ctx, hint) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return e.query(d)
}

// serves says whether the instance that was made for a deployment serves another still. Its Agent has this deployment's URI in its
// configuration, and there is nothing to be said to it here.
func (e *Engine) serves(ctx context.Context, hint string) bool {
	others, err := e.Store.InTEE(ctx, hint)
	return err == nil && len(others) > 0
}

// deployment finds what the hint names; whether the peer has to do with it shows later. For a removed one there is no TAM any
// more: what was answered for it is forgotten, so nothing may be accepted.
func (e *Engine) deployment(ctx context.Context, hint string) (*store.Deployment, error) {
	if hint == "" {
		return nil, teephttp.ErrNotFound
	}
	d, err := e.Store.Deployment(ctx, hint)
	if errors.Is(err, store.ErrNotFound) || err == nil && d.State == mocapi.StateRemoved {
		return nil, teephttp.ErrNotFound
	}
	return d, err
}

// query makes the QueryRequest. Attestation is asked for while the Agent is not admitted, and when the owner waits for
// Evidence; then there is a challenge, otherwise a token (teep-protocol section 4.2).
func (e *Engine) query(d *store.Deployment) ([]byte, error) {
	if d.AgentKey == nil || len(d.Private.Asked) > 0 {
		return e.challengeOn(d, d.AgentKey, terms{})
	}
	if e.Protocol.ByTime {
		return e.challengeOn(d, d.AgentKey, terms{byTime: true, freshness: []uint32{teep.FreshnessTimestamp}})
	}
	return e.tokenOn(d, d.AgentKey, terms{})
}

// sign protects a message with the suite of the Agent (teep-protocol section 8.1: the same suite in both directions).
func (e *Engine) sign(agent *cose.Key, m teep.Message) ([]byte, error) {
	alg := suiteOf(agent)
	return teep.SignCertified(e.Rand, e.signers[alg], e.Keys.chainsAt(e.Now())[alg], m)
}

// Message answers a message of an Agent. What cannot be believed gets no answer and changes nothing.
func (e *Engine) Message(ctx context.Context, hint string, msg []byte) ([]byte, error) {
	if hint == "" && e.Protocol.Generic {
		var err error
		if hint, err = e.locate(ctx, msg); err != nil {
			return nil, err
		}
	}
	d, err := e.deployment(ctx, hint)
	if errors.Is(err, teephttp.ErrNotFound) && e.serves(ctx, hint) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	v, err := e.authenticate(d, msg)
	switch {
	case errors.Is(err, errStranger):
		return e.challengeOn(d, nil, terms{})
	case errors.Is(err, errNotYet):
		return nil, fmt.Errorf("%w: %w", teephttp.ErrUnavailable, err)
	}
	if err != nil {
		e.Log.Info("a TEEP message was dropped", "deployment", d.ID, "reason", err)
		return nil, nil
	}
	var reply teep.Message
	switch m := v.Message.(type) {
	case *teep.QueryResponse:
		reply, err = e.queryResponse(ctx, d.ID, v.Key, m)
	case *teep.Success:
		reply, err = e.success(ctx, d.ID, v.Key, m)
	case *teep.Error:
		if better, err := e.renegotiate(ctx, d, v.Key, m); better != nil || err != nil && !errors.Is(err, errDropped) {
			return better, err
		}
		if d.AgentKey == nil {
			return nil, fmt.Errorf("%w: %w: %v", teephttp.ErrUnavailable, errNotYet, m.Code)
		}
		if !sameAgent(d, v.Key) {
			err = fmt.Errorf("%w: an Error of an unknown Agent", errDropped)
			break
		}
		reply, err = e.failure(ctx, d.ID, v.Key, m)
	default:
		err = fmt.Errorf("%w: an Agent does not send a %v", errDropped, m.Type())
	}
	switch {
	case errors.Is(err, errStale):
		return e.challengeOn(d, v.Key, terms{})
	case errors.Is(err, errIncomplete) && sameAgent(d, v.Key):
		e.Log.Info("a TEEP message was refused", "deployment", d.ID, "reason", err)
		return e.sign(v.Key, incomplete(err))
	case errors.Is(err, errIncomplete):
		err = fmt.Errorf("%w: %w", errDropped, err)
	}
	if errors.Is(err, errDropped) {
		e.Log.Info("a TEEP message was dropped", "deployment", d.ID, "reason", err)
		return nil, nil
	}
	if err != nil || reply == nil {
		return nil, err
	}
	return e.sign(v.Key, reply)
}

// errDropped: the message is not believed.
var errDropped = errors.New("tam: dropped")

// errIncomplete: it answers a request of ours and lacks what was asked for. It is dropped, and the Agent is told (teep-protocol section 7.1).
var errIncomplete = errors.New("tam: an incomplete QueryResponse")

// errStranger: another key than the admitted Agent's answers what that one was asked. It may be an Agent that has lost its
// storage, and with it its key: it is asked for Evidence.
var errStranger = errors.New("tam: another Agent answers")

// errNotYet: a new Agent could give no Evidence. Its key is not known, so nothing of its Error can be believed or noted; but
// the Broker may come again.
var errNotYet = errors.New("tam: an Error of a new Agent")

// authenticate verifies a message with the Agent's key. While no Agent is admitted, or when another one brings Evidence, the key
// is the one that the message itself names; then the Evidence decides whether it is believed.
func (e *Engine) authenticate(d *store.Deployment, msg []byte) (*teep.VerifiedMessage, error) {
	signed, err := teep.Parse(msg)
	if err != nil {
		return nil, err
	}
	if d.AgentKey != nil {
		v, err := signed.Verify([]*cose.Key{d.AgentKey}, e.options())
		if err == nil || !errors.Is(err, cose.ErrNoKey) {
			return v, err
		}
	}
	m, err := signed.MessageInsecure()
	if err != nil {
		return nil, err
	}
	options := keyOptions(m)
	if m.Type() == teep.TypeError && d.AgentKey == nil && options == nil {
		return nil, errNotYet
	}
	r, ok := m.(*teep.QueryResponse)
	if ok && r.AttestationPayload == nil && d.AgentKey != nil {
		if _, err := e.check(r.Token, kindQuery, d.ID, d.AgentKey.KID()); err == nil {
			return nil, errStranger
		}
	}
	if ok && r.AttestationPayload == nil || options == nil {
		return nil, errors.New("tam: a message of an unknown Agent without Evidence")
	}
	key, err := namedKey(options)
	if err != nil {
		return nil, err
	}
	return signed.Verify([]*cose.Key{key}, e.options())
}

// keyOptions are the options of a message in which a new Agent may name its key: one with Evidence, or one that says what it cannot do,
// which gets another request at most.
func keyOptions(m teep.Message) []teep.Option {
	switch m := m.(type) {
	case *teep.QueryResponse:
		return m.Extensions
	case *teep.Error:
		if m.Token == nil && negotiable(m.Code) {
			return m.Extensions
		}
	}
	return nil
}

// consume records that a token was answered; errDropped if it was before.
func consume(tx *store.Tx, d *store.Deployment, token []byte, expiry time.Time) error {
	if d.State == mocapi.StateRemoved {
		return fmt.Errorf("%w: the deployment is removed", errDropped)
	}
	fresh, err := tx.Consume(d.ID, token, expiry)
	if err != nil {
		return err
	}
	if !fresh {
		return fmt.Errorf("%w: its token was answered before", errDropped)
	}
	return nil
}

// sameAgent reports whether key is that of the deployment's Agent.
func sameAgent(d *store.Deployment, key *cose.Key) bool {
	return d.AgentKey != nil && bytes.Equal(d.AgentKey.KID(), key.KID())
}
