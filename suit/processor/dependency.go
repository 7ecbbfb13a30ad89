// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"

	"sealift/suit"
	"sealift/suit/report"
)

// fetchDependency keeps the envelope of a dependency for this run; the caller stores it from Outcome.Manifests. image-size
// does not bound it, because an envelope may have been signed again since the dependent was made.
func (s *scope) fetchDependency(c *component, uri string) error {
	m := s.frame.machine
	limit := m.options.Limits.EnvelopeBytes
	src, err := s.openURI(uri, limit)
	if err != nil {
		return err
	}
	defer src.Close()
	envelope, err := io.ReadAll(io.LimitReader(src, limit+1))
	if err != nil {
		return fmt.Errorf("fetch %q: %w", uri, err)
	}
	m.written += int64(len(envelope))
	if int64(len(envelope)) > limit || m.written > m.options.Limits.TotalBytes {
		return fmt.Errorf("%w: dependency of more than %d bytes", ErrLimit, limit)
	}
	c.state.envelope = envelope
	delete(s.frame.dependencies, c.index) // a check made before covers other bytes
	return nil
}

// dependencyEnvelope returns the envelope of a dependency: fetched in this run, else stored.
func (f *frame) dependencyEnvelope(c *component) (envelope []byte, stored bool, err error) {
	if c.state.envelope != nil {
		return c.state.envelope, false, nil
	}
	envelope, err = f.machine.platform.Dependency(f.machine.ctx, c.id)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, fmt.Errorf("%w %v is neither fetched nor installed: %w", ErrDependency, c.id, err)
	}
	return envelope, true, err
}

// dependencyDigest returns the digest of a dependency's manifest, after comparing it with the manifest's bytes.
func (f *frame) dependencyDigest(c *component) (suit.Digest, error) {
	envelope, _, err := f.dependencyEnvelope(c)
	if err != nil {
		return suit.Digest{}, err
	}
	env, err := suit.ParseEnvelope(envelope)
	if err != nil {
		return suit.Digest{}, err
	}
	m, err := env.ManifestInsecure()
	if err != nil {
		return suit.Digest{}, err
	}
	return m.Digest, nil
}

// dependencyIntegrity authenticates a dependency, compares its manifest's digest with image-digest and admits it. It is a
// condition whose failure is never soft (suit-trust-domains section 5.4.2).
func dependencyIntegrity(s *scope, _ *suit.Command, c *component) error {
	if !c.dependency {
		return fmt.Errorf("%w: %v is none", ErrDependency, c.id)
	}
	want, ok := s.params(c).Digest()
	if !ok {
		return fmt.Errorf("%w: %v is not set", ErrDependency, suit.ParamDigest)
	}
	if child := s.frame.dependencies[c.index]; child != nil && want.Equal(child.manifest.Digest) {
		return nil
	}
	child, err := s.frame.loadDependency(c)
	if err != nil {
		return err
	}
	c.measured = suit.Params{suit.ParamDigest: child.manifest.Digest}
	if !want.Equal(child.manifest.Digest) {
		return &Error{Reason: report.ReasonConditionFailed, Err: fmt.Errorf(
			"%w %v: expected %v, got %v", ErrDependency, c.id, want, child.manifest.Digest)}
	}
	if err := child.admit(); err != nil {
		return err
	}
	if s.frame.dependencies == nil {
		s.frame.dependencies = map[int]*frame{}
	}
	s.frame.dependencies[c.index] = child
	return nil
}

// loadDependency authenticates the envelope of a dependency with the same anchors as the root's.
func (f *frame) loadDependency(c *component) (*frame, error) {
	depth := 1
	for p := f; p != nil; p = p.parent {
		if depth++; p.name.Equal(c.id) {
			return nil, fmt.Errorf("%w %v depends on itself", ErrDependency, c.id)
		}
	}
	if depth > f.machine.options.Limits.Depth {
		return nil, fmt.Errorf("%w: dependencies deeper than %d", ErrLimit, f.machine.options.Limits.Depth)
	}
	envelope, stored, err := f.dependencyEnvelope(c)
	if err != nil {
		return nil, err
	}
	_, man, err := f.machine.authenticate(envelope)
	if err != nil {
		return nil, err
	}
	return &frame{
		machine: f.machine, manifest: man, name: c.id, parent: f, stored: stored,
		path: append(slices.Clone(f.path), uint64(c.index)),
	}, nil
}

// processDependency runs the dependency's section of the same name. Without a successful dependency-integrity in this
// run the procedure ends; the lenient reading makes that check here instead.
func processDependency(s *scope, cmd *suit.Command, c *component) error {
	f := s.frame
	if !c.dependency {
		return fmt.Errorf("%w: %v is none", ErrDependency, c.id)
	}
	if f.dependencies[c.index] == nil {
		if !f.machine.options.LenientDependencies {
			return fmt.Errorf("%w %v: process-dependency without dependency-integrity", ErrDependency, c.id)
		}
		if err := dependencyIntegrity(s, cmd, c); err != nil {
			return err
		}
	}
	if f.processed == nil {
		f.processed = map[int]bool{}
	}
	f.processed[c.index] = true
	return hard(f.dependencies[c.index].runSection(s.section))
}

// uninstallDependency runs the uninstall section of a dependency that lost its last reference.
func (f *frame) uninstallDependency(c *component) error {
	child := f.dependencies[c.index]
	if child == nil {
		var err error
		if child, err = f.loadDependency(c); err != nil {
			if errors.Is(err, fs.ErrNotExist) {
				return nil
			}
			return err
		}
		if err := child.admit(); err != nil {
			return err
		}
	}
	return hard(child.runSection(suit.MemberUninstall))
}

// hard makes a condition's failure inside a dependency the failure of the directive that ran it.
func hard(err error) error {
	var e *Error
	if errors.As(err, &e) && e.condition {
		e.condition = false
	}
	return err
}
