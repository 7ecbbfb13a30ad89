// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"io"

	"sealift/internal/moc/mocapi"
)

// tokenBytes is the length of a bearer token before its encoding: 256 random bits, so a plain hash protects it.
const tokenBytes = 32

// NewToken makes a bearer token and stores its hash. The token itself is returned and nowhere kept.
func (s *Store) NewToken(ctx context.Context, rand io.Reader, id mocapi.Identity) (string, error) {
	raw := make([]byte, tokenBytes)
	if _, err := io.ReadFull(rand, raw); err != nil {
		return "", fmt.Errorf("making a token: %w", err)
	}
	token := base64.RawURLEncoding.EncodeToString(raw)
	hash := sha256.Sum256([]byte(token))
	err := s.Write(ctx, func(tx *Tx) error {
		_, err := tx.exec("INSERT INTO tokens (hash, role, name, created) VALUES (?, ?, ?, ?)",
			hash[:], string(id.Role), id.Name, s.Now().UnixMilli())
		return err
	})
	return token, err
}

// RevokeTokens forgets all tokens of a role and name and returns how many there were.
func (s *Store) RevokeTokens(ctx context.Context, id mocapi.Identity) (n int64, err error) {
	err = s.Write(ctx, func(tx *Tx) (err error) {
		n, err = tx.exec("DELETE FROM tokens WHERE role = ? AND name = ?", string(id.Role), id.Name)
		return err
	})
	return n, err
}

// Identify returns whose token it is; ErrNotFound for an unknown one. The look-up is by hash, so its time tells nothing
// about stored tokens.
func (s *Store) Identify(ctx context.Context, token string) (mocapi.Identity, error) {
	var id mocapi.Identity
	var role string
	hash := sha256.Sum256([]byte(token))
	err := s.row(ctx, "SELECT role, name FROM tokens WHERE hash = ?", []any{hash[:]}, &role, &id.Name)
	id.Role = mocapi.Role(role)
	return id, err
}
