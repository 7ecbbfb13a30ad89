// SPDX-License-Identifier: Apache-2.0

package store

import (
	"errors"
	"time"
)

// Consume records that a TEEP token (or challenge) of a deployment was answered. It returns false if it was answered
// before, has expired, or is so old that the record of it was dropped: then the message that carries it must change
// nothing (teep-protocol section 4.2: the TAM expires the token at the first validly signed answer).
//
// The table is bounded twice. Records whose token has expired are deleted; and of each deployment only the newest
// Options.TokensKept are kept, while everything not younger than the newest dropped one is refused from then on. So
// forgetting never makes a replay acceptable, and the cost of a session does not depend on how many there were.
func (tx *Tx) Consume(deployment string, token []byte, expiry time.Time) (fresh bool, err error) {
	at := expiry.UnixMilli()
	if at <= tx.s.Now().UnixMilli() {
		return false, nil
	}
	var floor int64
	err = tx.row("SELECT floor FROM token_floors WHERE deployment = ?", []any{deployment}, &floor)
	if err != nil && !errors.Is(err, ErrNotFound) {
		return false, err
	}
	if at <= floor {
		return false, nil
	}
	n, err := tx.exec("INSERT OR IGNORE INTO used_tokens (deployment, expiry, token) VALUES (?, ?, ?)", deployment, at, token)
	if err != nil || n == 0 {
		return false, err
	}
	// Pruning costs a range scan; one in 64 tokens pays it. The token is random, so its first byte is a fair die.
	if len(token) > 0 && token[0]&0x3f == 0 {
		err = tx.pruneTokens(deployment)
	}
	return true, err
}

func (tx *Tx) pruneTokens(deployment string) error {
	if _, err := tx.exec("DELETE FROM used_tokens WHERE deployment = ? AND expiry <= ?", deployment, tx.s.Now().UnixMilli()); err != nil {
		return err
	}
	var oldest int64
	err := tx.row("SELECT expiry FROM used_tokens WHERE deployment = ? ORDER BY expiry DESC LIMIT 1 OFFSET ?",
		[]any{deployment, tx.s.opts.TokensKept}, &oldest)
	if errors.Is(err, ErrNotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	_, err = tx.exec(`INSERT INTO token_floors (deployment, floor) VALUES (?1, ?2)
		ON CONFLICT (deployment) DO UPDATE SET floor = max(floor, ?2)`, deployment, oldest)
	if err != nil {
		return err
	}
	_, err = tx.exec("DELETE FROM used_tokens WHERE deployment = ? AND expiry <= ?", deployment, oldest)
	return err
}
