// SPDX-License-Identifier: Apache-2.0

package moc

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"sealift/appraisal"
	"sealift/cose"
	"sealift/internal/fault"
	"sealift/internal/moc/course"
	"sealift/internal/moc/mocapi"
	"sealift/internal/store"
	"sealift/internal/tam"
	"sealift/suit"
	"sealift/usecase"
)

// Evidence requests.
const (
	maxAsked = 16               // unanswered at one time
	askedAge = 15 * time.Minute // after which nobody waits for the answer any more
)

// requestEvidence notes an owner's nonce and wakes the device: the next QueryRequest carries it in its challenge.
func (s *Server) requestEvidence(c *call) (any, error) {
	r, err := decode[mocapi.EvidenceRequest](c)
	if err != nil {
		return nil, err
	}
	if len(r.Nonce) != mocapi.NonceSize || len(bytes.Trim(r.Nonce, "\x00")) == 0 {
		return nil, fault.New(fault.BadRequest, "the nonce has %d bytes or is all zero; it must be %d random bytes", len(r.Nonce), mocapi.NonceSize)
	}
	if _, err := s.deployment(c); err != nil {
		return nil, err
	}
	id, err := s.newID("e")
	if err != nil {
		return nil, err
	}
	now := s.cfg.Now().UTC()
	_, err = s.store.Update(c.Context(), c.PathValue("id"), func(tx *store.Tx, d *store.Deployment) error {
		if err := mayRun(d); err != nil {
			return err
		}
		var waiting []store.Asked
		for _, a := range d.Private.Asked {
			if now.Sub(a.Time) <= askedAge {
				waiting = append(waiting, a)
			} else if err := tx.DropEvidence(d.ID, a.ID); err != nil {
				return err
			}
		}
		if len(waiting) >= maxAsked {
			return fault.New(fault.Conflict, "%d evidence requests wait for the Agent already", len(waiting))
		}
		if slices.ContainsFunc(waiting, func(a store.Asked) bool { return bytes.Equal(a.Nonce, r.Nonce) }) {
			return fault.New(fault.Conflict, "an evidence request with that nonce waits already")
		}
		d.Private.Asked = append(waiting, store.Asked{ID: id, Nonce: r.Nonce, Time: now})
		d.Private.Wake++
		e := &store.Evidence{Evidence: mocapi.Evidence{ID: id}, Deployment: d.ID, Nonce: r.Nonce, Created: now}
		if err := tx.PutEvidence(e); err != nil {
			return err
		}
		return tx.AddEvent(d.ID, "evidence", "the owner asked for Evidence (%s)", id)
	})
	if err != nil {
		return nil, err
	}
	return mocapi.EvidenceRequested{ID: id}, nil
}

func notRemoved(d *store.Deployment) error {
	if !d.Private.Deleted.IsZero() {
		return fault.New(fault.DeploymentRemoved, "the deployment %s is %s", d.ID, d.State)
	}
	return nil
}

func (s *Server) getEvidence(c *call) (any, error) {
	return poll(s, c, store.TopicEvidence(c.PathValue("request")), func() (mocapi.Evidence, bool, error) {
		d, err := s.deployment(c)
		if err != nil {
			return mocapi.Evidence{}, false, err
		}
		e, err := s.store.Evidence(c.Context(), d.ID, c.PathValue("request"))
		if err != nil {
			return mocapi.Evidence{}, false, err
		}
		return e.Evidence, e.Ready, nil
	})
}

// postAppraisal takes the owner's Attestation Result over Evidence that this M/OC has handed out. A positive one completes
// the step attest and opens the way for a release; a negative one takes back what an earlier one has opened.
func (s *Server) postAppraisal(c *call) (any, error) {
	r, err := decode[mocapi.AppraisalRequest](c)
	if err != nil {
		return nil, err
	}
	d, err := s.deployment(c)
	if err != nil {
		return nil, err
	}
	e, err := s.store.Evidence(c.Context(), d.ID, r.Evidence)
	if errors.Is(err, store.ErrNotFound) || err == nil && !e.Ready {
		return nil, fault.New(fault.BadAppraisal, "there is no Evidence %q of this deployment", r.Evidence)
	}
	if err != nil {
		return nil, err
	}
	result, err := s.checkResult(d, e, r.Result)
	if err != nil {
		return nil, err
	}
	id, err := s.newID("a")
	if err != nil {
		return nil, err
	}
	a := &store.Appraisal{Deployment: d.ID, Result: r.Result,
		Appraisal: mocapi.Appraisal{ID: id, Evidence: e.ID, Positive: result.OK(), Time: s.cfg.Now().UTC()}}
	_, err = s.store.Update(c.Context(), d.ID, func(tx *store.Tx, d *store.Deployment) error {
		if err := notRemoved(d); err != nil {
			return err
		}
		v := course.Current(d)
		if err := s.takeAppraisal(tx, v, e, a); err != nil {
			return err
		}
		course.Settle(d, v)
		return course.Refresh(tx, d)
	})
	if err != nil {
		return nil, err
	}
	return a.Appraisal, nil
}

// checkResult verifies an owner's Attestation Result: by the deployment's owner key, about exactly this Evidence.
func (s *Server) checkResult(d *store.Deployment, e *store.Evidence, data []byte) (*appraisal.AttestationResult, error) {
	bad := func(format string, args ...any) error { return fault.New(fault.BadAppraisal, format, args...) }
	result, err := appraisal.ParseResult(data, []*cose.Key{d.OwnerKey}, s.cfg.Now())
	if err != nil {
		return nil, bad("the Attestation Result: %w", err)
	}
	switch {
	case !result.For(e.AgentKey):
		return nil, bad("the Attestation Result is about another Agent key than the Evidence")
	case !bytes.Equal(result.Nonce, e.Challenge):
		return nil, bad("the Attestation Result is about another challenge")
	case result.EvidenceDigest != sha256.Sum256(e.Bundle):
		return nil, bad("the Attestation Result is about other Evidence")
	}
	return result, nil
}

// takeAppraisal stores an appraisal and lets it have its effect.
func (s *Server) takeAppraisal(tx *store.Tx, d *store.Deployment, e *store.Evidence, a *store.Appraisal) error {
	a.Covers = course.Covers(d, a.ID, e.AgentKey.KID(), e.Manifests)
	if err := tx.PutAppraisal(a); err != nil {
		return err
	}
	if !a.Positive {
		d.Private.Appraised = nil
		if !d.Private.Failed {
			d.Problem = fault.New(fault.AppraisalRefused, "the owner refused the Evidence of the Agent")
		}
		if err := tx.AddEvent(d.ID, "appraisal", "the owner refused the Evidence %s", e.ID); err != nil {
			return err
		}
		return nil
	}
	if d.AgentKey == nil || !d.AgentKey.Equal(e.AgentKey) {
		return fault.New(fault.BadAppraisal, "the Evidence is of another Agent than the one that was admitted")
	}
	if a.Covers.TA == "" && course.TADue(d) {
		return fault.New(fault.BadAppraisal, "the Evidence does not name the TA that this deployment wants").
			WithHint("ask for Evidence again once the TA is installed")
	}
	d.Private.Appraised, d.Private.Unappraised = &a.Covers, false
	if d.Problem != nil && d.Problem.Code == fault.AppraisalRefused {
		d.Problem = nil
	}
	if next, ok := course.Next(d); ok && next.Step == usecase.Attest {
		if err := course.Done(d, usecase.Attest, s.cfg.Now(), "appraisal "+a.ID+" of the owner, Evidence "+e.ID); err != nil {
			return err
		}
	}
	if course.Missing(d) != nil { // what waited for the appraisal: a TA, or PD that was withheld since the last one no longer counted
		d.Private.Wake++
	}
	return tx.AddEvent(d.ID, "appraisal", "the owner accepted the Evidence %s", e.ID)
}

// release takes the packages with PD. The owner's positive appraisal has to cover the Agent and the TA that are there now.
func (s *Server) release(c *call) (any, error) {
	r, err := decode[mocapi.ReleaseRequest](c)
	if err != nil {
		return nil, err
	}
	d, err := s.deployment(c)
	if err != nil {
		return nil, err
	}
	if err := s.mayRelease(d, r.Appraisal); err != nil {
		return nil, err
	}
	mode := usecase.Mode(d.Mode)
	_, roles := course.Roles(mode)
	var wanted map[string]*store.Package
	live := d.Delivery == usecase.DeliveryChannel
	if live {
		wanted, err = announced(d, roles, &r)
	} else if wanted, err = s.loadPackages(source{d.Owner, d.OwnerKey, d.App, mode}, roles, r.Packages); len(r.Live) > 0 {
		err = fault.New(fault.BadPackage, "the delivery of %s is %s: nothing comes live", d.ID, usecase.DeliverySealed)
	}
	if err != nil {
		return nil, err
	}
	id, err := s.newID("r")
	if err != nil {
		return nil, err
	}
	out := &mocapi.Release{ID: id, Appraisal: r.Appraisal, Packages: []mocapi.PackageRef{}, Time: s.cfg.Now().UTC()}
	_, err = s.store.Update(c.Context(), d.ID, func(tx *store.Tx, d *store.Deployment) error {
		if err := s.mayRelease(d, r.Appraisal); err != nil {
			return err
		}
		for _, role := range roles {
			p := wanted[role]
			if old := course.Current(d).Wanted[role]; old != nil && old.Sequence >= p.Sequence && old.ManifestDigest != p.ManifestDigest {
				return fault.New(fault.Conflict, "package %s: its sequence number %d is not above the present %d", role, p.Sequence, old.Sequence)
			}
			if course.Moves(d, role) {
				course.SetNext(d, p)
			} else {
				d.SetWanted(p)
			}
			if !live {
				out.Packages = append(out.Packages, p.PackageRef)
			}
		}
		if v := course.Current(d); v != d { // whose release this is
			course.Settle(d, v)
		}
		d.Released = true
		course.Recovered(d)
		if !live { // else the device has a reason for a session when the owner has delivered
			d.Private.Wake++
		}
		if err := tx.PutRelease(d.ID, out); err != nil {
			return err
		}
		if err := tx.AddEvent(d.ID, "release", "the owner released PD (%s)", id); err != nil {
			return err
		}
		return course.Refresh(tx, d)
	})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// announced are the packages that an owner delivers to the TEE itself. Nothing of them is here but how the Agent will list them.
func announced(d *store.Deployment, roles []string, r *mocapi.ReleaseRequest) (map[string]*store.Package, error) {
	if len(r.Packages) > 0 || len(r.Live) != len(roles) {
		return nil, fault.New(fault.BadPackage, "the delivery of %s is %s: the release announces %d packages and brings none", d.ID, d.Delivery, len(roles))
	}
	out := map[string]*store.Package{}
	for _, p := range r.Live {
		sum, err := hex.DecodeString(strings.TrimPrefix(p.ManifestDigest, "sha256:"))
		if !slices.Contains(roles, p.Role) || err != nil || len(sum) != sha256.Size || p.ManifestDigest != "sha256:"+hex.EncodeToString(sum) {
			return nil, fault.New(fault.BadPackage, "the announcement of a package of role %q with the manifest %.80q", p.Role, p.ManifestDigest)
		}
		out[p.Role] = &store.Package{PackageRef: mocapi.PackageRef{Role: p.Role}, Owner: d.Owner, Sequence: p.Sequence, Envelope: []byte{},
			ManifestID: suit.NewComponentID("manifest", d.App, p.Role).String(), ManifestDigest: p.ManifestDigest}
	}
	return out, nil
}

// mayRelease is the M/OC's half of I1: nothing with PD moves before a positive appraisal of what is there now. The Agent
// and the owner each hold the rule by themselves.
func (s *Server) mayRelease(d *store.Deployment, id string) error {
	if err := mayRun(d); err != nil {
		return err
	}
	if s.cfg.Adversary == tam.BreakPDEarly {
		return nil
	}
	a := d.Private.Appraised
	if a == nil || a.ID != id || !course.Appraised(course.Current(d)) {
		return fault.New(fault.ReleaseBeforeAppraisal, "no positive appraisal with the id %q covers the present Agent and TA of %s", id, d.ID).
			WithHint("sealift verify appraises them")
	}
	return nil
}
