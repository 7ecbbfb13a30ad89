// SPDX-License-Identifier: Apache-2.0

package home

import (
	"fmt"
	"os"

	"sealift/evidence"
)

// DefaultPolicy is the policy that is used when none is named.
const DefaultPolicy = "default"

// Policy returns the bytes of the policy called name.
func (h *Home) Policy(name string) ([]byte, error) { return h.read(kindPolicy, name, ".json") }

// SetPolicy stores a policy. Without replace it refuses to overwrite one.
func (h *Home) SetPolicy(name string, data []byte, replace bool) error {
	path, err := h.path(kindPolicy, name, ".json")
	if err != nil {
		return err
	}
	unlock, err := h.lock()
	if err != nil {
		return err
	}
	defer unlock()
	if _, err := os.Lstat(path); err == nil && !replace {
		return fmt.Errorf("the policy %s %w", name, ErrExists)
	}
	return writeFile(path, data)
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
