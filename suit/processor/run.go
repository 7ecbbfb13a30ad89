// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// Sentinels that an Error may wrap.
var (
	ErrRollback         = errors.New("processor: the sequence number is lower than the installed one")
	ErrNothingToInstall = errors.New("processor: the manifest has no section that installs anything")
	ErrLimit            = errors.New("processor: limit exceeded")
	ErrDependency       = errors.New("processor: dependency")
	ErrNotSupported     = errors.New("processor: not supported")
	ErrRule             = errors.New("processor: rule of the manifest format broken")
	ErrCondition        = errors.New("processor: condition does not hold")
)

type procedure []suit.Member

// The procedures (suit-manifest section 6.5 and 6.6, suit-trust-domains section 6).
var (
	procedureUpdate = procedure{
		suit.MemberDependencyResolution, suit.MemberPayloadFetch, suit.MemberCandidateVerification, suit.MemberInstall,
		suit.MemberValidate,
	}
	procedureInvocation = procedure{suit.MemberValidate, suit.MemberLoad, suit.MemberInvoke}
	procedureUninstall  = procedure{suit.MemberUninstall}
)

func (o Options) withDefaults() Options {
	l := &o.Limits
	setDefault(&l.EnvelopeBytes, 16<<20)
	setDefault(&l.PayloadBytes, 1<<30)
	setDefault(&l.TotalBytes, 8<<30)
	setDefault(&l.Commands, 10_000)
	setDefault(&l.Dependencies, 16)
	setDefault(&l.Depth, 4)
	if o.Schemes == nil {
		o.Schemes = []string{"http", "https", "ni"}
	}
	return o
}

func setDefault[T int | int64](v *T, def T) {
	if *v == 0 {
		*v = def
	}
}

// run takes one envelope through one procedure.
func (p *Processor) run(ctx context.Context, envelope []byte, proc procedure) (*Outcome, error) {
	m := newMachine(ctx, p)
	err := m.procedure(envelope, proc)
	m.dropPending()
	m.finish(err)
	if err != nil {
		return m.out, err
	}
	return m.out, nil
}

func (m *machine) procedure(envelope []byte, proc procedure) error {
	env, man, err := m.authenticate(envelope)
	if err != nil {
		m.out.Report.Digest = bestDigest(env, envelope)
		return err
	}
	m.out.Report.Digest = man.Digest
	m.out.Manifest = man
	m.out.Report.URI = man.ReferenceURI
	root := &m.firstFrame
	*root = frame{machine: m, manifest: man, name: man.Name()}
	m.root = root
	if err := root.admit(); err != nil {
		return err
	}
	if slices.Contains(proc, suit.MemberInstall) && !installs(man.Manifest) {
		return &Error{Reason: report.ReasonOperationFailed, Err: ErrNothingToInstall}
	}
	for _, section := range proc {
		if err := root.runSection(section); err != nil {
			return err
		}
	}
	return m.closing(proc)
}

// bestDigest is what a report on an inauthentic envelope refers to: the digest that it claims for its manifest, or its own.
func bestDigest(env *suit.Envelope, envelope []byte) suit.Digest {
	if env != nil {
		if d, err := env.DigestInsecure(); err == nil {
			return d
		}
	}
	return suit.SHA256(envelope)
}

// installs reports whether the manifest has a section that can change components in an update. One without is for
// invocation only, or it is of a draft that numbered its members otherwise.
func installs(m *suit.Manifest) bool {
	for _, label := range procedureUpdate {
		if label == suit.MemberValidate {
			continue
		}
		_, present := m.Section(label)
		_, severed := m.Severed[label]
		if present || severed {
			return true
		}
	}
	return false
}

// closing makes the checks that need the whole procedure.
func (m *machine) closing(proc procedure) error {
	for key, st := range m.states {
		if !st.unauthenticated {
			continue
		}
		return &Error{Reason: report.ReasonConditionFailed, Err: fmt.Errorf(
			"%w: %s was decrypted with a cipher that does not authenticate, and no image-match covers it", ErrRule, key)}
	}
	if !slices.Contains(proc, suit.MemberInstall) || m.options.LenientDependencies {
		return nil
	}
	for _, d := range m.root.manifest.Dependencies {
		if m.root.dependencies[d.Index] == nil {
			return &Error{Reason: report.ReasonOperationFailed, Err: fmt.Errorf(
				"%w %d was never checked by its dependent", ErrDependency, d.Index)}
		}
	}
	return nil
}

// finish completes the outcome.
func (m *machine) finish(err error) {
	out := m.out
	if err != nil {
		out.Report.Failure = failure(err)
	}
	if m.root == nil {
		return
	}
	m.root.collect(true)
	if len(out.Unlinked) == 0 {
		return
	}
	gone := map[string]bool{}
	for _, id := range out.Unlinked {
		gone[id.String()] = true
	}
	out.Touched = slices.DeleteFunc(out.Touched, func(t Touched) bool { return gone[t.Component.String()] })
}

// collect lists the frame's manifest after its dependencies.
func (f *frame) collect(root bool) {
	ran := Ran{Manifest: f.manifest, Name: f.name, Root: root, Stored: f.stored}
	for _, d := range f.manifest.Dependencies {
		if child := f.dependencies[d.Index]; child != nil {
			child.collect(false)
			if !f.unlinked[child.name.String()] {
				ran.Dependencies = append(ran.Dependencies, child.name)
			}
		}
	}
	ran.Components = f.held()
	f.machine.out.Manifests = append(f.machine.out.Manifests, ran)
}

// held lists the components that the manifest did not unlink.
func (f *frame) held() []suit.ComponentID {
	all := f.manifest.Components
	if len(f.unlinked) == 0 && len(f.manifest.Dependencies) == 0 {
		return slices.Clip(all)
	}
	var out []suit.ComponentID
	for index, id := range all {
		if _, dependency, _ := f.manifest.Component(index); !dependency && !f.unlinked[id.String()] {
			out = append(out, id)
		}
	}
	return out
}

// failure turns an error into the result of a report.
func failure(err error) *report.Failure {
	var e *Error
	if !errors.As(err, &e) {
		return &report.Failure{Reason: report.ReasonOperationFailed}
	}
	return &report.Failure{
		Code:   int64(e.Command),
		Reason: e.Reason,
		Record: report.Record{
			Manifest: e.Manifest, Section: e.Section, Offset: uint64(e.Offset), Component: uint64(e.Index),
			Properties: e.measured,
		},
	}
}

// authenticate parses and verifies an envelope.
func (m *machine) authenticate(envelope []byte) (*suit.Envelope, *suit.Verified, error) {
	l := m.options.Limits
	if int64(len(envelope)) > l.EnvelopeBytes {
		return nil, nil, &Error{Reason: report.ReasonOperationFailed, Err: fmt.Errorf("%w: envelope of %d bytes", ErrLimit, len(envelope))}
	}
	env, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return nil, nil, &Error{Reason: verifyReason(err), Err: err}
	}
	man, err := env.Verify(m.options.Keys, suit.VerifyOptions{
		StrictAlgorithms: m.options.StrictAlgorithms, MACKeys: m.options.MACKeys,
		Limits: suit.Limits{Components: l.Components, Commands: l.Written, Nesting: l.Nested},
	})
	if err != nil {
		return env, nil, &Error{Reason: verifyReason(err), Err: err}
	}
	return env, man, nil
}

func verifyReason(err error) report.Reason {
	if errors.Is(err, cose.ErrUnsupported) {
		return report.ReasonAlgUnsupported // nobody can say whether the signature is good
	}
	for _, sentinel := range []error{suit.ErrUnsigned, suit.ErrUnauthorised, suit.ErrBadSignature, suit.ErrDigest} {
		if errors.Is(err, sentinel) {
			return report.ReasonUnauthorised
		}
	}
	if errors.Is(err, suit.ErrUnsupported) {
		return report.ReasonAlgUnsupported
	}
	return report.ReasonCBORParse
}
