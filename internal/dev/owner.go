// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner"
	"sealift/internal/owner/home"
)

// ContextName is the name under which an owner's folder knows the Stack.
const ContextName = "dev"

// Equip makes the folder of a data owner fit for the Stack: the context with its token and TAM keys, an owner key if there is
// none, the emulated vendors' roots as anchors, and the default policy. The policy accepts the Agent images that references
// name, which the owner must have from a source that it trusts, and the emulated roots, by fingerprint and on purpose. A
// default policy that somebody else wrote stays; kept reports that.
func (s *Stack) Equip(ctx context.Context, h *home.Home, references ...string) (kept bool, err error) {
	anchors, err := s.Client(mocapi.RoleOwner).TrustAnchors(ctx)
	if err != nil {
		return false, fmt.Errorf("asking the M/OC for its keys: %w", err)
	}
	err = h.SetContext(ContextName, home.Context{URL: s.URL, Token: s.Tokens[mocapi.RoleOwner], TAMKeys: anchors.TAMKeys})
	if err != nil {
		return false, fmt.Errorf("writing the context: %w", err)
	}
	if _, _, err := h.EnsureKey(home.DefaultKey, rand.Reader); err != nil {
		return false, fmt.Errorf("making an owner key: %w", err)
	}
	in := appraisal.NewPolicyInput{Name: ContextName}
	for _, d := range s.Devices {
		root, err := s.root(d)
		if err != nil {
			return false, err
		}
		if err := h.AddAnchor(root); err != nil {
			return false, fmt.Errorf("writing the anchor: %w", err)
		}
		in.Roots, in.Hardware = append(in.Roots, root), append(in.Hardware, d.Hardware)
	}
	for _, path := range references {
		launches, err := owner.Launches(path, in.Hardware)
		if err != nil {
			return false, err
		}
		for _, l := range launches {
			l.Source = filepath.Base(path) + " as sealift dev found it on the owner's machine"
			in.Launch = append(in.Launch, l)
		}
	}
	in.Launch = append(in.Launch, owner.EmulatedFirmware(in.Roots, in.Hardware)...)
	policy, err := appraisal.NewPolicy(in)
	if err != nil {
		return false, fmt.Errorf("making the owner's policy: %w", err)
	}
	data, err := policy.Marshal()
	if err != nil {
		return false, err
	}
	return setPolicy(h, data)
}

// setPolicy writes the default policy unless there is one that no Stack has written: what Stacks write is kept under their
// own name too, and a default that equals that one is theirs.
func setPolicy(h *home.Home, data []byte) (kept bool, err error) {
	present, err := h.Policy(home.DefaultPolicy)
	if err != nil && !errors.Is(err, home.ErrNotFound) {
		return false, err
	}
	absent := err != nil
	mine, err := h.Policy(ContextName)
	if err != nil && !errors.Is(err, home.ErrNotFound) {
		return false, err
	}
	kept = !absent && !bytes.Equal(present, mine) && !bytes.Equal(present, data)
	if err := h.SetPolicy(ContextName, data, true); err != nil || kept {
		return kept, err
	}
	return false, h.SetPolicy(home.DefaultPolicy, data, true)
}

// root reads the root of the device's emulated vendor.
func (s *Stack) root(d Device) (evidence.Anchor, error) {
	data, err := os.ReadFile(s.rootFile(d))
	if err != nil {
		return evidence.Anchor{}, fmt.Errorf("reading the emulated vendor's root: %w", err)
	}
	root, err := evidence.ParseAnchorPEM(data)
	if err != nil {
		return root, fmt.Errorf("reading the emulated vendor's root: %w", err)
	}
	return root, nil
}
