// SPDX-License-Identifier: Apache-2.0

package home

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"

	"sealift/evidence"
)

// DefaultPolicy is the policy that is used when none is named.
const DefaultPolicy = "default"

// Extensions of policies: JSON, and what is in CBOR or signed.
const (
	extPolicy       = ".json"
	extPolicyBinary = ".policy"
)

// Policy returns the bytes of the policy called name, in whichever form it was stored.
func (h *Home) Policy(name string) ([]byte, error) {
	data, err := h.read(kindPolicy, name, extPolicyBinary)
	if errors.Is(err, ErrNotFound) {
		return h.read(kindPolicy, name, extPolicy)
	}
	return data, err
}

// SetPolicy stores a policy. Without replace it refuses to overwrite one.
func (h *Home) SetPolicy(name string, data []byte, replace bool) error {
	ext, other := extPolicy, extPolicyBinary
	if !bytes.HasPrefix(bytes.TrimSpace(data), []byte("{")) {
		ext, other = other, ext
	}
	path, err := h.path(kindPolicy, name, ext)
	if err != nil {
		return err
	}
	otherPath, err := h.path(kindPolicy, name, other)
	if err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	for _, p := range []string{path, otherPath} {
		if _, err := os.Lstat(p); err == nil && !replace {
			return fmt.Errorf("the policy %s %w", name, ErrExists)
		}
	}
	// Killed between the two steps, the former policy may still be the one that is read; it is whole.
	if err := writeFile(path, data); err != nil {
		return err
	}
	return remove(otherPath)
}

func remove(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("removing what was replaced: %w", err)
	}
	return nil
}

// AddAnchor stores a trust anchor under its own fingerprint. It does not make it trusted: only a policy that names the
// fingerprint does.
func (h *Home) AddAnchor(a evidence.Anchor) error {
	path, err := h.path(kindAnchor, a.FingerprintText(), ".pem")
	if err != nil {
		return err
	}
	data, err := a.PEM()
	if err != nil {
		return err
	}
	return writeFile(path, data)
}

// Anchors returns all stored trust anchors.
func (h *Home) Anchors() ([]evidence.Anchor, error) {
	names, err := h.list(kindAnchor, ".pem")
	if err != nil {
		return nil, err
	}
	var anchors []evidence.Anchor
	for _, name := range names {
		data, err := h.read(kindAnchor, name, ".pem")
		if err != nil {
			return nil, err
		}
		a, err := evidence.ParseAnchorPEM(data)
		if err != nil {
			return nil, fmt.Errorf("%w: the anchor %s: %w", ErrDamaged, name, err)
		}
		anchors = append(anchors, a)
	}
	return anchors, nil
}
