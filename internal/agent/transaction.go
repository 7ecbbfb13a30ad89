// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"sealift/internal/agent/vault"
	"sealift/internal/channel"
	"sealift/suit"
	"sealift/suit/processor"
)

// transaction is one change of the installed components: a clone of the state in which everything is staged, and what has to
// happen outside the state when it is committed or given up. It is the processor.Platform of the manifests that it runs.
type transaction struct {
	a     *Agent
	next  *state
	root  suit.ComponentID // the manifest that is being processed
	keys  recipients       // that may open its payloads
	blobs []vault.Ref      // written by this transaction

	fetched int64 // bytes that came from outside
	live    *live // the session in which the manifest's owner brings it; nil where a TAM does

	ree     []*reeStage
	removed []suit.ComponentID // of the REE
	starts  []reeStart
	tas     map[string]*loadedTA // new generations
	// patient lets a removal go on although a TA does not start any more without what was removed.
	patient bool
	// leaving are the manifests that are removed next.
	leaving []suit.ComponentID
	// held says that what is staged will be a candidate: nothing of it goes out.
	held bool
	// written are the components that were staged, in that order.
	written []suit.ComponentID
	// booting takes components for what the sealed state says of them: the REE is not asked before a Broker attaches.
	booting bool
	// source and target are what is being copied now: see flow.
	source []byte
	target *stageWriter
}

// reeStage is a component on its way out.
type reeStage struct {
	id     suit.ComponentID
	writer channel.REEWriter
	done   bool
}

// reeStart is a program of the REE to be started.
type reeStart struct {
	id   suit.ComponentID
	args []byte
}

var _ processor.Platform = (*transaction)(nil)

func (a *Agent) begin() *transaction {
	return &transaction{a: a, next: a.state.Load().clone(), tas: map[string]*loadedTA{}}
}

// processor returns a SUIT processor over the transaction.
func (t *transaction) processor() *processor.Processor {
	l := t.a.limits
	return processor.New(t, processor.Options{
		Keys: t.a.owners,
		Limits: processor.Limits{
			EnvelopeBytes: int64(l.ManifestBytes), PayloadBytes: int64(l.PayloadBytes), TotalBytes: int64(l.StoreBytes),
		},
		RequireIdentityConditions: true,
		StrictAlgorithms:          true,
		Access:                    t.a.rights().Allow,
		UpdateManagement:          true,
	})
}

// abort drops everything that was staged, and takes back what has gone out. It does nothing after a commit.
func (t *transaction) abort() {
	if slices.ContainsFunc(t.ree, func(s *reeStage) bool { return s.done }) {
		ctx, cancel := context.WithTimeout(context.Background(), reeTimeout)
		defer cancel()
		t.takeBack(ctx)
	}
	for _, s := range t.ree {
		if !s.done {
			_ = s.writer.Abort()
		}
	}
	for _, ta := range t.tas {
		ta.stop()
	}
	for _, ref := range t.blobs {
		_ = t.a.vault.Remove(ref)
	}
	t.ree, t.tas, t.blobs = nil, nil, nil
}

// commit makes the transaction true. TAs whose program, parameters or data have changed are started first, beside those that run;
// then what is for the REE goes out and is started there; then the sealed state is committed, and only then the new
// generations take over. An error before that leaves everything as it was, except that an UA of the REE may be gone. So does a loss
// of power: what was going out is noted first, and counts as lost afterwards.
func (t *transaction) commit(ctx context.Context) error {
	if err := t.startChanged(ctx); err != nil {
		return err
	}
	if err := t.goOut(ctx); err != nil {
		return err
	}
	if err := t.a.commit(t.next); err != nil {
		t.takeBack(ctx)
		return err
	}
	t.swap()
	keep := t.next.blobs()
	for _, ref := range t.blobs {
		if !keep[ref.ID] {
			_ = t.a.vault.Remove(ref)
		}
	}
	t.clearREE(ctx)
	t.blobs, t.ree = nil, nil
	return nil
}

// startChanged starts a generation of each TA that this transaction changes, and tries to start those that do not run. Only the
// former can make it fail.
func (t *transaction) startChanged(ctx context.Context) error {
	before := t.a.state.Load()
	for i := range t.next.Components {
		c := &t.next.Components[i]
		if class(c.ID) != classTEE || c.Args == nil || c.Waits || t.leaves(c) {
			continue
		}
		old := before.component(c.ID)
		changed := old == nil || t.a.fingerprint(before, old, old.Args) != t.a.fingerprint(t.next, c, c.Args)
		if !changed && t.a.loaded(c.ID) != nil {
			continue
		}
		err := t.startTA(ctx, c, c.Args)
		if err != nil && changed && !t.patient {
			return err
		}
		if err != nil {
			t.a.log.Warn("a TA does not start", "ta", c.ID.String(), "error", err)
		}
	}
	return nil
}

// leaves reports whether nothing will use a component after the removals that come next.
func (t *transaction) leaves(c *component) bool {
	return len(c.Users) > 0 && !slices.ContainsFunc(c.Users, func(user string) bool {
		return !slices.ContainsFunc(t.leaving, func(id suit.ComponentID) bool { return id.String() == user })
	})
}

// startTA starts the TA c with args unless a generation just like it runs, or its owner holds it.
func (t *transaction) startTA(ctx context.Context, c *component, args []byte) error {
	if t.next.held(c.ID) {
		return nil
	}
	key := c.ID.String()
	print := t.a.fingerprint(t.next, c, args)
	if fresh := t.tas[key]; fresh != nil && fresh.print == print {
		return nil
	}
	if now := t.a.loaded(c.ID); now != nil && now.print == print && now.alive() {
		return nil
	}
	if len(t.next.tas())+len(t.next.Candidates) > int(t.a.limits.TAs) {
		return fmt.Errorf("%w: more than %d TAs", errLimit, t.a.limits.TAs)
	}
	if err := t.fits(c, args); err != nil {
		return err
	}
	begun, used := time.Now(), cpuTime()
	ta, err := t.a.startTA(ctx, t.next, c, args)
	if err != nil {
		return fmt.Errorf("%w: %w", errNotStarted, err)
	}
	t.started(c, begun, used)
	if old := t.tas[key]; old != nil {
		old.stop()
	}
	t.tas[key] = ta
	return nil
}

// goOut hands the staged components of the REE out and has their programs started. Each goes out once.
func (t *transaction) goOut(ctx context.Context) error {
	if err := t.noteREE(); err != nil {
		return err
	}
	for _, s := range t.ree {
		if s.done {
			continue
		}
		s.done = true
		if err := s.writer.Commit(); err != nil {
			t.takeBack(ctx)
			return fmt.Errorf("agent: install %s in the REE: %w", s.id, err)
		}
	}
	for _, s := range t.starts {
		if err := t.startUA(ctx, s); err != nil {
			t.takeBack(ctx)
			return err
		}
	}
	return nil
}

// noteREE commits which components of the REE are about to be replaced. The REE has no transactions: if the power fails between its
// change and the commit, it has the new UA, and the sealed state the old set. Then neither counts (see startREE), and the TAM sends
// the set again. What is about to be removed is noted with the commit itself, since it happens after it.
func (t *transaction) noteREE() error {
	now := t.a.state.Load().clone()
	now.Lost = slices.DeleteFunc(now.Lost, func(id suit.ComponentID) bool { return now.component(id) == nil && t.a.removedFromREE(id) })
	t.next.Lost = slices.DeleteFunc(slices.Clone(now.Lost), t.staged)
	for _, id := range t.removed {
		if t.next.component(id) == nil && !slices.ContainsFunc(t.next.Lost, id.Equal) {
			t.next.Lost = append(t.next.Lost, id)
		}
	}
	if !t.outgoing() {
		return nil
	}
	for _, s := range t.ree {
		if !slices.ContainsFunc(now.Lost, s.id.Equal) {
			now.Lost = append(now.Lost, s.id)
		}
	}
	return t.a.commit(now)
}

// outgoing says whether something is staged for the REE and has not gone out.
func (t *transaction) outgoing() bool {
	return slices.ContainsFunc(t.ree, func(s *reeStage) bool { return !s.done })
}

// stagedOut is goOut where something waits to go out. With nothing staged, the UA of a manifest that was installed before is there, or
// will be when a Broker attaches.
func (t *transaction) stagedOut(ctx context.Context) error {
	if !t.outgoing() {
		return nil
	}
	return t.goOut(ctx)
}

func (t *transaction) startUA(ctx context.Context, s reeStart) error {
	b, err := t.a.brokerNow()
	if err != nil {
		return err
	}
	if err := b.REEStart(ctx, s.id, s.args); err != nil {
		if errors.Is(err, channel.ErrNotFound) {
			t.a.setLost(s.id.String(), true)
		}
		return fmt.Errorf("agent: start %s in the REE: %w", s.id, err)
	}
	return nil
}

// takeBack removes from the REE what this transaction has put there. What it replaced is gone, and counts as lost.
func (t *transaction) takeBack(ctx context.Context) {
	b, err := t.a.brokerNow()
	for _, s := range t.ree {
		if !s.done {
			continue
		}
		t.a.setLost(s.id.String(), true)
		if err == nil {
			_ = b.REERemove(ctx, s.id)
		}
	}
}

// swap lets the new generations take over and stops the TAs that are no longer installed.
func (t *transaction) swap() {
	for _, ta := range t.tas {
		t.a.replace(ta.id, ta)
	}
	t.tas = nil
	t.a.mu.Lock()
	var gone []suit.ComponentID
	for _, ta := range t.a.tas {
		c := t.next.component(ta.id)
		// One that runs on what was removed must not go on, whether another could take its place or not.
		stale := c != nil && t.patient && t.a.fingerprint(t.next, c, c.Args) != ta.print
		if stale || c == nil && !t.next.isCandidate(ta.id) {
			gone = append(gone, ta.id)
		}
	}
	t.a.mu.Unlock()
	for _, id := range gone {
		t.a.replace(id, nil)
	}
}

// clearREE updates what is known of the REE and deletes there what was removed. The sealed state no longer has it, but as something that
// is lost: where the deletion fails, or the power before it, it is tried again when a Broker attaches.
func (t *transaction) clearREE(ctx context.Context) {
	for _, c := range t.next.Components {
		started := slices.ContainsFunc(t.starts, func(s reeStart) bool { return s.id.Equal(c.ID) })
		if class(c.ID) == classREE && (started || t.staged(c.ID)) {
			t.a.setLost(c.ID.String(), false)
		}
	}
	b, err := t.a.brokerNow()
	for _, id := range t.removed {
		if t.next.component(id) != nil {
			continue
		}
		cause := err
		if cause == nil {
			cause = b.REERemove(ctx, id)
		}
		if cause != nil {
			t.a.log.Warn("a component may be left in the REE", "component", id.String(), "error", cause)
			continue
		}
		t.a.setLost(id.String(), true)
	}
}

// unlink drops the manifest's reference to a component and returns how many remain.
func (s *state) unlink(manifest string, id suit.ComponentID) int {
	c := s.component(id)
	if c == nil {
		return 0
	}
	c.Users = slices.DeleteFunc(slices.Clone(c.Users), func(u string) bool { return u == manifest })
	return len(c.Users)
}

// tas lists the installed TAs.
func (s *state) tas() (ids []suit.ComponentID) {
	for _, c := range s.Components {
		if class(c.ID) == classTEE {
			ids = append(ids, c.ID)
		}
	}
	return ids
}
