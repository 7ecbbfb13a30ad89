// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"slices"
)

// startInstalled runs the invocation procedure of the installed manifests, in the order of installation: what was installed is
// validated again, and the TAs are started with the data that is bound to them. One that does not start keeps its place: its
// state is told by Status, and the next Update that names its manifest tries again.
func (a *Agent) startInstalled(ctx context.Context) {
	for _, m := range a.state.Load().Manifests {
		if err := a.startManifest(ctx, &m); err != nil {
			a.setLastError("start of " + m.ID.String() + ": " + clip(err.Error()))
			a.log.Warn("an installed manifest was not started", "manifest", m.ID.String(), "error", err)
		}
	}
	a.startCandidates(ctx)
}

// startManifest starts what one manifest invokes. Nothing of the state changes, so nothing is committed. Programs of the REE are
// started when a Broker attaches.
func (a *Agent) startManifest(ctx context.Context, m *manifest) error {
	if !slices.ContainsFunc(a.state.Load().Components, func(c component) bool {
		return class(c.ID) == classTEE && slices.Contains(c.Users, m.ID.String())
	}) {
		return nil
	}
	envelope, err := a.envelope(m)
	if err != nil {
		return err
	}
	t := a.begin()
	defer t.abort()
	t.root, t.booting = m.ID, true
	if _, err := t.processor().Invocation(ctx, envelope); err != nil {
		return err
	}
	t.swap()
	return nil
}
