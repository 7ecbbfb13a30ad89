// SPDX-License-Identifier: Apache-2.0

package processor

import (
	"bytes"
	"crypto/subtle"
	"errors"
	"fmt"
	"io"
	"io/fs"

	"sealift/cose"
	"sealift/suit"
	"sealift/suit/report"
)

// failed is the failure of a condition. Unlike that of a directive it can be soft (suit-manifest section 6.4).
func failed(format string, args ...any) error {
	return &Error{
		Reason: report.ReasonConditionFailed, condition: true,
		Err: fmt.Errorf("%w: %s", ErrCondition, fmt.Sprintf(format, args...)),
	}
}

func vendorIdentifier(s *scope, _ *suit.Command, c *component) error {
	ids := s.frame.machine.platform.VendorIDs(c.id)
	if pen, ok := s.params(c)[suit.ParamVendorID].(suit.PEN); ok {
		return matchIdentity(suit.ParamVendorID, pen.Encode(), true, ids)
	}
	want, ok := s.params(c).Bytes(suit.ParamVendorID)
	return matchIdentity(suit.ParamVendorID, want, ok, ids)
}

func classIdentifier(s *scope, _ *suit.Command, c *component) error {
	want, ok := s.params(c).Bytes(suit.ParamClassID)
	return matchIdentity(suit.ParamClassID, want, ok, s.frame.machine.platform.ClassIDs(c.id))
}

func deviceIdentifier(s *scope, _ *suit.Command, c *component) error {
	want, ok := s.params(c).Bytes(suit.ParamDeviceID)
	return matchIdentity(suit.ParamDeviceID, want, ok, s.frame.machine.platform.DeviceIDs(c.id))
}

// matchIdentity: an identity that the manifest does not set never matches (suit-manifest section 8.4.9.1).
func matchIdentity(p suit.Param, want []byte, set bool, have [][]byte) error {
	if !set {
		return failed("%v is not set", p)
	}
	for _, id := range have {
		if bytes.Equal(want, id) {
			return nil
		}
	}
	return failed("%v %x is not one of %x", p, want, have)
}

// imageMatch compares the digest of the current component with image-digest, its length first where image-size is set.
// A dependency is matched by the digest of its manifest, and its length says nothing: envelopes may be severed or signed
// again (suit-trust-domains section 5.4.2).
func imageMatch(s *scope, _ *suit.Command, c *component) error {
	want, ok := s.params(c).Digest()
	if !ok {
		return failed("%v is not set", suit.ParamDigest)
	}
	m := s.frame.machine
	got, err := suit.Digest{}, error(nil)
	if c.dependency {
		got, err = s.frame.dependencyDigest(c)
	} else {
		if err := s.matchSize(c); err != nil {
			return err
		}
		got, err = m.digest(c, want.Alg)
	}
	if errors.Is(err, fs.ErrNotExist) {
		return failed("the component does not exist")
	}
	if err != nil {
		return err
	}
	c.measured = c.state.digestRecord(got)
	if !want.Equal(got) {
		return failed("expected %v, got %v", want, got)
	}
	if !c.dependency {
		c.state.matched = true
		c.state.unauthenticated = false
	}
	return nil
}

func (s *scope) matchSize(c *component) error {
	want, ok := s.params(c).Uint(suit.ParamSize)
	if !ok {
		return nil
	}
	got, err := s.frame.machine.size(c)
	if errors.Is(err, fs.ErrNotExist) {
		return failed("the component does not exist")
	}
	if err != nil {
		return err
	}
	if uint64(got) != want {
		c.measured = suit.Params{suit.ParamSize: uint64(got)}
		return failed("expected %d bytes, got %d", want, got)
	}
	return nil
}

// size returns the length of a component, also of one that was streamed on and not kept.
func (m *machine) size(c *component) (int64, error) {
	if p := m.pending; p != nil && p.staged == c.state {
		return p.size, nil
	}
	return m.platform.Size(m.ctx, c.id)
}

// digest returns the digest of a component's content: the one computed while this run wrote it, else the platform's.
func (m *machine) digest(c *component, alg cose.Algorithm) (suit.Digest, error) {
	if d := c.state.digest; d.Alg == alg && !d.IsZero() {
		return d, nil
	}
	return m.platform.Digest(m.ctx, c.id, alg)
}

// checkContent compares the component with parameter content in constant time.
func checkContent(s *scope, _ *suit.Command, c *component) error {
	want, ok := s.params(c).Bytes(suit.ParamContent)
	if !ok {
		return failed("%v is not set", suit.ParamContent)
	}
	m := s.frame.machine
	r, err := m.platform.Open(m.ctx, c.id)
	if errors.Is(err, fs.ErrNotExist) {
		return failed("the component does not exist")
	}
	if err != nil {
		return err
	}
	defer r.Close()
	got, err := io.ReadAll(io.LimitReader(r, int64(len(want))+1))
	if err != nil {
		return err
	}
	if len(got) != len(want) || subtle.ConstantTimeCompare(got, want) != 1 {
		return failed("the content differs")
	}
	c.state.matched = true
	c.state.unauthenticated = false
	return nil
}

func componentSlot(s *scope, _ *suit.Command, c *component) error {
	want, ok := s.params(c).Uint(suit.ParamComponentSlot)
	if !ok {
		return failed("%v is not set", suit.ParamComponentSlot)
	}
	got, ok := s.frame.machine.platform.(Slotter).Slot(c.id)
	if !ok || got != want {
		return failed("the component is not in slot %d", want)
	}
	return nil
}

func isDependency(_ *scope, _ *suit.Command, c *component) error {
	if !c.dependency {
		return failed("not a dependency")
	}
	return nil
}

func abort(*scope, *suit.Command, *component) error { return failed("abort") }
