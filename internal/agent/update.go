// SPDX-License-Identifier: Apache-2.0

package agent

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"slices"
	"syscall"

	"sealift/cose"
	"sealift/internal/agent/runner"
	"sealift/internal/agent/vault"
	"sealift/internal/channel"
	"sealift/internal/oci"
	"sealift/suit"
	"sealift/suit/processor"
	"sealift/suit/report"
	"sealift/teep"
)

// errRollback says that a newer manifest of that identifier is or was installed.
var errRollback = errors.New("agent: the sequence number is too low")

// update answers an Update (teep-protocol section 4.4): first what is not needed any more, then the manifests in their order; the first
// failure ends it. What was done before the failure stays, and the reports say what that was.
// Reports are encrypted to encKey, if there is one.
func (a *Agent) update(ctx context.Context, m *teep.Update, encKey *cose.Key) (teep.Message, error) {
	a.keepPassport(m)
	if m.ErrCode != nil {
		a.log.Warn("the TAM refuses this Agent", "code", m.ErrCode.String(), "message", clip(m.ErrMsg), "lang", m.ErrLang)
		a.refused = refusalText(m)
	}
	if n := uint64(len(m.ManifestList)); n > a.limits.Manifests {
		return failed(m.Token, teep.ErrCodePermanent, "%d manifests in one Update, more than %d", n, a.limits.Manifests), nil
	}
	var reports [][]byte
	run := func(what string, removal bool, do func() (*report.Report, error)) *teep.Error {
		rep, err := do()
		if rep != nil && m.Token != nil {
			rep.Nonce = m.Token
		}
		if rep != nil && rep.Failure != nil && never(err) {
			rep.Failure.Reason = report.ReasonComponentUnsupported
		}
		if data, ok := a.marshalReport(rep, encKey, removal); ok {
			reports = append(reports, data)
		}
		if err == nil {
			return nil
		}
		a.log.Warn("a manifest was refused", "manifest", what, "error", err)
		e := failed(m.Token, teep.ErrCodeManifestProcessingFailed, "%s: %s", what, explain(err))
		e.SUITReports = reports
		return e
	}
	for i, id := range m.UnneededManifestList {
		next := m.UnneededManifestList[i+1:]
		if e := run(id.String(), true, func() (*report.Report, error) { return a.uninstall(ctx, id, next) }); e != nil {
			return e, nil
		}
	}
	for i, envelope := range m.ManifestList {
		what := fmt.Sprintf("manifest %d", i+1)
		if e := run(what, false, func() (*report.Report, error) { return a.install(ctx, envelope, nil) }); e != nil {
			return e, nil
		}
	}
	return &teep.Success{Token: m.Token, SUITReports: reports}, nil
}

// refusalText shows the TAM's verdict to operators, with the language in which it is written (teep-protocol section 4.4).
func refusalText(m *teep.Update) string {
	text := fmt.Sprintf("the TAM refuses this Agent: %v: %s", *m.ErrCode, clip(m.ErrMsg))
	if m.ErrLang != "" {
		text += " [" + m.ErrLang + "]"
	}
	return text
}

// explain puts the cause that an operator can do something about first: err-msg is short, and the way to the cause is long.
func explain(err error) string {
	for _, c := range []struct {
		cause error
		text  string
	}{
		{syscall.ENOSPC, "no space left in the sealed store"},
		{channel.ErrNoSpace, "no space left in the REE"},
		{channel.ErrNotFound, "the Broker cannot find the payload"},
		{oci.ErrPlatform, "the image is for another platform"},
		{oci.ErrDigest, "the image lies about a digest"},
		{oci.ErrEntry, "a layer of the image holds a forbidden entry"},
		{oci.ErrLimit, "the image is too large"},
		{runner.ErrProgram, "the program cannot be run"},
		{runner.ErrMemory, "the TA reaches its memory limit"},
		{runner.ErrExited, "the TA ends at once"},
		{channel.ErrExec, "the UA cannot be run"},
		{errMemory, "the other TAs leave too little memory"},
		{errNoBroker, "no Broker"},
		{context.DeadlineExceeded, "time is up"},
	} {
		if !errors.Is(err, c.cause) {
			continue
		}
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			c.text += " (" + exit.Error() + ")"
		}
		return c.text + ": " + err.Error()
	}
	return err.Error()
}

// never says that what was refused cannot be run here, however often it is brought: the TAM need not try again.
func never(err error) bool {
	return errors.Is(err, runner.ErrProgram) && !errors.Is(err, runner.ErrRuntime)
}

// marshalReport encodes a report, and encrypts it where there is a key: the plaintext is then a byte string (suit-report section 5).
// That of a removal is signed as well: it is the owner's proof, whom the TAM hands it on to.
func (a *Agent) marshalReport(rep *report.Report, encKey *cose.Key, signed bool) ([]byte, bool) {
	if rep == nil || rep.Digest.IsZero() {
		return nil, false
	}
	var p report.Protection
	if signed {
		p.Signer = a.identity.signer
	}
	data, err := rep.Protect(a.opts.Rand, p)
	if err == nil && encKey != nil {
		data, err = a.sealFor(encKey, cose.ContextSUITReport, cose.MustMarshal(data))
	}
	return data, err == nil
}

// install processes one manifest: all of it or nothing. Installing what is installed already succeeds and changes nothing. l is the
// session in which its owner brings it, nil where a TAM does.
func (a *Agent) install(ctx context.Context, envelope []byte, l *live) (*report.Report, error) {
	if uint64(len(envelope)) > a.limits.ManifestBytes {
		return nil, fmt.Errorf("%w: an envelope of %d bytes, more than %d", errLimit, len(envelope), a.limits.ManifestBytes)
	}
	t := a.begin()
	defer t.abort()
	t.live = l
	m, err := a.authentic(envelope)
	if err != nil {
		// The processor refuses it for the same reason, and writes the report.
		out, refused := t.processor().Update(ctx, envelope)
		return out.Report, errors.Join(refused, err)
	}
	if rep, err := a.admit(m); err != nil {
		return rep, err
	}
	if err := a.admitLive(l, m); err != nil {
		return refusal(m, report.ReasonComponentUnauthorised), err
	}
	if a.isInstalled(m) {
		return a.reapply(ctx, m)
	}
	if l != nil {
		t.next.consent(app(m.ComponentID))
	}
	if c := a.state.Load().candidate(m.ComponentID); c != nil && c.Manifest.Digest.Equal(m.Digest) {
		a.startCandidates(ctx)
		return &report.Report{URI: m.ReferenceURI, Digest: m.Digest}, nil
	}
	return t.install(ctx, m, envelope)
}

// authentic verifies an envelope under the owners' keys.
func (a *Agent) authentic(envelope []byte) (*suit.Verified, error) {
	e, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return nil, err
	}
	return e.Verify(a.owners, suit.VerifyOptions{StrictAlgorithms: true})
}

// admit checks what the processor does not: the manifest as a whole, rollback across removal, and bounds.
func (a *Agent) admit(m *suit.Verified) (*report.Report, error) {
	if err := a.authorizeManifest(m); err != nil {
		return refusal(m, report.ReasonComponentUnauthorised), err
	}
	s := a.state.Load()
	if lowest := s.floor(m.ComponentID); m.Sequence < lowest {
		return refusal(m, report.ReasonConditionFailed), fmt.Errorf("%w: it has %d, at least %d is needed", errRollback, m.Sequence, lowest)
	}
	old := s.manifest(m.ComponentID)
	if err := a.authorizeReplacement(old, m.Signer); err != nil {
		return refusal(m, report.ReasonComponentUnauthorised), err
	}
	if old != nil && old.Sequence == m.Sequence && !old.Digest.Equal(m.Digest) {
		return refusal(m, report.ReasonConditionFailed),
			fmt.Errorf("%w: another manifest with number %d is installed", errRollback, m.Sequence)
	}
	if next := s.candidate(m.ComponentID); next != nil && (old == nil || !old.Digest.Equal(m.Digest)) && !next.Manifest.Digest.Equal(m.Digest) &&
		m.Sequence <= next.Manifest.Sequence {
		return refusal(m, report.ReasonConditionFailed),
			fmt.Errorf("%w: it has %d, and %d waits for its data", errRollback, m.Sequence, next.Manifest.Sequence)
	}
	if old == nil && len(s.Manifests) >= int(a.limits.Manifests) {
		return refusal(m, report.ReasonOperationFailed), fmt.Errorf("%w: %d manifests", errLimit, len(s.Manifests))
	}
	return nil, nil
}

// refusal is the report of a manifest that was not run.
func refusal(m *suit.Verified, reason report.Reason) *report.Report {
	return &report.Report{URI: m.ReferenceURI, Digest: m.Digest, Failure: &report.Failure{Reason: reason}}
}

// isInstalled says whether this very manifest is installed with everything that belongs to it.
func (a *Agent) isInstalled(m *suit.Verified) bool {
	s := a.state.Load()
	old := s.manifest(m.ComponentID)
	if old == nil || !old.Digest.Equal(m.Digest) {
		return false
	}
	return !slices.ContainsFunc(s.Components, func(c component) bool {
		return slices.Contains(c.Users, old.ID.String()) && a.isLost(c.ID.String())
	})
}

// reapply makes sure that what an installed manifest starts does run, and reports success. A TA that waits for its UA's request is
// started if there was one.
func (a *Agent) reapply(ctx context.Context, m *suit.Verified) (*report.Report, error) {
	t := a.begin()
	defer t.abort()
	var started []report.Item
	for i := range t.next.Components {
		c := &t.next.Components[i]
		if c.Args == nil || !slices.Contains(c.Users, m.ComponentID.String()) {
			continue
		}
		var err error
		switch {
		case c.Waits && !t.a.requested(c.ID):
		case c.Waits:
			c.Waits = false
			t.next.Requested = slices.DeleteFunc(t.next.Requested, c.ID.Equal)
			started = append(started, listing(c))
			err = t.startTA(ctx, c, c.Args)
		case class(c.ID) == classTEE:
			err = t.startTA(ctx, c, c.Args)
		case class(c.ID) == classREE:
			err = t.startUA(ctx, reeStart{c.ID, c.Args})
		}
		if err != nil {
			return refusal(m, report.ReasonOperationFailed), err
		}
	}
	if len(started) == 0 {
		t.swap()
	} else if err := t.commit(ctx); err != nil {
		return refusal(m, report.ReasonOperationFailed), err
	}
	return &report.Report{URI: m.ReferenceURI, Digest: m.Digest, Items: started}, nil
}

// install runs the update procedure and the invocation procedure of m and commits.
func (t *transaction) install(ctx context.Context, m *suit.Verified, envelope []byte) (*report.Report, error) {
	t.root = m.ComponentID
	if err := t.adopt(ctx, m); err != nil {
		return refusal(m, report.ReasonOperationFailed), err
	}
	t.held = t.mustHold(m)
	if err := t.chooseKeys(m); err != nil {
		return refusal(m, report.ReasonComponentUnauthorised), err
	}
	out, err := t.stage(ctx, m, envelope)
	if err != nil {
		return out.Report, err
	}
	rep := out.Report
	if err := t.record(ctx, out, envelope); err != nil {
		return refusal(m, report.ReasonOperationFailed), err
	}
	invoked, err := t.processor().Invocation(ctx, envelope)
	if err != nil {
		return invoked.Report, err
	}
	rep.Items = slices.DeleteFunc(append(rep.Items, invoked.Report.Items...), t.isWaiting)
	commit, what := t.commit, "installed"
	if t.held {
		commit, what = t.hold, "waits for its data"
	}
	if err := commit(ctx); err != nil {
		return refusal(m, report.ReasonOperationFailed), err
	}
	t.a.log.Info(what, "manifest", m.ComponentID.String(), "sequence", m.Sequence)
	return rep, nil
}

// chooseKeys offers the keys that the manifest's payloads may be encrypted to: the TA's for data that depends on an installed
// TA, the Agent's for everything else. A manifest that takes something out to the REE gets the Agent's only, even where it brings data for
// an installed TA (mode ua+pd,ta): nothing that was ever sealed to a TA can leave the TEE.
func (t *transaction) chooseKeys(m *suit.Verified) error {
	depends := dependencyIDs(m.Manifest)
	t.keys = recipients{t.a.identity.enc}
	if len(depends) == 0 || slices.ContainsFunc(m.Components, func(id suit.ComponentID) bool { return class(id) == classREE }) {
		return t.live.mayOpen(nil)
	}
	t.keys = nil
	tas := bound(t.next, nil, depends)
	if err := t.live.mayOpen(tas); err != nil {
		return err
	}
	for _, ta := range tas {
		enc, _, err := ta.TA.keys()
		if err != nil {
			return err
		}
		t.keys = append(t.keys, enc)
	}
	return nil
}

func dependencyIDs(m *suit.Manifest) (ids []suit.ComponentID) {
	for _, d := range m.Dependencies {
		if id, _, ok := m.Component(d.Index); ok {
			ids = append(ids, id)
		}
	}
	return ids
}

// record writes into the staged state what the update procedure has made of the root manifest. Manifests that depended on an
// earlier version of it are removed: their data was released to that version's TA.
func (t *transaction) record(ctx context.Context, out *processor.Outcome, envelope []byte) error {
	root := out.Manifest
	for _, ran := range out.Manifests {
		// Its components would belong to nobody.
		if !ran.Root && t.next.manifest(ran.Name) == nil {
			return fmt.Errorf("%w: %s is not installed; a dependency is installed by an Update of its own", errBinding, ran.Name)
		}
	}
	old := t.next.manifest(t.root)
	if old != nil && !old.Digest.Equal(root.Digest) {
		t.dropDependents(ctx, t.root)
	}
	ref, err := t.store(envelope)
	if err != nil {
		return err
	}
	depends := dependencyIDs(root.Manifest)
	t.next.putManifest(manifest{
		ID: t.root, Sequence: root.Sequence, Digest: root.Digest, Signer: root.Signer.KID(), URI: root.ReferenceURI,
		Envelope: ref, Depends: depends, Version: root.SetVersion,
	})
	if err := t.next.raiseFloor(t.root, root.Sequence); err != nil {
		return err
	}
	if old != nil && !old.Digest.Equal(root.Digest) {
		t.toEnd()
	}
	t.link(out.Manifests[len(out.Manifests)-1].Components)
	t.next.Requested = slices.DeleteFunc(t.next.Requested, func(id suit.ComponentID) bool { return t.next.component(id) != nil })
	return t.bindData(root.Components, depends)
}

// toEnd moves what was written to the end of the lists: they tell the order in which the present versions were installed, and a trace
// is made of it.
func (t *transaction) toEnd() {
	m := *t.next.manifest(t.root)
	t.next.dropManifest(t.root)
	t.next.Manifests = append(t.next.Manifests, m)
	for _, id := range t.written {
		if c := t.next.component(id); c != nil {
			last := *c
			t.next.dropComponent(id)
			t.next.Components = append(t.next.Components, last)
		}
	}
}

// store seals the envelope, which is kept until the manifest is removed.
func (t *transaction) store(envelope []byte) (ref vault.Ref, err error) {
	w, err := t.blob()
	if err != nil {
		return ref, err
	}
	if _, err := w.Write(envelope); err != nil {
		return ref, errors.Join(err, w.Abort())
	}
	if ref, err = w.Close(); err == nil {
		t.blobs = append(t.blobs, ref)
	}
	return ref, err
}

// link gives the root manifest its references. Components that an earlier version of it listed and this one does not lose theirs.
func (t *transaction) link(ids []suit.ComponentID) {
	user := t.root.String()
	for i := len(t.next.Components) - 1; i >= 0; i-- {
		c := &t.next.Components[i]
		users := slices.DeleteFunc(slices.Clone(c.Users), func(u string) bool { return u == user })
		if slices.ContainsFunc(ids, c.ID.Equal) {
			users = append(users, user)
		}
		c.Users = users
		if len(users) == 0 {
			t.discard(c.ID)
		}
	}
}

// discard drops a component to which no reference is left.
func (t *transaction) discard(id suit.ComponentID) {
	if c := t.next.component(id); c != nil && c.Blob == nil {
		t.removed = append(t.removed, id)
	}
	t.next.dropComponent(id)
}

// bindData binds the PD of the root manifest to the one TA that may see it.
func (t *transaction) bindData(components, depends []suit.ComponentID) error {
	tas := bound(t.next, components, depends)
	for i := range t.next.Components {
		c := &t.next.Components[i]
		if class(c.ID) != classPD || !slices.Contains(c.Users, t.root.String()) {
			continue
		}
		if len(tas) != 1 {
			return fmt.Errorf("%w: %d TAs fit", errBinding, len(tas))
		}
		c.BoundTo = tas[0].Digest.Bytes
	}
	return nil
}
