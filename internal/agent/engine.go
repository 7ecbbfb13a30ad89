// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"sealift/cose"
	"sealift/evidence"
	"sealift/internal/agentconfig"
	"sealift/internal/channel"
	"sealift/suit"
	"sealift/teep"
)

// maxText bounds err-msg and msg (teep-protocol section 4.6).
const maxText = 128

// process answers one TEEP message (teep-protocol section 4.1.2). Messages are processed one at a time. What was not signed by a TAM of the
// measured configuration changes nothing and is told so; what cannot even be read as COSE has no answer.
func (a *Agent) process(ctx context.Context, msg []byte) ([]byte, error) {
	if uint64(len(msg)) > a.limits.MessageBytes {
		return nil, fmt.Errorf("%w: a TEEP message of %d bytes, more than %d", channel.ErrTooLarge, len(msg), a.limits.MessageBytes)
	}
	ctx, cancel := context.WithTimeout(ctx, a.limits.UpdateTimeout())
	defer cancel()
	a.awaitREE(ctx)
	unlock, err := a.lock(ctx)
	if err != nil {
		return nil, err
	}
	defer unlock()
	reply, err := a.answer(ctx, msg)
	if err != nil {
		return nil, err
	}
	switch m := reply.(type) {
	case *teep.Error:
		a.setLastError(fmt.Sprintf("%v: %s", m.Code, m.Msg))
		a.log.Warn("a TEEP message was answered with an error", "code", m.Code.String(), "message", m.Msg)
	case *teep.Success:
		a.setLastError(a.refused) // what the TAM has just refused is no success of ours
		a.refused = ""
	}
	if a.vault.Broken() {
		return nil, ErrBroken // nothing may be promised that the next start could take back
	}
	return teep.Sign(a.opts.Rand, a.identity.signer, reply)
}

// answer authenticates a message and gives the reply to it.
func (a *Agent) answer(ctx context.Context, msg []byte) (teep.Message, error) {
	signed, err := teep.Parse(msg)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", channel.ErrMalformed, err)
	}
	v, err := a.verifyTAM(signed)
	if err != nil {
		e := refuseSender(err)
		if e.Code == teep.ErrCodeBadCertificate || e.Code == teep.ErrCodeCertificateExpired {
			e.Extensions = a.keyOption() // so that a TAM that does not know this Agent can tell that it means it
		}
		return e, nil
	}
	switch m := v.Message.(type) {
	case *teep.QueryRequest:
		return a.query(ctx, v, m)
	case *teep.Update:
		return a.update(ctx, m, a.encKeyOf(v))
	}
	return failed(v.Message.TokenBytes(), teep.ErrCodePermanent, "a TAM does not send a %v", v.Message.Type()), nil
}

// failed is an Error message.
func failed(token []byte, code teep.ErrCode, format string, args ...any) *teep.Error {
	return &teep.Error{Token: token, Code: code, Msg: clip(fmt.Sprintf(format, args...))}
}

// clip makes a text fit for err-msg: valid UTF-8 without control characters, at most 128 bytes, cut between characters.
func clip(s string) string {
	s = strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "?"))
	if len(s) <= maxText {
		return s
	}
	s = s[:maxText-3]
	for !utf8.ValidString(s) {
		s = s[:len(s)-1]
	}
	return s + "..."
}

// query answers a QueryRequest. The order of the checks is that of digest section 6.
func (a *Agent) query(ctx context.Context, v *teep.VerifiedMessage, q *teep.QueryRequest) (teep.Message, error) {
	a.setUnasked(false)
	passport := a.passportFor(q)
	if e := a.refuseQuery(v.Key, q, passport); e != nil {
		if e.Token == nil { // the TAM may not know yet whose key has signed this
			e.Extensions = a.keyOption()
		}
		return e, nil
	}
	r := &teep.QueryResponse{Token: q.Token}
	switch {
	case passport != nil:
		r.AttestationPayload, r.AttestationPayloadFormat = passport, teep.AttestationResultFormat
		r.Extensions = a.keyOption()
		a.setUnasked(true)
	case q.DataItems.Has(teep.ItemAttestation):
		bundle, err := a.evidence(ctx, q.Challenge)
		if err == nil {
			bundle, err = a.sealFor(a.encKeyOf(v), cose.ContextEAT, bundle)
		}
		if err != nil {
			a.log.Error("no Evidence", "error", err)
			return failed(q.Token, teep.ErrCodeTemporary, "the hardware gives no Evidence: %v", err), nil
		}
		r.AttestationPayload, r.AttestationPayloadFormat = bundle, evidence.MediaType
		r.Extensions = a.keyOption()
	}
	a.fill(r, q.DataItems)
	return r, nil
}

// keyOption tells the Agent's signing key.
func (a *Agent) keyOption() []teep.Option {
	return []teep.Option{{Label: agentconfig.AgentKeyOption, Value: a.identity.signer.Key().Marshal()}}
}

// fill adds the lists that were asked for, and the wishes.
func (a *Agent) fill(r *teep.QueryResponse, items teep.DataItem) {
	s := a.state.Load()
	if items.Has(teep.ItemTrustedComponents) {
		r.TCList = a.tcList(s)
	}
	if items.Has(teep.ItemExtensions) {
		r.ExtList = []uint32{uint32(agentconfig.AgentKeyOption)}
	}
	for _, id := range s.Requested {
		r.RequestedTCList = append(r.RequestedTCList, a.wanted(s, id))
	}
	for _, c := range s.Components { // nobody has to ask for what is installed and gone
		if a.isLost(c.ID.String()) && !slices.ContainsFunc(s.Requested, c.ID.Equal) {
			r.RequestedTCList = append(r.RequestedTCList, a.wanted(s, c.ID))
		}
	}
	r.UnneededManifestList = s.Unneeded
}

// wanted asks for a component: not an older one than was installed, if it was. have-binary is never said: what the Agent has is
// installed, and of what is not it has nothing.
func (a *Agent) wanted(s *state, id suit.ComponentID) teep.RequestedTC {
	out := teep.RequestedTC{Component: id}
	if c := s.component(id); c != nil {
		if m := s.manifestOf(c); m != nil {
			out.SequenceNumber = &m.Sequence
		}
	}
	return out
}

// refuseQuery returns the Error that a QueryRequest deserves, or nil.
func (a *Agent) refuseQuery(tam *cose.Key, q *teep.QueryRequest, passport []byte) *teep.Error {
	if !q.SupportsVersion() {
		e := failed(q.Token, teep.ErrCodeUnsupportedVersion, "only version 0 is supported")
		e.Versions = []uint32{teep.ProtocolVersion}
		return e
	}
	own := teep.SuiteOf(a.identity.signer.Algorithm())
	if !slices.ContainsFunc(q.CipherSuites, own.Equal) {
		e := failed(q.Token, teep.ErrCodeUnsupportedCipherSuites, "no common cipher suite")
		e.CipherSuites = []teep.CipherSuite{own}
		return e
	}
	if e := a.refuseTAM(tam, q); e != nil {
		return e
	}
	for _, report := range q.SUITReports {
		if !readableReport(report) {
			e := failed(q.Token, teep.ErrCodeUnsupportedSUITReport, "encrypted SUIT reports are not supported")
			e.SUITProfiles = teep.DefaultSUITProfiles
			return e
		}
	}
	if !q.DataItems.Has(teep.ItemAttestation) || passport != nil {
		return nil
	}
	if !q.SupportsFreshness(teep.FreshnessNonce) || q.Challenge == nil {
		e := failed(q.Token, teep.ErrCodeUnsupportedFreshness, "Evidence is fresh by a nonce only, which must be given")
		e.SupportedFreshness = []uint32{teep.FreshnessNonce}
		return e
	}
	if len(q.Challenge) > 64 { // eat_nonce, RFC 9711 section 4.1
		return failed(q.Token, teep.ErrCodePermanent, "a challenge of %d bytes does not fit into eat_nonce (64)", len(q.Challenge))
	}
	return nil
}

// readableReport tells a plain or signed SUIT report from an encrypted one by its first byte: a map, an array, or the tag of
// COSE_Sign1 or COSE_Mac0 (suit-report section 5).
func readableReport(report []byte) bool {
	if len(report) == 0 {
		return false
	}
	major := report[0] >> 5
	return major == 5 || major == 4 || report[0] == 0xd2 || report[0] == 0xd1
}

// tcList tells what is installed, in the order of installation: for each manifest its identifier with the manifest's digest, and
// for each component its identifier, with the digest of its content unless that is PD. A digest of PD would let the
// operator guess small PD.
func (a *Agent) tcList(s *state) (list []teep.SystemProperty) {
	told := map[string]bool{}
	for _, m := range s.Manifests {
		var entries []teep.SystemProperty
		whole := true
		for _, c := range s.Components {
			id := c.ID.String()
			if !slices.Contains(c.Users, m.ID.String()) || told[id] {
				continue
			}
			if a.isLost(id) {
				whole = false
				continue
			}
			told[id] = true
			if c.Waits { // not an instance yet
				continue
			}
			entry := teep.SystemProperty{Component: c.ID}
			if class(c.ID) != classPD {
				entry.Digest = &suit.Digest{Alg: c.Digest.Alg, Bytes: c.Digest.Bytes}
			}
			entries = append(entries, entry)
		}
		if whole {
			list = append(list, teep.SystemProperty{Component: m.ID, Digest: &suit.Digest{Alg: m.Digest.Alg, Bytes: m.Digest.Bytes}})
		}
		list = append(list, entries...)
	}
	for _, next := range s.Candidates {
		list = append(list, teep.SystemProperty{Component: candidateID(next.Manifest.ID), Digest: &suit.Digest{Alg: next.Manifest.Digest.Alg, Bytes: next.Manifest.Digest.Bytes}})
		for _, c := range next.Components {
			list = append(list, teep.SystemProperty{Component: candidateID(c.ID), Digest: &suit.Digest{Alg: c.Digest.Alg, Bytes: c.Digest.Bytes}})
		}
	}
	return list
}
