// SPDX-License-Identifier: Apache-2.0

package tam

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/suit"
	"sealift/teep"
	"sealift/teep/teephttp"
)

// Protocol are the choices that TEEP leaves to a TAM. The zero value is the background-check model over nonces, strictly
// by the text.
type Protocol struct {
	// Profile is how far Agents may depart from the drafts' text.
	Profile teep.Profile
	// Verifiers are trusted for Attestation Results about Agents (the passport model). With none, only Evidence is taken.
	Verifiers []*cose.Key
	// Window is how old an Attestation Result may be that bears no nonce of this TAM; zero refuses such results.
	Window time.Duration
	// ByTime makes the TAM ask admitted Agents for an Attestation Result that is fresh by its time, with neither token nor
	// challenge, and so to take QueryResponses that nobody has asked for. It needs a Window. Within the Window an old answer can be
	// sent again: all that it does is to have the plan looked at once more.
	ByTime bool
	// HandOver gives an Agent the Attestation Result that its Evidence has earned, in an Update without manifests, and trusts it when
	// it comes back.
	HandOver bool
	// Attest gives an Attestation Result about this TAM, over challenge unless that is nil, for Agents that require one.
	Attest func(ctx context.Context, challenge []byte) ([]byte, error)
	// Generic serves a TAM URI without a deployment: an Agent is found by its key, or by the configuration in its Evidence.
	Generic bool
}

func (p Protocol) validate() error {
	if p.ByTime && p.Window <= 0 {
		return errors.New("tam: freshness by time needs a window")
	}
	_, err := p.Profile.Options()
	return err
}

// options are those of the profile; New has checked it.
func (e *Engine) options() teep.Options {
	o, _ := e.Protocol.Profile.Options()
	return o
}

// verifiers are the keys that Attestation Results may be signed with.
func (e *Engine) verifiers() []*cose.Key {
	if !e.Protocol.HandOver {
		return e.Protocol.Verifiers
	}
	return append([]*cose.Key{e.Keys.Verifier.Key()}, e.Protocol.Verifiers...)
}

// errStale says that an Attestation Result is authentic and about this Agent, and not fresh: Evidence helps.
var errStale = errors.New("tam: the Attestation Result is not fresh")

// passport takes an Attestation Result for Evidence: signed by a trusted Verifier, about the key that has signed the message, and fresh
// by a nonce of ours or by its time (teep-protocol sections 7.1.1.1 and 9). What the result says about the Agent is then
// judged like our own Verifier's. Which configuration the Agent has, such a result does not say: its Verifier must have looked.
func (e *Engine) passport(d *store.Deployment, key *cose.Key, payload []byte, a *answered) error {
	trusted := e.verifiers()
	if len(trusted) == 0 {
		return fmt.Errorf("%w: an Attestation Result where Evidence was asked for", errDropped)
	}
	r, err := appraisal.ParseResult(payload, trusted, e.Now())
	if errors.Is(err, appraisal.ErrResultExpired) {
		return errStale
	}
	if err != nil {
		return fmt.Errorf("%w: %w", errDropped, err)
	}
	if !r.For(key) {
		return fmt.Errorf("%w: an Attestation Result about another key", errDropped)
	}
	if nonce, owner, err := evidence.SplitChallenge(r.Nonce); err == nil && !e.handedOver(r) {
		if a.expiry, err = e.checkChallenge(nonce, d.ID, owner); err == nil {
			a.token, a.challenge = nonce[:], r.Nonce
		}
	}
	if a.token == nil && (e.Protocol.Window <= 0 || e.Now().Sub(r.IssuedAt) > e.Protocol.Window) {
		return errStale
	}
	a.result, a.authentic = &appraisal.Result{Status: r.Status, Accept: r.Accept}, true
	return nil
}

// handedOver reports whether a result is our own Verifier's: the nonce in it was answered by the Evidence it is about.
func (e *Engine) handedOver(r *appraisal.AttestationResult) bool {
	return r.Verifier.Equal(e.Keys.Verifier.Key())
}

// checkChallenge checks the TAM's part of a challenge that was made for the deployment, or for any where there is a generic URI.
func (e *Engine) checkChallenge(nonce [evidence.NonceSize]byte, deployment string, owner [evidence.NonceSize]byte) (time.Time, error) {
	expiry, err := e.check(nonce[:], kindChallenge, deployment, owner[:])
	if err != nil && e.Protocol.Generic && owner == [evidence.NonceSize]byte{} {
		return e.check(nonce[:], kindChallenge, "", owner[:])
	}
	return expiry, err
}

// hand is the Update that gives an Agent its Attestation Result, nil if it is not to have it.
func (e *Engine) hand(d *store.Deployment, a *answered) teep.Message {
	if !e.Protocol.HandOver || a.advice == nil || !a.result.OK() || d.AgentKey == nil {
		return nil
	}
	token := e.mint(kindUpdate, d.ID, d.AgentKey.KID(), e.Now().Add(tokenLifetime))
	return &teep.Update{Token: token[:], AttestationPayload: a.advice, AttestationPayloadFormat: teep.AttestationResultFormat}
}

// refusal tells an Agent that its attestation has failed (teep-protocol section 7.1, first outcome).
func refusal(r *appraisal.Result) teep.Message {
	code := teep.ErrCodeAttestationRequired
	return &teep.Update{ErrCode: &code, ErrMsg: teep.Text(fmt.Sprintf("the attestation has failed: %v", r.Status)), ErrLang: "en"}
}

// incomplete tells an Agent what its QueryResponse lacks.
func incomplete(cause error) *teep.Update {
	code := teep.ErrCodePermanent
	return &teep.Update{ErrCode: &code, ErrMsg: teep.Text(cause.Error()), ErrLang: "en"}
}

// attune makes the Update fit what the QueryResponse says. Where the plan has nothing to send there may be something to remove, or an
// Attestation Result to hand over.
func (e *Engine) attune(d *store.Deployment, a *answered, m *teep.QueryResponse, reply teep.Message) (teep.Message, error) {
	if u, ok := reply.(*teep.Update); ok && len(m.RequestedTCList) > 0 && len(u.ManifestList) > 0 {
		heeded, err := heed(u, m.RequestedTCList)
		if err != nil {
			return nil, err
		}
		if len(heeded.ManifestList) > 0 {
			return heeded, nil
		}
		reply = nil // all of it is older than the Agent would take
	}
	if reply == nil {
		reply = e.unstarted(d, m.RequestedTCList)
	}
	if reply == nil {
		reply = e.unneeded(d, m.UnneededManifestList)
	}
	if reply == nil {
		reply = e.hand(d, a)
	}
	return reply, nil
}

// unstarted is the Update that has the Agent start a TA that it has and that waits for the UA's request, nil if there is none: the package
// once more. The Agent, which keeps the request until then, finds everything in place but the TA's start.
func (e *Engine) unstarted(d *store.Deployment, requested []teep.RequestedTC) teep.Message {
	p := course.Unstarted(d)
	if p == nil || d.AgentKey == nil || !slices.ContainsFunc(requested, func(r teep.RequestedTC) bool {
		return r.Component.Equal(suit.NewComponentID("tee", d.App, "ta"))
	}) {
		return nil
	}
	token := e.mint(kindUpdate, d.ID, d.AgentKey.KID(), e.Now().Add(tokenLifetime))
	return &teep.Update{Token: token[:], ManifestList: [][]byte{p.Envelope}}
}

// heed adapts an Update to what the Agent has asked for (teep-protocol section 4.3.2): nothing older than it would take, and no payloads
// that it has.
func heed(u *teep.Update, requested []teep.RequestedTC) (*teep.Update, error) {
	out := *u
	out.ManifestList = nil
	for _, envelope := range u.ManifestList {
		e, err := suit.ParseEnvelope(envelope)
		if err != nil {
			return nil, err
		}
		m, err := e.ManifestInsecure()
		if err != nil {
			return nil, err
		}
		wish := wished(requested, m.Components)
		if wish != nil && wish.SequenceNumber != nil && m.Sequence < *wish.SequenceNumber {
			continue
		}
		if wish != nil && wish.HaveBinary != nil && *wish.HaveBinary {
			if envelope, err = e.Encode(suit.EncodeOptions{DropPayloads: true}); err != nil {
				return nil, err
			}
		}
		out.ManifestList = append(out.ManifestList, envelope)
	}
	return &out, nil
}

// wished is the wish that concerns one of the components.
func wished(requested []teep.RequestedTC, components []suit.ComponentID) *teep.RequestedTC {
	for i := range requested {
		if slices.ContainsFunc(components, requested[i].Component.Equal) {
			return &requested[i]
		}
	}
	return nil
}

// unneeded is the Update that removes what the Agent no longer needs and the plan does not want either, nil if there is nothing.
func (e *Engine) unneeded(d *store.Deployment, ids []teep.ComponentID) teep.Message {
	var out []teep.ComponentID
	for _, id := range ids {
		text := id.String()
		listed := slices.ContainsFunc(d.Installed, func(c mocapi.InstalledComponent) bool { return c.Component == text })
		wanted := false
		for _, p := range d.Wanted {
			wanted = wanted || p.ManifestID == text
		}
		if listed && !wanted && len(id) > 0 && string(id[0]) == "manifest" {
			out = append(out, id)
		}
	}
	if len(out) == 0 || d.AgentKey == nil {
		return nil
	}
	token := e.mint(kindUpdate, d.ID, d.AgentKey.KID(), e.Now().Add(tokenLifetime))
	return &teep.Update{Token: token[:], UnneededManifestList: out}
}

// locate finds the deployment of whoever has sent a message to the generic URI: by the Agent's key, or by the configuration that its
// Evidence shows. Nothing of this is verified; it only chooses the deployment whose rules the message is then held against.
func (e *Engine) locate(ctx context.Context, msg []byte) (string, error) {
	signed, err := teep.Parse(msg)
	if err != nil {
		return "", teephttp.ErrNotFound
	}
	kids := signed.KIDs()
	all, err := e.Store.Deployments(ctx, "")
	if err != nil {
		return "", err
	}
	for _, d := range all {
		if d.AgentKey == nil || d.State == mocapi.StateRemoved {
			continue
		}
		if kid := d.AgentKey.KID(); slices.ContainsFunc(kids, func(k []byte) bool { return string(k) == string(kid) }) {
			return d.ID, nil
		}
	}
	m, err := signed.MessageInsecure()
	r, ok := m.(*teep.QueryResponse)
	if err != nil || !ok {
		return "", teephttp.ErrNotFound
	}
	payload, err := e.Keys.open(r.AttestationPayload, cose.ContextEAT)
	if err != nil {
		return "", teephttp.ErrNotFound
	}
	bundle, err := evidence.ParseBundle(payload)
	if err != nil {
		return "", teephttp.ErrNotFound
	}
	config, err := agentconfig.Parse(bundle.Config)
	if err != nil {
		return "", teephttp.ErrNotFound
	}
	return config.Deployment, nil
}
