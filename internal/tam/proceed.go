// SPDX-License-Identifier: Apache-2.0

package tam

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"sealift/cose"
	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/suit/report"
	"sealift/teep"
)

// proceed notes what is done and returns the Update that comes next, nil if nothing does.
func (e *Engine) proceed(tx *store.Tx, d *store.Deployment) (teep.Message, error) {
	if !d.Private.Deleted.IsZero() {
		return e.remove(tx, d)
	}
	course.Advance(d, e.Now())
	now := course.Current(d)
	if now != d { // an update is going on
		course.Advance(now, e.Now())
		course.Settle(d, now)
		now = course.Current(d)
	}
	if gone := course.Abandoned(d); len(gone) > 0 && d.AgentKey != nil {
		return e.withdraw(tx, d, gone)
	}
	p := e.missing(now)
	if p == nil && now != d {
		p = e.missing(d) // what the device has lost of the present version
	}
	if role := course.TARole(d); p == nil && d.Private.Again && d.AgentKey != nil && course.Present(d, role) && !course.Live(d, role) {
		p = d.Wanted[role] // installed already: the Agent makes sure that it runs
	}
	d.Private.Again = false
	if p == nil {
		p = e.Adversary.extra(e, d)
	}
	if err := course.Refresh(tx, d); p == nil || err != nil {
		return nil, err
	}
	token := e.mint(kindUpdate, d.ID, d.AgentKey.KID(), e.Now().Add(tokenLifetime))
	return &teep.Update{Token: token[:], ManifestList: [][]byte{p.Envelope}},
		tx.AddEvent(d.ID, "update", "%s with sequence number %d sent to the Agent", p.ManifestID, p.Sequence)
}

// remove asks the Agent to give up what it has, the last installed first, and drops the instance when it has nothing more.
func (e *Engine) remove(tx *store.Tx, d *store.Deployment) (teep.Message, error) {
	if err := course.Refresh(tx, d); d.Private.Dropped != 0 || err != nil {
		return nil, err
	}
	var ids []teep.ComponentID
	for _, c := range slices.Backward(d.Installed) {
		if strings.HasPrefix(c.Component, "manifest/") {
			id, err := teep.ParseComponentID(c.Component)
			if err != nil {
				return nil, err
			}
			ids = append(ids, id)
		}
	}
	if len(ids) == 0 || d.AgentKey == nil {
		return nil, course.Drop(tx, d)
	}
	token := e.mint(kindRemoval, d.ID, d.AgentKey.KID(), e.Now().Add(tokenLifetime))
	return &teep.Update{Token: token[:], UnneededManifestList: ids},
		tx.AddEvent(d.ID, "update", "removal of %d manifests sent to the Agent", len(ids))
}

// missing is the package to send now. What the plan has reached and the Agent lacks comes first in the plan's order; PD only
// under an appraisal that covers the Agent and TA that are there now. What its owner delivers itself nobody here can send.
func (e *Engine) missing(d *store.Deployment) *store.Package {
	if d.Private.Failed || d.AgentKey == nil {
		return nil
	}
	p := course.Missing(d)
	if p != nil && (course.Sealed(d, p.Role) && !course.Appraised(d) || course.Live(d, p.Role)) {
		return nil
	}
	return p
}

// outcome checks the reports of a Success or Error: each bears the Update's token (suit-report section 4; teep-protocol section 4.5).
func (e *Engine) outcome(reports [][]byte, token []byte, agent *cose.Key) ([]*report.Report, error) {
	var out []*report.Report
	for _, data := range reports {
		data, err := e.Keys.open(data, cose.ContextSUITReport)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDropped, err)
		}
		o, err := report.Open(data, report.Keys{Signers: []*cose.Key{agent}, Plain: true})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errDropped, err)
		}
		r := o.Report
		if !bytes.Equal(r.Nonce, token) {
			return nil, fmt.Errorf("%w: a SUIT Report over another nonce", errDropped)
		}
		out = append(out, r)
	}
	return out, nil
}

// success handles the answer to an Update that worked, and goes on with the plan at once where that is possible.
func (e *Engine) success(ctx context.Context, id string, key *cose.Key, m *teep.Success) (teep.Message, error) {
	kind, expiry, err := e.updateToken(m.Token, id, key)
	if err != nil {
		return nil, err
	}
	reports, err := e.outcome(m.SUITReports, m.Token, key)
	if err != nil {
		return nil, err
	}
	var reply teep.Message
	_, err = e.Store.Update(ctx, id, func(tx *store.Tx, d *store.Deployment) error {
		if err := consume(tx, d, m.Token, expiry); err != nil {
			return err
		}
		if kind == kindRemoval && d.Private.Deleted.IsZero() { // of a candidate
			d.Private.Wake++
			return course.Refresh(tx, d)
		}
		if kind == kindRemoval {
			e.keepProof(d, m.SUITReports)
			course.SetInstalled(d, nil)
			reply, err = e.proceed(tx, d)
			return err
		}
		if !slices.ContainsFunc(reports, func(r *report.Report) bool { return r.OK() && byDigest(d, digestText(r.Digest)) != nil }) {
			e.untold(d)
			return course.Refresh(tx, d)
		}
		if course.Current(d) != d {
			// Beside a candidate a report is ambiguous: the list says which version is which.
			course.Recovered(d)
			d.Private.Wake++
			return course.Refresh(tx, d)
		}
		for _, r := range reports {
			if err := e.reported(tx, d, r); err != nil {
				return err
			}
		}
		course.Recovered(d)
		if reply, err = e.proceed(tx, d); err != nil {
			return err
		}
		if _, missing := course.Unlisted(d); missing && reply == nil && !d.Private.Failed {
			d.Private.Wake++ // its report says too little, as one about a manifest that was there already does: look at the tc-list
		}
		return nil
	})
	return reply, err
}

// keepProof keeps the Agent's signed reports of a removal for the owner: the TAM opens their encryption, and cannot make one.
func (e *Engine) keepProof(d *store.Deployment, reports [][]byte) {
	for _, data := range reports {
		data, err := e.Keys.open(data, cose.ContextSUITReport)
		if err == nil {
			d.Removal = append(slices.Clone(d.Removal), data)
		}
	}
}

// withdraw has the Agent drop candidates that no update waits for.
func (e *Engine) withdraw(tx *store.Tx, d *store.Deployment, gone []string) (teep.Message, error) {
	if err := course.Refresh(tx, d); err != nil {
		return nil, err
	}
	var ids []teep.ComponentID
	for _, text := range gone {
		id, err := teep.ParseComponentID(text)
		if err != nil {
			return nil, err
		}
		ids = append(ids, id)
	}
	token := e.mint(kindRemoval, d.ID, d.AgentKey.KID(), e.Now().Add(tokenLifetime))
	return &teep.Update{Token: token[:], UnneededManifestList: ids},
		tx.AddEvent(d.ID, "update", "withdrawal of %d candidates sent to the Agent", len(ids))
}

// attemptsFor is how often a package is tried whose payload cannot be had or whose TA does not start. An update gives up sooner: the
// present version serves.
func attemptsFor(d *store.Deployment) int {
	if course.Current(d) != d {
		return updateAttempts
	}
	return maxAttempts
}

// untold handles a Success that does not say what was installed. The next tc-list will tell; were the Update sent again at once,
// an Agent that says no more than Success would get it without end.
func (e *Engine) untold(d *store.Deployment) {
	d.Private.Attempts++
	if d.Private.Attempts < attemptsFor(d) {
		d.Private.RetryAt = e.Now().Add(wait(d.Private.Attempts))
		return
	}
	course.Fail(d, fault.New(fault.ComponentMissing, "the Agent answers Success %d times and reports nothing that the plan needs",
		d.Private.Attempts), time.Time{})
}

// updateToken checks a token that came with an Update.
func (e *Engine) updateToken(token []byte, id string, key *cose.Key) (kind string, expiry time.Time, err error) {
	for _, kind = range []string{kindUpdate, kindRemoval} {
		if expiry, err = e.check(token, kind, id, key.KID()); err == nil {
			return kind, expiry, nil
		}
	}
	return "", expiry, err
}

// staged is the first segment of components that hold ciphertext while a manifest is processed, and are gone afterwards.
const staged = "enc"

// reported takes over what a report says was installed, in its order.
func (e *Engine) reported(tx *store.Tx, d *store.Deployment, r *report.Report) error {
	digest := digestText(r.Digest)
	p := byDigest(d, digest)
	if p == nil || !r.OK() || course.HasManifest(d, digest) && course.Unstarted(d) != p {
		return nil
	}
	course.AddInstalled(d, mocapi.InstalledComponent{Component: p.ManifestID, Digest: digest})
	for _, item := range r.Items {
		s, ok := item.(*report.SystemProperty)
		if !ok || len(s.Component) == 0 || string(s.Component[0]) == staged {
			continue
		}
		c := mocapi.InstalledComponent{Component: s.Component.String()}
		if d, ok := s.Params.Digest(); ok {
			c.Digest = digestText(d)
		}
		course.AddInstalled(d, c)
	}
	return tx.AddEvent(d.ID, "report", "%s installed", p.ManifestID)
}

// byDigest finds the package with that manifest.
func byDigest(d *store.Deployment, digest string) *store.Package {
	for _, p := range d.Wanted {
		if p.ManifestDigest == digest {
			return p
		}
	}
	return nil
}

// failure handles an Error message (teep-protocol sections 4.6 and 7.1).
func (e *Engine) failure(ctx context.Context, id string, key *cose.Key, m *teep.Error) (teep.Message, error) {
	if m.Token == nil {
		return nil, e.noEvidence(ctx, id, m)
	}
	_, expiry, err := e.updateToken(m.Token, id, key)
	if errors.Is(err, errDropped) {
		expiry, err = e.check(m.Token, kindQuery, id, key.KID())
	}
	if err != nil {
		return nil, err
	}
	reports, err := e.outcome(m.SUITReports, m.Token, key)
	if err != nil {
		return nil, err
	}
	damage, err := e.damage(ctx, id, m, reports)
	if err != nil {
		return nil, err
	}
	_, err = e.Store.Update(ctx, id, func(tx *store.Tx, d *store.Deployment) error {
		if err := consume(tx, d, m.Token, expiry); err != nil {
			return err
		}
		if err := tx.AddEvent(d.ID, "error", "the Agent answers %v: %s", m.Code, m.Msg); err != nil {
			return err
		}
		if !d.Private.Deleted.IsZero() {
			return course.GiveUp(tx, d, e.Now().Add(permanentWait)) // destroying the instance removes what the Agent could not
		}
		if damage != nil {
			course.Fail(d, damage, time.Time{})
		} else {
			e.judge(d, m, reports)
		}
		return course.Refresh(tx, d)
	})
	return nil, err
}

// damage looks at the operator's own store when an Agent could not install a package: one whose bytes are not what their digest says is
// never installed, however often it is tried. It returns nil where the store is not the cause.
func (e *Engine) damage(ctx context.Context, id string, m *teep.Error, reports []*report.Report) (*fault.Error, error) {
	if e.Stored == nil || m.Code != teep.ErrCodeManifestProcessingFailed || len(reports) == 0 {
		return nil, nil
	}
	last := reports[len(reports)-1]
	if last.Failure == nil || last.Failure.Reason != report.ReasonOperationFailed {
		return nil, nil
	}
	d, err := e.Store.Deployment(ctx, id)
	if err != nil {
		return nil, err
	}
	p := byDigest(d, digestText(last.Digest))
	if p == nil {
		return nil, nil
	}
	for _, digest := range p.Blobs {
		if err := e.Stored(digest); err != nil {
			e.Log.Error("a payload cannot be given to devices", "deployment", id, "payload", digest, "error", err)
			return fault.New(fault.PayloadDamaged, "the operator's store does not have the payload %s of %s as it was pushed: %w", digest, p.ManifestID, err).
				WithDetails(map[string]any{"payload": digest, "manifest_digest": p.ManifestDigest}).
				WithHint("push it again, by deploying or releasing the same package anew; then sealift start %s tries again", id), nil
		}
	}
	return nil, nil
}

// noEvidence handles an Error without a token, which answers a request for Evidence. Nothing in it is fresh, so it may be a
// replay: all it can do is to have the owner's request repeated a little later, once.
func (e *Engine) noEvidence(ctx context.Context, id string, m *teep.Error) error {
	_, err := e.Store.Update(ctx, id, func(tx *store.Tx, d *store.Deployment) error {
		if len(d.Private.Asked) == 0 || !d.Private.RetryAt.IsZero() || !d.Private.Deleted.IsZero() || d.State == mocapi.StateRemoved {
			return fmt.Errorf("%w: nobody waits for this Error", errDropped)
		}
		d.Private.RetryAt = e.Now().Add(temporaryWait)
		return tx.AddEvent(d.ID, "error", "the Agent gives no Evidence: %v: %s", m.Code, m.Msg)
	})
	return err
}

// judge decides what becomes of the deployment after an Error.
func (e *Engine) judge(d *store.Deployment, m *teep.Error, reports []*report.Report) {
	d.Private.Attempts++
	switch {
	case m.Code == teep.ErrCodeTemporary:
		d.Private.RetryAt = e.Now().Add(wait(d.Private.Attempts))
	case m.Code == teep.ErrCodeManifestProcessingFailed:
		e.refused(d, m, reports)
	case m.Code == teep.ErrCodePermanent: // not for ever: the problem may be mended meanwhile
		course.Fail(d, agentError(m), e.Now().Add(permanentWait))
	default:
		course.Fail(d, agentError(m), time.Time{})
	}
}

func agentError(m *teep.Error) *fault.Error {
	return fault.New(fault.AgentError, "the Agent answers %v: %s", m.Code, m.Msg)
}

// refused handles ERR_MANIFEST_PROCESSING_FAILED. A payload that could not be had is worth another try; a condition that does
// not hold, a signature or a right that is missing, is not.
func (e *Engine) refused(d *store.Deployment, m *teep.Error, reports []*report.Report) {
	var last *report.Report
	if len(reports) > 0 {
		last = reports[len(reports)-1]
	}
	if last == nil || last.Failure == nil {
		course.Fail(d, fault.New(fault.ManifestRefused, "the Agent refused a manifest: %s", m.Msg), time.Time{})
		return
	}
	if last.Failure.Reason == report.ReasonOperationFailed && d.Private.Attempts < attemptsFor(d) {
		d.Private.RetryAt = e.Now().Add(wait(d.Private.Attempts))
		return
	}
	digest := digestText(last.Digest)
	if old := e.rollback(d, digest); old != nil {
		course.Fail(d, old, time.Time{})
		return
	}
	course.Fail(d, fault.New(fault.ManifestRefused, "the Agent refused a manifest: %v: %s", last.Failure.Reason, m.Msg).
		WithDetails(map[string]any{"manifest_digest": digest, "reason": last.Failure.Reason.String(),
			"section": last.Failure.Record.Section, "message": m.Msg}), time.Time{})
}

// rollback explains the refusal of a manifest that is older than the installed one of the same name.
func (e *Engine) rollback(d *store.Deployment, digest string) *fault.Error {
	for _, c := range d.Installed {
		if !strings.HasPrefix(c.Component, "manifest/") {
			continue
		}
		same, err := e.Store.Registered(context.Background(), d.Owner, c.Component)
		if err != nil {
			return nil
		}
		refused, now := find(same, digest), find(same, c.Digest)
		if refused == nil || now == nil || refused.Sequence >= now.Sequence {
			continue
		}
		return fault.New(fault.RollbackRefused, "the Agent refused %s: its sequence number %d is older than the installed %d",
			refused.ManifestID, refused.Sequence, now.Sequence).
			WithDetails([]map[string]string{{
				"claim": "sequence number of " + refused.ManifestID, "expected": fmt.Sprintf("at least %d", now.Sequence),
				"got": fmt.Sprint(refused.Sequence), "source": "the installed manifest, kept in the Agent's sealed storage",
			}})
	}
	return nil
}

func find(packages []*store.Package, digest string) *store.Package {
	i := slices.IndexFunc(packages, func(p *store.Package) bool { return p.ManifestDigest == digest })
	if i < 0 {
		return nil
	}
	return packages[i]
}

func wait(attempts int) time.Duration {
	return min(temporaryWait<<min(attempts, 10), permanentWait)
}
