// SPDX-License-Identifier: Apache-2.0

//go:build linux

package dev

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"sealift/appraisal"
	"sealift/evidence"
	"sealift/internal/moc/mocapi"
	"sealift/internal/owner/home"
)

// ContextName is the name under which an owner's folder knows the Stack.
const ContextName = "dev"

// Equip makes the folder of a data owner fit for the Stack: the context with its token and TAM keys, an owner key if there is
// none, the emulated vendor's root as an anchor, and the default policy. The policy accepts the Agent image that reference
// names, which the owner must have from a source that it trusts, and the emulated root, by fingerprint and on purpose. A
// default policy that somebody else wrote stays; kept reports that.
func (s *Stack) Equip(ctx context.Context, h *home.Home, reference string) (kept bool, err error) {
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
	root, err := s.root()
	if err != nil {
		return false, err
	}
	if err := h.AddAnchor(root); err != nil {
		return false, fmt.Errorf("writing the anchor: %w", err)
	}
	digest, err := hashFile(reference)
	if err != nil {
		return false, err
	}
	policy, err := appraisal.NewPolicy(appraisal.NewPolicyInput{
		Name: ContextName, Hardware: []evidence.Hardware{evidence.TrustZone}, Roots: []evidence.Anchor{root}, AgentDigest: digest,
		AgentSource: "SHA-256 of " + filepath.Base(reference) + " as sealift dev found it on the owner's machine",
	})
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

// root reads the certificate of the emulated vendor.
func (s *Stack) root() (evidence.Anchor, error) {
	data, err := os.ReadFile(s.rootFile())
	if err != nil {
		return evidence.Anchor{}, fmt.Errorf("reading the emulated vendor's root: %w", err)
	}
	root, err := evidence.ParseAnchorPEM(data)
	if err != nil {
		return root, fmt.Errorf("reading the emulated vendor's root: %w", err)
	}
	return root, nil
}

func hashFile(path string) (sum [32]byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return sum, fmt.Errorf("opening the Agent image: %w", err)
	}
	defer f.Close()
	h := sha256.New()
	if _, err := io.Copy(h, f); err != nil {
		return sum, fmt.Errorf("reading the Agent image: %w", err)
	}
	return [32]byte(h.Sum(nil)), nil
}
