// SPDX-License-Identifier: Apache-2.0

package home

import (
	"errors"
	"fmt"
	"io"
	"os"

	"sealift/cose"
)

// DefaultKey is the key that is used when none is named.
const DefaultKey = "owner"

// KeyInfo describes a signing key without its secret.
type KeyInfo struct {
	Name       string    `json:"name"`
	Algorithm  string    `json:"algorithm"`
	Public     *cose.Key `json:"public"`
	Thumbprint string    `json:"thumbprint"` // RFC 9679, hex
}

// Key returns the signing key called name.
func (h *Home) Key(name string) (*SigningKey, error) {
	data, err := h.read(kindKey, name, ".pem")
	if err != nil {
		return nil, err
	}
	key, err := parseKey(name, data)
	if err != nil {
		return nil, fmt.Errorf("%w: the key %s: %w", ErrDamaged, name, err)
	}
	return key, nil
}

// CreateKey makes a signing key. It never replaces one.
func (h *Home) CreateKey(name string, alg cose.Algorithm, rand io.Reader) (*SigningKey, error) {
	priv, err := cose.GenerateKey(alg, rand)
	if err != nil {
		return nil, fmt.Errorf("making a key: %w", err)
	}
	data, err := cose.MarshalPrivatePEM(priv)
	if err != nil {
		return nil, err
	}
	return h.addKey(name, data)
}

// ImportKey stores a key given as PKCS #8 PEM. It never replaces one.
func (h *Home) ImportKey(name string, data []byte) (*SigningKey, error) {
	return h.addKey(name, data)
}

func (h *Home) addKey(name string, data []byte) (*SigningKey, error) {
	path, err := h.path(kindKey, name, ".pem")
	if err != nil {
		return nil, err
	}
	key, err := parseKey(name, data)
	if err != nil {
		return nil, err
	}
	unlock, err := h.lock()
	if err != nil {
		return nil, err
	}
	defer unlock()
	if _, err := os.Lstat(path); err == nil {
		return nil, fmt.Errorf("the key %s %w", name, ErrExists)
	}
	return key, writeFile(path, data)
}

// EnsureKey returns the key called name and makes it when it does not exist; made tells which.
func (h *Home) EnsureKey(name string, rand io.Reader) (key *SigningKey, made bool, err error) {
	key, err = h.Key(name)
	if !errors.Is(err, ErrNotFound) {
		return key, false, err
	}
	key, err = h.CreateKey(name, cose.AlgESP256, rand)
	if errors.Is(err, ErrExists) { // another command was faster
		key, err = h.Key(name)
		return key, false, err
	}
	return key, err == nil, err
}

// Keys describes every key, sorted by name.
func (h *Home) Keys() ([]KeyInfo, error) {
	names, err := h.list(kindKey, ".pem")
	if err != nil {
		return nil, err
	}
	infos := make([]KeyInfo, 0, len(names))
	for _, name := range names {
		key, err := h.Key(name)
		if err != nil {
			return nil, err
		}
		infos = append(infos, key.Info())
	}
	return infos, nil
}

// KeyByPublic returns the signing key with the given public half.
func (h *Home) KeyByPublic(pub *cose.Key) (*SigningKey, error) {
	infos, err := h.Keys()
	if err != nil {
		return nil, err
	}
	for _, info := range infos {
		if info.Public.Equal(pub) {
			return h.Key(info.Name)
		}
	}
	return nil, fmt.Errorf("the signing key %x: %w", pub.Thumbprint(), ErrNotFound)
}
