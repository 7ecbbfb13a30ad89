// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"time"
)

// perDeployment are the tables with what a removed deployment leaves behind; its row, plan, trace and events stay as
// history until Prune.
var perDeployment = []string{"packages", "package_blobs", "evidence", "appraisals", "releases", "used_tokens"}

// Forget deletes what belongs to a removed deployment and is no history: packages, Evidence, appraisals, releases, and
// answered tokens. Nothing can be accepted for it any more, so no token needs to be remembered.
func (tx *Tx) Forget(deployment string) error {
	tx.after = append(tx.after, func() { tx.s.forgot = true })
	for _, table := range perDeployment {
		if _, err := tx.exec("DELETE FROM "+table+" WHERE deployment = ?", deployment); err != nil {
			return err
		}
	}
	return nil
}

// Prune deletes the history of deployments that were removed longer than age ago.
func (s *Store) Prune(ctx context.Context, age time.Duration) error {
	old, err := s.deployments(ctx, "SELECT id FROM deployments WHERE state = 'removed'")
	if err != nil {
		return err
	}
	for _, d := range old {
		if s.Now().Sub(d.Updated) < age {
			continue
		}
		err := s.Write(ctx, func(tx *Tx) error {
			for _, table := range append([]string{"trace", "events", "token_floors"}, perDeployment...) {
				if _, err := tx.exec("DELETE FROM "+table+" WHERE deployment = ?", d.ID); err != nil {
					return err
				}
			}
			tx.after = append(tx.after, func() { tx.s.cache.drop(d.ID) })
			_, err := tx.exec("DELETE FROM deployments WHERE id = ? AND state = 'removed'", d.ID)
			return err
		})
		if err != nil {
			return err
		}
	}
	return nil
}
