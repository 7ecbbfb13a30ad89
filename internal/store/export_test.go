// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"fmt"
)

// CountTokens counts the answered TEEP tokens that are kept.
func (s *Store) CountTokens(ctx context.Context, n *int) error {
	return s.row(ctx, "SELECT count(*) FROM used_tokens", nil, n)
}

// SetSchema pretends that another version has written the database.
func (s *Store) SetSchema(ctx context.Context, version int) error {
	return s.Write(ctx, func(tx *Tx) error {
		_, err := tx.exec(fmt.Sprintf("PRAGMA user_version = %d", version))
		return err
	})
}

// ForgetInstances makes the database one of the version before deployments named their TEE instances.
func (s *Store) ForgetInstances(ctx context.Context) error {
	return s.Write(ctx, func(tx *Tx) error {
		for _, text := range []string{"DROP INDEX deployments_tee", "ALTER TABLE deployments DROP COLUMN tee",
			"UPDATE deployments SET doc = CAST(json_remove(CAST(doc AS TEXT), '$.public.tee') AS BLOB)", "PRAGMA user_version = 2"} {
			if _, err := tx.exec(text); err != nil {
				return err
			}
		}
		return nil
	})
}

// Cached counts the deployments in memory.
func (s *Store) Cached() int {
	s.cache.mu.RLock()
	defer s.cache.mu.RUnlock()
	return len(s.cache.byID)
}

// Watched counts the topics that somebody waits for.
func (s *Store) Watched() int {
	s.hub.mu.Lock()
	defer s.hub.mu.Unlock()
	return len(s.hub.topics)
}
