// SPDX-License-Identifier: Apache-2.0

package store

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"sealift/internal/moc/mocapi"
)

// Evidence is an evidence request of an owner and, once the Agent gave it, the answer.
type Evidence struct {
	mocapi.Evidence
	Deployment string    `json:"deployment"`
	Nonce      []byte    `json:"nonce"` // the owner's; empty for what the TAM asked for itself
	Created    time.Time `json:"created"`
	Manifests  []string  `json:"manifests"` // digests of the manifests that the Evidence names, "sha256:<hex>"
}

// PutEvidence stores an evidence request or its answer. Of the answers only the newest are kept.
func (tx *Tx) PutEvidence(e *Evidence) error {
	data, err := json.Marshal(e)
	if err != nil {
		return err
	}
	pending := !e.Ready
	_, err = tx.exec("INSERT OR REPLACE INTO evidence (id, deployment, created, pending, doc) VALUES (?, ?, ?, ?, ?)",
		e.ID, e.Deployment, e.Created.UnixMilli(), pending, data)
	if err != nil {
		return err
	}
	if !pending {
		_, err = tx.exec(`DELETE FROM evidence WHERE deployment = ?1 AND pending = 0 AND created <
			(SELECT created FROM evidence WHERE deployment = ?1 AND pending = 0 ORDER BY created DESC LIMIT 1 OFFSET ?2)`,
			e.Deployment, tx.s.opts.EvidenceMax-1)
	}
	tx.notify(TopicEvidence(e.ID))
	return err
}

// DropEvidence deletes evidence requests, answered or not.
func (tx *Tx) DropEvidence(deployment, id string) error {
	_, err := tx.exec("DELETE FROM evidence WHERE id = ? AND deployment = ?", id, deployment)
	tx.notify(TopicEvidence(id))
	return err
}

// AnsweredEvidence returns the answers that are kept, the oldest first.
func (s *Store) AnsweredEvidence(ctx context.Context, deployment string) ([]*Evidence, error) {
	return loadEvidence(s.rowsWith(ctx), "SELECT doc FROM evidence WHERE deployment = ? AND pending = 0 ORDER BY created", deployment)
}

// Evidence returns an evidence request.
func (s *Store) Evidence(ctx context.Context, deployment, id string) (*Evidence, error) {
	var data []byte
	if err := s.row(ctx, "SELECT doc FROM evidence WHERE id = ? AND deployment = ?", []any{id, deployment}, &data); err != nil {
		return nil, err
	}
	e := new(Evidence)
	return e, json.Unmarshal(data, e)
}

func (s *Store) rowsWith(ctx context.Context) rowsFunc {
	return func(text string, args []any, each func(func(...any) error) error) error {
		return s.rows(ctx, text, args, each)
	}
}

func loadEvidence(rows rowsFunc, text string, args ...any) (out []*Evidence, err error) {
	err = rows(text, args, func(scan func(...any) error) error {
		var data []byte
		if err := scan(&data); err != nil {
			return err
		}
		e := new(Evidence)
		if err := json.Unmarshal(data, e); err != nil {
			return fmt.Errorf("store: evidence: %w", err)
		}
		out = append(out, e)
		return nil
	})
	return out, err
}

// Appraisal is an owner's appraisal with its Attestation Result.
type Appraisal struct {
	mocapi.Appraisal
	Deployment string    `json:"deployment"`
	Result     []byte    `json:"result"`
	Covers     Appraised `json:"covers"`
}

// PutAppraisal stores an appraisal; the newest EvidenceMax of a deployment are kept.
func (tx *Tx) PutAppraisal(a *Appraisal) error {
	data, err := json.Marshal(a)
	if err != nil {
		return err
	}
	if _, err = tx.exec("INSERT INTO appraisals (id, deployment, created, doc) VALUES (?, ?, ?, ?)", a.ID, a.Deployment, a.Time.UnixMilli(), data); err != nil {
		return err
	}
	_, err = tx.exec(`DELETE FROM appraisals WHERE deployment = ?1 AND created <
		(SELECT created FROM appraisals WHERE deployment = ?1 ORDER BY created DESC LIMIT 1 OFFSET ?2)`, a.Deployment, tx.s.opts.EvidenceMax-1)
	return err
}

// Appraisal returns an appraisal of a deployment.
func (tx *Tx) Appraisal(deployment, id string) (*Appraisal, error) {
	var data []byte
	if err := tx.row("SELECT doc FROM appraisals WHERE id = ? AND deployment = ?", []any{id, deployment}, &data); err != nil {
		return nil, err
	}
	a := new(Appraisal)
	return a, json.Unmarshal(data, a)
}

// PutRelease stores a release.
func (tx *Tx) PutRelease(deployment string, r *mocapi.Release) error {
	data, err := json.Marshal(r)
	if err != nil {
		return err
	}
	_, err = tx.exec("INSERT INTO releases (id, deployment, created, doc) VALUES (?, ?, ?, ?)", r.ID, deployment, r.Time.UnixMilli(), data)
	return err
}

// Events returns the history of a deployment, the oldest first.
func (s *Store) Events(ctx context.Context, deployment string) ([]mocapi.Event, error) {
	out := []mocapi.Event{}
	err := s.rows(ctx, "SELECT seq, time, kind, message FROM events WHERE deployment = ? ORDER BY seq", []any{deployment},
		func(scan func(...any) error) error {
			var e mocapi.Event
			var at int64
			if err := scan(&e.Sequence, &at, &e.Kind, &e.Message); err != nil {
				return err
			}
			e.Time = time.UnixMilli(at).UTC()
			out = append(out, e)
			return nil
		})
	return out, err
}
