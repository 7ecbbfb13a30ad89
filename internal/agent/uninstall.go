// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"slices"

	"sealift/suit"
	"sealift/suit/report"
)

// uninstall removes a manifest with what depends on it: the uninstall section runs, the references go, the keys of everything
// without references are dropped from the sealed state, and the counter moves on, so that no copy of the former state brings
// them back. A manifest that is not installed is removed already. next are those that the same message removes after it: their TAs
// are not started anew for the moment between.
func (a *Agent) uninstall(ctx context.Context, id suit.ComponentID, next []suit.ComponentID) (*report.Report, error) {
	if present, ok := presentID(id); ok {
		return a.withdraw(present)
	}
	s := a.state.Load()
	m := s.manifest(id)
	if m == nil {
		return nil, nil
	}
	t := a.begin()
	defer t.abort()
	t.patient, t.leaving = true, next
	t.next.dropCandidate(id)
	t.dropDependents(ctx, id)
	rep, err := t.drop(ctx, m)
	if err != nil {
		return rep, err
	}
	// A recorded Update must not bring back what was removed on purpose.
	if err := t.next.raiseFloor(id, m.Sequence+1); err != nil {
		return rep, err
	}
	t.next.Unneeded = slices.DeleteFunc(t.next.Unneeded, id.Equal)
	if err := t.commit(ctx); err != nil {
		return &report.Report{URI: m.URI, Digest: m.Digest, Failure: &report.Failure{Reason: report.ReasonOperationFailed}}, err
	}
	a.log.Info("removed", "manifest", id.String())
	rep.Items = append(rep.Items, destroyed(s, t.next)...)
	return rep, nil
}

// destroyed reports what of the TEE was in the state before and is no longer: as components of size 0, which no component has that is
// installed. Their keys are gone with the state before, and its counter; their TAs were stopped, and their folders in memory wiped.
func destroyed(before, after *state) (items []report.Item) {
	for _, c := range before.Components {
		if c.Blob != nil && after.component(c.ID) == nil {
			items = append(items, &report.SystemProperty{Component: c.ID, Params: suit.Params{suit.ParamSize: uint64(0)}})
		}
	}
	return items
}

// drop runs the uninstall section of m and takes it out of the staged state.
func (t *transaction) drop(ctx context.Context, m *manifest) (*report.Report, error) {
	envelope, err := t.a.envelope(m)
	if err != nil {
		return nil, err
	}
	former := t.root
	t.root = m.ID
	defer func() { t.root = former }()
	out, err := t.processor().Uninstall(ctx, envelope)
	if err != nil {
		return out.Report, err
	}
	t.forget(m)
	return out.Report, nil
}

// forget takes m and the references it still has out of the staged state.
func (t *transaction) forget(m *manifest) {
	for i := len(t.next.Components) - 1; i >= 0; i-- {
		c := &t.next.Components[i]
		if slices.Contains(c.Users, m.ID.String()) && t.next.unlink(m.ID.String(), c.ID) == 0 {
			t.discard(c.ID)
		}
	}
	t.next.dropManifest(m.ID)
}

// dropDependents removes the manifests that depend on id, those that depend on them first. One whose uninstall section fails is
// forgotten all the same: what it holds must not outlive what it was released to.
func (t *transaction) dropDependents(ctx context.Context, id suit.ComponentID) {
	for _, d := range t.next.dependents(id) {
		if t.next.manifest(d.ID) == nil {
			continue
		}
		t.dropDependents(ctx, d.ID)
		if _, err := t.drop(ctx, &d); err != nil {
			t.a.log.Warn("uninstall section failed", "manifest", d.ID.String(), "error", err)
			t.forget(&d)
		}
	}
}
