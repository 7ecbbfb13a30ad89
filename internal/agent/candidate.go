// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"io"
	"slices"

	"sealift/internal/agent/vault"
	"sealift/internal/agentconfig"
	"sealift/suit"
	"sealift/suit/report"
)

// A newer version of a TA whose present version holds PD does not take its place when it is installed: the PD was released to the
// present version and to no other, and without PD the new one could serve nobody. It becomes a candidate: installed, validated, started
// without PD, and named in Evidence and tc-list under its own name with the segment agentconfig.CandidateSegment after it, so that the
// owner can appraise it and seal PD to its key. The present version serves on. The manifest that brings PD for the candidate, which
// names the candidate's manifest by digest, makes one transaction of both: the candidate takes the place of the present version, whose
// PD is destroyed, and gets the new PD. If that fails, nothing has happened. docs/design/0015 has the reasons.

// candidate is such a version. It is part of the sealed state.
type candidate struct {
	Manifest manifest `cbor:"1,keyasint"`
	// Components are all of the manifest's. What is new for the REE waits in the sealed store as well; what it has already has no blob.
	Components []component `cbor:"2,keyasint"`
}

// candidateID is the name under which a candidate's component or manifest is listed.
func candidateID(id suit.ComponentID) suit.ComponentID { return agentconfig.CandidateID(id) }

// presentID is the inverse of candidateID; ok is false for a name that is not a candidate's.
func presentID(id suit.ComponentID) (suit.ComponentID, bool) {
	if len(id) != 4 || string(id[3]) != agentconfig.CandidateSegment {
		return nil, false
	}
	return id[:3], true
}

// candidate returns the candidate for the manifest with that identifier, or nil.
func (s *state) candidate(id suit.ComponentID) *candidate {
	i := slices.IndexFunc(s.Candidates, func(c candidate) bool { return c.Manifest.ID.Equal(id) })
	if i < 0 {
		return nil
	}
	return &s.Candidates[i]
}

func (s *state) dropCandidate(id suit.ComponentID) {
	s.Candidates = slices.DeleteFunc(s.Candidates, func(c candidate) bool { return c.Manifest.ID.Equal(id) })
}

// isCandidate says whether id is the listed name of a component of a candidate.
func (s *state) isCandidate(id suit.ComponentID) bool {
	present, ok := presentID(id)
	return ok && slices.ContainsFunc(s.Candidates, func(c candidate) bool {
		return slices.ContainsFunc(c.Components, func(o component) bool { return o.ID.Equal(present) })
	})
}

// mustHold says whether m is to become a candidate: it is another version of an installed manifest with a TA that data was released to.
func (t *transaction) mustHold(m *suit.Verified) bool {
	old := t.next.manifest(m.ComponentID)
	if old == nil || old.Digest.Equal(m.Digest) {
		return false
	}
	return slices.ContainsFunc(t.next.Components, func(c component) bool {
		return class(c.ID) == classTEE && slices.Contains(c.Users, old.ID.String()) && len(t.next.released(&c)) > 0
	}) && len(t.next.dependents(old.ID)) > 0
}

// hold commits what the transaction has staged as a candidate beside the present version, which nothing happens to.
func (t *transaction) hold(ctx context.Context) error {
	if err := t.startChanged(ctx); err != nil {
		return err
	}
	c := candidate{Manifest: *t.next.manifest(t.root)}
	for _, o := range t.next.Components {
		if slices.Contains(o.Users, t.root.String()) {
			c.Components = append(c.Components, o)
		}
	}
	next := t.a.state.Load().clone()
	next.dropCandidate(t.root)
	next.Candidates = append(next.Candidates, c)
	if err := t.a.commit(next); err != nil {
		return err
	}
	for _, ta := range t.tas {
		ta.id = candidateID(ta.id)
		t.a.replace(ta.id, ta)
	}
	t.tas = nil
	keep := next.blobs()
	for _, ref := range t.blobs {
		if !keep[ref.ID] {
			_ = t.a.vault.Remove(ref)
		}
	}
	t.blobs = nil
	return nil
}

// adopt puts the candidate that m depends on, by its digest, in the place of the present version, in the staged state. What was released
// to the present version goes with it: m brings what was released to the candidate.
func (t *transaction) adopt(ctx context.Context, m *suit.Verified) error {
	for _, id := range dependencyIDs(m.Manifest) {
		c := t.next.candidate(id)
		if c == nil || !names(m.Shared, c.Manifest.Digest) {
			continue
		}
		if err := t.promote(ctx, *c); err != nil {
			return err
		}
	}
	return nil
}

// names says whether a command sequence sets the digest d. That the dependency has it is checked by the processor.
func names(seq suit.Sequence, d suit.Digest) bool {
	return slices.ContainsFunc(seq, func(c suit.Command) bool {
		got, ok := c.Params.Digest()
		return ok && got.Equal(d)
	})
}

func (t *transaction) promote(ctx context.Context, c candidate) error {
	id := c.Manifest.ID
	t.dropDependents(ctx, id)
	t.next.dropCandidate(id)
	t.next.dropManifest(id)
	former := t.root
	t.root = id
	defer func() { t.root = former }()
	t.next.Manifests = append(t.next.Manifests, c.Manifest)
	var ids []suit.ComponentID
	for _, o := range c.Components {
		ids = append(ids, o.ID)
		if class(o.ID) == classREE && o.Blob != nil { // without one it is what the REE has already
			if err := t.sendOut(ctx, o); err != nil {
				return err
			}
			o.Blob = nil
		}
		t.next.dropComponent(o.ID)
		t.next.Components = append(t.next.Components, o)
	}
	t.link(ids)
	return t.next.raiseFloor(id, c.Manifest.Sequence)
}

// sendOut stages a component of a candidate for the REE.
func (t *transaction) sendOut(ctx context.Context, c component) error {
	r, err := t.a.vault.Open(*c.Blob)
	if err != nil {
		return err
	}
	defer r.Close()
	b, err := t.a.brokerNow()
	if err != nil {
		return err
	}
	w, err := b.REEInstall(ctx, c.ID)
	if err != nil {
		return err
	}
	t.ree = append(t.ree, &reeStage{id: c.ID, writer: w})
	_, err = io.Copy(w, r)
	return err
}

// startCandidates starts the TAs of candidates, without PD. One that does not start is listed all the same: its owner sees its state.
func (a *Agent) startCandidates(ctx context.Context) {
	s := a.state.Load()
	for _, c := range s.Candidates {
		over := s.clone()
		over.Components = slices.DeleteFunc(over.Components, func(o component) bool { return class(o.ID) == classPD })
		over.putManifest(c.Manifest)
		for _, o := range c.Components {
			over.putComponent(o)
		}
		for _, o := range c.Components {
			if class(o.ID) != classTEE || o.Args == nil || a.loaded(candidateID(o.ID)) != nil || s.held(o.ID) {
				continue
			}
			ta, err := a.startTA(ctx, over, over.component(o.ID), o.Args)
			if err != nil {
				a.log.Warn("a candidate does not start", "ta", o.ID.String(), "error", err)
				continue
			}
			ta.id = candidateID(o.ID)
			a.replace(ta.id, ta)
		}
	}
}

// withdraw removes a candidate: its keys go with the sealed state, and the present version serves on. It is asked for by the candidate's
// listed name, in unneeded-manifest-list.
func (a *Agent) withdraw(id suit.ComponentID) (*report.Report, error) {
	next := a.state.Load().clone()
	c := next.candidate(id)
	if c == nil {
		return nil, nil
	}
	gone := *c
	next.dropCandidate(id)
	if err := a.commit(next); err != nil {
		return &report.Report{URI: gone.Manifest.URI, Digest: gone.Manifest.Digest,
			Failure: &report.Failure{Reason: report.ReasonOperationFailed}}, err
	}
	for _, o := range gone.Components {
		a.replace(candidateID(o.ID), nil)
	}
	a.log.Info("withdrawn", "manifest", id.String(), "sequence", gone.Manifest.Sequence)
	return &report.Report{URI: gone.Manifest.URI, Digest: gone.Manifest.Digest}, nil
}

// refs lists the blobs of a candidate.
func (c *candidate) refs() []vault.Ref {
	refs := []vault.Ref{c.Manifest.Envelope}
	for _, o := range c.Components {
		if o.Blob != nil {
			refs = append(refs, *o.Blob)
		}
	}
	return refs
}
